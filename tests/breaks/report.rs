//! What the events did, as a table for people and as JSON for programs.

use std::net::IpAddr;

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::event::Event;
use crate::lab::{Mode, Tally, family};

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
    /// Opened.
    connections: usize,
    /// Those that had another first hop, or another pod in their slot.
    moved: usize,
    /// Packets that reached their pod along the chain.
    chained: u64,
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
    /// The row of an event that was gone through.
    pub(crate) fn new(event: Event, mode: Mode, tally: &Tally) -> Self {
        let unused = [
            (event.moves() && tally.moved.is_empty(), "nothing moved"),
            (
                event.chains() && tally.chained == 0,
                "no packet took the chain",
            ),
            (
                mode == Mode::Geneve && tally.tunnelled == 0,
                "no packet took the tunnel",
            ),
        ];
        let unused = unused.into_iter().find_map(|(is, what)| is.then_some(what));
        let wrong = tally.why.clone().or_else(|| unused.map(str::to_owned));
        Self {
            event: event.name(),
            mode: mode.name(),
            family: tally.family,
            connections: tally.connections,
            moved: tally.moved.len(),
            chained: tally.chained,
            located: tally.located,
            broken: tally.broken,
            recovery_ms: tally.recovery.as_millis(),
            udp_flows: tally.udp_flows,
            udp_strayed: tally.udp_strayed,
            ok: wrong.is_none(),
            remark: wrong,
        }
    }

    /// The row of an event that could not be gone through.
    pub(crate) fn unfinished(
        event: Event,
        mode: Mode,
        vip: &IpAddr,
        error: &anyhow::Error,
    ) -> Self {
        Self {
            event: event.name(),
            mode: mode.name(),
            family: family(vip),
            connections: 0,
            moved: 0,
            chained: 0,
            located: 0,
            broken: 0,
            recovery_ms: 0,
            udp_flows: 0,
            udp_strayed: 0,
            ok: false,
            remark: Some(format!("could not be tried: {error:#}")),
        }
    }

    /// `event::mode::family`.
    pub(crate) fn name(&self) -> String {
        format!("{}::{}::{}", self.event, self.mode, self.family)
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
            "connections",
            "moved",
            "chained",
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
                &case.connections.to_string(),
                &case.moved.to_string(),
                &case.chained.to_string(),
                &case.located.to_string(),
                &case.broken.to_string(),
                &case.recovery_ms.to_string(),
                &case.udp_flows.to_string(),
                &case.udp_strayed.to_string(),
                case.remark.as_deref().unwrap_or_default(),
            ]);
        }
        for column in table.column_iter_mut().skip(4).take(8) {
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
