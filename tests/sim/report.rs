//! The report: what each kind of change does to connections, by depth of
//! history.

use std::fmt::Write as _;

use lb_common::maps::Slot;
use lb_userspace::model::cluster::Family;
use serde::Serialize;

use crate::agent::Way;
use crate::cluster::Policy;
use crate::properties::run;
use crate::script::{Change, FOR_EVER, GRACE};
use crate::tally::{Place, Tally};
use crate::world::Setup;

/// A kind of change.
struct Kind {
    name: &'static str,
    policy: Policy,
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
    /// Connections whose packets met another `c0` at some time.
    moved: usize,
    /// Of those, with `c1`, `c2`, `c3` at worst.
    former: [usize; Slot::DEPTH - 1],
    /// Of those, with a pod that the slot had forgotten.
    forgotten: usize,
    /// Connections that the chain found, by position on its list.
    chained: [usize; Slot::DEPTH - 1],
    /// Connections that an exception found, by what made it.
    excepted: usize,
    pushed: usize,
    located: usize,
    #[serde(flatten)]
    tally: Tally,
}

/// Everything that is measured, each at every depth.
fn kinds() -> Vec<Kind> {
    let kind = |name, pods, script, settling| Kind {
        name,
        policy: Policy::Cluster,
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
        Kind {
            policy: Policy::Local,
            ..kind(
                "the same, policy Local",
                10,
                vec![(0, Change::Rehash)],
                10_000,
            )
        },
        Kind {
            policy: Policy::Zones,
            ..kind(
                "the same, zone hints",
                10,
                vec![(0, Change::Rehash)],
                10_000,
            )
        },
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
        Kind {
            policy: Policy::Local,
            ..kind(
                "the same, policy Local, and a re-hash",
                10,
                vec![(0, roll(FOR_EVER)), (40_000, Change::Rehash)],
                40_000,
            )
        },
        Kind {
            policy: Policy::Zones,
            ..kind(
                "the same, zone hints",
                10,
                vec![(0, roll(FOR_EVER)), (40_000, Change::Rehash)],
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
        policy: kind.policy,
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
        chained: [1, 2, 3].map(|at| tally.by(Way::Chain(at))),
        excepted: tally.by(Way::Exception),
        pushed: tally.by(Way::Push),
        located: tally.by(Way::Locate),
        tally,
    }
}

/// Heads of the columns, and how wide they are.
const COLUMNS: [(&str, usize); 19] = [
    ("depth", 5),
    ("conns", 6),
    ("moved", 6),
    ("in c1", 6),
    ("c2", 5),
    ("c3", 5),
    ("none", 5),
    ("hop 1", 6),
    ("2", 5),
    ("3", 5),
    ("exc", 5),
    ("push", 5),
    ("loc", 5),
    ("broken", 7),
    ("hops", 5),
    ("loops", 6),
    ("udp", 6),
    ("lost", 5),
    ("moved", 6),
];

fn table(rows: &[Row]) -> String {
    let mut text = format!("{:<40}", "change");
    for (head, width) in COLUMNS {
        let _ = write!(text, " {head:>width$}");
    }
    text.push('\n');
    for row in rows {
        let ([c1, c2, c3], [h1, h2, h3]) = (row.former, row.chained);
        let tally = &row.tally;
        let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        let cells = [
            row.depth,
            count(tally.connections),
            row.moved,
            c1,
            c2,
            c3,
            row.forgotten,
            h1,
            h2,
            h3,
            row.excepted,
            row.pushed,
            row.located,
            count(tally.broken),
            tally.most_hops,
            count(tally.loops),
            count(tally.datagrams),
            count(tally.datagrams_lost),
            count(tally.udp_moved),
        ];
        let _ = write!(text, "{:<40}", row.change);
        for (cell, (_, width)) in cells.into_iter().zip(COLUMNS) {
            let _ = write!(text, " {cell:>width$}");
        }
        text.push('\n');
    }
    text
}

/// The report itself, and that nothing in it may not be: `cargo xtask model` has it printed.
#[test]
fn report() {
    let path = std::env::var_os("TORLINE_MODEL_REPORT");
    let is_json = std::env::var_os("TORLINE_MODEL_JSON").is_some();
    let (connections, shallowest) = match path {
        Some(_) => (1_000, 1),
        None => (60, Slot::DEPTH),
    };
    let rows: Vec<Row> = kinds()
        .iter()
        .flat_map(|kind| (shallowest..=Slot::DEPTH).map(|depth| measure(kind, depth, connections)))
        .collect();
    let text = match is_json {
        true => serde_json::json!({ "rows": rows }).to_string(),
        false => table(&rows),
    };
    match path {
        Some(path) => std::fs::write(path, text).unwrap(),
        None => println!("{text}"),
    }
    for row in rows {
        assert_eq!(row.tally.violations, Default::default(), "{}", row.change);
        assert_eq!(
            (row.tally.loops, row.tally.broken),
            (0, 0),
            "{}",
            row.change
        );
    }
}
