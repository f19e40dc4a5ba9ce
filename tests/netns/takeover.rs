//! Taking over from kube-proxy: what the kernel serves goes on, what is opened
//! later is ours.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{slice, thread};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use harness::agent::{Agent, Status, binary};
use harness::cluster::{Cluster, SETTLE};
use harness::machine;
use harness::netns::{self, Netns};
use harness::source::{Condition, Port, Service};
use harness::topology::{CLIENT, Node, Shape, Topology};
use harness::traffic::client::{Client, Connection, Outcome};
use harness::traffic::echo::EchoServer;
use harness::wait;
use lb_common::abi::{ABI_VERSION, map};
use lb_common::maps::{Config, FlowKey4, FlowKey6, Legacy, config_flags};
use lb_common::outcome::Outcome as Counted;
use zerocopy::FromBytes;

use crate::fixture::{DUAL, TARGETS, bgp4, bgp6};

/// Connections of each family, and sockets with datagrams.
const CONNECTIONS: usize = 1_000;
const ASSOCIATIONS: usize = 100;

/// Everything after the last packet of a connection: two readings of the kernel's, and its own timeouts.
const END: Duration = Duration::from_secs(90);

const TCP: u16 = 80;
const UDP: u16 = 53;

/// Addresses of a Service that comes when another one is served.
const LATER: [IpAddr; 2] = [bgp4(15), bgp6(0x15)];

fn service(name: &'static str, addresses: [IpAddr; 2]) -> Service {
    let port = |name, protocol, port| Port {
        name,
        protocol,
        port,
        target: TARGETS[0],
    };
    Service {
        name,
        addresses: addresses.to_vec(),
        ports: vec![port("http", "TCP", TCP), port("dns", "UDP", UDP)],
        forwarding: None,
    }
}

/// Nodes that serve the VIPs by NAT, as kube-proxy has it; the router sends all IPv4 to the first and all IPv6
/// to the last. The agents will find those Services.
fn served_by_the_kernel(nodes: u8, services: Vec<Service>) -> Result<Cluster> {
    let shape = Shape { nodes, pods: 2 };
    let cluster = Cluster::prepare(&netns::next_lab(), shape, services)?;
    for node in &cluster.topology.nodes {
        translate(&cluster.topology, node)?;
    }
    for [four, six] in [DUAL, LATER] {
        let (first, last) = (0, usize::from(nodes) - 1);
        for (index, vip, node) in [(0, four, first), (1, six, last)] {
            let via = cluster.topology.nodes[node].addresses[index];
            // Before what the router learns by BGP, which would lead to both.
            let route = format!("route add {vip} via {via} metric 1");
            cluster.topology.tor.ip(&route)?;
        }
    }
    Ok(cluster)
}

/// Seconds after which the kernels of the nodes forget a UDP flow.
fn set_udp_timeouts(topology: &Topology, seconds: u32) {
    for node in &topology.nodes {
        for timeout in ["udp_timeout", "udp_timeout_stream"] {
            let path = format!("net/netfilter/nf_conntrack_{timeout}");
            node.netns.sysctl(&path, seconds).unwrap();
        }
    }
}

/// One destination in turn for each connection; those on the other node see this one as their client.
fn translate(topology: &Topology, node: &Node) -> Result<()> {
    for (index, family) in ["ip", "ip6"].into_iter().enumerate() {
        let mut chains = String::new();
        let mut choices = Vec::new();
        for (number, pod) in topology.pods().enumerate() {
            let target = SocketAddr::new(pod.addresses[index], TARGETS[0]);
            let mark = if pod.node == node.name {
                ""
            } else {
                "meta mark set 0x4000 "
            };
            let protocols = "meta l4proto { tcp, udp }";
            let _ = writeln!(
                chains,
                "chain pod{number} {{ {mark}{protocols} dnat to {target}; }}"
            );
            choices.push(format!("{number} : goto pod{number}"));
        }
        let (count, choices) = (choices.len(), choices.join(", "));
        let vips = format!("{{ {}, {} }}", DUAL[index], LATER[index]);
        let rules = format!(
            "table {family} kube-proxy {{
               {chains}
               chain choose {{ numgen inc mod {count} vmap {{ {choices} }}; }}
               chain prerouting {{
                 type nat hook prerouting priority dstnat;
                 {family} daddr {vips} tcp dport {TCP} goto choose
                 {family} daddr {vips} udp dport {UDP} goto choose
               }}
               chain postrouting {{
                 type nat hook postrouting priority srcnat;
                 meta mark 0x4000 masquerade
               }}
             }}"
        );
        node.netns.run(["nft", &rules])?;
    }
    Ok(())
}

