//! Floods of spoofed packets: what is open stays open, what is new gets
//! through.

mod generator;

use std::io::Write as _;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use harness::source::{Port, Service};
use harness::topology::Topology;
use harness::traffic::client::{Client, Connection};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use self::generator::{Flood, Kind, SPOOFED};
use crate::fixture::{DUAL, Running, TARGETS, running};

const TCP: u16 = 80;
const UDP: u16 = 53;
/// UDP too, but of another socket in the pods, so that floods of datagrams leave room in the one that is asked.
const FLOODED: u16 = 514;

/// For what has to succeed, on a machine that has little left for it.
const LIMIT: Duration = Duration::from_secs(20);
/// For what need not: the flood goes on as long as one is waited for.
const SHORT: Duration = Duration::from_secs(2);

/// Connections and UDP flows opened at a time while the flood goes on.
const MORE: usize = 5;
/// Connections and UDP flows opened after it.
const AFTER: usize = 50;

fn service() -> Service {
    let port = |name, protocol, port, target| Port {
        name,
        protocol,
        port,
        target: TARGETS[target],
    };
    Service {
        name: "dual",
        addresses: DUAL.to_vec(),
        ports: vec![
            port("http", "TCP", TCP, 0),
            port("dns", "UDP", UDP, 0),
            port("syslog", "UDP", FLOODED, 1),
        ],
        forwarding: None,
    }
}

/// Lets the router take spoofed sources for the client's.
fn let_in(topology: &Topology) {
    let via = ["198.51.100.7", "2001:db8:51::7"];
    for (network, via) in SPOOFED.into_iter().zip(via) {
        let route = format!("route add {network} via {via}");
        topology.tor.ip(&route).unwrap();
    }
}

/// Floods both families with each kind of packet, and asserts after each that nothing broke.
fn withstands(connections: usize, duration: Duration) {
    let Some(lab) = running(vec![service()], &DUAL) else {
        return;
    };
    let topology = &lab.cluster.topology;
    let_in(topology);
    // Connections during the flood are closed at once; ten seconds of them would use up the ports.
    let reuse = "net/ipv4/tcp_tw_reuse";
    topology.client.sysctl(reuse, 1).unwrap();
    let mut client = Client::new(&topology.client).unwrap();
    client.limit = LIMIT;
    let open = |vip| {
        client
            .open(SocketAddr::new(vip, TCP), connections / 2)
            .all()
    };
    let mut open: Vec<_> = DUAL
        .into_iter()
        .flat_map(|vip| open(vip).unwrap())
        .collect();
    let ask = |vip| client.datagrams(SocketAddr::new(vip, UDP), AFTER).all();
    let mut asked: Vec<_> = DUAL.into_iter().flat_map(|vip| ask(vip).unwrap()).collect();
    for kind in Kind::ALL {
        for vip in DUAL {
            let port = if kind == Kind::Udp { FLOODED } else { TCP };
            let target = SocketAddr::new(vip, port);
            let node = &topology.nodes[usize::from(vip.is_ipv6())];
            let flood = Flood::start(topology, node, kind, target).unwrap();
            client.limit = SHORT;
            let start = Instant::now();
            let (mut tcp, mut udp) = ([0; 2], [0; 2]);
            while start.elapsed() < duration {
                let outcome = client.open(SocketAddr::new(vip, TCP), MORE);
                tcp = [tcp[0] + outcome.good.len(), tcp[1] + outcome.bad.len()];
                let outcome = client.datagrams(SocketAddr::new(vip, UDP), MORE);
                udp = [udp[0] + outcome.good.len(), udp[1] + outcome.bad.len()];
            }
            let (sent, took) = (flood.end().unwrap(), start.elapsed());
            client.limit = LIMIT;
            open = client.verify(open).all().unwrap();
            asked = client.ask(asked).all().unwrap();
            assert!(tcp[0] > 0 && udp[0] > 0, "{kind:?}: {tcp:?} {udp:?}");
            let after: Vec<Connection> =
                client.open(SocketAddr::new(vip, TCP), AFTER).all().unwrap();
            client.verify(after).all().unwrap();
            let after = client.datagrams(SocketAddr::new(vip, UDP), AFTER).all();
            client.ask(after.unwrap()).all().unwrap();
            report(&lab, kind, target, sent, took, [tcp, udp]);
        }
    }
}

/// Says what the flood was like. Not `println`: the test runner would swallow it.
fn report(
    lab: &Running,
    kind: Kind,
    target: SocketAddr,
    sent: u64,
    took: Duration,
    [tcp, udp]: [[usize; 2]; 2],
) {
    let rate = sent as f64 / took.as_secs_f64() / 1e3;
    let mut text = format!(
        "{kind:?} to {target}: {sent} packets, {rate:.0} k/s; meanwhile {} connections opened, {} not, \
         {} UDP flows answered, {} not;",
        tcp[0], tcp[1], udp[0], udp[1]
    );
    for agent in &lab.cluster.agents {
        text += &format!(" dropped so far {:?}", agent.status().unwrap().drops);
    }
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[test]
fn a_thousand_connections_outlive_floods_of_spoofed_packets() {
    withstands(1_000, Duration::from_secs(2));
}

#[test]
#[ignore = "takes minutes: the long form"]
fn ten_thousand_connections_outlive_ten_seconds_of_each_flood() {
    // Client and pods are of this process: two files for each connection, and some more.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    let connections = (hard.saturating_sub(1_024) / 2).min(10_000);
    withstands(connections as usize, Duration::from_secs(10));
}
