//! Connections that no slot remembers any more: what agents tell each other
//! about them.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::ensure;
use harness::cluster::{Cluster, SETTLE};
use harness::machine;
use harness::netns;
use harness::source::Condition;
use harness::topology::{Pod, Shape};
use harness::traffic::client::{Client, Connection};
use harness::traffic::echo::EchoServer;
use harness::wait;
use lb_userspace::model::status::PeerStatus;
use nix::sys::signal::Signal;

use crate::fixture::{DUAL, Running, TARGETS, running_on, web};

/// Connections of each family.
const OPEN: usize = 50;
/// Pods that own all slots in turn: more than a slot remembers.
const OWNERS: [&str; 5] = ["pod-a1", "pod-b1", "pod-c1", "pod-b2", "pod-c2"];

/// Three nodes, and connections to the first owner.
fn with_connections() -> Option<(Running, Vec<Connection>)> {
    let lab = running_on(3, web(DUAL), &DUAL)?;
    hand_over(&lab.cluster, 0, &[0, 1, 2]);
    let connections = connect(&lab.cluster);
    Some((lab, connections))
}

fn connect(cluster: &Cluster) -> Vec<Connection> {
    let client = Client::new(&cluster.topology.client).unwrap();
    let mut connections = Vec::new();
    for vip in DUAL {
        let opened = client.open(SocketAddr::new(vip, 80), OPEN);
        connections.extend(opened.all().unwrap());
    }
    let mut pods = connections
        .iter()
        .map(|connection| &connection.greeting.pod);
    assert!(pods.all(|pod| pod == OWNERS[0]));
    connections
}

/// Lets all slots be of one of [`OWNERS`], with those before it draining; waits for these agents.
fn hand_over(cluster: &Cluster, to: usize, agents: &[usize]) {
    let condition = |pod: &Pod| {
        let place = OWNERS.iter().position(|owner| *owner == pod.name);
        match place {
            Some(place) if place < to => Condition::Terminating,
            Some(place) if place == to => Condition::Ready,
            _ => Condition::Absent,
        }
    };
    write_and_wait(cluster, condition, OWNERS[to], agents);
}

fn write_and_wait(
    cluster: &Cluster,
    condition: impl Fn(&Pod) -> Condition,
    owner: &str,
    agents: &[usize],
) {
    cluster.write_endpoints(condition).unwrap();
    let mut pods = cluster.topology.pods();
    let pod = pods.find(|pod| pod.name == owner).unwrap().addresses;
    for agent in agents {
        wait::until("the tables", SETTLE, || {
            let status = cluster.agents[*agent].status()?;
            let backends = status.frontends.iter().flat_map(|f| &f.backends);
            let mut serving = backends.filter(|backend| backend.slots > 0).peekable();
            ensure!(status.in_sync && serving.peek().is_some(), "{status:?}");
            ensure!(
                serving.all(|backend| pod.contains(&backend.address)),
                "{status:?}"
            );
            Ok(())
        })
        .unwrap();
    }
}

fn peer(cluster: &Cluster, agent: usize) -> PeerStatus {
    cluster.agents[agent].status().unwrap().peer
}

#[test]
fn flows_are_pushed_to_c0s_owner_before_an_owner_drops_out_of_a_slots_history() {
    let Some((lab, connections)) = with_connections() else {
        return;
    };
    let cluster = &lab.cluster;
    for to in 1..OWNERS.len() {
        hand_over(cluster, to, &[0, 1, 2]);
    }
    let good = lab.client().verify(connections).all().unwrap();
    assert_eq!(good.len(), 2 * OPEN);
    let [pusher, other, owner] = [0, 1, 2].map(|agent| peer(cluster, agent));
    assert!(pusher.pushed >= 2 * OPEN as u64, "{pusher:?}");
    assert!(owner.exceptions_push >= 2 * OPEN as u64, "{owner:?}");
    let asked = [pusher, other, owner].map(|peer| peer.asked);
    assert_eq!(asked, [0; 3], "no packet came before the exceptions");
}

