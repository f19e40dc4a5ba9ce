//! Agents against an API server.
//!
//! The scenarios are named after the rows of MetalLB's tests that they say again. With `KUBECONFIG` set they
//! run against the cluster that it names, whose objects of MetalLB's kinds should be the scenarios' alone;
//! without, against the double of `harness::apiserver`. Each has its own namespace with one agent in it.
//!
//! The agent is the ServiceAccount of `deploy/base`, with the rights that its roles give.
//!
//! Files: `bench` the surroundings of a scenario, `rights` who the agent is there and what it may do; `forward` a
//! port that leads out of a namespace; `objects` what scenarios apply; `source`, `allocation`, `access`,
//! `published` and `refusals` the scenarios; `report` the outcome.

mod access;
mod allocation;
mod bench;
mod forward;
mod objects;
mod published;
mod refusals;
mod report;
mod rights;
mod source;
mod switches;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use clap::Parser;
use harness::machine;

use bench::{Bench, Server};
use report::{Report, Verdict};

/// Agents against an API server.
#[derive(Parser)]
#[command(name = "cluster")]
struct Args {
    /// Only scenarios whose name contains one of these words
    filters: Vec<String>,
    /// End with one line of JSON on standard output; all else goes to standard error
    #[arg(long)]
    json: bool,
    /// One scenario at a time is all there is
    #[arg(long, hide = true)]
    test_threads: Option<usize>,
    /// Nothing is hidden
    #[arg(long, hide = true)]
    show_output: bool,
    /// Nothing is left out
    #[arg(long, hide = true)]
    include_ignored: bool,
}

/// What a scenario does.
type Body = Box<dyn Fn(&mut Bench) -> Result<()>>;

/// Something that is tried with an agent.
pub(crate) struct Scenario {
    /// The row of MetalLB's tests, and what is tried.
    name: String,
    /// Whether it needs faults that only the double has.
    needs_double: bool,
    body: Body,
}

impl Scenario {
    /// One that runs against any API server.
    fn new(name: impl Into<String>, body: impl Fn(&mut Bench) -> Result<()> + 'static) -> Self {
        Self {
            name: name.into(),
            needs_double: false,
            body: Box::new(body),
        }
    }

    /// One that makes the API server fail.
    fn with_double(
        name: impl Into<String>,
        body: impl Fn(&mut Bench) -> Result<()> + 'static,
    ) -> Self {
        Self {
            needs_double: true,
            ..Self::new(name, body)
        }
    }

    fn run(&self, server: &Server) -> Verdict {
        if self.needs_double && !server.is_double() {
            return Verdict::Skipped("only the double can be made to fail like this".to_owned());
        }
        let outcome = Bench::new(server).and_then(|mut bench| {
            (self.body)(&mut bench).map_err(|error| error.context(bench.log()))
        });
        match outcome {
            Ok(()) => Verdict::Passed,
            Err(error) => Verdict::Failed(format!("{error:#}")),
        }
    }
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let _ = writeln!(io::stderr(), "cluster: {error:#}");
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
    let server = Server::from_environment()?;
    let mut report = Report::new(server.version()?);
    if let Some(reason) = machine::missing() {
        // As the test runner would repeat it of a test that passed.
        writeln!(
            out,
            "test all ... ok\n\nsuccesses:\n\n---- all stdout ----\nSKIP: {reason}"
        )?;
        return Ok(true);
    }
    let scenarios = [
        source::scenarios(),
        allocation::scenarios(),
        published::scenarios(),
        refusals::scenarios(),
        access::scenarios(),
        switches::scenarios(),
    ];
    let scenarios = scenarios.into_iter().flatten();
    for scenario in scenarios {
        let wanted = |filter: &String| scenario.name.contains(filter.as_str());
        if !args.filters.is_empty() && !args.filters.iter().any(wanted) {
            continue;
        }
        let began = Instant::now();
        let verdict = scenario.run(&server);
        writeln!(out, "test {} ... {}", scenario.name, verdict.word())?;
        if let Verdict::Failed(reason) = &verdict {
            writeln!(io::stderr(), "{reason}")?;
        }
        report.add(scenario.name, verdict, began.elapsed());
    }
    if args.json {
        writeln!(io::stdout(), "{}", report.json()?)?;
    }
    Ok(report.is_ok())
}
