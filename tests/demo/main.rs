//! The demo: a whole Torline on one machine, in namespaces, shown to do its
//! job. `cargo xtask demo` runs it.
//!
//! `run` does and measures; `report` says what that must amount to. Exit status: 0 when every line is as it
//! must be, 1 when one is not, 2 when this machine cannot run it.

mod layer2;
mod report;
mod run;

use std::io::{self, Write as _};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use harness::traffic::echo;
use harness::{agent, machine, netns};

use report::Report;
use run::Demo;

/// Name of the laboratory: part of its namespaces' names.
const LAB: &str = "demo";

/// Two nodes, a router and a client in network namespaces, with traffic.
#[derive(Parser)]
#[command(name = "demo")]
struct Args {
    /// End with one line of JSON on standard output; the table goes to standard error
    #[arg(long)]
    json: bool,
    /// Take away the node that answers ARP and NDP for the VIPs, in three ways
    #[arg(long, conflicts_with_all = ["keep", "remove"])]
    l2: bool,
    /// Leave everything up, and say how to look around
    #[arg(long)]
    keep: bool,
    /// Remove what an earlier --keep left up
    #[arg(long, conflicts_with_all = ["json", "keep"])]
    remove: bool,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Subcommand)]
enum Role {
    /// Be the server in a pod
    #[command(hide = true)]
    Pod { name: String, port: u16 },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.role {
        Some(Role::Pod { name, port }) => {
            echo::serve_forever(name, &[*port]).map(|()| ExitCode::SUCCESS)
        }
        None if args.remove => remove(),
        None => demo(&args),
    };
    outcome.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "demo: {error:#}");
        ExitCode::from(2)
    })
}

fn remove() -> Result<ExitCode> {
    let removed = netns::remove_kept(LAB);
    writeln!(io::stdout(), "removed {removed} namespaces")?;
    Ok(ExitCode::SUCCESS)
}

fn demo(args: &Args) -> Result<ExitCode> {
    check_environment()?;
    let mut report = Report::default();
    let mut demo = (!args.l2).then(|| Demo::build(LAB)).transpose()?;
    let outcome = match &mut demo {
        Some(demo) => demo.run(&mut report),
        None => layer2::run(&mut report),
    };
    if let Err(error) = outcome {
        writeln!(io::stderr(), "\n{error:#}")?;
        report.fail("the demo runs to its end");
    }
    if args.json {
        write!(io::stderr(), "\n{}", report.table())?;
        writeln!(io::stdout(), "{}", report.json()?)?;
    } else {
        write!(io::stdout(), "\n{}", report.table())?;
    }
    if args.keep
        && let Some(demo) = demo
    {
        write!(io::stderr(), "\n{}", demo.keep()?)?;
    }
    Ok(if report.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Says what is missing before anything is built.
fn check_environment() -> Result<()> {
    if let Some(missing) = machine::missing() {
        bail!("{missing}");
    }
    agent::binary().map(drop)
}
