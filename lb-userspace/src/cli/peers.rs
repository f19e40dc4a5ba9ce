//! `torline peers`: the BGP peers of this node.

use std::fmt::Write;
use std::path::Path;

use super::status::{or_dash, table, uptime};
use super::{ask, print};
use crate::model::peer_report::{PeerReport, PeersReport};

/// Prints the peers, for people or as one line of JSON.
pub(super) fn show(socket: &Path, json: bool) -> anyhow::Result<()> {
    let report: PeersReport = ask(socket, "/v1/peers")?;
    print(&if json {
        serde_json::to_string(&report)? + "\n"
    } else {
        render(&report)
    })
}

fn render(report: &PeersReport) -> String {
    let mut table = table([
        "PEER", "ADDRESS", "AS", "STATE", "SINCE", "HOLD", "ROUTES", "SENT", "RECEIVED", "REFUSED",
    ]);
    for peer in &report.peers {
        table.add_row([
            peer.peer.clone(),
            peer.address.clone(),
            or_dash(&peer.asn.map(|asn| asn.to_string()).unwrap_or_default()),
            peer.state.clone(),
            uptime(peer.since_seconds),
            or_dash(&times(peer)),
            peer.routes.to_string(),
            peer.messages_sent.to_string(),
            peer.messages_received.to_string(),
            peer.received_refused.to_string(),
        ]);
    }
    let mut text = String::new();
    for line in table.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for peer in &report.peers {
        let details = details(peer);
        if !details.is_empty() {
            let _ = write!(text, "\n{}\n{details}", peer.peer);
        }
    }
    text
}

fn times(peer: &PeerReport) -> String {
    match (peer.hold_time_seconds, peer.keepalive_time_seconds) {
        (Some(0), _) => "none".to_owned(),
        (Some(hold), Some(keepalive)) => format!("{hold}s/{keepalive}s"),
        _ => String::new(),
    }
}

/// What fits into no column, a line each.
fn details(peer: &PeerReport) -> String {
    let restart = match (peer.router_id, peer.keeps_routes) {
        (None, _) => "",
        (Some(_), true) => "keeps our routes while the agent restarts",
        (Some(_), false) => "drops our routes when the session ends",
    };
    let router = match (peer.router_id, &peer.host_name) {
        (Some(id), Some(name)) => format!("{id} ({name})"),
        (Some(id), None) => id.to_string(),
        (None, _) => String::new(),
    };
    let malformed = match peer.updates_malformed {
        0 => String::new(),
        count => format!("{count} UPDATEs with errors"),
    };
    let mut text = String::new();
    for (title, value) in [
        ("router", router),
        ("families", peer.families.join(", ")),
        ("capabilities", peer.capabilities.join(", ")),
        ("restart", restart.to_owned()),
        ("not announced", peer.not_announced.join("; ")),
        ("malformed", malformed),
        ("last error", peer.last_error.clone().unwrap_or_default()),
    ] {
        if !value.is_empty() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  {title:<14} {value}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_line_and_what_was_agreed_with_it() {
        let report = PeersReport {
            node: "node-a".into(),
            peers: vec![
                PeerReport {
                    peer: "tor-a".into(),
                    address: "192.0.2.1".into(),
                    state: "established".into(),
                    since_seconds: 3_725,
                    asn: Some(64_512),
                    router_id: Some([192, 0, 2, 1].into()),
                    host_name: Some("tor".into()),
                    hold_time_seconds: Some(90),
                    keepalive_time_seconds: Some(30),
                    capabilities: vec!["graceful-restart".into()],
                    keeps_routes: true,
                    routes: 2,
                    ..PeerReport::default()
                },
                PeerReport {
                    peer: "tor-b".into(),
                    address: "192.0.2.2".into(),
                    state: "active".into(),
                    last_error: Some("no answer".into()),
                    ..PeerReport::default()
                },
            ],
        };
        let text = render(&report);
        let words: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();
        let line = [
            "tor-a",
            "192.0.2.1",
            "64512",
            "established",
            "1h02m",
            "90s/30s",
            "2",
        ];
        assert_eq!(words[1][..7], line, "{text}");
        assert_eq!(words[2][2], "-");
        assert!(
            text.contains("  router         192.0.2.1 (tor)\n"),
            "{text}"
        );
        assert!(text.contains("keeps our routes while the agent restarts"));
        assert!(
            text.ends_with("tor-b\n  last error     no answer\n"),
            "{text}"
        );
    }
}
