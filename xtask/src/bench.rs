//! `cargo xtask bench`: figures that the design promises, measured on this
//! machine.

use std::ffi::OsString;
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
    /// How long clients wait when a node is killed, loses its link or is drained.
    Failover(Passed),
}

/// Handed on as they are.
#[derive(clap::Args)]
struct Passed {
    /// Passed to the bench: `--l2`, `--json`, `--rounds N`, `--connections N`, `--help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
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
    match &args.what {
        Bench::Control(options) => control(options),
        Bench::Failover(passed) => failover(passed),
    }
}

fn failover(passed: &Passed) -> Result<ExitCode> {
    let ready = setup::ready(Need::Lab)?;
    let object = build::object(&ready, None)?;
    let agent = build::agent(true, None)?;
    sh::headline("bench, optimised");
    let bench = demo::release_binary("bench-failover")?;
    let mut command = demo::as_root(bench.as_os_str())?;
    command
        .args(&passed.args)
        .env("TORLINE_BPF_OBJECT", object)
        .env("TORLINE_BIN", agent);
    sh::become_program(&mut command)
}

fn control(options: &Options) -> Result<ExitCode> {
    let ready = setup::ready(Need::Lab)?;
    let object = build::object(&ready, None)?;
    sh::headline("bench, optimised");
    let bench = demo::release_binary("bench-control")?;
    let mut command = demo::as_root(bench.as_os_str())?;
    command
        .args(options.json.then_some("--json"))
        .args(options.quick.then_some("--quick"))
        .args(options.check.then_some("--check"))
        .env("TORLINE_BPF_OBJECT", object);
    sh::become_program(&mut command)
}
