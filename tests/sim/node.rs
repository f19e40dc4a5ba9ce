//! A node: the real planner and the real decision over maps in memory, and an
//! agent that runs behind.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::rc::Rc;

use lb_common::addr::{AddrWords, Be16, Be32, Mac, words4, words6};
use lb_common::decide::FamilyTables;
use lb_common::family::{Family as _, V4, V6};
use lb_common::hash::Ports;
use lb_common::maps::{self, Frontend, MacKey, Slot, backend_flags, node_flags};
use lb_common::memory::{Action, MemoryTables};
use lb_common::outcome::Outcome;
use lb_userspace::model::cluster::{Cluster, Family};
use lb_userspace::model::intent::FrontendName;
use lb_userspace::model::segment::Segment;
use lb_userspace::plan::layout::{Capacity, Layout, Settings};
use lb_userspace::plan::step::Step;
use lb_userspace::plan::{Context, compute};

use crate::cluster::{node_address, node_mac, node_name, without_dead};
use crate::flows::Memory;
use crate::random::Random;

/// Number of a node, also the last octet of its MAC.
pub(crate) type NodeId = u8;

/// What an agent plans from.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Counts the changes of the cluster.
    pub(crate) revision: usize,
    /// The objects.
    pub(crate) cluster: Rc<Cluster>,
    /// Nodes known to be dead.
    pub(crate) dead: BTreeSet<NodeId>,
}

/// How far an agent is behind, and how it writes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Pace {
    /// Milliseconds after which it sees a change.
    pub(crate) lag: u64,
    /// Milliseconds between two looks; what happened in between is one change.
    pub(crate) interval: u64,
    /// Steps it takes within a tick; 0 is no limit.
    pub(crate) steps: usize,
}

/// Former and present owner of a slot, as a node's maps have it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Owner {
    /// Pod address.
    pub(crate) addr: IpAddr,
    /// Node it runs on.
    pub(crate) node: NodeId,
}

/// The ends of a flow at the VIP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct FlowName {
    /// Client's address and port.
    pub(crate) client: (IpAddr, u16),
    /// Frontend.
    pub(crate) frontend: FrontendName,
}

/// A node.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) is_alive: bool,
    pub(crate) has_agent: bool,
    pub(crate) pace: Pace,
    pub(crate) tables: MemoryTables,
    /// What it planned from, oldest first: what a joining node fetches.
    pub(crate) log: Vec<View>,
    pub(crate) family: Family,
    /// Owners that a slot shows to the programs.
    depth: usize,
    layout: Layout,
    pending: VecDeque<Step>,
    looked: u64,
    numbers: BTreeMap<u16, NodeId>,
    pub(crate) memory: Memory,
}

impl Node {
    pub(crate) fn new(id: NodeId, family: Family, depth: usize) -> Self {
        let capacity = Capacity {
            slots: 1 << 18,
            backends: 1 << 16,
            frontends: 16,
            vips: 16,
            nodes: 256,
        };
        Self {
            id,
            is_alive: true,
            has_agent: true,
            pace: Pace::default(),
            tables: MemoryTables::default(),
            log: Vec::new(),
            family,
            depth,
            layout: Layout::new(capacity),
            pending: VecDeque::new(),
            looked: 0,
            numbers: BTreeMap::new(),
            memory: Memory::default(),
        }
    }

    pub(crate) fn mac(&self) -> Mac {
        node_mac(self.id)
    }

    /// Does to a frame what the ingress program does.
    pub(crate) fn ingress(&self, frame: &mut Vec<u8>) -> Action {
        self.tables.run_ingress(frame)
    }

    /// How often something happened to a packet.
    pub(crate) fn count_of(&self, outcome: Outcome) -> u64 {
        let outcomes = self.tables.outcomes.borrow();
        outcomes.get(&outcome).copied().unwrap_or(0)
    }

    /// Does to a frame what the egress program does.
    pub(crate) fn egress(&self, frame: &mut [u8]) {
        self.tables.run_egress(frame);
    }

