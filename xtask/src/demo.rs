//! `cargo xtask demo`: the main job, shown in network namespaces.

use std::{
    ffi::OsString,
    process::{Command, ExitCode},
};

use anyhow::Result;

use crate::{
    build,
    setup::{self, Need},
    sh,
};

/// Options of `demo`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// Passed to the demo: `--l2`, `--json`, `--keep`, `--help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<OsString>,
}

/// Runs the verb; the exit code is the demo's.
///
/// # Errors
/// When set-up or the build fails.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let ready = setup::ready(Need::Demo)?;
    let object = build::object(&ready, None)?;
    let agent = build::agent(false, None)?;
    sh::headline("demo");
    let demo = lab_binary("demo")?;
    let mut command = as_root(demo.as_os_str())?;
    command
        .args(&args.args)
        .env("TORLINE_BPF_OBJECT", object)
        .env("TORLINE_BIN", agent);
    sh::become_program(&mut command)
}

/// Builds a binary of the package that holds what needs root.
///
/// # Errors
/// When the compiler fails.
pub(crate) fn lab_binary(name: &str) -> Result<std::path::PathBuf> {
    let mut cargo = sh::cargo();
    cargo.args(["build", "--package", "lb-tests", "--bin", name]);
    sh::run(&mut cargo)?;
    Ok(build::target_dir().join("debug").join(name))
}

/// Builds one that measures.
///
/// # Errors
/// When the compiler fails.
pub(crate) fn release_binary(name: &str) -> Result<std::path::PathBuf> {
    let mut cargo = sh::cargo();
    cargo.args(["build", "--release", "--package", "lb-tests", "--bin", name]);
    sh::run(&mut cargo)?;
    Ok(build::target_dir().join("release").join(name))
}

/// A command that runs `program` as root, with this environment.
///
/// # Errors
/// When this process is not root and may not become it without a password.
pub(crate) fn as_root(program: &std::ffi::OsStr) -> Result<Command> {
    if sh::is_root() {
        return Ok(Command::new(program));
    }
    if sh::output(Command::new("sudo").args(["-n", "true"])).is_none() {
        let line = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
        return Err(sh::Environment(format!(
            "namespaces and kernel programs need root; run:\n    sudo -E env PATH=\"$PATH\" cargo xtask {line}"
        ))
        .into());
    }
    let mut sudo = Command::new("sudo");
    sudo.args(["-n", "-E"]).arg(program);
    Ok(sudo)
}
