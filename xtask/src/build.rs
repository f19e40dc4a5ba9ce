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
    let mut cargo = bpf_cargo(ready, "build", target)?;
    cargo.args(["--profile", "bpf"]);
    sh::run(&mut cargo)?;
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

/// A cargo of the BPF toolchain, about `lb-ebpf`, with exactly the flags that object needs.
///
/// # Errors
/// When no programs can run on `target`.
pub(crate) fn bpf_cargo(ready: &Ready, verb: &str, target: Option<&str>) -> Result<Command> {
    let machine = target.map_or(env::consts::ARCH, |triple| {
        triple.split('-').next().unwrap_or("")
    });
    if !["x86_64", "aarch64"].contains(&machine) {
        bail!("the kernel programs are built for x86_64 and aarch64, not for `{machine}`");
    }
    let mut cargo = Command::new(&ready.toolchain.cargo);
    cargo.current_dir(sh::root());
    // The host's wrappers, flags, profiles and toolchain choice would break this build or make it differ.
    for (name, _) in env::vars_os() {
        let is_foreign = ["CARGO", "RUST"]
            .iter()
            .any(|prefix| name.to_string_lossy().starts_with(prefix));
        let is_wanted = [
            "CARGO_HOME",
            "CARGO_HTTP_",
            "CARGO_NET_",
            "CARGO_REGISTRIES_",
            "RUSTUP_HOME",
        ]
        .iter()
        .any(|prefix| name.to_string_lossy().starts_with(prefix));
        if is_foreign && !is_wanted {
            cargo.env_remove(name);
        }
    }
    let root = sh::root();
    let flags = [
        format!("--cfg=bpf_target_arch=\"{machine}\""),
        "-Cdebuginfo=2".to_owned(),
        format!("-Clinker={}", ready.linker.display()),
        "-Clink-arg=--btf".to_owned(),
        // The object does not tell where it was built.
        format!("--remap-path-prefix={}=.", root.display()),
    ];
    cargo
        .args([
            verb,
            "--package",
            "lb-ebpf",
            "-Zbuild-std=core",
            "--target",
            "bpfel-unknown-none",
        ])
        .arg("--target-dir")
        .arg(bpf_target_dir())
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
