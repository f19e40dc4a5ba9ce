//! The rows as a table and as JSON, and what they are to reach.

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What was measured with so many Services.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) services: u32,
    pub(crate) endpoints: u32,
    /// From the lists to the maps.
    pub(crate) cold_ms: f64,
    /// Of it, until the index has put the objects together.
    pub(crate) index_ms: f64,
    /// An intent from nothing.
    pub(crate) compute_ms: f64,
    /// All tables from nothing.
    pub(crate) tables_ms: f64,
    /// Writes that fill the maps.
    pub(crate) steps: usize,
    /// Endpoints that came or went, one at a time.
    pub(crate) changes: u32,
    pub(crate) change_p50_ms: f64,
    pub(crate) change_p99_ms: f64,
    pub(crate) change_max_ms: f64,
    /// Memory of the process, without pages of maps, after the first sync.
    pub(crate) resident_cold_bytes: u64,
    /// The same after all changes.
    pub(crate) resident_bytes: u64,
    /// Kernel memory of all maps.
    pub(crate) map_bytes: u64,
    /// Of it, of the slot array, which the process maps.
    pub(crate) slot_bytes: u64,
    pub(crate) slots_used: u32,
    /// Of one core, while nothing happens.
    pub(crate) idle_share: f64,
}

/// A limit that the row of 10,000 Services must keep.
struct Target {
    name: &'static str,
    limit: f64,
    of: fn(&Row) -> f64,
}

const TARGETS: [Target; 4] = [
    Target {
        name: "cold_ms",
        limit: 2_000.0,
        of: |row| row.cold_ms,
    },
    Target {
        name: "change_p99_ms",
        limit: 10.0,
        of: |row| row.change_p99_ms,
    },
    Target {
        name: "resident_mib",
        limit: 300.0,
        of: |row| mebibytes(row.resident_bytes),
    },
    Target {
        name: "idle_share",
        limit: 0.01,
        of: |row| row.idle_share,
    },
];

/// Services of the row that targets are for.
const TARGET_SERVICES: u32 = 10_000;

/// All rows.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

impl Report {
    pub(crate) fn add(&mut self, row: Row) {
        self.rows.push(row);
    }

    /// Whether no target is missed, of those that can be told.
    pub(crate) fn is_ok(&self) -> bool {
        let mut judged = self.rows.iter().flat_map(judged);
        judged.all(|(_, _, is_met)| is_met)
    }

    pub(crate) fn json(&self) -> Result<String> {
        let targets = self.rows.iter().flat_map(judged).map(|(target, value, ok)| {
            json!({"name": target.name, "limit": target.limit, "value": value, "ok": ok})
        });
        let report = json!({
            "ok": self.is_ok(),
            "rows": self.rows,
            "targets": targets.collect::<Vec<_>>(),
        });
        Ok(serde_json::to_string(&report)?)
    }

    pub(crate) fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header([
            "services",
            "cold ms",
            "index",
            "compute",
            "tables",
            "change p50 ms",
            "p99",
            "max",
            "RSS MiB cold",
            "RSS MiB",
            "maps MiB",
            "slots MiB",
            "idle %",
        ]);
        for row in &self.rows {
            table.add_row([
                row.services.to_string(),
                format!("{:.0}", row.cold_ms),
                format!("{:.0}", row.index_ms),
                format!("{:.0}", row.compute_ms),
                format!("{:.0}", row.tables_ms),
                format!("{:.2}", row.change_p50_ms),
                format!("{:.2}", row.change_p99_ms),
                format!("{:.2}", row.change_max_ms),
                format!("{:.0}", mebibytes(row.resident_cold_bytes)),
                format!("{:.0}", mebibytes(row.resident_bytes)),
                format!("{:.0}", mebibytes(row.map_bytes)),
                format!("{:.0}", mebibytes(row.slot_bytes)),
                format!("{:.2}", row.idle_share * 100.0),
            ]);
        }
        for column in table.column_iter_mut() {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = format!("{table}\n");
        for (target, value, is_met) in self.rows.iter().flat_map(judged) {
            let word = if is_met { "met" } else { "MISSED" };
            let line = format!(
                "{}: {value:.2}, at most {}: {word}\n",
                target.name, target.limit
            );
            text.push_str(&line);
        }
        text
    }
}

fn judged(row: &Row) -> impl Iterator<Item = (&'static Target, f64, bool)> {
    let targets = (row.services == TARGET_SERVICES).then_some(&TARGETS);
    targets.into_iter().flatten().map(|target| {
        let value = (target.of)(row);
        (target, value, value < target.limit)
    })
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
