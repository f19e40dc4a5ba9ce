//! `torline capture`: the messages of a BGP session, for a support ticket.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Serialize;
use tokio::time::sleep;

use super::{no_agent, print};
use crate::net::unix_http::{self, GetError};
use crate::tasks::bgp::tap::Summary;

/// What to capture.
#[derive(Debug)]
pub(super) struct Capture<'a> {
    /// BGPPeer.
    pub(super) peer: &'a str,
    /// Where to write it.
    pub(super) file: &'a Path,
    /// For how long; zero for what the agent remembers, absent until interrupted.
    pub(super) seconds: Option<u64>,
}

/// What was written.
#[derive(Serialize)]
struct Written {
    peer: String,
    file: PathBuf,
    octets: u64,
    state_changes: u64,
    sent: Counts,
    received: Counts,
}

#[derive(Serialize)]
struct Counts {
    open: u64,
    update: u64,
    notification: u64,
    keepalive: u64,
    route_refresh: u64,
    unreadable: u64,
}

impl From<[u64; 6]> for Counts {
    fn from(counts: [u64; 6]) -> Self {
        let [
            open,
            update,
            notification,
            keepalive,
            route_refresh,
            unreadable,
        ] = counts;
        Self {
            open,
            update,
            notification,
            keepalive,
            route_refresh,
            unreadable,
        }
    }
}

/// Writes the messages to a file, and prints how many there were.
pub(super) fn write(socket: &Path, capture: &Capture<'_>, json: bool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let written = runtime.block_on(follow(socket, capture))?;
    print(&if json {
        serde_json::to_string(&written)? + "\n"
    } else {
        render(&written)
    })
}

async fn follow(socket: &Path, capture: &Capture<'_>) -> anyhow::Result<Written> {
    let follow = capture.seconds != Some(0);
    let path = format!("/v1/capture?peer={}&follow={follow}", escape(capture.peer));
    let mut answer = match unix_http::open(socket, &path).await {
        Err(GetError::Status(status)) if status.as_u16() == 404 => bail!(
            "this node has no session with a BGPPeer {}; `torline peers` lists what it has",
            capture.peer
        ),
        answer => answer.with_context(|| no_agent(socket))?,
    };
    let cannot_write = || format!("failed to write {}", capture.file.display());
    let mut file = File::create(capture.file).with_context(cannot_write)?;
    let mut octets = 0;
    let mut summary = Summary::default();
    let copy = async {
        while let Some(bytes) = answer.next().await? {
            file.write_all(&bytes).with_context(cannot_write)?;
            octets += u64::try_from(bytes.len())?;
            summary
                .add(&bytes)
                .context("the agent's answer is not understood; is it of another version?")?;
        }
        anyhow::Ok(())
    };
    let limit = capture.seconds.filter(|_| follow).map(Duration::from_secs);
    tokio::select! {
        copied = copy => copied?,
        () = sleep(limit.unwrap_or(Duration::MAX)) => {}
        interrupted = tokio::signal::ctrl_c() => interrupted?,
    }
    let [sent, received] = summary.messages;
    Ok(Written {
        peer: capture.peer.to_owned(),
        file: capture.file.to_owned(),
        octets,
        state_changes: summary.state_changes,
        sent: sent.into(),
        received: received.into(),
    })
}

/// Names of objects need no escaping, but for the slash and the colons of who came from a listen range.
fn escape(name: &str) -> String {
    let escaped = name.bytes().map(|byte| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    });
    escaped.collect()
}

fn render(written: &Written) -> String {
    let side = |counts: &Counts| {
        let counts = [
            ("OPEN", counts.open),
            ("UPDATE", counts.update),
            ("NOTIFICATION", counts.notification),
            ("KEEPALIVE", counts.keepalive),
            ("ROUTE-REFRESH", counts.route_refresh),
            ("unreadable", counts.unreadable),
        ];
        let some = counts.iter().filter(|(_, count)| *count > 0);
        let some: Vec<_> = some
            .map(|(name, count)| format!("{count} {name}"))
            .collect();
        if some.is_empty() {
            "nothing".to_owned()
        } else {
            some.join(", ")
        }
    };
    format!(
        "{}: {} octets\n  sent      {}\n  received  {}\n  changes of state: {}\n",
        written.file.display(),
        written.octets,
        side(&written.sent),
        side(&written.received),
        written.state_changes,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capture_is_summed_up_by_kind_of_message() {
        let written = Written {
            peer: "tor-a".into(),
            file: "tor-a.mrt".into(),
            octets: 512,
            state_changes: 3,
            sent: [1, 2, 0, 3, 0, 0].into(),
            received: [0; 6].into(),
        };
        assert_eq!(
            render(&written),
            "tor-a.mrt: 512 octets\n  sent      1 OPEN, 2 UPDATE, 3 KEEPALIVE\n  received  nothing\n  \
             changes of state: 3\n"
        );
        let json = serde_json::to_value(&written).unwrap();
        assert_eq!(json["sent"]["keepalive"], 3);
    }

    #[test]
    fn names_survive_the_query() {
        assert_eq!(escape("tor-a"), "tor-a");
        assert_eq!(escape("leafs/fd00::1"), "leafs%2Ffd00%3A%3A1");
    }
}
