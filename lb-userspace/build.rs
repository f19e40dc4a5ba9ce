//! Embeds the kernel programs, if they have been built, into the agent.
//!
//! The object is `$TORLINE_BPF_OBJECT`, else `target/bpf/torline` of the workspace. Without either an
//! empty file is embedded, so that everything but loading works in a build that has no BPF toolchain.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

const VARIABLE: &str = "TORLINE_BPF_OBJECT";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let embedded = directory("OUT_DIR")?.join("torline.o");
    let object = match env::var_os(VARIABLE) {
        Some(path) => Some(PathBuf::from(path)),
        None => built_by_xtask()?,
    };
    match object {
        Some(path) => {
            println!("cargo::rerun-if-changed={}", path.display());
            copy(&path, &embedded)
        }
        None => fs::write(&embedded, []),
    }
}

/// The object where `cargo xtask build` leaves it.
fn built_by_xtask() -> io::Result<Option<PathBuf>> {
    let directory = directory("CARGO_MANIFEST_DIR")?.join("../target/bpf");
    let object = directory.join("torline");
    if object.exists() {
        return Ok(Some(object));
    }
    // Cargo takes a path that does not exist for one that always changes: watch where it will appear.
    fs::create_dir_all(&directory)?;
    println!("cargo::rerun-if-changed={}", directory.display());
    Ok(None)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", from.display())))
}

fn directory(variable: &str) -> io::Result<PathBuf> {
    env::var_os(variable)
        .map(PathBuf::from)
        .ok_or_else(|| io::Error::other(format!("cargo did not set {variable}")))
}
