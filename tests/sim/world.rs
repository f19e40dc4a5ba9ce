//! The world: truth, time, and the way of every frame.
//!
//! Time goes in ticks. Within a tick agents write, then clients send, and each frame goes its whole way
//! at once, so that what differs between nodes are their tables and never the order of packets.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use lb_userspace::model::cluster::{Cluster, Family, Protocol};

use crate::client::{Client, End, Phase};
use crate::cluster::{self, Policy};
use crate::node::{FlowName, Node, NodeId, Pace, View};
use crate::pod::{Pod, PodId};
use crate::random::Random;
use crate::router::Router;
use crate::script::Task;
use crate::tally::{Place, Tally};

mod path;

/// Milliseconds in a tick.
pub(crate) const TICK: u64 = 50;

/// Silence after which a node counts as dead (DESIGN §4).
const DEAD_AFTER: u64 = 500;

/// Time for which a pod's address is not given again. An agent that has not seen the old pod go takes a new
/// one with its address, port and node for the same, and what connects to it then breaks when it learns
/// better: the one exception that the model makes.
const QUARANTINE: u64 = 20_000;

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Setup {
    pub(crate) family: Family,
    pub(crate) policy: Policy,
    pub(crate) nodes: u8,
    pub(crate) pods: u16,
    pub(crate) connections: u16,
    pub(crate) udp_clients: u16,
    /// Owners that a slot shows to the programs, 1 to 4.
    pub(crate) depth: usize,
    /// Connections end after some requests and others begin.
    pub(crate) churn: bool,
    /// A client connects again from the port it had.
    pub(crate) reuses_ports: bool,
    /// SYNs, in a thousand, of which a copy comes late.
    pub(crate) late_copies: u64,
    /// Agents lag, coalesce and write slowly, each as it happens to.
    pub(crate) uneven: bool,
    pub(crate) seed: u64,
}

/// Everything.
pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) now: u64,
    pub(crate) random: Random,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) pods: BTreeMap<PodId, Pod>,
    pub(crate) router: Router,
    pub(crate) tally: Tally,
    pub(crate) tasks: BTreeMap<(u64, u64), Task>,
    clients: Vec<Client>,
    by_name: BTreeMap<FlowName, usize>,
    truth: Cluster,
    views: Vec<(u64, View)>,
    died: BTreeMap<NodeId, u64>,
    addresses: u16,
    /// Addresses of former pods, with the time from which they are given again.
    free_addresses: VecDeque<(u64, IpAddr)>,
    last_pod: PodId,
    ports: u16,
    queued: u64,
}

impl World {
    /// A world at rest: tables written, nobody talking yet.
    pub(crate) fn new(setup: Setup) -> Self {
        let mut random = Random::new(setup.seed);
        let key: Vec<u8> = (0..4).flat_map(|_| random.next().to_be_bytes()).collect();
        let mut world = Self {
            setup,
            now: 0,
            nodes: BTreeMap::new(),
            pods: BTreeMap::new(),
            router: Router {
                next_hops: Vec::new(),
                idle: BTreeSet::new(),
                seed: random.next(),
            },
            tally: Tally::default(),
            tasks: BTreeMap::new(),
            clients: Vec::new(),
            by_name: BTreeMap::new(),
            truth: cluster::empty(setup.family, setup.policy, key.try_into().unwrap()),
            views: Vec::new(),
            died: BTreeMap::new(),
            addresses: 0,
            free_addresses: VecDeque::new(),
            last_pod: 0,
            ports: 10_000,
            queued: 0,
            random,
        };
        for id in 1..=setup.nodes {
            world
                .nodes
                .insert(id, Node::new(id, setup.family, setup.depth));
            world.router.next_hops.push(id);
        }
        for number in 0..setup.pods {
            let node = 1 + (number % u16::from(setup.nodes)) as u8;
            world.add_pod(node, false);
        }
        world.publish();
        world.tick();
        if setup.uneven {
            for node in world.nodes.values_mut() {
                node.pace = Pace::random(&mut world.random);
            }
        }
        for number in 0..setup.connections {
            world.add_client(Protocol::Tcp, number);
        }
        for number in 0..setup.udp_clients {
            world.add_client(Protocol::Udp, number);
        }
        world
    }

