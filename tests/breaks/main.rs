//! What must not break open connections, tried on many of them in namespaces.
//!
//! `event` makes things happen in a `lab`, which opens connections, and tells after each change which moved
//! and which broke; `report` says what that must amount to. Every row of the report speaks the test runner's
//! language too, so that `cargo xtask test` counts it; `cargo xtask test breaks` runs these alone.

mod event;
mod lab;
mod report;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use harness::{machine, netns};
use nix::sys::resource::{Resource, setrlimit};

use event::Event;
use lab::Mode;
use report::{Case, Report};

/// Events that leave a connection's pod alive, and the connections.
#[derive(Parser)]
#[command(name = "breaks")]
struct Args {
    /// Only rows whose name, `event::mode`, contains one of these words
    filters: Vec<String>,
    /// End with one line of JSON on standard output; all else goes to standard error
    #[arg(long)]
    json: bool,
    /// Connections of each family
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// One event at a time is all there is
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    /// Nothing is hidden
    #[arg(long, hide = true)]
    show_output: bool,
    /// Nothing is left out
    #[arg(long, hide = true)]
    include_ignored: bool,
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "breaks: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(args: &Args) -> Result<bool> {
    let mut out: Box<dyn Write> = if args.json {
        Box::new(io::stderr())
    } else {
        Box::new(io::stdout())
    };
    let wanted = |name: &str| {
        args.filters.is_empty() || args.filters.iter().any(|filter| name.contains(filter))
    };
    let mut report = Report::default();
    if let Some(reason) = machine::missing() {
        // As the test runner would repeat it of a test that passed.
        writeln!(
            out,
            "test all ... ok\n\nsuccesses:\n\n---- all stdout ----\nSKIP: {reason}"
        )?;
    } else {
        // Both ends of every connection of both families, and what else there is.
        let files = u64::try_from(args.connections)?.saturating_mul(4) + 8192;
        setrlimit(Resource::RLIMIT_NOFILE, files, files)?;
        for mode in Mode::ALL {
            for event in Event::ALL {
                if wanted(&format!("{}::{}", event.name(), mode.name())) {
                    let began = Instant::now();
                    for case in try_event(event, mode, args.connections) {
                        let verdict = if case.ok { "ok" } else { "FAILED" };
                        writeln!(out, "test {} ... {verdict}", case.name())?;
                        report.cases.push(case);
                    }
                    writeln!(io::stderr(), "{:.1} s", began.elapsed().as_secs_f32())?;
                }
            }
        }
    }
    write!(out, "\n{}", report.table())?;
    if args.json {
        writeln!(io::stdout(), "{}", report.json()?)?;
    }
    Ok(report.is_ok())
}

/// One event with connections of both families, and what became of them.
fn try_event(event: Event, mode: Mode, connections: usize) -> Vec<Case> {
    let outcome = event.run(&netns::next_lab(), mode, connections);
    match outcome {
        Ok(tallies) => tallies
            .into_iter()
            .map(|tally| Case::new(event, mode, &tally))
            .collect(),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            ["v4", "v6"]
                .map(|family| Case::unfinished(event, mode, family, &error))
                .into()
        }
    }
}
