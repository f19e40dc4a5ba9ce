//! Which node is taken for dead by whom, and how soon.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::agent::{Agent, Status};
use harness::cluster::{Cluster, SETTLE};
use harness::source::Service;
use harness::tables::Tables;
use harness::wait;
use nix::sys::signal::Signal;

use crate::fixture::{DUAL, Running, SOON, running_on, web};

/// A VIP on the segment, answered for by one node.
const L2: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200));

fn services() -> Vec<Service> {
    let mut services = web(DUAL);
    services.push(Service {
        name: "near",
        addresses: vec![L2],
        ..services[0].clone()
    });
    services
}

/// Nodes whose pods get new connections, from the tables as they were written last.
fn serving(status: &Status) -> BTreeSet<&str> {
    let backends = status.frontends.iter().flat_map(|f| &f.backends);
    backends
        .filter(|backend| backend.slots > 0)
        .map(|backend| backend.node.as_str())
        .collect()
}

fn leader(status: &Status) -> Option<&str> {
    let mut services = status.services.iter();
    let near = services.find(|service| service.name == "default/near")?;
    near.l2_leader.as_deref()
}

fn state(agent: &Agent, name: &str) -> Result<String> {
    let members = agent.members()?.members;
    let member = members.into_iter().find(|member| member.name == name);
    Ok(member.map(|member| member.state).unwrap_or_default())
}

/// Waits until exactly these nodes serve, and one of them leads, in the eyes of one agent; how long it took.
fn wait_serving(cluster: &Cluster, agent: usize, nodes: &[&str], limit: Duration) -> Duration {
    let start = Instant::now();
    wait::until("the tables", limit, || {
        let status = cluster.agents[agent].status()?;
        let serving: Vec<_> = serving(&status).into_iter().collect();
        let leader = leader(&status);
        ensure!(
            status.in_sync && serving == nodes && leader.is_some_and(|node| nodes.contains(&node)),
            "{serving:?} serve, {leader:?} leads"
        );
        Ok(())
    })
    .unwrap();
    start.elapsed()
}

/// Asserts, for this long, that one agent sends to the pods of all these nodes and takes none for gone.
fn assert_unchanged(cluster: &Cluster, agent: usize, nodes: &[&str], time: Duration) {
    let start = Instant::now();
    wait::until("the end of the time", time * 10, || {
        let status = cluster.agents[agent].status().unwrap();
        assert_eq!(serving(&status).into_iter().collect::<Vec<_>>(), nodes);
        let members = cluster.agents[agent].members().unwrap().members;
        assert!(
            members.iter().all(|member| member.state != "gone"),
            "{members:?}"
        );
        ensure!(start.elapsed() >= time, "not over");
        Ok(())
    })
    .unwrap();
}

