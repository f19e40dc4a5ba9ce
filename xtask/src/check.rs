//! `cargo xtask check`: what must hold before anybody looks at a change.

use std::{process::ExitCode, time::Instant};

use anyhow::{Result, bail};

use crate::{
    build, rfc,
    setup::{self, Need},
    sh, tidy,
};

/// Options of `check`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only these steps.
    steps: Vec<String>,
}

/// A name and what must succeed.
type Step = (&'static str, fn() -> Result<()>);

/// Cheapest first.
const STEPS: &[Step] = &[
    ("tidy", tidy),
    ("rfc", rfc::check),
    ("fmt", fmt),
    ("clippy", clippy),
    ("clippy-ebpf", clippy_ebpf),
    ("doc", doc),
];

/// Runs the verb: every step, even after one has failed.
///
/// # Errors
/// When set-up fails or a step does not exist.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let is_known = |name: &String| STEPS.iter().any(|(step, _)| step == name);
    if let Some(unknown) = args.steps.iter().find(|name| !is_known(name)) {
        let names: Vec<_> = STEPS.iter().map(|(name, _)| *name).collect();
        let message = format!("no step `{unknown}`; there are: {}", names.join(" "));
        return Err(sh::Environment(message).into());
    }
    let wanted = |name: &str| args.steps.is_empty() || args.steps.iter().any(|step| step == name);
    let mut rows = Vec::new();
    for (name, step) in STEPS.iter().filter(|(name, _)| wanted(name)) {
        sh::headline(name);
        let start = Instant::now();
        let outcome = step();
        if let Err(error) = &outcome {
            eprintln!("{error:#}");
            if error.is::<sh::Environment>() {
                return outcome.map(|()| ExitCode::FAILURE);
            }
        }
        rows.push((name, outcome.is_ok(), start.elapsed().as_secs_f64()));
    }
    sh::headline("summary");
    for (name, ok, seconds) in &rows {
        eprintln!(
            "{name:<12} {:<6} {seconds:>7.1} s",
            if *ok { "ok" } else { "FAILED" }
        );
    }
    let ok = rows.iter().all(|(_, ok, _)| *ok);
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn tidy() -> Result<()> {
    let findings = tidy::run(&sh::root(), &crate::verbs())?;
    for finding in &findings {
        eprintln!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        1 => bail!("one rule is broken"),
        n => bail!("{n} rules are broken"),
    }
}

fn fmt() -> Result<()> {
    setup::component("fmt", "rustfmt")?;
    sh::run(sh::cargo().args(["fmt", "--all", "--check"]))
}

fn clippy() -> Result<()> {
    setup::component("clippy", "clippy")?;
    sh::run(sh::cargo().args(["clippy", "--all-targets", "--", "-D", "warnings"]))
}

/// The lints of the compiler that builds the programs, on the target they are built for.
fn clippy_ebpf() -> Result<()> {
    let ready = setup::ready(Need::Build)?;
    setup::clippy(&ready.toolchain)?;
    build::lint_object(&ready)
}

fn doc() -> Result<()> {
    let mut cargo = sh::cargo();
    cargo.args(["doc", "--no-deps", "--document-private-items"]);
    sh::run(cargo.env("RUSTDOCFLAGS", "-D warnings"))
}