    /// Lets time pass until `end`, in milliseconds.
    pub(crate) fn run_until(&mut self, end: u64) {
        while self.now < end {
            self.tick();
        }
    }

    /// The cluster says from now on what is so.
    pub(crate) fn publish(&mut self) {
        let nodes: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        let family = self.setup.family;
        cluster::describe(&mut self.truth, family, &nodes, self.pods.values());
        let view = View {
            revision: self.views.len(),
            cluster: Rc::new(self.truth.clone()),
            dead: BTreeSet::new(),
        };
        self.views.push((self.now, view));
        if self.setup.policy == Policy::Local {
            let serving = self.pods.values().filter(|pod| pod.is_ready);
            let serving: BTreeSet<NodeId> = serving.map(|pod| pod.node).collect();
            self.router.idle = nodes.difference(&serving).copied().collect();
        }
    }

    /// Starts a pod, with an address used before if there is one and `reuse` asks for it.
    pub(crate) fn add_pod(&mut self, node: NodeId, reuse: bool) -> PodId {
        let is_free = |(since, _): &mut (u64, IpAddr)| reuse && *since <= self.now;
        let addr = match self.free_addresses.pop_front_if(is_free) {
            Some((_, addr)) => addr,
            None => {
                self.addresses += 1;
                cluster::pod_address(self.setup.family, self.addresses)
            }
        };
        self.last_pod += 1;
        let pod = Pod::new(self.last_pod, addr, node);
        self.pods.insert(pod.id, pod);
        self.last_pod
    }

    /// Ends a pod.
    pub(crate) fn remove_pod(&mut self, id: PodId) {
        if let Some(pod) = self.pods.remove(&id) {
            self.free_addresses
                .push_back((self.now + QUARANTINE, pod.addr));
        }
    }

    /// A node's power is cut.
    pub(crate) fn lose_node(&mut self, id: NodeId) {
        if let Some(node) = self.nodes.get_mut(&id) {
            node.is_alive = false;
            self.died.entry(id).or_insert(self.now);
        }
    }

    /// A node joins, with pods; it announces once it has a peer's history.
    pub(crate) fn join_node(&mut self, pods: u16) {
        let id = self.nodes.keys().max().map_or(1, |id| id + 1);
        let mut node = Node::new(id, self.setup.family, self.setup.depth);
        let peers: Vec<NodeId> = self.live_nodes().collect();
        if let Some(peer) = self.random.pick(&peers)
            && let Some(peer) = self.nodes.get(peer)
        {
            node.fetch_history(&peer.log);
        }
        if self.setup.uneven {
            node.pace = Pace::random(&mut self.random);
        }
        self.nodes.insert(id, node);
        for _ in 0..pods {
            self.add_pod(id, false);
        }
        self.publish();
        self.router.next_hops.push(id);
    }

    /// Nodes with power.
    pub(crate) fn live_nodes(&self) -> impl Iterator<Item = NodeId> {
        let alive = self.nodes.values().filter(|node| node.is_alive);
        alive.map(|node| node.id)
    }

    /// Does something after a time.
    pub(crate) fn after(&mut self, delay: u64, task: Task) {
        self.queued += 1;
        self.tasks.insert((self.now + delay, self.queued), task);
    }