/// What the programs of a node leave to the kernel.
#[derive(Debug)]
struct Left {
    flows: [usize; 2],
    packets: u64,
    /// Bits of `config_flags`.
    progress: u32,
    /// The kernel is said to serve the VIPs.
    is_known: bool,
}

impl Left {
    fn on(node: &Node) -> Result<Self> {
        node.netns.enter(|| {
            let pinned = |name: &str| -> Result<MapData> {
                let path = format!("/sys/fs/bpf/torline/v{ABI_VERSION}/{name}");
                MapData::from_pin(&path).with_context(|| path.clone())
            };
            let config = Map::Array(pinned(map::CONFIG)?);
            let config = Array::<_, [u8; size_of::<Config>()]>::try_from(config)?.get(&0, 0)?;
            let config = Config::read_from_bytes(&config)
                .ok()
                .context("another size")?;
            let outcomes = Map::PerCpuArray(pinned(map::OUTCOMES)?);
            let outcomes = PerCpuArray::<_, u64>::try_from(outcomes)?;
            let legacy = Counted::Legacy as u32;
            Ok(Self {
                flows: [
                    count::<{ size_of::<FlowKey4>() }>(pinned(map::LEGACY4)?)?,
                    count::<{ size_of::<FlowKey6>() }>(pinned(map::LEGACY6)?)?,
                ],
                packets: outcomes.get(&legacy, 0)?.iter().sum(),
                progress: config.flags & config_flags::PROGRESS,
                is_known: config.flags & config_flags::KERNEL_KNOWS_VIPS != 0,
            })
        })
    }
}

fn count<const K: usize>(data: MapData) -> Result<usize> {
    let hash = HashMap::<_, [u8; K], [u8; size_of::<Legacy>()]>::try_from(Map::HashMap(data))?;
    let keys: Vec<_> = hash.keys().collect::<Result<_, _>>()?;
    Ok(keys.len())
}

/// Opens connections until it is stopped, a few at a time. Of many every other one is closed, so that those kept
/// are from all of the time and descriptors last.
fn open_until(
    client: &Netns,
    target: SocketAddr,
    stop: &AtomicBool,
) -> Result<Outcome<Connection>> {
    let client = Client::new(client)?;
    let mut opened = Outcome {
        good: Vec::new(),
        bad: Vec::new(),
    };
    while !stop.load(Ordering::Relaxed) {
        let mut more = client.open(target, 5);
        opened.good.append(&mut more.good);
        opened.bad.append(&mut more.bad);
        if opened.good.len() > CONNECTIONS {
            let mut is_kept = false;
            opened.good.retain(|_| {
                is_kept = !is_kept;
                is_kept
            });
        }
    }
    Ok(opened)
}

