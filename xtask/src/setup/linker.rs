//! bpf-linker: found if one works with the compiler, else built.
//!
//! The linker reads the compiler's bitcode, so its LLVM must not be older. Linking it with the very library
//! that the compiler loads makes the two match by construction, wants no LLVM development package, and goes
//! for rustup's compilers and a distribution's alike. The copy lies in the user's cache, by version and
//! compiler; a bpf-linker of the user's own is used if it works and never replaced.

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use super::{
    pins,
    toolchain::{self, Toolchain},
};
use crate::sh;

/// A crate without `core`, compiled and linked to see whether the two understand each other.
const PROBE: &str = r#"#![feature(no_core, lang_items)]
#![allow(internal_features, missing_docs)]
#![no_core]
#![no_main]

#[lang = "pointee_sized"]
pub trait PointeeSized {}
#[lang = "meta_sized"]
pub trait MetaSized: PointeeSized {}
#[lang = "sized"]
pub trait Sized: MetaSized {}
#[lang = "copy"]
pub trait Copy {}
impl Copy for u64 {}

#[unsafe(no_mangle)]
pub extern "C" fn probe(x: u64) -> u64 {
    x
}
"#;

/// The newest LLVM that this version of bpf-linker has a feature for.
const NEWEST_LLVM: u32 = 23;

/// A linker that works with `toolchain`, if one is there.
pub(crate) fn find(toolchain: &Toolchain) -> Option<PathBuf> {
    let private = home(toolchain).join("bin/bpf-linker");
    let cargo_bin = env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")))
        .map(|home| home.join("bin/bpf-linker"));
    let candidates = [Some(private), sh::which("bpf-linker"), cargo_bin];
    candidates
        .into_iter()
        .flatten()
        .find(|linker| works(linker, toolchain))
}

/// Whether the linker is the pinned one, starts, and turns this compiler's bitcode into an object.
fn works(linker: &Path, toolchain: &Toolchain) -> bool {
    let version = sh::output(Command::new(linker).arg("--version")).unwrap_or_default();
    if version != format!("bpf-linker {}", pins::BPF_LINKER) {
        return false;
    }
    // Bitcode of a newer LLVM may be read wrongly rather than refused.
    let major = toolchain::shared_llvm_of(linker).and_then(|library| major_of(&library));
    major.is_none_or(|major| major >= toolchain.llvm) && links(linker, toolchain).unwrap_or(false)
}

/// `22` of `…/libLLVM.so.22.1-rust-1.97.0-nightly` and of `…/libLLVM-22.so`.
fn major_of(library: &Path) -> Option<u32> {
    let name = library.file_name()?.to_str()?;
    let digits = name.find(|c: char| c.is_ascii_digit())?;
    name[digits..]
        .split(|c: char| !c.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn links(linker: &Path, toolchain: &Toolchain) -> Result<bool> {
    let dir = env::temp_dir().join(format!("torline-probe-{}", std::process::id()));
    fs::create_dir_all(&dir)?;
    let (bitcode, object) = (dir.join("probe.bc"), dir.join("probe.o"));
    let mut rustc = Command::new(&toolchain.rustc);
    rustc
        .args([
            "--edition=2024",
            "--target=bpfel-unknown-none",
            "--crate-type=lib",
            "--emit=obj",
        ])
        .args(["--crate-name=probe", "-", "-o"])
        .arg(&bitcode)
        .env("RUSTC_BOOTSTRAP", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = rustc.spawn()?;
    child
        .stdin
        .take()
        .context("rustc has no stdin")?
        .write_all(PROBE.as_bytes())?;
    // The names of language items change: a compiler that no longer knows the probe says nothing about the linker.
    let linked = !child.wait()?.success() || {
        let mut link = Command::new(linker);
        link.args(["--target=bpfel", "--export=probe", "-o"])
            .arg(&object)
            .arg(&bitcode);
        sh::output(&mut link).is_some() && object.exists()
    };
    fs::remove_dir_all(&dir)?;
    Ok(linked)
}

/// The command that builds a linker for `toolchain`.
pub(crate) fn install_command(toolchain: &Toolchain) -> Command {
    let mut command = sh::cargo();
    command
        .args([
            "install",
            "bpf-linker",
            "--version",
            pins::BPF_LINKER,
            "--locked",
            "--force",
        ])
        .args([
            "--no-default-features",
            "--features",
            &format!("llvm-{}", toolchain.llvm),
        ])
        .arg("--root")
        .arg(home(toolchain))
        .env("LLVM_PREFIX", home(toolchain).join("llvm"));
    // Settings for this workspace's builds are none of the linker's.
    for name in [
        "RUSTFLAGS",
        "CARGO_ENCODED_RUSTFLAGS",
        "CARGO_BUILD_TARGET",
        "CARGO_TARGET_DIR",
    ] {
        command.env_remove(name);
    }
    command
}

/// Builds one.
///
/// # Errors
/// When cargo fails, or what it built does not work.
pub(crate) fn install(toolchain: &Toolchain) -> Result<PathBuf> {
    if toolchain.llvm > NEWEST_LLVM {
        let (version, llvm) = (pins::BPF_LINKER, toolchain.llvm);
        anyhow::bail!(
            "bpf-linker {version} knows LLVM up to {NEWEST_LLVM}, the compiler has {llvm}"
        );
    }
    let lib = home(toolchain).join("llvm/lib");
    fs::create_dir_all(&lib).with_context(|| format!("failed to make {}", lib.display()))?;
    let library = fs::canonicalize(&toolchain.llvm_library)?;
    // Once by the name that `-lLLVM` looks for, once by the name that the dynamic linker looks for.
    let loaded_as = toolchain
        .llvm_library
        .file_name()
        .context("LLVM library has no name")?;
    for name in [Path::new("libLLVM.so"), Path::new(loaded_as)] {
        let link = lib.join(name);
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&library, &link)
            .with_context(|| format!("failed to link {}", link.display()))?;
    }
    sh::run(&mut install_command(toolchain))?;
    find(toolchain).context("the bpf-linker just built does not work with the compiler")
}

/// Where the private copy for `toolchain` lies.
fn home(toolchain: &Toolchain) -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(|| sh::root().join("target"));
    cache.join(format!(
        "torline/bpf-linker-{}-rustc-{}",
        pins::BPF_LINKER,
        toolchain.release
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_llvm_of_a_linker_is_told_by_the_name_of_its_library() {
        let major = |name: &str| major_of(Path::new(name));
        assert_eq!(major("/usr/lib/llvm-22/lib/libLLVM.so.22.1"), Some(22));
        assert_eq!(major("/x/libLLVM.so.22.1-rust-1.97.0-nightly"), Some(22));
        assert_eq!(major("/usr/lib/libLLVM-19.so"), Some(19));
        assert_eq!(major("libLLVM.so"), None);
    }
}
