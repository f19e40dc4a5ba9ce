//! The agent as an operator meets it: started, asked, fed good and bad files,
//! stopped.
//!
//! - `bench`: a namespace with one veth pair, `eth0` and `wire`, and nothing at the far end.
//! - `life`: what outlives the agent, and what does not, under traffic.
//! - `order`: the tc programs of others.

mod bench;
mod life;
mod order;

use std::fs;
use std::process::Command;

use anyhow::{Result, ensure};
use harness::agent::binary;
use harness::wait;
use lb_userspace::model::status::{MembersStatus, Status};
use nix::sys::signal::Signal;

use crate::bench::{Bench, LIMIT, SERVICE, endpoints, refused};

/// Number of slots that each backend owns.
fn shares(status: &Status) -> Vec<u32> {
    let frontends = status.frontends.iter();
    frontends
        .flat_map(|frontend| frontend.backends.iter().map(|backend| backend.slots))
        .collect()
}

#[test]
fn the_agent_follows_its_directory_and_leaves_nothing_behind() {
    let bench = Bench::new("agent-life").unwrap();
    let agent = bench.start_with(&["--pin", "none"]).unwrap();

    let status = bench.status().unwrap();
    assert_eq!(status.attach.mode, "native");
    assert_eq!(status.attach.interface, "eth0");
    let [service] = status.services.as_slice() else {
        panic!("{status:#?}");
    };
    assert_eq!(service.frontends, ["203.0.113.10:80/tcp"]);
    assert_eq!(shares(&status).len(), 2);
    assert_eq!(shares(&status).iter().sum::<u32>(), 1024);
    assert!(status.map_bytes > 65_536 * 8);
    let link = bench.link().unwrap();
    assert!(link.contains("prog/xdp"), "{link}");

    bench.write("endpoints.yaml", &endpoints(3)).unwrap();
    let status = bench
        .wait_for("three backends", |status| shares(status).len() == 3)
        .unwrap();
    assert!(shares(&status).iter().all(|slots| *slots > 256));

    bench
        .write(
            "service.yaml",
            &SERVICE.replace("port: 80,", "port: eighty,"),
        )
        .unwrap();
    let status = bench
        .wait_for("a finding", |status| {
            status.in_sync
                && status
                    .findings
                    .iter()
                    .any(|f| f.source.contains("service.yaml"))
        })
        .unwrap();
    assert_eq!(shares(&status).len(), 3, "the last good state stays");

    let end = agent.stop(Signal::SIGTERM, LIMIT).unwrap();
    assert!(end.success(), "{end}");
    let link = bench.link().unwrap();
    assert!(!link.contains("xdp"), "{link}");
    assert!(!bench.socket().exists());
    let filters = bench
        .netns
        .run(["tc", "filter", "show", "dev", "eth0", "egress"]);
    assert_eq!(filters.unwrap(), "");
}

#[test]
fn an_agent_that_comes_back_keeps_the_addresses() {
    let bench = Bench::new("agent-state").unwrap();
    let agent = bench.start().unwrap();
    let before = bench.status().unwrap();
    agent.stop(Signal::SIGTERM, LIMIT).unwrap();

    // Alone, this Service would be the first by name and get the first address.
    bench
        .write("another.yaml", &SERVICE.replace("name: web", "name: a"))
        .unwrap();
    let _agent = bench.start().unwrap();
    let after = bench
        .wait_for("both Services", |status| status.services.len() == 2)
        .unwrap();
    assert_eq!(after.services[1].addresses, before.services[0].addresses);
}

#[test]
fn a_program_of_somebody_else_is_named_and_stays() {
    let bench = Bench::new("agent-occupied").unwrap();
    let first = bench.start().unwrap();
    let before = bench.link().unwrap();

    let socket = bench.dir.path().join("second.sock");
    let mut second = bench.command_on("eth0", &socket).unwrap();
    second.args(["--health-port", "0", "--pin", "/sys/fs/bpf/other"]);
    let message = refused(&bench.run(second).unwrap());
    assert!(
        message.contains("already carries the XDP program"),
        "{message}"
    );
    assert!(
        message.contains("nothing in /sys/fs/bpf/other holds it"),
        "{message}"
    );
    assert_eq!(bench.link().unwrap(), before);
    assert_eq!(bench.pins("other"), None, "what was pinned is removed");
    drop(first);
}

#[test]
fn a_second_agent_is_refused() {
    let bench = Bench::new("agent-second").unwrap();
    let _first = bench.start().unwrap();
    let message = refused(&bench.run(bench.command("eth0").unwrap()).unwrap());
    assert!(message.contains("another agent listens on"), "{message}");
    bench
        .wait_for("the first to go on", |status| status.in_sync)
        .unwrap();
}

#[test]
fn what_is_missing_is_named() {
    let bench = Bench::new("agent-missing").unwrap();
    let message = refused(&bench.run(bench.command("eth7").unwrap()).unwrap());
    assert!(message.contains("there is no interface eth7"), "{message}");

    fs::remove_dir_all(bench.source()).unwrap();
    let message = refused(&bench.run(bench.command("eth0").unwrap()).unwrap());
    assert!(message.contains("source"), "{message}");
}

#[test]
fn a_secret_with_fresh_keys_is_printed_and_settles_the_warning() {
    let bench = Bench::new("agent-secret").unwrap();
    let _agent = bench.start().unwrap();
    let about_keys = |status: &Status| {
        let mut findings = status.findings.iter();
        findings.any(|finding| finding.object == "Secret torline")
    };
    bench.wait_for("a warning", about_keys).unwrap();

    let output = Command::new(binary().unwrap())
        .arg("secret")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    bench.write("secret.yaml", &text).unwrap();
    let status = bench
        .wait_for("the warning to go", |status| !about_keys(status))
        .unwrap();
    assert_eq!(status.findings, []);
}

#[test]
fn members_are_told_and_nobody_is_taken_for_gone_by_a_node_alone() {
    let bench = Bench::new("agent-members").unwrap();
    let _agent = bench.start().unwrap();
    let members = || -> Result<MembersStatus> {
        let output = Command::new(binary()?)
            .args(["members", "--json", "--socket"])
            .arg(bench.socket())
            .output()?;
        Ok(serde_json::from_slice(&output.stdout)?)
    };
    let status = wait::until("the node to find itself cut off", LIMIT, || {
        let status = members()?;
        ensure!(status.cut_off, "{status:?}");
        Ok(status)
    })
    .unwrap();
    let states: Vec<_> = status
        .members
        .iter()
        .map(|member| (member.name.as_str(), member.state.as_str()))
        .collect();
    assert_eq!(states, [("node-a", "live"), ("node-b", "unheard")]);
    assert_eq!(bench.status().unwrap().nodes[0].state, "unheard");
}

#[test]
fn a_dry_run_touches_nothing() {
    let bench = Bench::new("agent-dry").unwrap();
    let mut command = bench.command("eth0").unwrap();
    command.arg("--dry-run");
    let output = bench.run(command).unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("frontend 203.0.113.10:80/tcp"), "{text}");
    assert!(!bench.link().unwrap().contains("xdp"));
    assert!(!bench.source().join(".torline").exists());
}
