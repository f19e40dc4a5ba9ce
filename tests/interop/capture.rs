//! `torline capture` of an agent and its router.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::agent::{SessionStatus, binary};
use harness::cluster::Cluster;
use harness::netns::next_lab;
use harness::source::{Condition, Port, Service};
use harness::topology::Shape;
use harness::wait;
use lb_userspace::proto::bgp::capture::{Reader, Record};
use lb_userspace::proto::bgp::fsm::State;
use lb_userspace::proto::bgp::session::acts::Act;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// For an agent on a busy machine to be up.
const LIMIT: Duration = Duration::from_secs(60);
const VIP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 10));

fn records(file: &Path) -> Result<Vec<Record>> {
    let mut reader = Reader::default();
    reader.extend(&fs::read(file)?);
    let mut records = Vec::new();
    while let Some(record) = reader.take()? {
        records.push(record);
    }
    Ok(records)
}

fn updates_sent(records: &[Record]) -> usize {
    let is_update =
        |record: &&Record| matches!(&record.act, Act::Sent(message) if message.get(18) == Some(&2));
    records.iter().filter(is_update).count()
}

#[test]
fn a_capture_tells_what_was_said_before_it_and_goes_on() -> Result<()> {
    let service = Service {
        name: "web",
        addresses: vec![VIP],
        ports: vec![Port {
            name: "http",
            protocol: "TCP",
            port: 80,
            target: 8080,
        }],
        forwarding: None,
    };
    let shape = Shape { nodes: 1, pods: 1 };
    let mut cluster = Cluster::start(&next_lab(), shape, vec![service])?;
    let agent = cluster.agents.first_mut().context("no agent")?;
    let status = agent.wait_for("a route at the router", LIMIT, |status| {
        let announces = |session: &SessionStatus| !session.routes.is_empty();
        status.sessions.iter().any(announces)
    })?;
    let announces = |session: &&SessionStatus| !session.routes.is_empty();
    let session = status.sessions.iter().find(announces);
    let peer = &session.context("no session")?.peer;
    let agent = cluster.agents.first().context("no agent")?;
    let capture = |file: &Path, more: &[&str]| -> Result<Command> {
        let mut command = Command::new(binary()?);
        command.args(["capture", "--json", "--peer", peer, "--write"]);
        command
            .arg(file)
            .args(more)
            .arg("--socket")
            .arg(agent.socket());
        Ok(command)
    };
    let dir = tempfile::tempdir()?;

    let before = dir.path().join("before.mrt");
    let output = capture(&before, &["--seconds", "0"])?.output()?;
    ensure!(output.status.success(), "{output:?}");
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    ensure!(summary["sent"]["open"] == 1, "{summary}");
    ensure!(summary["received"]["open"] == 1, "{summary}");
    let said = records(&before)?;
    let states = said.iter().filter_map(|record| match record.act {
        Act::State { to, .. } => Some(to),
        Act::Sent(_) | Act::Received(_) => None,
    });
    ensure!(states.last() == Some(State::Established));
    ensure!(updates_sent(&said) > 0);

    let after = dir.path().join("after.mrt");
    let mut following = capture(&after, &[])?.stdout(Stdio::piped()).spawn()?;
    wait::until("what was said before", LIMIT, || {
        ensure!(records(&after)?.len() >= said.len());
        Ok(())
    })?;
    cluster.write_endpoints(|_| Condition::NotReady)?;
    wait::until("the withdrawal", LIMIT, || {
        ensure!(updates_sent(&records(&after)?) > updates_sent(&said));
        Ok(())
    })?;
    kill(
        Pid::from_raw(i32::try_from(following.id())?),
        Signal::SIGINT,
    )?;
    ensure!(following.wait()?.success());

    let output = Command::new(binary()?)
        .args(["capture", "--peer", "nobody", "--write"])
        .arg(&after)
        .arg("--socket")
        .arg(agent.socket())
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr);
    ensure!(
        !output.status.success() && told.contains("torline peers"),
        "{told}"
    );
    Ok(())
}
