//! What must not break open connections, tried on many of them in namespaces.
//!
//! `event` makes things happen in a `lab`, which opens connections, and tells after each change which moved
//! and which broke; `tally` knows what must have happened for that to show anything, `report` says what that must amount to. Every row of the report speaks the test runner's
//! language too, so that `cargo xtask test` counts it; `cargo xtask test breaks` runs these alone.

mod event;
mod lab;
mod report;
mod tally;

use std::io::{self, Write};
use std::net::IpAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use harness::machine;
use harness::traffic::echo;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use event::Event;
use lab::{Mode, PORT, VIPS};
use report::{Case, Report, Row};

/// Events that leave a connection's pod alive, and the connections.
#[derive(Parser)]
#[command(name = "breaks")]
struct Args {
    /// Only rows whose name, `event::mode[::policy]`, contains one of these words
    filters: Vec<String>,
    /// End with one line of JSON on standard output; all else goes to standard error
    #[arg(long)]
    json: bool,
    /// Connections of each family
    #[arg(long, default_value_t = 1000)]
    connections: usize,
    /// Be the server in the pod of this name
    #[arg(long, hide = true, value_name = "POD")]
    serve: Option<String>,
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
    let args = Args::parse();
    let outcome = match &args.serve {
        Some(pod) => echo::serve_forever(pod, &[PORT.target]).map(|()| true),
        None => run(&args),
    };
    match outcome {
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
    let mut report = Report::default();
    if let Some(reason) = machine::missing().or_else(seedless) {
        // Whoever asks for the rows asked for these alone.
        ensure!(!args.json, "{reason}");
        // As the test runner would repeat it of a test that passed.
        writeln!(
            out,
            "test all ... ok\n\nsuccesses:\n\n---- all stdout ----\nSKIP: {reason}"
        )?;
        return Ok(true);
    }
    try_all(args, &mut out, &mut report)?;
    write!(out, "\n{}", report.table())?;
    if args.json {
        writeln!(io::stdout(), "{}", report.json()?)?;
    }
    Ok(report.is_ok())
}

fn try_all(args: &Args, out: &mut impl Write, report: &mut Report) -> Result<()> {
    let both_fit = has_files(2 * args.connections)?;
    let runs: &[&[IpAddr]] = if both_fit {
        &[&VIPS]
    } else {
        &[&VIPS[..1], &VIPS[1..]]
    };
    let wanted = |name: &str| {
        args.filters.is_empty() || args.filters.iter().any(|filter| name.contains(filter))
    };
    for mode in Mode::ALL {
        let events = Event::ALL.into_iter();
        let rows =
            events.flat_map(|event| event.policies().iter().map(move |policy| (event, *policy)));
        let rows = rows.map(|(event, policy)| Row {
            event,
            mode,
            policy,
        });
        for row in rows.filter(|row| wanted(&row.name())) {
            for vips in runs {
                let began = Instant::now();
                lab::say(&row.name());
                for case in try_event(row, vips, args.connections) {
                    let verdict = if case.ok { "ok" } else { "FAILED" };
                    writeln!(out, "test {} ... {verdict}", case.name())?;
                    report.cases.push(case);
                }
                writeln!(io::stderr(), "{:.1} s", began.elapsed().as_secs_f32())?;
            }
        }
    }
    Ok(())
}

/// One event with connections to these VIPs, and what became of them.
fn try_event(row: Row, vips: &[IpAddr], connections: usize) -> Vec<Case> {
    match row.event.run(row.mode, row.policy, vips, connections) {
        Ok(tallies) => {
            let tallies = tallies.iter();
            tallies.map(|tally| Case::new(row, tally)).collect()
        }
        Err(error) => {
            let _ = writeln!(io::stderr(), "{error:#}");
            let unfinished = |vip| Case::unfinished(row, vip, &error);
            vips.iter().map(unfinished).collect()
        }
    }
}

/// What is missing here to let a router hash anew.
fn seedless() -> Option<String> {
    let has_seed = Path::new("/proc/sys/net/ipv4/fib_multipath_hash_seed").exists();
    (!has_seed).then(|| "the hash of a router has a seed from kernel 6.11 on".to_owned())
}

/// Whether so many connections can be open at a time, with what else there is; raises the limit if it may.
fn has_files(connections: usize) -> Result<bool> {
    let files = u64::try_from(connections)? + 1024;
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if setrlimit(Resource::RLIMIT_NOFILE, files, hard.max(files)).is_ok() {
        return Ok(true);
    }
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(false)
}