fn all_live(lab: &Running) {
    for agent in &lab.cluster.agents {
        wait::until("all nodes to live", SETTLE, || {
            let status = agent.members()?;
            let live = status.members.iter().all(|member| member.state == "live");
            ensure!(live && !status.cut_off, "{status:?}");
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn a_node_whose_kernel_is_gone_is_out_of_every_table_within_a_second() {
    let Some(lab) = running_on(3, services(), &DUAL) else {
        return;
    };
    all_live(&lab);
    let cluster = &lab.cluster;
    let everybody = ["node-a", "node-b", "node-c"];
    let mut connections = Vec::new();
    for vip in DUAL {
        let opened = lab.client().open(SocketAddr::new(vip, 80), 100);
        connections.extend(opened.all().unwrap());
    }
    connections.retain(|connection| !connection.greeting.pod.starts_with("pod-c"));

    let lost = cluster.topology.node("node-c").unwrap();
    let cut = Instant::now();
    cluster.topology.cut_off(lost).unwrap();
    for agent in [0, 1] {
        wait_serving(cluster, agent, &everybody[..2], SETTLE);
        let gone = cut.elapsed();
        eprintln!("out of the tables of {} after {gone:?}", everybody[agent]);
        assert!(gone < SOON, "{gone:?}");
        assert_eq!(state(&cluster.agents[agent], "node-c").unwrap(), "gone");
    }
    // It hears nobody, the router neither: it changes nothing.
    assert_unchanged(cluster, 2, &everybody, Duration::from_secs(3));
    assert!(cluster.agents[2].members().unwrap().cut_off);

    for vip in DUAL {
        cluster.wait_route(vip, &[0, 1], SETTLE).unwrap();
        let target = SocketAddr::new(vip, 80);
        assert_eq!(lab.client().open(target, 100).all().unwrap().len(), 100);
    }
    // A few slots of other pods move with those of the lost node; their flows are the daisy chain's.
    let tables = Tables::of_process(cluster.agents[0].id()).unwrap();
    let (stayed, moved): (Vec<_>, Vec<_>) = connections.into_iter().partition(|connection| {
        let backend = tables.backend(connection.local, connection.target).unwrap();
        let mut pods = cluster.topology.pods();
        let pod = pods
            .find(|pod| pod.name == connection.greeting.pod)
            .unwrap();
        pod.addresses.contains(&backend)
    });
    assert!(stayed.len() > moved.len() * 5, "{} moved", moved.len());
    lab.client().verify(stayed).all().unwrap();

    cluster.topology.reconnect(lost).unwrap();
    for agent in 0..3 {
        wait_serving(cluster, agent, &everybody, SETTLE);
    }
    all_live(&lab);
    for vip in DUAL {
        cluster.wait_route(vip, &[0, 1, 2], SETTLE).unwrap();
    }
    let lateness = cluster.agents.iter().map(|agent| {
        let status = agent.members().unwrap();
        status.lateness_ms
    });
    eprintln!("probes late by up to {:?} ms", lateness.collect::<Vec<_>>());
}

#[test]
fn an_agent_that_is_stopped_removes_nobody_and_is_removed_by_nobody() {
    let Some(lab) = running_on(3, services(), &DUAL) else {
        return;
    };
    all_live(&lab);
    let cluster = &lab.cluster;
    let everybody = ["node-a", "node-b", "node-c"];
    let stopped = &cluster.agents[1];

    stopped.signal(Signal::SIGSTOP).unwrap();
    assert_unchanged(cluster, 0, &everybody, Duration::from_secs(2));
    stopped.signal(Signal::SIGCONT).unwrap();
    assert_unchanged(cluster, 1, &everybody, Duration::from_secs(1));
    all_live(&lab);

    stopped.signal(Signal::SIGSTOP).unwrap();
    wait::until("the agent to be missed", SETTLE, || {
        let state = state(&cluster.agents[0], "node-b")?;
        ensure!(state == "agent_away", "it is {state}");
        Ok(())
    })
    .unwrap();
    assert_unchanged(cluster, 0, &everybody, Duration::from_secs(1));
    stopped.signal(Signal::SIGCONT).unwrap();
    all_live(&lab);
}

#[test]
fn two_nodes_that_lose_each_other_both_take_over_as_both_hear_the_router() {
    let Some(lab) = running_on(2, services(), &DUAL) else {
        return;
    };
    all_live(&lab);
    let cluster = &lab.cluster;
    let [a, b] = [&cluster.topology.nodes[0], &cluster.topology.nodes[1]];
    let cut = Instant::now();
    cluster.topology.cut_between(a, b).unwrap();
    wait_serving(cluster, 0, &["node-a"], SETTLE);
    wait_serving(cluster, 1, &["node-b"], SETTLE);
    let gone = cut.elapsed();
    eprintln!("both took over after {gone:?}");
    assert!(gone < SOON, "{gone:?}");
    for vip in DUAL {
        let target = SocketAddr::new(vip, 80);
        assert_eq!(lab.client().open(target, 100).all().unwrap().len(), 100);
    }
    // It is the router that makes the difference, for as long as they are apart.
    wait::until("some time to pass", SETTLE, || {
        for agent in &cluster.agents {
            assert!(!agent.members()?.cut_off);
        }
        ensure!(cut.elapsed() > Duration::from_secs(4), "not yet");
        Ok(())
    })
    .unwrap();
    cluster.topology.reconnect_between().unwrap();
    for agent in 0..2 {
        wait_serving(cluster, agent, &["node-a", "node-b"], SETTLE);
    }
    all_live(&lab);
}

#[test]
fn of_two_nodes_the_one_that_hears_its_router_takes_over() {
    let Some(lab) = running_on(2, services(), &DUAL) else {
        return;
    };
    all_live(&lab);
    let cluster = &lab.cluster;
    let lost = &cluster.topology.nodes[1];
    let cut = Instant::now();
    cluster.topology.cut_off(lost).unwrap();
    wait_serving(cluster, 0, &["node-a"], SETTLE);
    let gone = cut.elapsed();
    eprintln!("the other took over after {gone:?}");
    assert!(gone < SOON, "{gone:?}");
    assert_unchanged(cluster, 1, &["node-a", "node-b"], Duration::from_secs(4));
    assert!(cluster.agents[1].members().unwrap().cut_off);

    cluster.topology.reconnect(lost).unwrap();
    let start = Instant::now();
    // Neither takes the other for gone on the way back.
    wait::until("the node to be back", SETTLE, || {
        let status = cluster.agents[1].status()?;
        assert_eq!(serving(&status).len(), 2);
        ensure!(!cluster.agents[1].members()?.cut_off, "cut off");
        Ok(())
    })
    .unwrap();
    wait_serving(cluster, 0, &["node-a", "node-b"], SETTLE);
    eprintln!("back after {:?}", start.elapsed());
    assert_unchanged(cluster, 1, &["node-a", "node-b"], SOON);
}

#[test]
fn an_agent_that_is_killed_and_started_again_is_removed_by_nobody() {
    let Some(mut lab) = running_on(3, services(), &DUAL) else {
        return;
    };
    all_live(&lab);
    let everybody = ["node-a", "node-b", "node-c"];
    // Dropping it kills it.
    drop(lab.cluster.agents.remove(1));
    assert_unchanged(&lab.cluster, 0, &everybody, Duration::from_secs(2));
    let cluster = &mut lab.cluster;
    let (source, dir) = (cluster.directory.path(), cluster.topology.dir());
    let again = Agent::start(&cluster.topology.nodes[1], source, dir).unwrap();
    cluster.agents.insert(1, again);
    assert_unchanged(cluster, 0, &everybody, Duration::from_secs(2));
    all_live(&lab);
}
