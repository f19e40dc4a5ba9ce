//! The laboratory itself: what every other test here relies on.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::ensure;
use harness::asker::Asker;
use harness::layer2::VIPS;
use harness::machine;
use harness::netns;
use harness::netns::Netns;
use harness::peer::bird::{Bird, NODE_ASN, Neighbor, TOR_ASN, tor_config};
use harness::topology::{CLIENT, Pod, Shape, Topology};
use harness::traffic::client::{Client, per_pod};
use harness::traffic::echo::EchoServer;
use harness::traffic::ping::ping;
use harness::wait;
use harness::witness::{Witness, turns};

#[test]
fn a_namespace_has_its_own_interfaces_and_its_own_sys() {
    if !machine::can_test() {
        return;
    }
    let netns = Netns::new("own").unwrap();
    netns.ip("link add here type veth peer name there").unwrap();
    let mut links = netns.enter(|| {
        let entries = fs::read_dir("/sys/class/net").unwrap();
        entries
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect::<Vec<_>>()
    });
    links.sort();
    assert_eq!(links, ["here", "lo", "there"]);
    assert!(!fs::exists("/sys/class/net/here").unwrap());
}

#[test]
fn a_namespace_is_gone_with_its_processes_after_a_panic() {
    if !machine::can_test() {
        return;
    }
    let netns = Netns::new("panic").unwrap();
    let name = netns.name().to_owned();
    let mut child = netns.start(Command::new("sleep").arg("60")).unwrap();
    let outcome = std::thread::spawn(move || {
        let _netns = netns;
        panic!("as a failing test would");
    });
    assert!(outcome.join().is_err());
    assert!(!fs::exists(format!("/run/netns/{name}")).unwrap());
    assert!(!child.wait().unwrap().success());
}

#[test]
fn a_command_that_fails_says_what_it_said() {
    if !machine::can_test() {
        return;
    }
    let netns = Netns::new("fail").unwrap();
    let error = netns
        .run(["ip", "link", "set", "nowhere", "up"])
        .unwrap_err();
    assert!(
        format!("{error:#}").contains("Cannot find device"),
        "{error:#}"
    );
}

#[test]
fn a_client_reaches_every_pod_and_a_node_cut_off_is_cut_off() {
    if !machine::can_test() {
        return;
    }
    let shape = Shape { nodes: 2, pods: 2 };
    let topology = Topology::new(&netns::next_lab(), shape).unwrap();
    for node in &topology.nodes {
        let number = node.number;
        let [via4, via6] = node.addresses;
        let routes = format!(
            "route add 10.{number}.0.0/24 via {via4}\nroute add fd00:{number}::/64 via {via6}"
        );
        topology.tor.ip(&routes).unwrap();
    }
    for pod in topology.pods() {
        for address in pod.addresses {
            assert!(
                reaches(&topology.client, address),
                "{} at {address}",
                pod.name
            );
        }
    }
    let node = topology.node("node-a").unwrap();
    topology.cut_off(node).unwrap();
    assert!(!reaches(&topology.client, node.addresses[0]));
    assert!(reaches(&topology.client, topology.nodes[1].addresses[0]));
    topology.reconnect(node).unwrap();
    assert!(reaches(&topology.client, node.addresses[1]));
}

fn reaches(from: &Netns, address: IpAddr) -> bool {
    ping(from, address, b"laboratory", Duration::from_secs(1)).is_ok()
}

