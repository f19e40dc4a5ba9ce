//! The list of agents that gossip keeps, and that nothing follows from it.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use harness::agent::Agent;
use harness::cluster::SETTLE;
use harness::wait;
use nix::sys::signal::Signal;

use crate::fixture::{DUAL, running_on, web};

fn wait_listed(agent: &Agent) {
    wait::until("all agents to be listed", SETTLE, || {
        let status = agent.members()?;
        let are_listed = status.members.iter().all(|member| {
            member.version.as_deref() == Some(env!("CARGO_PKG_VERSION"))
                && member.gossip == "alive"
                && member.state == "live"
                && member.in_source
                && member.taken_for_gone_by.is_empty()
        });
        ensure!(status.members.len() == 3 && are_listed, "{status:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn every_agent_knows_the_versions_of_all_and_one_that_is_stopped_loses_nothing() {
    let Some(lab) = running_on(3, web(DUAL), &DUAL) else {
        return;
    };
    let agents = &lab.cluster.agents;
    agents.iter().for_each(wait_listed);

    let before = agents[0].status().unwrap();
    agents[1].signal(Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    let mut suspected = 0;
    wait::until("two seconds to pass", SETTLE, || {
        let members = agents[0].members().unwrap().members;
        for member in members {
            assert_eq!(member.state, "live", "{member:?}");
            suspected += u32::from(member.gossip != "alive");
        }
        ensure!(stopped.elapsed() > Duration::from_secs(2), "not yet");
        Ok(())
    })
    .unwrap();
    agents[1].signal(Signal::SIGCONT).unwrap();
    eprintln!("suspected in {suspected} answers");
    agents.iter().for_each(wait_listed);
    let after = agents[0].status().unwrap();
    let slots = |status: &harness::agent::Status| -> Vec<u32> {
        let backends = status.frontends.iter().flat_map(|f| &f.backends);
        backends.map(|backend| backend.slots).collect()
    };
    assert_eq!(slots(&before), slots(&after));

    // Agents whose node is in no source any more know each other from gossip, and go on.
    let cluster = &lab.cluster;
    cluster.write_nodes(&cluster.topology.nodes[..2]).unwrap();
    let node_c = || {
        let members = agents[0].members().unwrap().members;
        members.into_iter().find(|member| member.name == "node-c")
    };
    let mut unnamed = None;
    wait::until("the node to be out of the source", SETTLE * 2, || {
        let member = node_c().context("not listed")?;
        ensure!(!member.in_source, "{member:?}");
        let since = *unnamed.get_or_insert_with(Instant::now);
        // Longer than it takes to give up one that is silent.
        ensure!(since.elapsed() > Duration::from_secs(10), "not long enough");
        assert_ne!(member.gossip, "down");
        Ok(())
    })
    .unwrap();
}
