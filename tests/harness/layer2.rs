//! A segment on which nodes answer ARP and NDP for the VIPs of a Service, with
//! a client on it, and ways to take the leader away.
//!
//! The bridge snoops MLD and asks who listens, as a managed switch does: neighbour solicitations reach only ports
//! behind which somebody has joined their group.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::cluster::{Cluster, SETTLE};
use crate::netns::{self, Netns};
use crate::source::{Port, Service};
use crate::topology::{Node, Shape};
use crate::traffic::client::{Client, Connection, Probe};
use crate::traffic::echo::EchoServer;
use crate::traffic::ping::{Pinged, Pinger};
use crate::wait;

/// The VIPs of the one Service: v4, v6.
pub const VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x200)),
];

const PORT: Port = Port {
    name: "http",
    protocol: "TCP",
    port: 80,
    target: 8080,
};

/// Time between two echo requests.
const PING: Duration = Duration::from_millis(5);

/// How the leader is taken away.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Mechanism {
    /// All of it falls silent at once; the link stays up.
    Killed,
    /// The switch's port goes down.
    Link,
    /// Its Node is annotated.
    Drain,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Killed, Self::Link, Self::Drain];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::Link => "link",
            Self::Drain => "drain",
        }
    }
}

/// What clients saw of it, in one round.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Of echo requests to each VIP.
    pub pings: [Pinged; 2],
    /// How long after the event the last new connection to each VIP began that failed.
    pub new: [Duration; 2],
    /// Connections to pods of other nodes.
    pub connections: usize,
    /// Those of them that did not go on.
    pub broken: usize,
    /// Why the first of them did not.
    pub why: Option<String>,
}

/// The running segment.
#[derive(Debug)]
pub struct Segment {
    /// The cluster.
    pub cluster: Cluster,
    _servers: Vec<EchoServer>,
}

impl Segment {
    /// Starts nodes with two pods each and waits until one leads.
    ///
    /// # Errors
    /// When this machine cannot do it.
    pub fn start(nodes: u8) -> Result<Self> {
        let service = Service {
            name: "web",
            addresses: VIPS.to_vec(),
            ports: vec![PORT],
            forwarding: None,
        };
        let shape = Shape { nodes, pods: 2 };
        let mut cluster = Cluster::prepare(&netns::next_lab(), shape, vec![service])?;
        snoop(&cluster.topology.tor)?;
        for _ in 0..nodes {
            cluster.start_agent()?;
        }
        let pods = cluster.topology.pods();
        let serve = |pod: &_| serve(pod);
        let servers = pods.map(serve).collect::<Result<_>>()?;
        // Several agents that load their programs at once take their time on a small machine.
        wait::until("the agents to be ready", SETTLE * 8, || {
            cluster.wait_ready()
        })?;
        let segment = Self {
            cluster,
            _servers: servers,
        };
        segment.settled(&segment.names())?;
        Ok(segment)
    }

    /// Names of all nodes.
    pub fn names(&self) -> BTreeSet<&str> {
        let nodes = self.cluster.topology.nodes.iter();
        nodes.map(|node| node.name.as_str()).collect()
    }

    /// Waits until these nodes agree on a leader among them and clients on the segment have learnt its MAC;
    /// returns its name.
    ///
    /// # Errors
    /// When that takes longer than [`SETTLE`].
    pub fn settled(&self, nodes: &BTreeSet<&str>) -> Result<String> {
        wait::until("one leader", SETTLE, || {
            let leaders = self.leaders(nodes)?;
            let mut each = leaders.iter();
            let leader = each.next().context("no leader")?;
            ensure!(
                each.next().is_none() && nodes.contains(leader.as_str()),
                "{leaders:?} lead"
            );
            let mac = mac(self.cluster.topology.node(leader)?)?;
            for vip in VIPS {
                let known = self.neighbor(vip)?;
                ensure!(
                    known.as_ref() == Some(&mac),
                    "{vip} is at {known:?}, {leader} at {mac}"
                );
            }
            Ok(leader.clone())
        })
    }

    /// Who leads, in the eyes of these nodes.
    fn leaders(&self, nodes: &BTreeSet<&str>) -> Result<BTreeSet<String>> {
        let topology = self.cluster.topology.nodes.iter();
        let running = topology.zip(&self.cluster.agents);
        let asked = running.filter(|(node, _)| nodes.contains(node.name.as_str()));
        let leaders = asked.map(|(_, agent)| {
            let status = agent.status()?;
            let service = status.services.first().context("no Service")?;
            service.l2_leader.clone().context("no leader")
        });
        leaders.collect()
    }

