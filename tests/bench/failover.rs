//! How long clients miss a node that is lost: `cargo xtask bench failover`.
//!
//! At layer 2, three nodes and a client on their segment, behind a bridge that snoops MLD. In every round the
//! leader is taken away while echo requests and new connections go to both its VIPs and many connections are
//! open; then it comes back. The two VIPs are one sample, the worse of them.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "figures are the purpose of this program, and people want to see that it goes on"
)]

use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use comfy_table::{Table, presets};
use harness::layer2::{Mechanism, Seen, Segment};
use harness::machine;
use serde::Serialize;

/// Nodes of the laboratory.
const NODES: u8 = 3;

/// Options.
#[derive(Debug, Parser)]
struct Args {
    /// Take away the node that answers ARP and NDP.
    #[arg(long)]
    l2: bool,
    /// Print JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Rounds of each mechanism.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Connections that are open meanwhile.
    #[arg(long, default_value_t = 1_000)]
    connections: usize,
}

/// What is printed.
#[derive(Debug, Serialize)]
struct Report {
    rounds: usize,
    rows: Vec<Row>,
}

/// One measure of one mechanism.
#[derive(Debug, Serialize)]
struct Row {
    path: &'static str,
    mechanism: &'static str,
    /// `open`: the gap in echo replies; `new`: until no new connection fails.
    measure: &'static str,
    median_ms: u64,
    p95_ms: u64,
    max_ms: u64,
    /// Open connections that did not go on though their pods lived; echo requests that were lost.
    broken: usize,
    lost: usize,
}

fn main() -> Result<()> {
    let args = Args::parse();
    ensure!(args.l2, "there is --l2 only");
    ensure!(args.rounds > 0, "at least one round");
    ensure!(machine::can_test(), "this machine cannot run it");
    let mut segment = Segment::start(NODES)?;
    let mut rows = Vec::new();
    for mechanism in Mechanism::ALL {
        let mut rounds = Vec::new();
        for number in 1..=args.rounds {
            let seen = segment.round(mechanism, args.connections)?;
            eprintln!("{} {number}/{}: {seen:?}", mechanism.name(), args.rounds);
            rounds.push(seen);
        }
        rows.extend(summary(mechanism, &rounds));
    }
    let report = Report {
        rounds: args.rounds,
        rows,
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{}", table(&report));
    }
    Ok(())
}

fn summary(mechanism: Mechanism, rounds: &[Seen]) -> [Row; 2] {
    let worse = |pair: [Duration; 2]| pair.into_iter().max().unwrap_or_default();
    let open = rounds
        .iter()
        .map(|seen| worse(seen.pings.map(|pings| pings.gap)));
    let new = rounds.iter().map(|seen| worse(seen.new));
    let row = |measure, mut times: Vec<Duration>| {
        times.sort_unstable();
        let at = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).max(1) - 1;
            let time = times.get(place).copied().unwrap_or_default();
            u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
        };
        Row {
            path: "l2",
            mechanism: mechanism.name(),
            measure,
            median_ms: at(50),
            p95_ms: at(95),
            max_ms: at(100),
            broken: rounds.iter().map(|seen| seen.broken).sum(),
            lost: rounds
                .iter()
                .flat_map(|seen| seen.pings)
                .map(|pings| pings.lost)
                .sum(),
        }
    };
    [row("open", open.collect()), row("new", new.collect())]
}

fn table(report: &Report) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header([
        "mechanism",
        "measure",
        "median ms",
        "p95 ms",
        "max ms",
        "broken",
        "lost",
    ]);
    for row in &report.rows {
        let [median, p95, max] = [row.median_ms, row.p95_ms, row.max_ms].map(|n| n.to_string());
        let [broken, lost] = [row.broken, row.lost].map(|n| n.to_string());
        let words = [row.mechanism, row.measure].map(str::to_owned);
        table.add_row(words.into_iter().chain([median, p95, max, broken, lost]));
    }
    table
}

#[cfg(test)]
mod tests {
    use harness::traffic::ping::Pinged;

    use super::*;

    #[test]
    fn the_worse_vip_counts_and_percentiles_are_of_rounds() {
        let seen = |ms| Seen {
            pings: [1, ms].map(|ms| Pinged {
                sent: 10,
                lost: 1,
                gap: Duration::from_millis(ms),
            }),
            new: [Duration::ZERO; 2],
            connections: 5,
            broken: 0,
            why: None,
        };
        let rounds: Vec<_> = (1..=20).map(|n| seen(n * 10)).collect();
        let [open, new] = summary(Mechanism::Killed, &rounds);
        assert_eq!((open.median_ms, open.p95_ms, open.max_ms), (100, 190, 200));
        assert_eq!((new.max_ms, open.broken, open.lost), (0, 0, 40));
    }
}