#[test]
fn a_flow_nobody_on_the_list_knows_is_located_and_an_agent_that_is_away_resets_nothing() {
    let Some((lab, connections)) = with_connections() else {
        return;
    };
    let cluster = &lab.cluster;
    // The agent that knows the connections sleeps through the changes, so that nothing is pushed.
    cluster.agents[0].signal(Signal::SIGSTOP).unwrap();
    for to in 1..OWNERS.len() {
        hand_over(cluster, to, &[1, 2]);
    }
    let good = std::thread::scope(|scope| {
        let verified = scope.spawn(move || {
            let mut client = Client::new(&cluster.topology.client).unwrap();
            client.limit = Duration::from_secs(30);
            client.verify(connections).all().map(|good| good.len())
        });
        wait::until("an answer to be missed", SETTLE, || {
            let peer = peer(cluster, 1);
            ensure!(peer.uncertain > 0, "{peer:?}");
            Ok(())
        })
        .unwrap();
        cluster.agents[0].signal(Signal::SIGCONT).unwrap();
        verified.join().unwrap()
    });
    assert_eq!(good.unwrap(), 2 * OPEN);
    let [away, asker, owner] = [0, 1, 2].map(|agent| peer(cluster, agent));
    assert!(away.answered > 0 && asker.found > 0, "{away:?} {asker:?}");
    assert!(owner.exceptions_locate > 0, "{owner:?}");
    assert_eq!([away, asker, owner].map(|peer| peer.nobody), [0; 3]);
}

#[test]
fn a_connection_that_no_node_has_is_reset_from_the_vip_once_all_said_so() {
    let Some((lab, connections)) = with_connections() else {
        return;
    };
    let cluster = &lab.cluster;
    // The pod is gone; when its address comes back, it is another pod's.
    let only = |name: &'static str| {
        move |pod: &Pod| match pod.name == name {
            true => Condition::Ready,
            false => Condition::Absent,
        }
    };
    write_and_wait(cluster, only(OWNERS[1]), OWNERS[1], &[0, 1, 2]);
    let outcome = lab.client().verify(connections);
    assert_eq!(outcome.good.len(), 0);
    for error in &outcome.bad {
        let text = format!("{error:#}");
        assert!(text.contains("reset"), "{text}");
    }
    let owner = peer(cluster, 1);
    assert!(owner.nobody > 0 && owner.denials > 0, "{owner:?}");
}

#[test]
fn a_joining_node_fetches_history_from_a_peer_before_it_serves() {
    if !machine::can_test() {
        return;
    }
    let shape = Shape { nodes: 3, pods: 2 };
    let mut cluster = Cluster::prepare(&netns::next_lab(), shape, web(DUAL)).unwrap();
    let pods = cluster.topology.pods();
    let serve = |pod: &Pod| EchoServer::start(&pod.netns, &pod.name, &TARGETS).unwrap();
    let _servers: Vec<_> = pods.map(serve).collect();
    for _ in 0..2 {
        cluster.start_agent().unwrap();
    }
    hand_over(&cluster, 0, &[0, 1]);
    for vip in DUAL {
        cluster.wait_route(vip, &[0, 1], SETTLE).unwrap();
    }
    let connections = connect(&cluster);
    hand_over(&cluster, 1, &[0, 1]);
    cluster.start_agent().unwrap();
    hand_over(&cluster, 2, &[0, 1, 2]);
    for vip in DUAL {
        cluster.wait_route(vip, &[0, 1, 2], SETTLE).unwrap();
    }
    let joined = peer(&cluster, 2);
    assert_eq!(joined.histories, DUAL.len() as u64, "{joined:?}");
    // Its own pod has the slots now, and it knows by what list to ask for the connections.
    let client = Client::new(&cluster.topology.client).unwrap();
    let good = client.verify(connections).all().unwrap();
    assert_eq!(good.len(), 2 * OPEN);
    let peers = [0, 1, 2].map(|agent| peer(&cluster, agent));
    assert_eq!(peers.map(|peer| peer.asked), [0; 3]);
    assert!(
        peers[0].reported > 0 && peers[2].exceptions_chain > 0,
        "{peers:?}"
    );
}