#[test]
fn connections_that_the_kernel_serves_outlive_the_start_of_the_agent() {
    if !machine::can_test() {
        return;
    }
    let cluster = served_by_the_kernel(2, vec![service("dual", DUAL)]).unwrap();
    let topology = &cluster.topology;
    let client = Client::new(&topology.client).unwrap();
    let servers = topology
        .pods()
        .map(|pod| EchoServer::start(&pod.netns, &pod.name, &TARGETS));
    let _servers: Vec<_> = servers.collect::<Result<_>>().unwrap();
    set_udp_timeouts(topology, 300);
    let mut connections = Vec::new();
    let mut associations = Vec::new();
    for vip in DUAL {
        connections.extend(
            client
                .open(SocketAddr::new(vip, TCP), CONNECTIONS)
                .all()
                .unwrap(),
        );
        let target = SocketAddr::new(vip, UDP);
        associations.extend(client.datagrams(target, ASSOCIATIONS).all().unwrap());
    }
    let masqueraded = |c: &&Connection| !CLIENT.contains(&c.greeting.client);
    assert_eq!(connections.iter().filter(masqueraded).count(), CONNECTIONS);

    let mut agents = Vec::new();
    // Each starts while connections by its node are opened all the time.
    for (index, vip) in DUAL.into_iter().enumerate() {
        let stop = AtomicBool::new(false);
        let target = SocketAddr::new(vip, TCP);
        let (agent, meanwhile) = thread::scope(|scope| {
            let opener = scope.spawn(|| open_until(&topology.client, target, &stop));
            let agent = start_agent(&cluster, index);
            stop.store(true, Ordering::Relaxed);
            (agent, opener.join().unwrap())
        });
        agents.push(agent.unwrap());
        client
            .verify(meanwhile.unwrap().all().unwrap())
            .all()
            .unwrap();
    }
    let held: Vec<_> = topology
        .nodes
        .iter()
        .map(|node| Left::on(node).unwrap())
        .collect();
    assert!(held[0].flows[0] >= CONNECTIONS + ASSOCIATIONS, "{held:?}");
    assert!(held[1].flows[1] >= CONNECTIONS + ASSOCIATIONS, "{held:?}");

    // What was open goes on by the kernel.
    let connections = client.verify(connections).all().unwrap();
    let associations = client.ask(associations).all().unwrap();
    for (node, before) in topology.nodes.iter().zip(&held) {
        let after = Left::on(node).unwrap();
        assert_eq!(after.progress, config_flags::LEGACY, "{after:?}");
        let more = after.packets - before.packets;
        assert!(
            more >= (CONNECTIONS + ASSOCIATIONS) as u64,
            "{before:?}, {after:?}"
        );
    }

    for agent in &mut agents {
        let all = |status: &Status| {
            let mut frontends = status.frontends.iter();
            frontends.all(|f| f.backends.iter().filter(|b| b.slots > 0).count() == 4)
        };
        agent.wait_for("every pod to serve", SETTLE, all).unwrap();
    }

    // An agent that comes back goes on with what the one before left to the kernel.
    agents[0].kill().unwrap();
    agents[0] = start_agent(&cluster, 0).unwrap();
    let connections = client.verify(connections).all().unwrap();
    let again = Left::on(&topology.nodes[0]).unwrap();
    assert_eq!(again.progress, config_flags::LEGACY, "{again:?}");
    assert!(again.flows[0] >= CONNECTIONS, "{again:?}");

    // What is opened is ours: no pod sees a node as its client.
    let before = packets(&agents);
    let fresh: Vec<_> = DUAL
        .into_iter()
        .flat_map(|vip| client.open(SocketAddr::new(vip, TCP), 100).all().unwrap())
        .collect();
    assert_eq!(fresh.iter().filter(masqueraded).count(), 0);
    assert!(packets(&agents) >= before + 2 * 100 * 3);

    // The kernel forgets datagrams soon after the next ones.
    set_udp_timeouts(topology, 2);
    drop(client.ask(associations).all().unwrap());
    drop(connections);
    for node in &topology.nodes {
        wait::until("nothing to be left to the kernel", END, || {
            let left = Left::on(node)?;
            ensure!(left.flows == [0, 0] && left.progress == 0, "{left:?}");
            Ok(())
        })
        .unwrap();
    }
    client.verify(fresh).all().unwrap();
}

