//! What most tests here start from: two nodes with two pods each, five
//! Services, traffic that can flow.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use harness::cluster::{Cluster, SETTLE};
use harness::machine;
use harness::netns;
use harness::source::{Port, Service};
use harness::topology::{CLIENT, Pod, Shape, Topology};
use harness::traffic::Greeting;
use harness::traffic::client::{Client, per_pod};
use harness::traffic::echo::EchoServer;

/// VIP of the Service with TCP over IPv4.
pub(crate) const V4_TCP: IpAddr = bgp4(10);
/// VIP of the Service with UDP over IPv4.
pub(crate) const V4_UDP: IpAddr = bgp4(11);
/// VIP of the Service with TCP over IPv6.
pub(crate) const V6_TCP: IpAddr = bgp6(0x12);
/// VIP of the Service with two ports.
pub(crate) const TWO_PORTS: IpAddr = bgp4(13);
/// VIPs of the Service of both families, TCP and UDP.
pub(crate) const DUAL: [IpAddr; 2] = [bgp4(14), bgp6(0x14)];
/// Ports that pods serve.
pub(crate) const TARGETS: [u16; 2] = [8080, 8443];

const HTTP: Port = Port {
    name: "http",
    protocol: "TCP",
    port: 80,
    target: TARGETS[0],
};
const HTTPS: Port = Port {
    name: "https",
    protocol: "TCP",
    port: 443,
    target: TARGETS[1],
};
const DNS: Port = Port {
    name: "dns",
    protocol: "UDP",
    port: 53,
    target: TARGETS[0],
};

/// A cluster and the servers in its pods.
pub(crate) struct Running {
    pub(crate) cluster: Cluster,
    _servers: Vec<EchoServer>,
}

/// The five Services of which each shows one thing.
pub(crate) fn five_services() -> Vec<Service> {
    let service = |name, addresses: &[IpAddr], ports: &[Port]| Service {
        name,
        addresses: addresses.to_vec(),
        ports: ports.to_vec(),
        forwarding: None,
    };
    vec![
        service("v4-tcp", &[V4_TCP], &[HTTP]),
        service("v4-udp", &[V4_UDP], &[DNS]),
        service("v6-tcp", &[V6_TCP], &[HTTP]),
        service("two-ports", &[TWO_PORTS], &[HTTP, HTTPS]),
        service("dual", &DUAL, &[HTTP, DNS]),
    ]
}

/// A Service of both families at these addresses, TCP.
pub(crate) fn web(addresses: [IpAddr; 2]) -> Vec<Service> {
    vec![Service {
        name: "web",
        addresses: addresses.to_vec(),
        ports: vec![HTTP],
        forwarding: None,
    }]
}

/// Starts the services and waits until both nodes serve them and the router knows; nothing where tests
/// cannot run.
pub(crate) fn running(services: Vec<Service>, announced: &[IpAddr]) -> Option<Running> {
    running_on(2, services, announced)
}

/// [`running`] with another number of nodes.
pub(crate) fn running_on(
    nodes: u8,
    services: Vec<Service>,
    announced: &[IpAddr],
) -> Option<Running> {
    running_after(nodes, services, announced, |_| {})
}

/// [`running_on`] with a change of the network before the first agent runs.
pub(crate) fn running_after(
    nodes: u8,
    services: Vec<Service>,
    announced: &[IpAddr],
    change: impl FnOnce(&Topology),
) -> Option<Running> {
    if !machine::can_test() {
        return None;
    }
    let lab = netns::next_lab();
    let mut cluster = Cluster::prepare(&lab, Shape { nodes, pods: 2 }, services).unwrap();
    change(&cluster.topology);
    for _ in 0..nodes {
        cluster.start_agent().unwrap();
    }
    let pods = cluster.topology.pods();
    let serve = |pod: &Pod| EchoServer::start(&pod.netns, &pod.name, &TARGETS);
    let servers = pods.map(serve).collect::<Result<_, _>>().unwrap();
    cluster.wait_ready().unwrap();
    for vip in announced {
        let all: Vec<_> = (0..usize::from(nodes)).collect();
        cluster.wait_route(*vip, &all, SETTLE).unwrap();
    }
    Some(Running {
        cluster,
        _servers: servers,
    })
}

impl Running {
    /// A client behind the router.
    pub(crate) fn client(&self) -> Client<'_> {
        Client::new(&self.cluster.topology.client).unwrap()
    }

    /// Opens 200 connections and asserts that all pods, on both nodes, took part and saw the client.
    pub(crate) fn assert_tcp(&self, vip: IpAddr, port: u16) {
        let connections = self
            .client()
            .open(SocketAddr::new(vip, port), 200)
            .all()
            .unwrap();
        assert_spread(connections.iter().map(|connection| &connection.greeting));
        assert_eq!(self.client().verify(connections).all().unwrap().len(), 200);
    }

    /// Sends 200 datagrams and asserts the same.
    pub(crate) fn assert_udp(&self, vip: IpAddr, port: u16) {
        let associations = self
            .client()
            .datagrams(SocketAddr::new(vip, port), 200)
            .all()
            .unwrap();
        assert_spread(associations.iter().map(|association| &association.greeting));
    }
}

fn assert_spread<'a>(greetings: impl IntoIterator<Item = &'a Greeting>) {
    let greetings: Vec<_> = greetings.into_iter().collect();
    let pods = per_pod(greetings.iter().copied());
    assert_eq!(pods.len(), 4, "{pods:?}");
    assert!(
        greetings
            .iter()
            .all(|greeting| CLIENT.contains(&greeting.client)),
        "{greetings:?}"
    );
}

/// A limit for what happens at once or never.
pub(crate) const SOON: Duration = Duration::from_secs(1);

pub(crate) const fn bgp4(host: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, host))
}

pub(crate) const fn bgp6(host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, host))
}
