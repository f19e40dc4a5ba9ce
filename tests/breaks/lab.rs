//! A cluster with many connections, before and after a change.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, mem};

use anyhow::{Context, Result};
use harness::cluster::{Cluster, SETTLE};
use harness::hops::{Hops, Seen};
use harness::peer::bird::HOLD_TIME;
use harness::process::Process;
use harness::source::{Condition, Policy, Port, Service};
use harness::tables::Tables;
use harness::topology::{Pod, Shape};
use harness::traffic::client::{Association, Client, Connection, Probe};
use harness::wait;
use lb_common::outcome::Outcome;

use crate::tally::{Need, Step, Tally};

/// Nodes of every laboratory here.
pub(crate) const NODES: u8 = 3;
/// The VIPs of the one Service: v4, v6.
pub(crate) const VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10)),
];
pub(crate) const PORT: Port = Port {
    name: "http",
    protocol: "TCP",
    port: 80,
    target: 8080,
};
const UDP_PORT: Port = Port {
    name: "dns",
    protocol: "UDP",
    port: 53,
    target: PORT.target,
};
/// One UDP flow for so many connections.
const UDP_SHARE: usize = 10;
/// Client addresses of each family that connections are opened from, in turn.
const SOURCES: u16 = 4;
/// The first port they use; below the ephemeral ones, which the probes have.
const FIRST_PORT: u16 = 1024;
/// How long a connection may be silent: what is lost is sent again after 0.2, 0.6, 1.4, 3 and 6.2 s.
const SILENCE: Duration = Duration::from_secs(10);

/// How packets get to a node that is not the first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    /// With other MACs.
    L2,
    /// In a tunnel.
    Geneve,
}

impl Mode {
    pub(crate) const ALL: [Self; 2] = [Self::L2, Self::Geneve];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::L2 => "l2",
            Self::Geneve => "geneve",
        }
    }
}

/// The cluster, its servers and its connections.
pub(crate) struct Lab {
    pub(crate) cluster: Cluster,
    servers: BTreeMap<String, Process>,
    families: Vec<Family>,
    /// Where the router sent each connection first.
    first: BTreeMap<SocketAddr, String>,
    opened: u16,
}

/// The connections of one family.
struct Family {
    vip: IpAddr,
    connections: Vec<Connection>,
    associations: Vec<Association>,
    tally: Tally,
}

impl Family {
    fn new(vip: IpAddr) -> Self {
        let tally = Tally::new(family(&vip));
        Self {
            vip,
            connections: Vec::new(),
            associations: Vec::new(),
            tally,
        }
    }

    const fn target(&self) -> SocketAddr {
        SocketAddr::new(self.vip, PORT.port)
    }

    const fn udp_target(&self) -> SocketAddr {
        SocketAddr::new(self.vip, UDP_PORT.port)
    }
}

impl Lab {
    /// Builds the network, for connections to these VIPs, with `pods` on all nodes but the last `empty`; no
    /// agent runs yet.
    pub(crate) fn build(
        lab: &str,
        mode: Mode,
        policy: Policy,
        vips: &[IpAddr],
        pods: usize,
        empty: usize,
    ) -> Result<Self> {
        say("build");
        let service = Service {
            name: "web",
            addresses: VIPS.to_vec(),
            ports: vec![PORT, UDP_PORT],
            forwarding: Some(mode.name()),
        };
        let shape = Shape {
            nodes: NODES,
            pods: 0,
        };
        let mut cluster = Cluster::prepare(lab, shape, vec![service])?;
        cluster.set_policy(policy)?;
        for number in 0..SOURCES {
            cluster.topology.client.ip(&format!(
                "addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad",
                source(VIPS[0], number),
                source(VIPS[1], number)
            ))?;
        }
        let mut lab = Self {
            cluster,
            servers: BTreeMap::new(),
            families: vips.iter().copied().map(Family::new).collect(),
            first: BTreeMap::new(),
            opened: 0,
        };
        let hosts = usize::from(NODES) - empty;
        for pod in 0..pods {
            lab.add_pod(pod % hosts)?;
        }
        Ok(lab)
    }

    /// Starts the agents of this many nodes and waits until they serve all pods and the router knows.
    pub(crate) fn start(&mut self, agents: usize) -> Result<()> {
        say("start");
        for _ in 0..agents {
            self.cluster.start_agent()?;
        }
        self.expect(|_| Condition::Ready)?;
        self.wait_routes()
    }

    /// Adds a pod, of which the source knows nothing yet, to a node given by index; returns its name.
    pub(crate) fn add_pod(&mut self, node: usize) -> Result<String> {
        let topology = &mut self.cluster.topology;
        let log = topology.dir().join("pods.log");
        let pod = topology.add_pod(node)?;
        // A process of its own: nobody has so many files that both ends fit into one.
        let mut command = Command::new(env::current_exe()?);
        command.args(["--serve", &pod.name]);
        let server = Process::start(&pod.netns, &mut command, &log)?;
        self.servers.insert(pod.name.clone(), server);
        Ok(pod.name.clone())
    }

