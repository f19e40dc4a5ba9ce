//! The BGP speaker against every make of router, case by case.
//!
//! ```text
//!   …-tor                         …-node                         …-far
//!   the router   10.99.0.1  10.99.0.N  the speaker  10.98.0.2  10.98.0.N  the speaker
//!   AS 65001  uplink ─────────── uplink       back ──────────── uplink    several hops away
//!              fd99::1      fd99::N
//! ```
//!
//! A router starts once, with a neighbour at an address of its own for each cell of the matrix, so that cells do not
//! meet and no make's pause after a reset is waited for. `cases` says what is tried, `bench` with what, `report`
//! what came out. Every cell speaks the test runner's language too, so that `cargo xtask test` counts it;
//! `cargo xtask test interop` runs these alone.

mod bench;
mod cases;
mod report;

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::Parser;
use harness::machine;
use harness::peer::Make;

use bench::Bench;
use cases::Case;
use report::{Cell, Report, Verdict};

/// Sessions of the speaker with routers of other makes.
#[derive(Parser)]
#[command(name = "interop")]
struct Args {
    /// Only cells whose name, `peer::case::family`, contains one of these words
    filters: Vec<String>,
    /// End with one line of JSON on standard output; all else goes to standard error
    #[arg(long)]
    json: bool,
    /// Write the table to this file, if every cell was tried
    #[arg(long, value_name = "FILE", conflicts_with = "filters")]
    write_docs: Option<PathBuf>,
    /// One cell at a time is all there is
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
            let _ = writeln!(io::stderr(), "interop: {error:#}");
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
    match machine::missing() {
        // As the test runner would repeat it of a test that passed.
        Some(reason) => writeln!(
            out,
            "test all ... ok\n\nsuccesses:\n\n---- all stdout ----\nSKIP: {reason}"
        )?,
        None => {
            for make in Make::ALL {
                try_all(make, args, &mut out, &mut report)?;
            }
        }
    }
    write!(out, "\n{}", report.table())?;
    if let Some(path) = &args.write_docs {
        fs::write(path, report.document()).with_context(|| path.display().to_string())?;
    }
    if args.json {
        writeln!(io::stdout(), "{}", report.json()?)?;
    }
    Ok(report.is_ok())
}

/// Every cell of a make.
fn try_all(make: Make, args: &Args, out: &mut impl Write, report: &mut Report) -> Result<()> {
    let wanted = |cell: &Cell| {
        let name = cell.name();
        args.filters.is_empty() || args.filters.iter().any(|filter| name.contains(filter))
    };
    let (version, missing) = match make.version() {
        Ok(version) => (version, None),
        Err(error) => (String::new(), Some(error)),
    };
    let mut cells: Vec<(&Case, Cell)> = Vec::new();
    for case in cases::ALL {
        for &families in case.families {
            let cell = Cell::new(make, &version, case, families);
            if case.exists(make) && wanted(&cell) {
                cells.push((case, cell));
            }
        }
    }
    if cells.is_empty() {
        return Ok(());
    }
    let mut bench = match missing {
        Some(error) => Err(error),
        None => Bench::new(
            make,
            cells.iter().map(|(case, cell)| (*case, cell.families)),
        ),
    };
    for (number, (case, mut cell)) in cells.into_iter().enumerate() {
        let began = Instant::now();
        cell.verdict = match (case.lacks(make), &mut bench) {
            (Some(reason), _) => Verdict::Unsupported(reason.to_owned()),
            (None, Err(error)) => Verdict::Fail(format!("{error:#}")),
            (None, Ok(bench)) => match (case.run)(&mut bench.seat(number)) {
                Ok(()) => Verdict::Pass,
                Err(error) => {
                    writeln!(io::stderr(), "{error:#}\n{}", bench.remark(number))?;
                    Verdict::Fail(format!("{error:#}"))
                }
            },
        };
        writeln!(out, "{}", cell.line())?;
        writeln!(io::stderr(), "{:.1} s", began.elapsed().as_secs_f32())?;
        report.cells.push(cell);
    }
    Ok(())
}
