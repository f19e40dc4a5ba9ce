//! The report: what each kind of change does to connections, by depth of history.

use std::fmt::Write as _;

use lb_common::maps::Slot;
use lb_userspace::model::cluster::Family;
use serde::Serialize;

use crate::properties::{HAS_CHAIN, run};
use crate::script::{Change, FOR_EVER, GRACE};
use crate::tally::{Place, Tally};
use crate::world::Setup;

/// A kind of change.
struct Kind {
    name: &'static str,
    nodes: u8,
    pods: u16,
    uneven: bool,
    script: Vec<(u64, Change)>,
    /// Milliseconds after the last change.
    settling: u64,
}

/// A line of the report.
#[derive(Serialize)]
struct Row {
    change: &'static str,
    /// Owners that a slot remembers.
    depth: usize,
    /// Connections that at some time were not with `c0`.
    moved: usize,
    /// Of those, with `c1`, `c2`, `c3` at worst.
    former: [usize; Slot::DEPTH - 1],
    /// Of those, with a pod that the slot had forgotten.
    forgotten: usize,
    #[serde(flatten)]
    tally: Tally,
}

/// Everything that is measured, each at every depth.
fn kinds() -> Vec<Kind> {
    let kind = |name, pods, script, settling| Kind {
        name,
        nodes: 5,
        pods,
        uneven: false,
        script,
        settling,
    };
    let roll = |drain| Change::Roll {
        every: 3_000,
        drain,
        reuse: false,
    };
    let flap: Vec<_> = (0..8).map(|n| (6_000, Change::Flap(n))).collect();
    vec![
        kind("router re-hash", 10, vec![(0, Change::Rehash)], 10_000),
        kind(
            "first hop withdrawn",
            10,
            vec![(0, Change::Withdraw(1))],
            10_000,
        ),
        kind(
            "agent restarted",
            10,
            vec![(0, Change::RestartAgent(1, 5))],
            10_000,
        ),
        kind("node lost", 10, vec![(0, Change::LoseNode(1))], 30_000),
        kind(
            "node joins with 2 pods",
            10,
            vec![(0, Change::Join(2))],
            10_000,
        ),
        kind("scale 10 to 20", 10, vec![(0, Change::ScaleUp(10))], 10_000),
        kind(
            "scale 20 to 10",
            20,
            vec![(0, Change::ScaleDown(10))],
            25_000,
        ),
        kind(
            "scale 30 to 45, longer table",
            30,
            vec![(0, Change::ScaleUp(15))],
            10_000,
        ),
        kind("8 pods flap in turn", 10, flap.clone(), 10_000),
        kind(
            "rolling update, 30 s of draining",
            10,
            vec![(0, roll(GRACE))],
            60_000,
        ),
        kind(
            "rolling update, draining throughout",
            10,
            vec![(0, roll(FOR_EVER))],
            40_000,
        ),
        Kind {
            uneven: true,
            ..kind(
                "the same, tables that lag",
                10,
                vec![(0, roll(FOR_EVER))],
                40_000,
            )
        },
        kind(
            "two rolling updates, draining throughout",
            10,
            vec![(0, roll(FOR_EVER)), (35_000, roll(FOR_EVER))],
            40_000,
        ),
        Kind {
            nodes: 2,
            ..kind(
                "the same, two nodes",
                4,
                vec![(0, roll(FOR_EVER)), (15_000, roll(FOR_EVER))],
                40_000,
            )
        },
        kind(
            "rolling update, re-hash, a node lost",
            10,
            vec![
                (0, roll(GRACE)),
                (10_000, Change::Rehash),
                (0, Change::LoseNode(2)),
            ],
            60_000,
        ),
        Kind {
            uneven: true,
            ..kind(
                "scale, flap and join at once, lagging",
                10,
                [vec![(0, Change::ScaleUp(5)), (0, Change::Join(3))], flap].concat(),
                10_000,
            )
        },
    ]
}

fn measure(kind: &Kind, depth: usize, connections: u16) -> Row {
    let setup = Setup {
        family: Family::V4,
        nodes: kind.nodes,
        pods: kind.pods,
        connections,
        udp_clients: connections / 4,
        depth,
        churn: false,
        reuses_ports: false,
        late_copies: 0,
        uneven: kind.uneven,
        seed: 1,
    };
    let tally = run(setup, &kind.script, kind.settling);
    let former = [1, 2, 3].map(|at| tally.at(Place::Former(at)));
    let forgotten = tally.at(Place::Forgotten);
    Row {
        change: kind.name,
        depth,
        moved: former.iter().sum::<usize>() + forgotten,
        former,
        forgotten,
        tally,
    }
}

fn table(rows: &[Row]) -> String {
    let mut text = format!(
        "{:<40} {:>5} {:>6} {:>6} {:>5} {:>5} {:>5} {:>6} {:>7} {:>5} {:>5} {:>6} {:>6} {:>6}\n",
        "change",
        "depth",
        "conns",
        "moved",
        "c1",
        "c2",
        "c3",
        "beyond",
        "broken",
        "hops",
        "loops",
        "udp",
        "lost",
        "moved",
    );
    for row in rows {
        let [c1, c2, c3] = row.former;
        let tally = &row.tally;
        let _ = writeln!(
            text,
            "{:<40} {:>5} {:>6} {:>6} {c1:>5} {c2:>5} {c3:>5} {:>6} {:>7} {:>5} {:>5} {:>6} {:>6} {:>6}",
            row.change,
            row.depth,
            tally.connections,
            row.moved,
            row.forgotten,
            tally.broken,
            tally.most_hops,
            tally.loops,
            tally.datagrams,
            tally.datagrams_lost,
            tally.udp_moved,
        );
    }
    text
}

/// The report itself, and that nothing in it may not be: `cargo xtask model` has it printed.
#[test]
fn report() {
    let path = std::env::var_os("TORLINE_MODEL_REPORT");
    let is_json = std::env::var_os("TORLINE_MODEL_JSON").is_some();
    let connections = if path.is_some() { 1_000 } else { 60 };
    let depths = if path.is_some() {
        1..=Slot::DEPTH
    } else {
        Slot::DEPTH..=Slot::DEPTH
    };
    let rows: Vec<Row> = kinds()
        .iter()
        .flat_map(|kind| {
            depths
                .clone()
                .map(|depth| measure(kind, depth, connections))
        })
        .collect();
    let text = match is_json {
        true => serde_json::json!({ "has_chain": HAS_CHAIN, "rows": rows }).to_string(),
        false => table(&rows),
    };
    match path {
        Some(path) => std::fs::write(path, text).unwrap(),
        None => println!("{text}"),
    }
    for row in rows {
        assert_eq!(row.tally.violations, Default::default(), "{}", row.change);
        assert_eq!(row.tally.loops, 0, "{}", row.change);
        if HAS_CHAIN && row.depth == Slot::DEPTH {
            assert_eq!(row.tally.broken, 0, "{}", row.change);
        }
    }
}
