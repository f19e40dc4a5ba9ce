//! The agent under test, on one node.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use lb_userspace::model::status::{MembersStatus, PeerStatus};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::process::Process;
use crate::topology::Node;
use crate::wait;

/// A running `torline run`.
#[derive(Debug)]
pub struct Agent {
    process: Process,
    socket: PathBuf,
    log: PathBuf,
}

impl Agent {
    /// Starts the agent of a node on its `eth0`; its socket and its log, `NODE.sock` and `NODE.log`, go to
    /// `dir`.
    ///
    /// # Errors
    /// When there is no `torline` beside the running program.
    pub fn start(node: &Node, source: &Path, dir: &Path) -> Result<Self> {
        Self::start_build(&binary()?, node, source, dir)
    }

    /// The same, of another build.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_build(program: &Path, node: &Node, source: &Path, dir: &Path) -> Result<Self> {
        Self::start_with(program, node, source, dir, &["--kernel-vips", "no"])
    }

    /// The same, with these arguments too.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start_with(
        program: &Path,
        node: &Node,
        source: &Path,
        dir: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let socket = dir.join(format!("{}.sock", node.name));
        let log = dir.join(format!("{}.log", node.name));
        let mut command = Command::new(program);
        command
            .arg("run")
            .arg("--source")
            .arg(format!("dir:{}", source.display()));
        command.args(["--node", &node.name, "--interface", "eth0"]);
        command.args(arguments);
        command.arg("--socket").arg(&socket);
        Ok(Self {
            process: Process::start(&node.netns, &mut command, &log)?,
            socket,
            log,
        })
    }

    /// The process number.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Whether it runs: nobody has stopped or killed it.
    pub fn is_running(&self) -> bool {
        Path::new(&format!("/proc/{}", self.id())).exists()
    }

    /// The admin socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// What `torline status --json` says.
    ///
    /// # Errors
    /// When the agent does not answer, or not as agreed.
    pub fn status(&self) -> Result<Status> {
        self.ask("status")
    }

    fn ask<T: DeserializeOwned>(&self, verb: &str) -> Result<T> {
        let mut command = Command::new(binary()?);
        let output = command
            .args([verb, "--json", "--socket"])
            .arg(&self.socket)
            .output()?;
        if !output.status.success() {
            bail!(
                "torline {verb}: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).with_context(|| format!("torline {verb} said {text}"))
    }

    /// Waits until the status is as wanted and returns it.
    ///
    /// # Errors
    /// When the agent ends, or the limit passes; the error has the end of its log.
    pub fn wait_for(
        &mut self,
        what: &str,
        limit: Duration,
        mut wanted: impl FnMut(&Status) -> bool,
    ) -> Result<Status> {
        let outcome = wait::until(what, limit, || {
            if let Some(status) = self.process.ended()? {
                return Ok(Err(status));
            }
            let status = self.status()?;
            ensure!(wanted(&status), "the status is {status:?}");
            Ok(Ok(status))
        });
        match outcome {
            Ok(Ok(status)) => Ok(status),
            Ok(Err(end)) => bail!("the agent ended ({end}): {}", self.log_tail()),
            Err(error) => Err(error.context(self.log_tail())),
        }
    }

    /// Waits until the maps hold the newest source state and every session is established.
    ///
    /// # Errors
    /// As [`Self::wait_for`].
    pub fn wait_ready(&mut self, sessions: usize, limit: Duration) -> Result<Status> {
        self.wait_for("the agent to be in sync", limit, |status| {
            status.in_sync && status.established() == sessions
        })
    }

    /// What `torline members --json` says.
    ///
    /// # Errors
    /// When the agent does not answer, or not as agreed.
    pub fn members(&self) -> Result<MembersStatus> {
        self.ask("members")
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        Ok(kill(Pid::from_raw(self.id().try_into()?), signal)?)
    }

    /// Ends it with SIGTERM.
    ///
    /// # Errors
    /// When it does not end within ten seconds, or not well.
    pub fn stop(mut self) -> Result<()> {
        self.end()
    }

    /// The same, and keeps its place.
    ///
    /// # Errors
    /// When it does not end within ten seconds, or not well.
    pub fn end(&mut self) -> Result<()> {
        let end = self.process.end(Signal::SIGTERM, Duration::from_secs(10))?;
        ensure!(
            end.success(),
            "the agent ended with {end}; see {}",
            self.log.display()
        );
        Ok(())
    }

    /// Ends it with SIGKILL.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Lets it run on when this process ends.
    pub fn keep(self) {
        self.process.keep();
    }

    fn log_tail(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

/// The part of the status that tests look at.
#[derive(Clone, Debug, Deserialize)]
pub struct Status {
    /// The maps hold what the newest source state asks for.
    pub in_sync: bool,
    /// How the programs are attached.
    pub attach: Attach,
    /// Services.
    pub services: Vec<ServiceStatus>,
    /// Frontends.
    pub frontends: Vec<FrontendStatus>,
    /// BGP sessions.
    pub sessions: Vec<SessionStatus>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// What became of flows, by the name of the outcome.
    #[serde(default)]
    pub outcomes: BTreeMap<String, u64>,
    /// What is wrong in the source.
    pub findings: Vec<Finding>,
    /// What agents told each other about flows.
    #[serde(default)]
    pub peer: PeerStatus,
}

impl Status {
    /// How many sessions are established.
    pub fn established(&self) -> usize {
        self.sessions
            .iter()
            .filter(|session| session.state == "established")
            .count()
    }
}

/// How the programs are attached.
#[derive(Clone, Debug, Deserialize)]
pub struct Attach {
    /// `native` or `generic`.
    pub mode: String,
}

/// A Service.
#[derive(Clone, Debug, Deserialize)]
pub struct ServiceStatus {
    /// `namespace/name`.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The node that answers ARP and NDP for it.
    pub l2_leader: Option<String>,
}

/// A frontend.
#[derive(Clone, Debug, Deserialize)]
pub struct FrontendStatus {
    /// `address:port/protocol`.
    pub name: String,
    /// Backends.
    pub backends: Vec<BackendStatus>,
    /// Packets that came for it.
    pub packets: u64,
}

/// A backend.
#[derive(Clone, Debug, Deserialize)]
pub struct BackendStatus {
    /// Pod address.
    pub address: IpAddr,
    /// Node the pod runs on.
    pub node: String,
    /// Slots that name it first.
    pub slots: u32,
}

/// A BGP session.
#[derive(Clone, Debug, Deserialize)]
pub struct SessionStatus {
    /// Name of the BGPPeer.
    pub peer: String,
    /// Address of the peer.
    pub address: IpAddr,
    /// `idle`, …, `established`.
    pub state: String,
    /// What is announced.
    pub routes: Vec<String>,
}

/// Something wrong in the source.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    /// File and line.
    pub source: String,
    /// What is wrong.
    pub message: String,
}

/// The program under test: `$TORLINE_BIN`, else the one built beside the running program.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TORLINE_BIN") {
        return Ok(path.into());
    }
    let own = std::env::current_exe()?;
    // Tests lie one directory further down than programs.
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("torline"));
    beside
        .into_iter()
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "no torline beside {}; build it with `cargo xtask build`",
                own.display()
            )
        })
}

/// Puts the agent with other kernel programs in it into `dir`: a function of theirs has another name.
///
/// # Errors
/// When there is no agent, its programs have no such function, or the file system refuses.
pub fn rebuilt(dir: &Path) -> Result<PathBuf> {
    const NAME: &[u8] = b"ingress_v4";
    const OTHER: &[u8] = b"ingress_w4";
    let mut bytes = fs::read(binary()?)?;
    let windows = bytes.windows(NAME.len()).enumerate();
    let named = windows.filter(|(_, window)| *window == NAME);
    let places: Vec<_> = named.map(|(place, _)| place..place + NAME.len()).collect();
    ensure!(!places.is_empty(), "the programs have no ingress_v4");
    for place in places {
        bytes[place].copy_from_slice(OTHER);
    }
    let path = dir.join("rebuilt");
    fs::write(&path, bytes)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
