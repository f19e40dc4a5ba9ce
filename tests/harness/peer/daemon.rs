//! A router's processes, started in a namespace and known to be ready.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use super::{PORT, RouterConfig};
use crate::netns::Netns;
use crate::process::Process;
use crate::wait;

/// How long a router may take to get ready.
const READY: Duration = Duration::from_secs(30);
/// How long one may take to end before it is killed.
const END: Duration = Duration::from_secs(3);

/// A process; asked to end when dropped, so that its children end as well.
#[derive(Debug)]
pub(super) struct Daemon {
    process: Process,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with its output in `NAME.log` in `dir`.
    pub(super) fn start(
        netns: &Netns,
        dir: &Path,
        name: &str,
        command: &mut Command,
    ) -> Result<Self> {
        let log = dir.join(format!("{name}.log"));
        let process = Process::start(netns, command, &log)?;
        Ok(Self { process, log })
    }

    /// Waits until `probe` succeeds.
    pub(super) fn await_ready<T>(&mut self, mut probe: impl FnMut() -> Result<T>) -> Result<T> {
        let Self { process, log } = self;
        let said = || fs::read_to_string(&*log).unwrap_or_default();
        let mut ended = None;
        let ready = wait::until("its readiness", READY, || {
            // Waiting on would not help: out of the loop with it.
            ended = process.ended()?;
            match ended {
                Some(_) => Ok(None),
                None => probe().map(Some),
            }
        });
        match (ready, ended) {
            (_, Some(status)) => bail!("it ended, {status}: {}", said()),
            (ready, None) => ready.with_context(said)?.context("no answer"),
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.end(Signal::SIGTERM, END);
    }
}

/// Makes sure that something listens for BGP on each of the router's addresses.
pub(super) fn listens(netns: &Netns, config: &RouterConfig) -> Result<()> {
    let tables = netns.enter(|| {
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")))
    });
    let mut sockets = String::new();
    for table in tables {
        sockets += &table?;
    }
    // `sl local_address rem_address st …`; 0A is LISTEN.
    let mut listening = Vec::new();
    for line in sockets.lines() {
        let mut words = line.split_whitespace().skip(1);
        if let (Some(local), Some("0A")) = (words.next(), words.nth(1)) {
            listening.push(local.to_owned());
        }
    }
    for local in config.locals() {
        let unspecified = match local {
            IpAddr::V4(_) => ["0".repeat(8), "0".repeat(32)],
            IpAddr::V6(_) => ["0".repeat(32), String::new()],
        };
        let heard = listening.iter().any(|socket| {
            let Some((addr, port)) = socket.split_once(':') else {
                return false;
            };
            port == format!("{PORT:04X}")
                && (addr == in_proc(local) || unspecified.iter().any(|any| any == addr))
        });
        ensure!(heard, "nobody listens on {local} port {PORT}");
    }
    Ok(())
}

/// An address as `/proc/net/tcp` shows it: words of four octets in the machine's byte order.
fn in_proc(addr: IpAddr) -> String {
    let octets = match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    };
    let words = octets
        .chunks_exact(4)
        .filter_map(|word| word.try_into().ok());
    words
        .map(|word| format!("{:08X}", u32::from_ne_bytes(word)))
        .collect()
}
