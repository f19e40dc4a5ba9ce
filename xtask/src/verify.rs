//! `cargo xtask verify`: what the programs cost in the running kernel.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    build, demo,
    setup::{self, Need},
    sh,
};

/// Options of `verify`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// One JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// Runs the verb; the exit code is that of the binary `verify`.
///
/// # Errors
/// When set-up or the build fails.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let ready = setup::ready(Need::Build)?;
    let object = build::object(&ready, None)?;
    let verify = demo::lab_binary("verify")?;
    let mut command = demo::as_root(verify.as_os_str())?;
    command.arg(object);
    if args.json {
        command.arg("--json");
    }
    sh::become_program(&mut command)
}
