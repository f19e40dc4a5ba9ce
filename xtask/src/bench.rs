//! `cargo xtask bench`: figures that the design promises, measured on this
//! machine.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    build, demo,
    setup::{self, Need},
    sh,
};

/// Options of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    what: Bench,
}

/// What is measured.
#[derive(clap::Subcommand)]
enum Bench {
    /// From an event of the API to the last slot written, by number of Services.
    Control(Options),
}

/// How it is measured and told.
#[derive(clap::Args)]
struct Options {
    /// End with one JSON object on stdout; the table goes to stderr.
    #[arg(long)]
    json: bool,
    /// Smaller and shorter.
    #[arg(long)]
    quick: bool,
    /// Fail where a target is missed.
    #[arg(long, conflicts_with = "quick")]
    check: bool,
}

/// Runs the verb; the exit code is that of the bench.
///
/// # Errors
/// When set-up or the build fails.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let (name, options) = match &args.what {
        Bench::Control(options) => ("bench-control", options),
    };
    let ready = setup::ready(Need::Lab)?;
    let object = build::object(&ready, None)?;
    sh::headline("bench, optimised");
    let bench = demo::release_binary(name)?;
    let mut command = demo::as_root(bench.as_os_str())?;
    command
        .args(options.json.then_some("--json"))
        .args(options.quick.then_some("--quick"))
        .args(options.check.then_some("--check"))
        .env("TORLINE_BPF_OBJECT", object);
    sh::become_program(&mut command)
}
