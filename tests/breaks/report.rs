//! What the events did, as a table for people and as JSON for programs.

use std::net::IpAddr;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use harness::source::Policy;
use serde::Serialize;

use crate::event::Event;
use crate::lab::{Mode, family};
use crate::tally::Tally;

/// What is tried.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) event: Event,
    pub(crate) mode: Mode,
    pub(crate) policy: Policy,
}

impl Row {
    /// `event::mode[::policy]`.
    pub(crate) fn name(self) -> String {
        let name = format!("{}::{}", self.event.name(), self.mode.name());
        match self.policy {
            Policy::Cluster => name,
            Policy::Local | Policy::Zones => format!("{name}::{}", self.policy()),
        }
    }

    const fn policy(self) -> &'static str {
        match self.policy {
            Policy::Cluster => "cluster",
            Policy::Local => "local",
            Policy::Zones => "zones",
        }
    }
}

/// All rows.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) cases: Vec<Case>,
}

/// One event with the connections of one family.
#[derive(Debug, Serialize)]
pub(crate) struct Case {
    event: &'static str,
    mode: &'static str,
    family: &'static str,
    /// `cluster`, `local` or `zones`: what nodes choose among.
    policy: &'static str,
    #[serde(skip)]
    name: String,
    /// Opened.
    connections: usize,
    /// Those that had another first hop, or another pod in their slot, after a change that the event is about.
    moved: usize,
    /// Those of them that had another first hop.
    moved_by_hop: usize,
    /// Those of them that had another pod in their slot.
    moved_by_slot: usize,
    /// Those whose slot named no pod on the node of theirs.
    forgotten: usize,
    /// Packets that reached their pod along the chain.
    chained: u64,
    /// Flows of both families that were sent ahead to the owners of their slots.
    pushed: u64,
    /// Flows that their pod's node was asked for.
    located: u64,
    /// Connections that did not go on though their pod lived.
    broken: usize,
    /// How long new connections failed, in milliseconds.
    recovery_ms: u128,
    /// UDP flows.
    udp_flows: usize,
    /// Those that another pod or none answered though theirs lived; reported, not asserted.
    udp_strayed: usize,
    /// Whether it is as it must be.
    pub(crate) ok: bool,
    /// Why it is not.
    remark: Option<String>,
}

impl Case {
    /// The case of a row that was gone through.
    pub(crate) fn new(row: Row, tally: &Tally) -> Self {
        let unused = tally.unused(row.mode == Mode::Geneve);
        let wrong = tally.why.clone().or(unused);
        let total = &tally.total;
        Self {
            connections: tally.connections,
            moved: tally.moved(),
            moved_by_hop: total.by_hop.len(),
            moved_by_slot: total.by_slot.len(),
            forgotten: total.forgotten,
            chained: total.chained,
            pushed: total.pushed,
            located: total.located,
            broken: tally.broken,
            recovery_ms: tally.recovery.as_millis(),
            udp_flows: tally.udp_flows,
            udp_strayed: tally.udp_strayed,
            ok: wrong.is_none() && tally.broken == 0,
            remark: wrong,
            ..Self::empty(row, tally.family)
        }
    }

    /// The case of a row that could not be gone through.
    pub(crate) fn unfinished(row: Row, vip: &IpAddr, error: &anyhow::Error) -> Self {
        Self {
            remark: Some(format!("could not be tried: {error:#}")),
            ..Self::empty(row, family(vip))
        }
    }

    fn empty(row: Row, family: &'static str) -> Self {
        Self {
            event: row.event.name(),
            mode: row.mode.name(),
            family,
            policy: row.policy(),
            name: format!("{}::{family}", row.name()),
            connections: 0,
            moved: 0,
            moved_by_hop: 0,
            moved_by_slot: 0,
            forgotten: 0,
            chained: 0,
            pushed: 0,
            located: 0,
            broken: 0,
            recovery_ms: 0,
            udp_flows: 0,
            udp_strayed: 0,
            ok: false,
            remark: None,
        }
    }

    /// `event::mode[::policy]::family`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }
}

impl Report {
    /// Whether there are rows, and every one is as it must be.
    pub(crate) fn is_ok(&self) -> bool {
        !self.cases.is_empty() && self.cases.iter().all(|case| case.ok)
    }

    /// The rows, aligned.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "",
            "event",
            "mode",
            "family",
            "policy",
            "connections",
            "moved",
            "by hop",
            "by slot",
            "chained",
            "pushed",
            "located",
            "broken",
            "recovery ms",
            "udp",
            "strayed",
            "",
        ]);
        for case in &self.cases {
            let mark = if case.ok { "ok" } else { "FAIL" };
            table.add_row([
                mark,
                case.event,
                case.mode,
                case.family,
                case.policy,
                &case.connections.to_string(),
                &case.moved.to_string(),
                &case.moved_by_hop.to_string(),
                &case.moved_by_slot.to_string(),
                &case.chained.to_string(),
                &case.pushed.to_string(),
                &case.located.to_string(),
                &case.broken.to_string(),
                &case.recovery_ms.to_string(),
                &case.udp_flows.to_string(),
                &case.udp_strayed.to_string(),
                case.remark.as_deref().unwrap_or_default(),
            ]);
        }
        for column in table.column_iter_mut().skip(5).take(11) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        format!("{table}\n")
    }

    /// The rows as one line.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub(crate) fn json(&self) -> Result<String> {
        let object = serde_json::json!({ "ok": self.is_ok(), "cases": self.cases });
        Ok(serde_json::to_string(&object)?)
    }
}