    /// Ends pods, with their connections.
    pub(crate) fn remove_pods(&mut self, names: &BTreeSet<String>) -> Result<()> {
        self.forget(names);
        for name in names {
            self.servers.remove(name);
            self.cluster.topology.remove_pod(name)?;
        }
        Ok(())
    }

    /// Closes the connections of pods.
    pub(crate) fn forget(&mut self, pods: &BTreeSet<String>) {
        for family in &mut self.families {
            let lives = |connection: &Connection| !pods.contains(&connection.greeting.pod);
            family.connections.retain(lives);
            family
                .associations
                .retain(|association| !pods.contains(&association.greeting.pod));
        }
    }

    /// Writes what the source says of each pod and waits until every agent gives new connections to those
    /// that are ready.
    pub(crate) fn expect(&mut self, condition: impl Fn(&Pod) -> Condition) -> Result<()> {
        self.cluster.write_endpoints(&condition)?;
        self.cluster
            .wait_serving(|pod| condition(pod) == Condition::Ready)
    }

    /// Waits until the router leads both VIPs to all nodes that have had an agent.
    pub(crate) fn wait_routes(&self) -> Result<()> {
        self.wait_routes_by(&(0..self.cluster.agents.len()).collect::<Vec<_>>())
    }

    /// Waits until the router leads both VIPs to exactly the nodes of these indexes.
    pub(crate) fn wait_routes_by(&self, nodes: &[usize]) -> Result<()> {
        for vip in VIPS {
            self.cluster.wait_route(vip, nodes, SETTLE)?;
        }
        Ok(())
    }

    /// Opens this many more connections of each family.
    pub(crate) fn open(&mut self, count: usize) -> Result<()> {
        say(&format!("open {count} of each family"));
        let topology = &self.cluster.topology;
        let (hops, client) = (Hops::watch(topology)?, patient(&self.cluster)?);
        let numbers = self.opened..self.opened + u16::try_from(count)?;
        self.opened = numbers.end;
        for family in &mut self.families {
            let vip = family.vip;
            let sources = numbers
                .clone()
                .map(|number| SocketAddr::new(source(vip, number), FIRST_PORT + number / SOURCES));
            let open = client.open_from(sources, family.target()).all()?;
            family.tally.connections += open.len();
            family.connections.extend(open);
            let flows = client.datagrams(family.udp_target(), count / UDP_SHARE);
            family.tally.udp_flows += flows.good.len();
            family.associations.extend(flows.good);
        }
        self.first.extend(hops.end()?.first);
        Ok(())
    }

    /// Makes a change on the way to those that the event is about: only what breaks counts.
    pub(crate) fn prepare(
        &mut self,
        what: &str,
        act: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.act(what, None, act)
    }

    /// Makes a change that the event is about and finds out what became of the connections.
    pub(crate) fn change(
        &mut self,
        what: &str,
        needs: &[Need],
        act: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        self.act(what, Some(needs), act)
    }

    fn act(
        &mut self,
        what: &str,
        needs: Option<&[Need]>,
        act: impl FnOnce(&mut Self) -> Result<()>,
    ) -> Result<()> {
        say(what);
        let pushed = self.pushed()?;
        let probes = self.probes()?;
        let event = Instant::now();
        act(self).with_context(|| what.to_owned())?;
        let limit = HOLD_TIME + SETTLE;
        for (probe, Family { tally, .. }) in probes.iter().zip(&mut self.families) {
            let found = wait::until("new connections to succeed", limit, || {
                probe.recovery(event)
            });
            let recovery = found.unwrap_or_else(|error| {
                tally.why.get_or_insert(format!("{error:#}"));
                Some(event.elapsed())
            });
            tally.recovery = tally.recovery.max(recovery.unwrap_or_default());
        }
        drop(probes);
        // An agent that was killed meanwhile counts anew.
        let pushed = self.pushed()?.saturating_sub(pushed);
        for (index, step) in self.verify()?.into_iter().enumerate() {
            if let Some(needs) = needs {
                let step = Step { pushed, ..step };
                self.families[index].tally.add(what, needs, step);
            }
        }
        Ok(())
    }

    /// What became of them all.
    pub(crate) fn finish(self) -> Vec<Tally> {
        let families = self.families.into_iter();
        families.map(|family| family.tally).collect()
    }