#[test]
fn connections_that_the_kernel_serves_outlive_frontends_that_come_after_the_agent() {
    if !machine::can_test() {
        return;
    }
    let cluster = served_by_the_kernel(1, Vec::new()).unwrap();
    let topology = &cluster.topology;
    let node = &topology.nodes[0];
    let client = Client::new(&topology.client).unwrap();
    let servers = topology
        .pods()
        .map(|pod| EchoServer::start(&pod.netns, &pod.name, &TARGETS));
    let _servers: Vec<_> = servers.collect::<Result<_>>().unwrap();
    let (source, dir) = (cluster.directory.path(), topology.dir());
    let arguments = ["--kernel-vips", "yes"];
    let mut agent = Agent::start_with(&binary().unwrap(), node, source, dir, &arguments).unwrap();
    agent
        .wait_for("an agent with nothing to serve", SETTLE, |status| {
            status.in_sync && status.frontends.is_empty()
        })
        .unwrap();
    let mut connections = Vec::new();
    for vip in [DUAL, LATER].concat() {
        let target = SocketAddr::new(vip, TCP);
        connections.extend(client.open(target, CONNECTIONS / 2).all().unwrap());
    }

    // The first frontends ever, and some beside those that are served.
    let pods: Vec<_> = topology.pods().map(|pod| (pod, Condition::Ready)).collect();
    for (count, service) in [(4, service("dual", DUAL)), (8, service("later", LATER))] {
        let stop = AtomicBool::new(false);
        let target = SocketAddr::new(service.addresses[0], TCP);
        let meanwhile = thread::scope(|scope| {
            let opener = scope.spawn(|| open_until(&topology.client, target, &stop));
            let endpoints = service.endpoints_yaml(&pods);
            let file = format!("{}-endpoints", service.name);
            cluster.directory.write(&file, &endpoints).unwrap();
            let yaml = service.yaml();
            cluster.directory.write(service.name, &yaml).unwrap();
            let served = agent.wait_for("the frontends", SETTLE, |status| {
                status.in_sync && status.frontends.len() == count
            });
            stop.store(true, Ordering::Relaxed);
            served.unwrap();
            opener.join().unwrap()
        });
        let left = Left::on(node).unwrap();
        assert_eq!(left.progress, config_flags::LEGACY, "{left:?}");
        assert!(left.flows[0] >= count / 4 * CONNECTIONS / 2, "{left:?}");
        connections = client.verify(connections).all().unwrap();
        client
            .verify(meanwhile.unwrap().all().unwrap())
            .all()
            .unwrap();
    }

    // What is opened is ours, though the other connections are still the kernel's.
    let before = packets(slice::from_ref(&agent));
    for vip in [DUAL, LATER].concat() {
        let fresh = client.open(SocketAddr::new(vip, TCP), 50).all().unwrap();
        client.verify(fresh).all().unwrap();
    }
    assert!(packets(slice::from_ref(&agent)) >= before + 4 * 50 * 3);

    drop(client.verify(connections).all().unwrap());
    wait::until("nothing to be left to the kernel", END, || {
        let left = Left::on(node)?;
        ensure!(left.flows == [0, 0] && left.progress == 0, "{left:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_kube_proxy_that_comes_later_is_found_and_nothing_is_taken_over() {
    if !machine::can_test() {
        return;
    }
    let shape = Shape { nodes: 1, pods: 1 };
    let cluster = Cluster::prepare(&netns::next_lab(), shape, vec![service("dual", DUAL)]).unwrap();
    let node = &cluster.topology.nodes[0];
    let (source, dir) = (cluster.directory.path(), cluster.topology.dir());
    let arguments = ["--kernel-vips", "auto"];
    let mut agent = Agent::start_with(&binary().unwrap(), node, source, dir, &arguments).unwrap();
    agent
        .wait_for("the agent to be in sync", SETTLE, |status| status.in_sync)
        .unwrap();
    let left = Left::on(node).unwrap();
    assert_eq!((left.progress, left.is_known), (0, false));

    node.netns
        .run(["nft", "add", "table", "ip", "kube-proxy"])
        .unwrap();
    let left = wait::until("kube-proxy to be found", END, || {
        let left = Left::on(node)?;
        ensure!(left.is_known, "{left:?}");
        Ok(left)
    })
    .unwrap();
    assert_eq!((left.progress, left.flows), (0, [0, 0]));
}

/// Starts the agent of a node and waits until it serves: the first is told that the kernel serves the VIPs,
/// the other finds out.
fn start_agent(cluster: &Cluster, index: usize) -> Result<Agent> {
    let topology = &cluster.topology;
    let node = &topology.nodes[index];
    let arguments = ["--kernel-vips", ["yes", "auto"][index]];
    let (source, dir) = (cluster.directory.path(), topology.dir());
    let mut agent = Agent::start_with(&binary()?, node, source, dir, &arguments)?;
    agent.wait_for("the agent to be in sync", SETTLE, |status| {
        status.in_sync && status.frontends.len() == 4
    })?;
    wait::until("the kernel's connections to be noted", SETTLE, || {
        let left = Left::on(node)?;
        ensure!(left.progress == config_flags::LEGACY, "{left:?}");
        Ok(())
    })?;
    Ok(agent)
}

/// Packets for all frontends, on all nodes.
fn packets(agents: &[Agent]) -> u64 {
    let statuses = agents.iter().map(|agent| agent.status().unwrap());
    statuses
        .flat_map(|status| status.frontends)
        .map(|frontend| frontend.packets)
        .sum()
}