    /// Lets a tick pass; whether the agent planned anew. `views` are all that ever was, with the time it
    /// came about.
    pub(crate) fn tick(
        &mut self,
        now: u64,
        views: &[(u64, View)],
        dead: &BTreeSet<NodeId>,
    ) -> bool {
        self.tables.clock.set(now * 1_000_000);
        if !self.is_alive || !self.has_agent {
            return false;
        }
        self.take_steps(self.pace.steps);
        if !self.pending.is_empty() || now < self.looked + self.pace.interval {
            return false;
        }
        self.looked = now;
        let seen = views
            .iter()
            .rev()
            .find(|(since, _)| since + self.pace.lag <= now);
        let Some((_, view)) = seen else { return false };
        let view = View {
            dead: dead.clone(),
            ..view.clone()
        };
        let is_new = self
            .log
            .last()
            .is_none_or(|last| last.revision < view.revision || last.dead != view.dead);
        if is_new {
            self.plan(view);
            self.take_steps(self.pace.steps);
        }
        is_new
    }

    /// Plans everything that a peer planned, so that slots remember the same owners.
    pub(crate) fn fetch_history(&mut self, log: &[View]) {
        for view in log {
            self.plan(view.clone());
            self.take_steps(0);
        }
    }

    /// What the maps were last planned from.
    pub(crate) fn planned_from(&self) -> Option<(usize, &BTreeSet<NodeId>)> {
        self.log.last().map(|view| (view.revision, &view.dead))
    }

    /// Whether the agent counts a node as dead.
    pub(crate) fn is_dead(&self, node: NodeId) -> bool {
        self.log
            .last()
            .is_some_and(|view| view.dead.contains(&node))
    }

    /// Digest of a frontend's table.
    pub(crate) fn digest(&self, name: &FrontendName) -> Option<&str> {
        self.layout.frontend(name).map(|table| table.digest())
    }

    /// Whose the flow's slot is; nobody's if no pod takes new flows.
    pub(crate) fn current(&self, flow: &FlowName) -> Option<Owner> {
        let (frontend, slot) = self.slot(flow)?;
        self.owner(&frontend, slot.current())
    }

    /// Whose the flow's slot is and was, newest first.
    pub(crate) fn owners(&self, flow: &FlowName) -> Vec<Owner> {
        let Some((frontend, slot)) = self.slot(flow) else {
            return Vec::new();
        };
        let owners = slot.owners().into_iter();
        owners
            .filter_map(|number| self.owner(&frontend, number))
            .collect()
    }

    fn slot(&self, flow: &FlowName) -> Option<(Frontend, Slot)> {
        let frontend = self.frontend(&flow.frontend)?;
        let index = frontend.slots + (self.hash(flow) & frontend.mask);
        Some((frontend, self.tables.slots.get(&index).copied()?))
    }

    fn owner(&self, frontend: &Frontend, number: u16) -> Option<Owner> {
        let index = frontend.backends + u32::from(number);
        let backend = self.tables.backends.get(&index)?;
        let in_use = number != 0 && backend.flags & backend_flags::IN_USE != 0;
        in_use.then_some(Owner {
            addr: self.address(backend.addr),
            node: match backend.node {
                0 => self.id,
                node => *self.numbers.get(&node)?,
            },
        })
    }

    fn plan(&mut self, view: View) {
        let context = Context {
            node: node_name(self.id),
            interface: "eth0".into(),
            ..Context::default()
        };
        let intent = compute(&without_dead(&view.cluster, &view.dead), &context);
        let address = node_address(self.family, self.id);
        let length = if address.is_ipv4() { 24 } else { 64 };
        let segment = Segment {
            interface: "eth0".into(),
            ifindex: 2,
            mac: self.mac(),
            mtu: 1_500,
            addresses: vec![format!("{address}/{length}").parse().unwrap()],
            ..Segment::default()
        };
        let settings = Settings {
            reject_unserved: true,
            locates: true,
            ..Settings::default()
        };
        let now = (self.tables.clock.get() / 1_000_000_000) as u32;
        let (plan, next) = self.layout.plan(&intent.dataplane, &segment, settings, now);
        assert!(plan.refused.is_empty(), "{:?}", plan.refused);
        self.layout = next;
        self.pending.extend(plan.steps);
        self.log.push(view);
    }

