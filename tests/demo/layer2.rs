//! The demo of layer 2: the node that answers ARP and NDP is taken away, in
//! three ways, under the eyes of a client on its segment.

use std::io::{self, Write as _};

use anyhow::Result;
use harness::layer2::{Mechanism, Seen, Segment, VIPS};
use harness::witness::{Witness, turns};

use crate::report::{Report, Round};

const NODES: u8 = 3;
/// Connections that are open meanwhile.
const CONNECTIONS: usize = 1_000;
/// The most that may be missed, in milliseconds, when a leader is lost.
const MOST: u128 = 1_000;

/// Goes through all steps.
///
/// # Errors
/// When a step cannot be finished; what was found until then is in the report.
pub(crate) fn run(report: &mut Report) -> Result<()> {
    let err = &mut io::stderr();
    writeln!(
        err,
        "build a client, a bridge that snoops MLD, three nodes with two pods each"
    )?;
    let mut segment = Segment::start(NODES)?;
    let leader = segment.settled(&segment.names())?;
    writeln!(err, "{leader} answers for {} and {}", VIPS[0], VIPS[1])?;
    for (mechanism, what) in [
        (Mechanism::Drain, "is drained"),
        (Mechanism::Killed, "falls silent"),
        (Mechanism::Link, "loses its link"),
    ] {
        writeln!(
            err,
            "{leader} {what}, with {CONNECTIONS} open connections, and returns"
        )?;
        let witness = Witness::watch(&segment.cluster.topology, mechanism.name())?;
        let seen = segment.round(mechanism, CONNECTIONS)?;
        let words = witness.end(&segment.cluster.topology)?;
        for vip in VIPS {
            let found = turns(&words, vip);
            let holds = matches!(found[..], [.., other, back] if other != leader && back == leader);
            let text = format!("it {what}: who spoke for {vip}");
            report.check(&text, &found.join(", "), "another, then it again", holds);
        }
        judge(what, mechanism, &seen, report);
        report.rounds.push(Round::new(mechanism.name(), &seen));
    }
    Ok(())
}

fn judge(what: &str, mechanism: Mechanism, seen: &Seen, report: &mut Report) {
    let round = Round::new(mechanism.name(), seen);
    let gap = format!("{} ms, {} lost", round.gap_ms, round.lost);
    let (wanted, holds) = if mechanism == Mechanism::Drain {
        ("none lost".to_owned(), round.lost == 0)
    } else {
        (format!("less than {MOST} ms"), round.gap_ms < MOST)
    };
    report.check(
        &format!("it {what}: gap in echo replies"),
        &gap,
        &wanted,
        holds,
    );
    report.check(
        &format!("it {what}: connections to other nodes' pods that broke"),
        &format!("{} of {}", seen.broken, seen.connections),
        "0",
        seen.broken == 0 && seen.connections > 0,
    );
}
