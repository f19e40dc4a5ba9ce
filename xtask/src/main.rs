//! `cargo xtask`: set-up, build, checks, tests and the demo.
//!
//! `setup` makes the machine able; every other verb calls it for what it needs and for no more. `build`
//! compiles the kernel programs and the agent, `check` is the list of lints and rules, `test` runs every
//! suite, `demo` shows the whole thing in namespaces, `verify` measures the programs in the running kernel.
//!
//! Progress goes to stderr, results to stdout. Exit codes: 0 done, 1 something failed, 2 usage or
//! environment (the message then names the command that helps).
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "printing is what a task runner does"
)]

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod bench;
mod build;
mod check;
mod demo;
mod dist;
mod model;
mod rfc;
mod setup;
mod sh;
mod suites;
mod tidy;
mod verify;

/// Torline's tasks.
#[derive(Parser)]
#[command(
    bin_name = "cargo xtask",
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        cargo xtask demo                 two nodes and a router in namespaces, and what they do\n  \
        cargo xtask test                 everything that can be tested on this machine\n  \
        cargo xtask test prog netns      these suites only\n  \
        cargo xtask test breaks --json   what must not break 10,000 connections, as JSON\n  \
        cargo xtask test interop         the BGP speaker and five makes of router, a table\n  \
        cargo xtask bench control        what a change costs among 10,000 Services\n  \
        cargo xtask build --release      target/release/torline, kernel programs inside\n  \
        cargo xtask rfc                  what the RFCs ask, and where it is done\n  \
        cargo xtask dist                 target/dist: a static binary and an OCI archive\n  \
        cargo xtask model                what it takes to keep connections, by kind of change\n  \
        cargo xtask setup --check        what this machine lacks, and why it is wanted\n\n\
        Exit codes: 0 done, 1 something failed, 2 usage or environment."
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Make this machine able to build and test; installs what is missing, starts nothing.
    Setup(setup::Args),
    /// Compile the kernel programs and the agent that carries them.
    Build(build::Args),
    /// Make a static binary, and an OCI archive with it and nothing else.
    Dist(dist::Args),
    /// Formatting, lints for host and kernel, documentation, layer rules.
    Check(check::Args),
    /// Unit tests, then the suites that need root, then a summary.
    Test(suites::Args),
    /// Build in release mode and show the main job in network namespaces.
    Demo(demo::Args),
    /// Load the programs into this kernel and print what they cost.
    Verify(verify::Args),
    /// Write docs/rfc.md: what the RFCs ask, the line that does it, the test that shows it.
    Rfc(rfc::Args),
    /// Measure what the design promises.
    Bench(bench::Args),
    /// Show in a model what each kind of change does to connections; needs no root.
    Model(model::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().verb {
        Verb::Setup(args) => setup::main(&args),
        Verb::Build(args) => build::main(&args),
        Verb::Dist(args) => dist::main(&args),
        Verb::Check(args) => check::main(&args),
        Verb::Test(args) => suites::main(&args),
        Verb::Demo(args) => demo::main(&args),
        Verb::Verify(args) => verify::main(&args),
        Verb::Rfc(args) => rfc::main(&args),
        Verb::Bench(args) => bench::main(&args),
        Verb::Model(args) => model::main(&args),
    };
    match outcome {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            if error.is::<sh::Environment>() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

/// The names of all verbs.
fn verbs() -> Vec<String> {
    Cli::command()
        .get_subcommands()
        .map(|verb| verb.get_name().to_owned())
        .collect()
}