    /// Checks that nodes which planned from the same objects have the same tables.
    fn check_agreement(&mut self) {
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let name = cluster::frontend(self.setup.family, protocol);
            let mut digests = BTreeMap::new();
            for node in self.nodes.values().filter(|node| node.is_alive) {
                let (Some(from), digest) = (node.planned_from(), node.digest(&name)) else {
                    continue;
                };
                if *digests.entry(from).or_insert(digest) != digest {
                    let what = format!("two tables of {name} follow from {from:?}");
                    self.tally.violation(what);
                }
            }
        }
    }

    fn add_client(&mut self, protocol: Protocol, number: u16) {
        let family = self.setup.family;
        self.ports += 1;
        let name = FlowName {
            client: (
                cluster::client_address(family, 1 + (number % 50) as u8),
                self.ports,
            ),
            frontend: cluster::frontend(family, protocol),
        };
        let start = self.now + self.random.below(2_000);
        let lifetime = match self.setup.churn {
            true => 2 + self.random.below(30) as u32,
            false => u32::MAX,
        };
        self.by_name.insert(name, self.clients.len());
        self.clients.push(Client::new(name, start, 1_500, lifetime));
    }

    fn tick(&mut self) {
        self.now += TICK;
        while let Some(first) = self.tasks.first_entry()
            && first.key().0 <= self.now
        {
            let task = first.remove();
            self.perform(task);
        }
        let dead: BTreeSet<NodeId> = self
            .died
            .iter()
            .filter(|(_, since)| **since + DEAD_AFTER <= self.now)
            .map(|(node, _)| *node)
            .collect();
        self.router.next_hops.retain(|node| !dead.contains(node));
        let mut planned = Vec::new();
        for node in self.nodes.values_mut() {
            if node.tick(self.now, &self.views, &dead) {
                planned.push(node.id);
            }
        }
        if !planned.is_empty() {
            self.check_agreement();
        }
        for node in planned {
            self.push(node);
        }
        for index in 0..self.clients.len() {
            self.act(index);
        }
    }

    fn act(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let was_open = client.pod().is_some();
        // An answer comes at once or never.
        self.tally.datagrams_lost += u64::from(client.lapse());
        let sent = client.act(self.now, &mut self.random);
        if was_open && client.phase == Phase::Ended(End::Silence) {
            self.end(index);
        }
        let Some(sent) = sent else { return };
        self.place(index);
        let client = &self.clients[index];
        if client.is_tcp() && client.phase == Phase::Opening {
            if self.random.per_mille(self.setup.late_copies) {
                let delay = 100 + self.random.below(20_000);
                self.after(delay, Task::Send(sent.clone()));
            }
        } else if !client.is_tcp() {
            self.tally.datagrams += 1;
        }
        self.send(&sent);
    }

    /// A connection ended that nobody closed.
    fn end(&mut self, index: usize) {
        let client = &mut self.clients[index];
        let pod = self.pods.get(&client.former_pod());
        let lives = pod.is_some_and(|pod| {
            self.nodes[&pod.node].is_alive && pod.has(client.name.client, client.pod_sequence)
        });
        if lives {
            self.tally.broken += 1;
        } else {
            self.tally.lost_with_pod += 1;
        }
        self.reopen(index);
    }

    /// A client connects again, from another port unless ports are used again at once.
    fn reopen(&mut self, index: usize) {
        let start = self.now + self.random.below(3_000);
        let client = &mut self.clients[index];
        client.reopen(start);
        if !self.setup.reuses_ports {
            self.by_name.remove(&client.name);
            self.ports += 1;
            client.name.client.1 = self.ports;
            self.by_name.insert(client.name, index);
        }
    }

    /// Notes where the pod of a connection stands in the tables that its next packet will meet.
    fn place(&mut self, index: usize) {
        let client = &self.clients[index];
        let Some(pod) = client.pod().and_then(|pod| self.pods.get(&pod)) else {
            return;
        };
        if !self.nodes[&pod.node].is_alive {
            return;
        }
        let first_hop = self.router.pick(&client.sample());
        let Some(first_hop) = first_hop.and_then(|id| self.nodes.get(&id)) else {
            return;
        };
        let owner = match first_hop.current(&client.name) {
            Some(current) => self.nodes.get(&current.node).filter(|node| node.is_alive),
            None => Some(first_hop),
        };
        let Some(owner) = owner else { return };
        let owners = owner.owners(&client.name);
        let place = match owners.iter().position(|owner| owner.addr == pod.addr) {
            Some(0) => Place::Current,
            Some(at) => Place::Former(at),
            None => Place::Forgotten,
        };
        self.tally.note((client.name, client.pod_sequence), place);
    }

    /// Names of the pods that are there, in an order that does not change.
    pub(crate) fn pod_ids(&self) -> Vec<PodId> {
        self.pods.keys().copied().collect()
    }
}
