//! `cargo xtask build`: the object for the kernel, and the agent around it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{
    setup::{self, Need, Ready},
    sh,
};

/// Variables of the host's build: wrappers, flags, profiles and toolchain choice would make the object differ.
const OF_CARGO: &[&str] = &["CARGO", "RUST"];

/// Those among them that say how this machine reaches registries, and stay.
const OF_THE_MACHINE: &[&str] = &[
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTRIES_",
    "RUSTUP_HOME",
];

/// Options of `build`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimise the agent; the kernel programs always are.
    #[arg(long)]
    release: bool,
    /// Build the agent, and the programs, for another machine.
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
}

/// Runs the verb.
///
/// # Errors
/// When set-up or a compiler fails.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let ready = setup::ready(Need::Build)?;
    let object = object(&ready, args.target.as_deref())?;
    let binary = agent(args.release, args.target.as_deref())?;
    println!("{}", object.display());
    println!("{}", binary.display());
    Ok(ExitCode::SUCCESS)
}

/// Compiles `lb-ebpf` and puts the object where the agent's build script looks for it.
///
/// # Errors
/// When the compiler fails.
pub(crate) fn object(ready: &Ready, target: Option<&str>) -> Result<PathBuf> {
    sh::headline("kernel programs");
    let mut cargo = Command::new(&ready.toolchain.cargo);
    cargo.args(["build", "--profile", "bpf"]);
    sh::run(for_bpf(&mut cargo, ready, target)?)?;
    let built = bpf_target_dir().join("bpfel-unknown-none/bpf/torline");
    let object = sh::root().join("target/bpf/torline");
    copy_if_changed(&built, &object)?;
    Ok(object)
}

/// Compiles the agent.
///
/// # Errors
/// When the compiler fails.
pub(crate) fn agent(release: bool, target: Option<&str>) -> Result<PathBuf> {
    sh::headline("agent");
    let mut cargo = sh::cargo();
    cargo.args(["build", "--package", "lb-userspace", "--bin", "torline"]);
    let mut dir = target_dir();
    if let Some(target) = target {
        cargo.args(["--target", target]);
        dir.push(target);
    }
    if release {
        cargo.arg("--release");
    }
    sh::run(&mut cargo)?;
    Ok(dir
        .join(if release { "release" } else { "debug" })
        .join("torline"))
}

/// Lints `lb-ebpf` with the compiler that builds it, for the target it is built for.
///
/// # Errors
/// When there is a lint, or no clippy.
pub(crate) fn lint_object(ready: &Ready) -> Result<()> {
    // Called directly: `cargo clippy` would look for it in `PATH` and find rustup's, of another toolchain.
    let mut clippy = Command::new(ready.toolchain.cargo.with_file_name("cargo-clippy"));
    clippy.arg("clippy");
    for_bpf(&mut clippy, ready, None)?.args(["--", "-D", "warnings"]);
    sh::run(&mut clippy)
}

/// Points a cargo command at `lb-ebpf`, with exactly the compiler and the flags that object needs.
fn for_bpf<'a>(
    cargo: &'a mut Command,
    ready: &Ready,
    target: Option<&str>,
) -> Result<&'a mut Command> {
    let machine = target.map_or(env::consts::ARCH, |triple| {
        triple.split('-').next().unwrap_or("")
    });
    if !["x86_64", "aarch64"].contains(&machine) {
        bail!("the kernel programs are built for x86_64 and aarch64, not for `{machine}`");
    }
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let is = |prefix: &&str| text.starts_with(prefix);
        if OF_CARGO.iter().any(is) && !OF_THE_MACHINE.iter().any(is) {
            cargo.env_remove(&name);
        }
    }
    let root = sh::root();
    let flags = [
        format!("--cfg=bpf_target_arch=\"{machine}\""),
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", ready.linker.display()),
        // The object does not tell where it was built.
        format!("--remap-path-prefix={}=.", root.display()),
    ];
    cargo
        .args(["--package=lb-ebpf", "-Zbuild-std=core"])
        .args(["--target=bpfel-unknown-none", "--target-dir"])
        .arg(bpf_target_dir())
        .env("CARGO", &ready.toolchain.cargo)
        .env("RUSTC", &ready.toolchain.rustc)
        // Lets a stable compiler build `core`; a nightly does not mind.
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    Ok(cargo)
}

/// Apart from the host's, so that the two builds never wait for each other's lock.
fn bpf_target_dir() -> PathBuf {
    sh::root().join("target/bpf-build")
}

/// Where the host's artifacts go.
pub(crate) fn target_dir() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| sh::root().join("target"), |dir| sh::root().join(dir))
}

/// Cargo goes by modification time: an object that is the same must keep its own, or the agent is built again.
fn copy_if_changed(from: &Path, to: &Path) -> Result<()> {
    let bytes = fs::read(from).with_context(|| format!("failed to read {}", from.display()))?;
    if fs::read(to).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let dir = to.parent().context("the object has no directory")?;
    fs::create_dir_all(dir)?;
    fs::write(to, bytes).with_context(|| format!("failed to write {}", to.display()))
}
