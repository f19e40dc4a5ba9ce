//! What the demo found, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::Result;
use comfy_table::{Table, presets};
use harness::layer2::Seen;
use serde::Serialize;

/// The findings. A number nobody measured is `null`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    ok: bool,
    /// Every BGP session of every node.
    pub(crate) sessions: Vec<Session>,
    /// Gateways of each VIP's route at the router.
    pub(crate) next_hops: BTreeMap<IpAddr, Vec<IpAddr>>,
    /// The connections of the first step.
    pub(crate) connections: Connections,
    /// The same by address family.
    pub(crate) by_family: ByFamily,
    /// Whether every pod saw the client's own address.
    pub(crate) client_address_preserved: bool,
    /// Open connections to pods of the surviving node that broke when the other was cut off.
    pub(crate) broken_on_node_loss: Option<usize>,
    /// Open connections whose slot named another pod once there was one more.
    pub(crate) moved_on_scale_up: Option<usize>,
    /// Those that broke.
    pub(crate) broken_on_scale_up: Option<usize>,
    /// How long new connections failed after the cut, in milliseconds.
    pub(crate) recovery_ms: Option<u128>,
    /// What happened at layer 2, with `--l2`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) rounds: Vec<Round>,
    #[serde(skip)]
    lines: Vec<Line>,
}

/// The leader of the VIPs was taken away once.
#[derive(Debug, Serialize)]
pub(crate) struct Round {
    /// How.
    pub(crate) mechanism: &'static str,
    /// Longest gap in echo replies, in milliseconds.
    pub(crate) gap_ms: u128,
    /// Echo requests without a reply.
    pub(crate) lost: usize,
    /// How long new connections failed, in milliseconds.
    pub(crate) recovery_ms: u128,
    /// Open connections to pods of other nodes.
    pub(crate) connections: usize,
    /// Those that broke.
    pub(crate) broken: usize,
}

impl Round {
    /// The worse of both families.
    pub(crate) fn new(mechanism: &'static str, seen: &Seen) -> Self {
        let [v4, v6] = seen.pings;
        let [new4, new6] = seen.new;
        Self {
            mechanism,
            gap_ms: v4.gap.max(v6.gap).as_millis(),
            lost: v4.lost + v6.lost,
            recovery_ms: new4.max(new6).as_millis(),
            connections: seen.connections,
            broken: seen.broken,
        }
    }
}

/// A BGP session.
#[derive(Debug, Serialize)]
pub(crate) struct Session {
    /// Name of the node.
    pub(crate) node: String,
    /// Name of the BGPPeer.
    pub(crate) peer: String,
    /// The peer's address.
    pub(crate) address: IpAddr,
    /// State, in lower case.
    pub(crate) state: String,
}

/// How many connections were tried and how they went.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Connections {
    /// Tried.
    pub(crate) attempted: usize,
    /// Greeted by a pod.
    pub(crate) succeeded: usize,
    /// By which pod.
    pub(crate) per_pod: BTreeMap<String, usize>,
}

/// Connections of each family.
#[derive(Debug, Default, Serialize)]
pub(crate) struct ByFamily {
    /// IPv4.
    pub(crate) v4: Count,
    /// IPv6.
    pub(crate) v6: Count,
}

/// How many connections were tried and how they went.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Count {
    /// Tried.
    pub(crate) attempted: usize,
    /// Greeted by a pod.
    pub(crate) succeeded: usize,
}

#[derive(Debug)]
struct Line {
    what: String,
    found: String,
    wanted: String,
    holds: bool,
}

impl Report {
    /// Adds a line that must hold.
    pub(crate) fn check(&mut self, what: &str, found: &str, wanted: &str, holds: bool) {
        let [what, found, wanted] = [what, found, wanted].map(str::to_owned);
        self.lines.push(Line {
            what,
            found,
            wanted,
            holds,
        });
        self.ok = self.lines.iter().all(|line| line.holds);
    }

    /// Adds a line for something that could not be done at all.
    pub(crate) fn fail(&mut self, what: &str) {
        self.check(what, "no, see above", "", false);
    }

    /// Whether every line is as it must be.
    pub(crate) fn is_ok(&self) -> bool {
        self.ok
    }

    /// The lines, aligned.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(["", "what", "found", "wanted"]);
        for line in &self.lines {
            let mark = if line.holds { "ok" } else { "FAIL" };
            table.add_row([mark, &line.what, &line.found, &line.wanted]);
        }
        let verdict = if self.ok {
            "Every line is as it must be."
        } else {
            "Not as it must be."
        };
        format!("{table}\n\n{verdict}\n")
    }

    /// The findings as one line.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_that_does_not_hold_spoils_the_whole() {
        let mut report = Report::default();
        assert!(!report.is_ok());
        report.check("sum", "4", "4", true);
        assert!(report.is_ok());
        report.check("sum", "5", "4", false);
        report.check("sum", "4", "4", true);
        assert!(!report.is_ok());
        assert!(report.table().contains("FAIL"));
    }

    #[test]
    fn the_json_has_the_agreed_keys() {
        let json: serde_json::Value =
            serde_json::from_str(&Report::default().json().unwrap()).unwrap();
        let keys: Vec<_> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let mut agreed = [
            "ok",
            "sessions",
            "next_hops",
            "connections",
            "by_family",
            "client_address_preserved",
            "broken_on_node_loss",
            "moved_on_scale_up",
            "broken_on_scale_up",
            "recovery_ms",
        ];
        agreed.sort_unstable();
        assert_eq!(keys, agreed);
    }
}
