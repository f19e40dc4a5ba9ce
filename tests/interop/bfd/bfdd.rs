//! BFD alone, against FRR's `bfdd`.

use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::RwLockReadGuard;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::netns::Netns;
use harness::process::Process;
use harness::wait;
use lb_userspace::model::bfd::{BfdIntent, BfdReach, BfdReport, BfdState};
use nix::unistd::{User, chown};
use serde_json::Value;
use tempfile::TempDir;

use super::end::End;
use super::{CUT, among_others, bfd};
use crate::lab::{LIMIT, Lab, NODE_V4, NODE_V6, TOR_V4, TOR_V6};

const DAEMONS: &str = "/usr/lib/frr";
/// What FRR insists on running as.
const USER: &str = "frr";

/// FRR's BFD daemon, and zebra, which tells it of interfaces.
struct Bfdd {
    peer: String,
    dir: TempDir,
    _quiet: RwLockReadGuard<'static, ()>,
    _processes: [Process; 2],
}

impl Bfdd {
    /// Starts it with one session at 100 ms × 3.
    fn start(netns: &Netns, local: IpAddr, remote: IpAddr, reach: BfdReach) -> Result<Self> {
        let quiet = among_others();
        let dir = tempfile::tempdir()?;
        // Its user must get at its files.
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711))?;
        let user = User::from_name(USER)?.context("there is no user `frr`")?;
        chown(dir.path(), Some(user.uid), Some(user.gid))?;
        let path = match reach {
            BfdReach::MultiHop => format!("multihop local-address {local}"),
            _ => format!("local-address {local} interface uplink"),
        };
        let peer = format!("peer {remote} {path}");
        let config = dir.path().join("bfdd.conf");
        fs::write(
            &config,
            format!("bfd\n {peer}\n  receive-interval 100\n  transmit-interval 100\n"),
        )?;

        let zebra = daemon(netns, dir.path(), "zebra", &["-f", "/dev/null"])?;
        await_file(&dir.path().join("zserv.api"))?;
        let control = dir.path().join("bfdd.sock");
        let [control, config] = [&control, &config].map(|path| path.to_string_lossy());
        let bfdd = daemon(
            netns,
            dir.path(),
            "bfdd",
            &["--bfdctl", &control, "-f", &config],
        )?;
        await_file(&dir.path().join("bfdd.vty"))?;
        Ok(Self {
            peer,
            dir,
            _quiet: quiet,
            _processes: [bfdd, zebra],
        })
    }

    fn vtysh(&self, commands: &[&str]) -> Result<String> {
        let mut command = Command::new("vtysh");
        command.arg("--vty_socket").arg(self.dir.path());
        for said in commands {
            command.args(["-c", said]);
        }
        let output = command.output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{text}");
        Ok(text)
    }

    /// Configures its session.
    fn configure(&self, commands: &[&str]) -> Result<()> {
        let head = ["configure terminal", "bfd", &self.peer];
        self.vtysh(&[&head, commands].concat()).map(drop)
    }

    /// Waits until what it says of the session is as wanted.
    fn await_session(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
        wait::until(what, LIMIT, || {
            let text = self.vtysh(&["show bfd peers json"])?;
            let shown: Value = serde_json::from_str(&text)?;
            ensure!(wanted(&shown[0]), "{shown}");
            Ok(())
        })
    }
}

fn daemon(netns: &Netns, dir: &Path, name: &str, more: &[&str]) -> Result<Process> {
    let mut command = Command::new(format!("{DAEMONS}/{name}"));
    command.args(["-u", USER, "-g", USER, "-P", "0", "--vty_socket"]);
    command.arg(dir).arg("-z").arg(dir.join("zserv.api"));
    command.arg("-i").arg(dir.join(format!("{name}.pid")));
    command.args(more);
    Process::start(netns, &mut command, &dir.join(format!("{name}.log")))
}

fn await_file(path: &Path) -> Result<()> {
    wait::until(&path.to_string_lossy(), LIMIT, || {
        ensure!(path.exists(), "it is not there");
        Ok(())
    })
}

fn is_at(report: &BfdReport, interval: u64) -> bool {
    let interval = Duration::from_millis(interval);
    report.status.as_ref().is_some_and(|status| {
        status.state == BfdState::Up
            && status.transmit_interval == Some(interval)
            && status.detection_time == Some(interval * 3)
    })
}

/// The whole life of a session.
fn lives(tor: IpAddr, node: IpAddr, reach: BfdReach) -> Result<()> {
    let lab = Lab::new()?;
    let frr = Bfdd::start(&lab.tor, tor, node, reach)?;
    let at = |interval| BfdIntent {
        reach,
        ..bfd(interval)
    };
    let end = End::start(&lab.node, tor, at(50))?;
    end.await_report("100 ms", |report| is_at(report, 100))?;
    frr.await_session("up", |session| {
        session["status"] == "up" && session["remote-transmit-interval"] == 50
    })?;

    // Each side changes its mind in turn, upwards and downwards.
    end.change(at(300));
    end.await_report("our 300 ms", |report| is_at(report, 300))?;
    frr.await_session("our 300 ms", |session| {
        session["remote-transmit-interval"] == 300
    })?;
    frr.configure(&["receive-interval 700", "transmit-interval 700"])?;
    end.await_report("their 700 ms", |report| is_at(report, 700))?;
    frr.configure(&["receive-interval 60", "transmit-interval 60"])?;
    end.change(at(20));
    let steady = end.await_report("60 ms", |report| is_at(report, 60))?;
    ensure!(steady.losses == 0, "{steady:?}");

    frr.configure(&["shutdown"])?;
    let held = end.await_report("their shutdown", |report| {
        let status = report.status.as_ref();
        status.is_some_and(|status| status.remote_state == BfdState::AdminDown)
    })?;
    ensure!(!held.is_up() && held.losses == 0, "{held:?}");
    frr.configure(&["no shutdown"])?;
    end.await_report("up again", |report| is_at(report, 60))?;
    frr.await_session("up again", |session| session["status"] == "up")?;

    lab.tor.run(["nft", CUT])?;
    let lost = end.await_report("the loss", |report| report.losses == 1)?;
    let diagnostic = lost.status.map(|status| status.local_diagnostic);
    ensure!(diagnostic == Some("detection_time_expired"));
    frr.await_session("the loss", |session| session["status"] == "down")?;
    lab.tor.run(["nft", "delete table inet cut"])?;
    end.await_report("up after the loss", |report| is_at(report, 60))?;
    frr.await_session("up after the loss", |session| session["status"] == "up")?;

    drop(end);
    frr.await_session("our farewell", |session| {
        session["status"] == "down" && session["remote-diagnostic"] == "administratively down"
    })
}

#[test]
fn a_session_with_frr_lives_over_ipv4() -> Result<()> {
    lives(TOR_V4, NODE_V4, BfdReach::SingleHop)
}

#[test]
fn a_session_with_frr_lives_over_ipv6() -> Result<()> {
    lives(TOR_V6, NODE_V6, BfdReach::SingleHop)
}

#[test]
fn a_session_with_frr_lives_over_several_hops() -> Result<()> {
    lives(TOR_V4, NODE_V4, BfdReach::MultiHop)
}
