//! Debian's and Ubuntu's package manager, as far as setup needs it.

use std::{cell::Cell, process::Command};

use anyhow::Result;

use crate::sh;

/// Installs without starting what it installs.
const INSTALL: &str = include_str!("install.sh");

/// The package manager of this machine, if it is apt.
pub(crate) struct Apt {
    fresh: Cell<bool>,
}

impl Apt {
    /// Finds it.
    pub(crate) fn find() -> Option<Self> {
        (sh::which("apt-get").is_some() && sh::which("dpkg-query").is_some()).then(|| Self {
            fresh: Cell::new(false),
        })
    }

    /// Fetches the package lists, once per run. A failure is not final: what is wanted may be listed already.
    pub(crate) fn refresh(&self) {
        if !self.fresh.replace(true)
            && sh::run(Command::new("apt-get").args(["update", "-q"])).is_err()
        {
            eprintln!("warning: package lists are not fresh, going on with those there are");
        }
    }

    /// The version that an installation of `package` would give, without epoch: `1.96.0+dfsg1-1~deb12u2`.
    pub(crate) fn candidate(&self, package: &str) -> Option<String> {
        let policy = sh::output(Command::new("apt-cache").args(["policy", package]))?;
        let line = policy
            .lines()
            .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
        let version = line.split_once(':').map_or(line, |(_, version)| version);
        (version != "(none)").then(|| version.to_owned())
    }

    /// Installs packages; starts no daemon.
    ///
    /// # Errors
    /// When apt fails.
    pub(crate) fn install(&self, packages: &[&str]) -> Result<()> {
        self.refresh();
        let mut command = Command::new("sh");
        command.args(["-c", INSTALL, "install"]).args(packages);
        sh::run(&mut command)
            .map_err(|error| error.context(format!("apt could not install {}", packages.join(" "))))
    }
}

/// Whether a package is installed.
pub(crate) fn is_installed(package: &str) -> bool {
    let args = ["-W", "-f", "${db:Status-Status}", package];
    sh::output(Command::new("dpkg-query").args(args)).is_some_and(|status| status == "installed")
}
