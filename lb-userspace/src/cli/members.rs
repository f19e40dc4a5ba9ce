//! `torline members`: which nodes live, as the agent of this one sees them.

use std::fmt::Write;
use std::path::Path;

use super::status::{join, or_dash, table};
use super::{ask, print};
use crate::model::status::MembersStatus;

/// Prints the nodes, for people or as one line of JSON.
pub(super) fn show(socket: &Path, json: bool) -> anyhow::Result<()> {
    let members: MembersStatus = ask(socket, "/v1/members")?;
    print(&if json {
        serde_json::to_string(&members)? + "\n"
    } else {
        render(&members)
    })
}

fn render(status: &MembersStatus) -> String {
    let mut table = table([
        "NODE",
        "STATE",
        "HEARD",
        "HEARTBEAT",
        "VERSION",
        "GOSSIP",
        "GONE FOR",
        "ADDRESSES",
    ]);
    for member in &status.members {
        let (state, heard) = if member.name == status.node {
            (format!("{} (here)", member.state), None)
        } else if !member.in_source {
            ("not in the source".to_owned(), None)
        } else {
            (member.state.clone(), member.heard_ms)
        };
        table.add_row([
            member.name.clone(),
            state,
            or_dash(&ago(heard)),
            or_dash(&ago(member.heartbeat_age_ms)),
            or_dash(member.version.as_deref().unwrap_or_default()),
            or_dash(&member.gossip),
            or_dash(&member.taken_for_gone_by.join(", ")),
            join(&member.addresses),
        ]);
    }
    let mut text = String::new();
    for line in table.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if status.cut_off {
        text.push_str(
            "\nMost other nodes and the router are silent: this node seems cut off and changes nothing.\n",
        );
    }
    text
}

/// Milliseconds for people.
fn ago(milliseconds: Option<u64>) -> String {
    milliseconds.map_or_else(String::new, |ms| {
        format!("{}.{} s ago", ms / 1_000, ms % 1_000 / 100)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::status::MemberStatus;

    #[test]
    fn a_line_says_who_lives_and_since_when_nothing_was_heard() {
        let member = |name: &str, state: &str, heard_ms| MemberStatus {
            name: name.into(),
            addresses: vec![[192, 0, 2, 11].into()],
            state: state.into(),
            heard_ms,
            heartbeat_age_ms: heard_ms,
            in_source: true,
            ..MemberStatus::default()
        };
        let status = MembersStatus {
            node: "node-a".into(),
            cut_off: true,
            members: vec![
                member("node-a", "live", None),
                MemberStatus {
                    version: Some("0.1.0".into()),
                    gossip: "down".into(),
                    taken_for_gone_by: vec!["node-a".into()],
                    ..member("node-b", "gone", Some(12_345))
                },
                MemberStatus {
                    in_source: false,
                    ..member("node-c", "unheard", None)
                },
            ],
            ..MembersStatus::default()
        };
        let text = render(&status);
        let words: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        assert_eq!(
            words[1],
            [
                "node-a",
                "live",
                "(here)",
                "-",
                "-",
                "-",
                "-",
                "-",
                "192.0.2.11"
            ]
        );
        assert_eq!(words[2][..5], ["node-b", "gone", "12.3", "s", "ago"]);
        assert_eq!(words[2][8..12], ["0.1.0", "down", "node-a", "192.0.2.11"]);
        assert_eq!(words[3][..5], ["node-c", "not", "in", "the", "source"]);
        assert!(text.contains("cut off and changes nothing"), "{text}");
    }
}