    /// Sends something over every connection; what happened to those of each family.
    fn verify(&mut self) -> Result<Vec<Step>> {
        say("verify");
        let mut steps = Vec::new();
        for index in 0..self.families.len() {
            let connections = mem::take(&mut self.families[index].connections);
            let (chained, located) = (self.chained()?, self.located()?);
            let hops = Hops::watch(&self.cluster.topology)?;
            let ends = connections.iter();
            let ends: Vec<_> = ends
                .map(|open| (open.local, open.greeting.pod.clone()))
                .collect();
            let outcome = patient(&self.cluster)?.verify(connections);
            let seen = hops.end()?;
            let mut step = Step {
                chained: self.chained()? - chained,
                located: self.located()? - located,
                tunnelled: seen.tunnelled,
                ..Step::default()
            };
            let target = self.families[index].target();
            self.look_up(&ends, target, &seen, &mut step)?;
            for (local, _) in ends {
                let Some(now) = seen.first.get(&local) else {
                    continue;
                };
                if self.first.insert(local, now.clone()).as_ref() != Some(now) {
                    step.by_hop.insert(local);
                }
            }
            steps.push(step);
            let Family {
                connections,
                associations,
                tally,
                ..
            } = &mut self.families[index];
            tally.broken += outcome.bad.len();
            if let Some(error) = outcome.bad.first() {
                tally.why.get_or_insert(format!("{error:#}"));
            }
            *connections = outcome.good;
            let flows = patient(&self.cluster)?.ask(mem::take(associations));
            tally.udp_strayed += flows.bad.len();
            *associations = flows.good;
        }
        Ok(steps)
    }

    /// Finds the connections whose slot names another pod than theirs, or none on the node of theirs, in the
    /// tables of the node that got them.
    fn look_up(
        &self,
        ends: &[(SocketAddr, String)],
        target: SocketAddr,
        seen: &Seen,
        step: &mut Step,
    ) -> Result<()> {
        let topology = &self.cluster.topology;
        let mut tables = BTreeMap::new();
        for node in self.running() {
            let name = topology.nodes.get(node).context("no such node")?;
            tables.insert(name.name.as_str(), self.tables(node)?);
        }
        let any = tables.values().next().context("no agent runs")?;
        let by_name: BTreeMap<_, _> = topology.pods().map(|pod| (&pod.name, pod)).collect();
        let node_of: BTreeMap<IpAddr, &str> = topology
            .pods()
            .flat_map(|pod| pod.addresses.map(|address| (address, pod.node.as_str())))
            .collect();
        for (local, pod) in ends {
            let own = by_name.get(pod).context("a pod of ours")?;
            let hop = seen.first.get(local);
            let tables = hop.and_then(|hop| tables.get(hop.as_str())).unwrap_or(any);
            let owners = tables.owners(*local, target)?;
            let [current, ..] = owners;
            if !current.is_some_and(|current| own.addresses.contains(&current)) {
                step.by_slot.insert(*local);
            }
            let mut nodes = owners
                .iter()
                .flatten()
                .filter_map(|owner| node_of.get(owner));
            step.forgotten += usize::from(!nodes.any(|node| *node == own.node));
        }
        Ok(())
    }

    /// Packets that reached their pod along the chain, until now, on all nodes.
    fn chained(&self) -> Result<u64> {
        self.running()
            .map(|node| self.tables(node)?.outcome(Outcome::ChainHit))
            .sum()
    }

    /// Flows that were found by asking, until now, by all agents.
    fn located(&self) -> Result<u64> {
        let agents = self.cluster.agents.iter();
        agents
            .filter(|agent| agent.is_running())
            .map(|agent| Ok(agent.status()?.peer.found))
            .sum()
    }

    /// Flows that were sent ahead, until now, by all agents.
    fn pushed(&self) -> Result<u64> {
        self.running()
            .filter_map(|node| self.cluster.agents.get(node))
            .map(|agent| Ok(agent.status()?.peer.pushed))
            .sum()
    }

    /// Indexes of the nodes whose agent runs.
    fn running(&self) -> impl Iterator<Item = usize> {
        let agents = self.cluster.agents.iter().enumerate();
        agents.filter_map(|(node, agent)| agent.is_running().then_some(node))
    }

    /// The tables of a node whose agent runs.
    pub(crate) fn tables(&self, node: usize) -> Result<Tables> {
        let agent = self.cluster.agents.get(node).context("no such agent")?;
        Tables::of_process(agent.id())
    }

    fn probes(&self) -> Result<Vec<Probe>> {
        let (interval, limit) = (Duration::from_millis(20), Duration::from_millis(500));
        let client = &self.cluster.topology.client;
        let probe = |family: &Family| Client::probe(client, family.target(), interval, limit);
        self.families.iter().map(probe).collect()
    }
}

fn patient(cluster: &Cluster) -> Result<Client<'_>> {
    let mut client = Client::new(&cluster.topology.client)?;
    client.limit = SILENCE;
    Ok(client)
}

/// What the report calls the family of an address.
pub(crate) const fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "v4" } else { "v6" }
}

/// A client address of the family of a VIP.
fn source(vip: IpAddr, number: u16) -> IpAddr {
    let host = 0x100 + number % SOURCES;
    if vip.is_ipv4() {
        Ipv4Addr::new(198, 51, 100, host.to_be_bytes()[1] + 100).into()
    } else {
        Ipv6Addr::new(0x2001, 0xdb8, 0x51, 0, 0, 0, 0, host).into()
    }
}

/// Progress.
pub(crate) fn say(what: &str) {
    let _ = write!(io::stderr(), "{what} … ");
}
