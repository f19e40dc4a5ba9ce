//! A compiler for BPF: a rustc, its library source, and its LLVM.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::pins;
use crate::sh;

/// Where a compiler came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A toolchain of rustup, by its directory's name.
    Rustup(String),
    /// `/usr/bin`.
    Distro,
}

/// A compiler that can build `core` for BPF.
#[derive(Clone, Debug)]
pub(crate) struct Toolchain {
    pub(crate) origin: Origin,
    pub(crate) rustc: PathBuf,
    pub(crate) cargo: PathBuf,
    /// `rustc`'s version, such as `1.96.0`.
    pub(crate) release: String,
    /// The major version of the LLVM that writes its bitcode.
    pub(crate) llvm: u32,
    /// That LLVM as a shared library.
    pub(crate) llvm_library: PathBuf,
}

impl Toolchain {
    /// Every usable compiler here, best first: nightlies of rustup, newest first, then the distribution's.
    pub(crate) fn installed() -> Vec<Self> {
        let home = env::var_os("RUSTUP_HOME")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")));
        let toolchains = home.and_then(|home| fs::read_dir(home.join("toolchains")).ok());
        let mut nightlies: Vec<_> = toolchains
            .into_iter()
            .flatten()
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with("nightly"))
            .map(|entry| {
                (
                    entry.file_name().to_string_lossy().into_owned(),
                    entry.path(),
                )
            })
            .collect();
        // The pinned one is the one the programs were measured with.
        nightlies.sort_by_key(|(name, _)| (!name.starts_with(pins::NIGHTLY), name.clone()));

        let mut found: Vec<Self> = nightlies
            .into_iter()
            .filter_map(|(name, path)| Self::inspect(&path.join("bin"), Origin::Rustup(name)))
            .collect();
        found.extend(Self::inspect(Path::new("/usr/bin"), Origin::Distro));
        found
    }

    fn inspect(bin: &Path, origin: Origin) -> Option<Self> {
        let (rustc, cargo) = (bin.join("rustc"), bin.join("cargo"));
        // Debian also packages rustup, whose /usr/bin/rustc stands for whatever is the default.
        let is_proxy =
            |file: &Path| fs::canonicalize(file).is_ok_and(|file| file.ends_with("rustup"));
        if !cargo.exists() || is_proxy(&rustc) {
            return None;
        }
        let sysroot = PathBuf::from(sh::output(
            Command::new(&rustc).args(["--print", "sysroot"]),
        )?);
        if !sysroot
            .join("lib/rustlib/src/rust/library/core/src/lib.rs")
            .exists()
        {
            return None;
        }
        let about = sh::output(Command::new(&rustc).arg("-vV"))?;
        let release = field(&about, "release: ")?;
        let llvm = field(&about, "LLVM version: ")?
            .split('.')
            .next()?
            .parse()
            .ok()?;
        let llvm_library = shared_llvm(&sysroot)?;
        at_least(release, pins::RUST).then(|| Self {
            origin,
            release: release.to_owned(),
            rustc,
            cargo,
            llvm,
            llvm_library,
        })
    }

    /// Says what it is, for a line of the report.
    pub(crate) fn describe(&self) -> String {
        let origin = match &self.origin {
            Origin::Rustup(name) => format!("rustup {name}"),
            Origin::Distro => "the distribution's".to_owned(),
        };
        format!(
            "rustc {} ({origin}), rust-src, LLVM {}",
            self.release, self.llvm
        )
    }
}

/// The shared LLVM that a compiler loads: told by the dynamic linker, since its name and place differ by
/// distribution and release.
fn shared_llvm(sysroot: &Path) -> Option<PathBuf> {
    let driver_in = |dir: PathBuf| {
        let mut files = fs::read_dir(dir).ok()?.flatten();
        files.find(|file| {
            file.file_name()
                .to_string_lossy()
                .starts_with("librustc_driver-")
        })
    };
    let multiarch = format!("lib/{}-linux-gnu", env::consts::ARCH);
    let driver = driver_in(sysroot.join("lib")).or_else(|| driver_in(sysroot.join(multiarch)))?;
    shared_llvm_of(&driver.path())
}

/// The shared LLVM that `file` would load.
pub(crate) fn shared_llvm_of(file: &Path) -> Option<PathBuf> {
    let needed = sh::output(Command::new("ldd").arg(file))?;
    let line = needed
        .lines()
        .find(|line| line.trim_start().starts_with("libLLVM"))?;
    let path = line.split("=> ").nth(1)?.split(" (").next()?;
    Some(PathBuf::from(path))
}

fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name))
}

/// Whether version `have` (`1.96.0`, `1.97.0-nightly`, `1.96.0+dfsg1-1`) is `want` or newer.
pub(crate) fn at_least(have: &str, want: &str) -> bool {
    let numbers = |version: &str| -> Vec<u32> {
        let end = version
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(version.len());
        version[..end]
            .split('.')
            .map(|part| part.parse().unwrap_or(0))
            .collect()
    };
    numbers(have) >= numbers(want)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number_and_ignore_what_a_packager_appended() {
        assert!(at_least("1.96.0+dfsg1-1~deb12u2", "1.95"));
        assert!(at_least("1.100.0", "1.95"));
        assert!(at_least("1.97.0-nightly", "1.95"));
        assert!(at_least("1.95.0", "1.95"));
        assert!(!at_least("1.85.0+dfsg3-1~deb12u3", "1.95"));
        assert!(!at_least("1.9.0", "1.95"));
    }
}