    fn take_steps(&mut self, limit: usize) {
        if self.pending.is_empty() {
            return;
        }
        let limit = if limit == 0 { usize::MAX } else { limit };
        for _ in 0..limit {
            let Some(step) = self.pending.pop_front() else {
                break;
            };
            self.take(step);
        }
        if self.pending.is_empty() {
            self.finish();
        }
    }

    /// Writes who is dead: the plan of the model knows nothing of such nodes.
    fn finish(&mut self) {
        let dead = self
            .log
            .last()
            .map(|view| view.dead.clone())
            .unwrap_or_default();
        for (number, node) in &mut self.tables.nodes {
            let id = self.numbers.get(&(*number as u16));
            if id.is_some_and(|id| dead.contains(id)) {
                node.flags |= node_flags::DEAD;
            }
        }
    }

    /// The node with this number.
    pub(crate) fn id_of(&self, number: u32) -> Option<NodeId> {
        self.numbers.get(&u16::try_from(number).ok()?).copied()
    }

    /// Index and generation of a pod among the backends of a frontend.
    pub(crate) fn backend_at(&self, name: &FrontendName, pod: IpAddr) -> Option<(u32, u32)> {
        let table = self.layout.frontend(name)?;
        let (number, ..) = table.members().find(|(_, member, _)| member.addr == pod)?;
        let index = table.value().backends + u32::from(number);
        Some((index, self.tables.backends.get(&index)?.generation))
    }

    fn take(&mut self, step: Step) {
        let tables = &mut self.tables;
        match step {
            Step::SetConfig(config) => {
                let address = node_address(self.family, self.id);
                tables.config = *config;
                tables.config.peer_key = [3, 4];
                match address {
                    IpAddr::V4(addr) => [tables.config.tunnel4, ..] = words4(addr),
                    IpAddr::V6(addr) => tables.config.tunnel6 = words6(addr),
                }
            }
            Step::SetNode { name, number, node } => {
                let flags = match self.family {
                    Family::V4 => 0,
                    Family::V6 => node_flags::IPV6,
                };
                let value = maps::Node { flags, ..node };
                tables.nodes.insert(u32::from(number), value);
                if let Some(id) = name.strip_prefix("node-").and_then(|id| id.parse().ok()) {
                    self.numbers.insert(number, id);
                }
            }
            Step::SetPeerMac { mac, number } => {
                tables.peers.insert(mac_key(mac), u32::from(number));
            }
            Step::RemovePeerMac { mac } => {
                tables.peers.remove(&mac_key(mac));
            }
            Step::SetPeerAddr { addr, number } => {
                tables.peer_addrs.insert(addr, u32::from(number));
            }
            Step::RemovePeerAddr { addr } => {
                tables.peer_addrs.remove(&addr);
            }
            Step::SetBackendIndex { name, index } => {
                let port = Be16::new(name.port);
                match name.addr {
                    IpAddr::V4(addr) => {
                        let key = V4::backend_key(name.frontend, &words4(addr), port);
                        tables.backend_index4.insert(key, index);
                    }
                    IpAddr::V6(addr) => {
                        let key = V6::backend_key(name.frontend, &words6(addr), port);
                        tables.backend_index6.insert(key, index);
                    }
                }
            }
            Step::RemoveBackendIndex { name } => {
                let port = Be16::new(name.port);
                match name.addr {
                    IpAddr::V4(addr) => {
                        let key = V4::backend_key(name.frontend, &words4(addr), port);
                        tables.backend_index4.remove(&key);
                    }
                    IpAddr::V6(addr) => {
                        let key = V6::backend_key(name.frontend, &words6(addr), port);
                        tables.backend_index6.remove(&key);
                    }
                }
            }
            Step::SetBackend { index, backend } => {
                tables.backends.insert(index, backend);
            }
            Step::SetSlot { index, slot } => {
                tables.slots.insert(index, shortened(slot, self.depth));
            }
            Step::SetSlots { index, slots } => {
                let slots = slots.iter().map(|slot| shortened(*slot, self.depth));
                tables.slots.extend((index..).zip(slots));
            }
            Step::ClearCounters { id } => {
                tables.stats.borrow_mut().remove(&id);
            }
            Step::SetFrontend { name, frontend } => {
                let (port, protocol) = (Be16::new(name.port), name.protocol.number());
                match name.addr {
                    IpAddr::V4(addr) => {
                        let [addr, ..] = words4(addr);
                        let key = V4::frontend_key(addr, port, protocol);
                        tables.frontends4.insert(key, frontend);
                    }
                    IpAddr::V6(addr) => {
                        let key = V6::frontend_key(words6(addr), port, protocol);
                        tables.frontends6.insert(key, frontend);
                    }
                }
            }
            Step::SetVip { addr, vip } => {
                match addr {
                    IpAddr::V4(addr) => tables.vips4.insert(words4(addr)[0], vip),
                    IpAddr::V6(addr) => tables.vips6.insert(words6(addr), vip),
                };
            }
            Step::RemoveFrontend { .. } | Step::RemoveVip { .. } => {
                unreachable!("the Service of the model stays")
            }
        }
    }

