//! What the control plane costs: from an event of the API to the last slot
//! written, with 100, 1,000 and 10,000 Services of ten endpoints each.
//!
//! The path is the agent's own, from `k8s::index` through `tasks::control`, `tasks::peer` and `tasks::datapath` to
//! the maps of the programs, which are loaded in a namespace of their own. Only who tells the index is not: here
//! objects are made one by one, as feeds of an API server hand them over. Each size has a process to itself, so
//! that its memory is its own.
//!
//! Files: `cluster` the objects; `plant` one size, measured; `memory` what the process and the maps take; `report`
//! the table, the JSON and the targets.

#[path = "control/cluster.rs"]
mod cluster;
#[path = "control/memory.rs"]
mod memory;
#[path = "control/plant.rs"]
mod plant;
#[path = "control/report.rs"]
mod report;

use std::env;
use std::io::{self, Write};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use harness::machine;
use harness::netns::Netns;
use report::{Report, Row};

/// What the control plane costs, by number of Services.
#[derive(Parser)]
#[command(name = "bench-control")]
struct Args {
    /// End with one JSON object on standard output; the table goes to standard error
    #[arg(long)]
    json: bool,
    /// Fewer changes, and no more than 1,000 Services
    #[arg(long)]
    quick: bool,
    /// Fail where a target is missed; a target is for 10,000 Services
    #[arg(long, conflicts_with = "quick")]
    check: bool,
    /// Measure one size, here and now
    #[arg(long, hide = true)]
    services: Option<u32>,
}

impl Args {
    /// How many Services there are in each row.
    const fn sizes(&self) -> &'static [u32] {
        match self.quick {
            true => &[100, 1_000],
            false => &[100, 1_000, 10_000],
        }
    }

    /// How many changes are timed in each row.
    const fn changes(&self) -> u32 {
        match self.quick {
            true => 50,
            false => 400,
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "bench control: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    if let Some(services) = args.services {
        let row = plant::measure(services, args.changes())?;
        writeln!(io::stdout(), "{}", serde_json::to_string(&row)?)?;
        return Ok(true);
    }
    if let Some(reason) = machine::missing() {
        anyhow::bail!(reason);
    }
    let mut report = Report::default();
    for services in args.sizes() {
        writeln!(io::stderr(), "{services} Services")?;
        report.add(measure_apart(*services, args.quick)?);
    }
    let mut out: Box<dyn Write> = match args.json {
        true => Box::new(io::stderr()),
        false => Box::new(io::stdout()),
    };
    write!(out, "{}", report.table())?;
    if args.json {
        writeln!(io::stdout(), "{}", report.json()?)?;
    }
    Ok(!args.check || report.is_ok())
}

/// Measures one size in a process and a namespace of its own.
fn measure_apart(services: u32, quick: bool) -> Result<Row> {
    let netns = Netns::new("bench")?;
    netns.ip(&format!(
        "link add {port} type veth peer name wire
         address add {address} dev {port}
         link set {port} up
         link set wire up",
        port = cluster::INTERFACE,
        address = cluster::address(0),
    ))?;
    let mut command = Command::new(env::current_exe()?);
    command
        .args(["--services", &services.to_string()])
        .args(quick.then_some("--quick"))
        .stdout(Stdio::piped());
    let output = netns.start(&mut command)?.wait_with_output()?;
    ensure!(
        output.status.success(),
        "{services} Services: the measurement ended with {}",
        output.status
    );
    let line = String::from_utf8(output.stdout)?;
    serde_json::from_str(line.trim()).context("no measurement came back")
}
