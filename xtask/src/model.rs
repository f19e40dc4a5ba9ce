//! `cargo xtask model`: what each kind of change does to connections, in a
//! model of a cluster.

use std::{fs, process::ExitCode};

use anyhow::{Context, Result};

use crate::{build, sh};

/// Options of `model`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Runs the verb: the test that makes the report, told to make it large and to write it down.
///
/// # Errors
/// When the compiler fails, or something in the report may not be.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let path = build::target_dir().join("model-report");
    let mut cargo = sh::cargo();
    cargo
        .args([
            "test",
            "--release",
            "--package",
            "lb-tests",
            "--test",
            "sim",
        ])
        .args(["--", "--exact", "report::report"])
        .env("TORLINE_MODEL_REPORT", &path);
    if args.json {
        cargo.env("TORLINE_MODEL_JSON", "1");
    }
    // What an earlier run wrote is not this one's.
    if path.exists() {
        fs::remove_file(&path).with_context(|| format!("failed to remove {}", path.display()))?;
    }
    let outcome = sh::run(&mut cargo);
    if let Ok(report) = fs::read_to_string(&path) {
        println!("{}", report.trim_end());
    }
    outcome.map(|()| ExitCode::SUCCESS)
}