    fn frontend(&self, name: &FrontendName) -> Option<Frontend> {
        let (port, protocol) = (Be16::new(name.port), name.protocol.number());
        match name.addr {
            IpAddr::V4(addr) => {
                let key = V4::frontend_key(words4(addr)[0], port, protocol);
                FamilyTables::<V4>::frontend(&self.tables, &key)
            }
            IpAddr::V6(addr) => {
                let key = V6::frontend_key(words6(addr), port, protocol);
                FamilyTables::<V6>::frontend(&self.tables, &key)
            }
        }
    }

    fn hash(&self, flow: &FlowName) -> u32 {
        let ports = Ports {
            source: Be16::new(flow.client.1),
            destination: Be16::new(flow.frontend.port),
            protocol: flow.frontend.protocol.number(),
        };
        let key = &self.tables.config.flow_key;
        match (flow.client.0, flow.frontend.addr) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                V4::hash(key, words4(client)[0], words4(vip)[0], ports)
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                V6::hash(key, words6(client), words6(vip), ports)
            }
            _ => unreachable!("both ends are of one family"),
        }
    }

    pub(crate) fn address(&self, words: AddrWords) -> IpAddr {
        match self.family {
            Family::V4 => {
                let [word, ..] = words;
                std::net::Ipv4Addr::from(word.host()).into()
            }
            Family::V6 => {
                let bits = words
                    .iter()
                    .fold(0u128, |bits, word| bits << 32 | u128::from(word.host()));
                std::net::Ipv6Addr::from(bits).into()
            }
        }
    }
}

/// A slot that remembers no more owners than that.
fn shortened(slot: Slot, depth: usize) -> Slot {
    let mut owners = slot.owners();
    owners.iter_mut().skip(depth).for_each(|owner| *owner = 0);
    Slot::new(owners)
}

impl Pace {
    /// Any pace that an agent may have: most are quick, some lag, some see several changes as one.
    pub(crate) fn random(random: &mut Random) -> Self {
        match random.below(4) {
            0 | 1 => Self {
                lag: random.below(50),
                ..Self::default()
            },
            2 => Self {
                lag: random.below(3_000),
                steps: 100 + random.below(400) as usize,
                ..Self::default()
            },
            _ => Self {
                lag: random.below(500),
                interval: random.below(6_000),
                ..Self::default()
            },
        }
    }
}

fn mac_key(mac: Mac) -> MacKey {
    let [a, b, c, d, e, f] = mac.0;
    MacKey {
        head: Be32::new(u32::from_be_bytes([a, b, c, d])),
        tail: Be16::new(u16::from_be_bytes([e, f])),
        zero: 0,
    }
}