#[test]
fn a_thousand_connections_are_opened_kept_and_counted() {
    if !machine::can_test() {
        return;
    }
    let netns = Netns::new("echo").unwrap();
    let _server = EchoServer::start(&netns, "pod", &[80]).unwrap();
    let client = Client::new(&netns).unwrap();
    let start = Instant::now();
    for target in ["127.0.0.1:80", "[::1]:80"] {
        let target: SocketAddr = target.parse().unwrap();
        let connections = client.open(target, 1000).all().unwrap();
        let greetings = connections.iter().map(|connection| &connection.greeting);
        assert_eq!(
            per_pod(greetings),
            BTreeMap::from([("pod".to_owned(), 1000)])
        );
        assert!(
            connections
                .iter()
                .all(|connection| connection.greeting.client == target.ip())
        );
        assert_eq!(client.verify(connections).all().unwrap().len(), 1000);
        assert_eq!(client.datagrams(target, 10).all().unwrap().len(), 10);
        client.transfer(target, 10 << 20).unwrap();
    }
    assert!(
        start.elapsed() < Duration::from_secs(6),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn a_connection_whose_server_is_gone_is_counted_as_broken() {
    if !machine::can_test() {
        return;
    }
    let netns = Netns::new("gone").unwrap();
    let server = EchoServer::start(&netns, "pod", &[80]).unwrap();
    let client = Client::new(&netns).unwrap();
    let connections = client
        .open("127.0.0.1:80".parse().unwrap(), 3)
        .all()
        .unwrap();
    drop(server);
    let outcome = client.verify(connections);
    assert_eq!((outcome.good.len(), outcome.bad.len()), (0, 3));
}

#[test]
fn a_witness_hears_what_was_said_just_before_its_end() {
    if !machine::can_test() {
        return;
    }
    let shape = Shape { nodes: 2, pods: 1 };
    let topology = Topology::new(&netns::next_lab(), shape).unwrap();
    let witness = Witness::watch(&topology, "witness").unwrap();
    let mut said = Vec::new();
    for node in &topology.nodes {
        let vip = VIPS[0];
        // Who asks for its own address announces it.
        let asker = Asker::start(
            &node.netns,
            [vip, VIPS[1]],
            &[vip],
            Duration::from_millis(1),
        );
        drop(asker.unwrap());
        said.push(node.name.as_str());
    }
    let words = witness.end(&topology).unwrap();
    assert_eq!(turns(&words, VIPS[0]), said);
}

#[test]
fn a_router_spreads_over_the_nodes_that_announce_an_address() {
    if !machine::can_test() {
        return;
    }
    let shape = Shape { nodes: 2, pods: 2 };
    let topology = Topology::new(&netns::next_lab(), shape).unwrap();
    let serve = |pod: &Pod| EchoServer::start(&pod.netns, &pod.name, &[80]).unwrap();
    let _servers: Vec<_> = topology.pods().map(serve).collect();
    let neighbors = topology.neighbors();
    let config = tor_config("192.0.2.1", &neighbors);
    let router = Bird::start(&topology.tor, topology.dir(), &config).unwrap();
    // The kernel's own translation stands in for the agent.
    let _speakers: Vec<_> = topology
        .nodes
        .iter()
        .zip(neighbors.chunks(2))
        .map(|(node, neighbors)| {
            let pods: Vec<_> = node
                .pods
                .iter()
                .map(|pod| pod.addresses[0].to_string())
                .collect();
            let rules = format!(
                "table ip nat {{ chain in {{ type nat hook prerouting priority -100;
                   ip daddr {VIP} dnat to numgen inc mod 2 map {{ 0: {}, 1: {} }}
                 }}
                 }}",
                pods[0], pods[1]
            );
            node.netns.run(["nft", &rules]).unwrap();
            let dir = topology.dir().join(&node.name);
            fs::create_dir(&dir).unwrap();
            Bird::start(&node.netns, &dir, &speaker_config(neighbors)).unwrap()
        })
        .collect();
    let both: Vec<_> = topology
        .nodes
        .iter()
        .map(|node| node.addresses[0])
        .collect();
    wait::until("both next hops", Duration::from_secs(10), || {
        let hops = topology.next_hops(VIP)?;
        ensure!(hops == both, "{hops:?}, {:?}", router.sessions()?);
        Ok(())
    })
    .unwrap();
    let client = Client::new(&topology.client).unwrap();
    let connections = client.open((VIP, 80).into(), 400).all().unwrap();
    let pods = per_pod(connections.iter().map(|connection| &connection.greeting));
    assert!(
        pods.len() == 4 && pods.values().all(|count| *count > 50),
        "{pods:?}"
    );
    assert!(
        connections
            .iter()
            .all(|connection| connection.greeting.client == CLIENT[0])
    );
    client.transfer((VIP, 80).into(), 10 << 20).unwrap();
}

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));

/// A node's BIRD that announces [`VIP`] over its IPv4 session.
fn speaker_config(neighbors: &[Neighbor]) -> String {
    let Neighbor { local, remote, .. } = &neighbors[0];
    format!(
        "router id {remote};
protocol device {{}}
protocol static {{ ipv4; route {VIP}/32 blackhole; }}
protocol bgp tor {{
  local {remote} as {NODE_ASN};
  neighbor {local} as {TOR_ASN};
  connect delay time 1;
  ipv4 {{ import none; export all; next hop self; }};
}}
"
    )
}