    /// The MAC that the host on the segment has for a VIP; it is asked for if the host has none.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn neighbor(&self, vip: IpAddr) -> Result<Option<String>> {
        let host = &self.cluster.topology.host;
        let text = host.run(["ip", "neigh", "show", &vip.to_string()])?;
        let mut words = text.split_whitespace().skip_while(|word| *word != "lladdr");
        let known = words.nth(1).map(str::to_owned);
        if known.is_none() {
            let socket = host.enter(|| std::net::UdpSocket::bind(any(vip)))?;
            let _ = socket.send_to(b"?", SocketAddr::new(vip, 9));
        }
        Ok(known)
    }

    /// Takes the leader away, brings it back, and says what clients on the segment saw meanwhile.
    ///
    /// # Errors
    /// When the others do not take over, or it does not come back.
    pub fn round(&mut self, mechanism: Mechanism, connections: usize) -> Result<Seen> {
        let all: BTreeSet<String> = self.names().into_iter().map(str::to_owned).collect();
        let all: BTreeSet<&str> = all.iter().map(String::as_str).collect();
        let leader = self.settled(&all)?;
        let open = self.open(connections)?;
        let host = &self.cluster.topology.host;
        let pingers = VIPS.map(|vip| Pinger::start(host, vip, PING));
        let [v4, v6] = pingers;
        let pingers = [v4?, v6?];
        let probe = |vip| {
            let (interval, limit) = (Duration::from_millis(20), Duration::from_millis(500));
            Client::probe(host, SocketAddr::new(vip, PORT.port), interval, limit)
        };
        let probes = [probe(VIPS[0])?, probe(VIPS[1])?];
        wait::until("answers", SETTLE, || {
            let answered = pingers.iter().all(|pinger| pinger.last_answer().is_some());
            answered.then_some(()).context("none")
        })?;

        let event = Instant::now();
        self.take(mechanism, &leader)?;
        let rest: BTreeSet<&str> = all.iter().copied().filter(|name| *name != leader).collect();
        let recovered = self.settled(&rest).and_then(|_| {
            let of = |probe: &Probe| {
                wait::until("new connections to succeed", SETTLE, || {
                    probe.recovery(event)
                })
            };
            Ok([of(&probes[0])?, of(&probes[1])?].map(Option::unwrap_or_default))
        });
        let [v4, v6] = pingers.map(|pinger| pinger.end(Duration::from_secs(1)));
        drop(probes);
        let kept: Vec<_> = open
            .into_iter()
            .filter(|connection| {
                mechanism == Mechanism::Drain || !self.is_of(&leader, &connection.greeting.pod)
            })
            .collect();
        let count = kept.len();
        let outcome = self.client()?.verify(kept);
        self.give_back(mechanism, &leader)?;
        wait::until("the first leader to lead again", SETTLE, || {
            let now = self.settled(&all)?;
            ensure!(now == leader, "{now} leads");
            Ok(())
        })?;
        Ok(Seen {
            pings: [v4?, v6?],
            new: recovered?,
            connections: count,
            broken: outcome.bad.len(),
            why: outcome.bad.first().map(|error| format!("{error:#}")),
        })
    }

    /// Whether a pod runs on a node.
    fn is_of(&self, node: &str, pod: &str) -> bool {
        let mut pods = self.cluster.topology.pods();
        pods.any(|candidate| candidate.name == pod && candidate.node == node)
    }

    fn client(&self) -> Result<Client<'_>> {
        let mut client = Client::new(&self.cluster.topology.host)?;
        client.limit = Duration::from_secs(10);
        Ok(client)
    }

    fn open(&self, count: usize) -> Result<Vec<Connection>> {
        let mut all = Vec::new();
        for vip in VIPS {
            let target = SocketAddr::new(vip, PORT.port);
            all.extend(self.client()?.open(target, count / VIPS.len()).all()?);
        }
        Ok(all)
    }

    /// Takes a node away.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn take(&self, mechanism: Mechanism, name: &str) -> Result<()> {
        let topology = &self.cluster.topology;
        match mechanism {
            Mechanism::Killed => topology.cut_off(topology.node(name)?),
            Mechanism::Link => topology.tor.ip(&format!("link set {name} down")),
            Mechanism::Drain => self.annotate(Some(name)),
        }
    }

    /// Undoes [`Self::take`].
    ///
    /// # Errors
    /// When the system refuses.
    pub fn give_back(&self, mechanism: Mechanism, name: &str) -> Result<()> {
        let topology = &self.cluster.topology;
        match mechanism {
            Mechanism::Killed => topology.reconnect(topology.node(name)?),
            Mechanism::Link => topology.tor.ip(&format!("link set {name} up")),
            Mechanism::Drain => self.annotate(None),
        }
    }

    /// Writes the Node objects, of which one is to be drained.
    fn annotate(&self, drained: Option<&str>) -> Result<()> {
        let yaml = crate::source::nodes_yaml(&self.cluster.topology.nodes);
        let yaml = drained.map_or(yaml.clone(), |name| {
            let line = format!("  name: {name}\n");
            let annotations = "  annotations: {torline.io/drain: \"true\"}\n";
            yaml.replace(&line, &format!("{line}{annotations}"))
        });
        self.cluster.directory.write("nodes", &yaml)
    }
}

/// Lets the bridge forward multicast only where it is wanted. It asks every second, so that it need not ask for
/// minutes before it knows.
fn snoop(tor: &Netns) -> Result<()> {
    tor.ip(
        "link set br0 type bridge mcast_snooping 1 mcast_querier 1 mcast_query_interval 100 \
         mcast_query_response_interval 50 mcast_startup_query_interval 50 mcast_startup_query_count 4",
    )
}

fn serve(pod: &crate::topology::Pod) -> Result<EchoServer> {
    EchoServer::start(&pod.netns, &pod.name, &[PORT.target])
}

/// The MAC of a node's compute port.
///
/// # Errors
/// When it has none.
pub fn mac(node: &Node) -> Result<String> {
    let text = node.netns.run(["cat", "/sys/class/net/eth0/address"])?;
    Ok(text.trim().to_owned())
}

const fn any(of: IpAddr) -> SocketAddr {
    match of {
        IpAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        IpAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}
