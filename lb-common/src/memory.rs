//! The tables in ordinary memory, for tests and models on the host.

extern crate std;

use core::cell::{Cell, RefCell};
use core::hash::Hash;
use std::collections::HashMap;
use std::vec::Vec;

use crate::addr::{AddrWords, Be32};
use crate::decide::{
    Delivery, EgressVerdict, Encapsulation, FamilyTables, Reply, Tables, Verdict, answer_probe,
    egress, ingress, resume,
};
use crate::drop::DropReason;
use crate::family::{V4, V6, Version};
use crate::flow::FlowTable;
use crate::maps::{
    Backend, BackendKey4, BackendKey6, Config, Event, Exception, Flow, FlowKey4, FlowKey6,
    Frontend, FrontendKey4, FrontendKey6, FrontendStats, Legacy, MacKey, Node, Slot, Tour, Vip,
};
use crate::outcome::Outcome;
use crate::rewrite;
use crate::wire::eth::Front;

/// The flow tables of an address family.
type Flows<K> = RefCell<HashMap<(FlowTable, K), Flow>>;

/// Every map, as collections.
#[derive(Debug, Default)]
pub struct MemoryTables {
    /// The configuration.
    pub config: Config,
    /// Frontends of IPv4.
    pub frontends4: HashMap<FrontendKey4, Frontend>,
    /// Frontends of IPv6.
    pub frontends6: HashMap<FrontendKey6, Frontend>,
    /// Slots by index.
    pub slots: HashMap<u32, Slot>,
    /// Backends by index.
    pub backends: HashMap<u32, Backend>,
    /// Nodes by number.
    pub nodes: HashMap<u32, Node>,
    /// MACs of peers.
    pub peers: HashMap<MacKey, u32>,
    /// VIPs of IPv4.
    pub vips4: HashMap<Be32, Vip>,
    /// VIPs of IPv6.
    pub vips6: HashMap<AddrWords, Vip>,
    /// Flows of IPv4.
    pub flows4: Flows<FlowKey4>,
    /// Flows of IPv6.
    pub flows6: Flows<FlowKey6>,
    /// Nodes by the address where their tunnels end.
    pub peer_addrs: HashMap<AddrWords, u32>,
    /// Backends of IPv4 by what other nodes call them.
    pub backend_index4: HashMap<BackendKey4, u32>,
    /// Backends of IPv6 by what other nodes call them.
    pub backend_index6: HashMap<BackendKey6, u32>,
    /// Exceptions of IPv4.
    pub exceptions4: RefCell<HashMap<FlowKey4, Exception>>,
    /// Exceptions of IPv6.
    pub exceptions6: RefCell<HashMap<FlowKey6, Exception>>,
    /// Flows of IPv4 that are the kernel's.
    pub legacy4: RefCell<HashMap<FlowKey4, Legacy>>,
    /// Flows of IPv6 that are the kernel's.
    pub legacy6: RefCell<HashMap<FlowKey6, Legacy>>,
    /// What the agent was told, oldest first.
    pub events: RefCell<Vec<Event>>,
    /// When the next event of a bucket is due.
    pub event_due: RefCell<HashMap<u32, u64>>,
    /// The tour of the packet at hand.
    pub tour: Cell<Tour>,
    /// Counted outcomes.
    pub outcomes: RefCell<HashMap<Outcome, u64>>,
    /// Nanoseconds that the clock shows.
    pub clock: Cell<u64>,
    /// Entries that each flow table may hold; 0 is no limit.
    pub capacity: usize,
    /// Counted drops.
    pub drops: RefCell<HashMap<DropReason, u64>>,
    /// Counters of frontends.
    pub stats: RefCell<HashMap<u32, FrontendStats>>,
    /// When the next reply is due.
    pub reply_due: Cell<u64>,
}

/// What happens to a frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Action {
    /// The kernel gets it.
    Pass,
    /// It ends.
    Drop,
    /// It goes out where it came in.
    Transmit,
}

impl MemoryTables {
    /// Does to a frame what the ingress program does, and the one that goes on where it ends.
    pub fn run_ingress(&self, frame: &mut Vec<u8>) -> Action {
        match ingress(frame.as_slice(), self) {
            Verdict::Pass => match answer_probe(frame.as_slice(), self) {
                None => Action::Pass,
                Some(answer) => self.finish(
                    rewrite::answer_probe(frame.as_mut_slice(), &answer),
                    Action::Transmit,
                ),
            },
            Verdict::Resume => {
                let verdict = resume(frame.as_slice(), self);
                let strip = usize::from(self.tour.get().strip);
                self.act(frame, verdict, strip)
            }
            verdict => self.act(frame, verdict, 0),
        }
    }

    fn act(&self, frame: &mut Vec<u8>, verdict: Verdict, strip: usize) -> Action {
        let (done, action) = match verdict {
            Verdict::Pass
            | Verdict::Resume
            | Verdict::Choose
            | Verdict::Renumber
            | Verdict::Begin
            | Verdict::Refuse
            | Verdict::Depart
            | Verdict::TooBig => return Action::Pass,
            Verdict::Drop(reason) => {
                self.count_drop(reason);
                return Action::Drop;
            }
            Verdict::Forward(hop) => (
                rewrite::forward(frame.as_mut_slice(), &hop),
                Action::Transmit,
            ),
            Verdict::Deliver(delivery) => (self.deliver(frame, delivery, strip), Action::Pass),
            Verdict::Reply(reply) => (self.reply(frame, reply, strip), Action::Transmit),
            Verdict::Encapsulate(way) => (self.encapsulate(frame, &way, strip), Action::Transmit),
        };
        self.finish(done, action)
    }

    fn finish(&self, done: Option<()>, action: Action) -> Action {
        match done {
            Some(()) => action,
            None => {
                self.count_drop(DropReason::NotRewritable);
                Action::Drop
            }
        }
    }

    fn deliver(&self, frame: &mut Vec<u8>, delivery: Delivery, strip: usize) -> Option<()> {
        let at = decapsulate(frame, strip, delivery.version)?.unwrap_or(delivery.network);
        rewrite::deliver(frame.as_mut_slice(), &delivery.moved_to(at))
    }

    fn reply(&self, frame: &mut Vec<u8>, reply: Reply, strip: usize) -> Option<()> {
        let at = decapsulate(frame, strip, reply.version)?.unwrap_or(reply.network);
        let reply = reply.moved_to(at);
        if let Some(length) = rewrite::reply_length(&reply) {
            frame.resize(length, 0);
        }
        rewrite::reply(frame.as_mut_slice(), &reply)
    }

    fn encapsulate(&self, frame: &mut Vec<u8>, way: &Encapsulation, strip: usize) -> Option<()> {
        let (tour, node) = (self.tour.get(), self.node(way.node)?);
        let front = Front::read(frame.as_slice())?;
        let overhead = rewrite::overhead(node, &tour);
        shift(frame, strip, overhead)?;
        rewrite::encapsulate(frame.as_mut_slice(), way, front, node, &self.config, &tour)
    }

    /// Does to a frame what the egress program does.
    pub fn run_egress(&self, frame: &mut [u8]) {
        if let EgressVerdict::Translate(translation) = egress(frame, self)
            && rewrite::translate_source(frame, &translation).is_none()
        {
            self.count_drop(DropReason::NotRewritable);
        }
    }

    fn flow<K: Eq + Hash + Copy, R>(
        flows: &Flows<K>,
        table: FlowTable,
        key: &K,
        access: impl FnOnce(&mut Flow) -> R,
    ) -> Option<R> {
        flows.borrow_mut().get_mut(&(table, *key)).map(access)
    }

    fn insert<K: Eq + Hash + Copy>(
        &self,
        flows: &Flows<K>,
        table: FlowTable,
        key: &K,
        flow: &Flow,
    ) -> bool {
        let mut flows = flows.borrow_mut();
        let held = || flows.keys().filter(|(other, _)| *other == table).count();
        let is_full = self.capacity != 0 && !table.evicts() && held() >= self.capacity;
        if is_full && !flows.contains_key(&(table, *key)) {
            return false;
        }
        flows.insert((table, *key), *flow);
        true
    }
}

/// Takes octets away from the front of a frame, or adds them.
fn shift(frame: &mut Vec<u8>, less: usize, more: usize) -> Option<()> {
    if less > frame.len() {
        return None;
    }
    frame.splice(..less, core::iter::repeat_n(0, more));
    Some(())
}

/// Takes the tunnel off, if there is one; where the packet's IP header begins then.
fn decapsulate(frame: &mut Vec<u8>, strip: usize, version: Version) -> Option<Option<usize>> {
    if strip == 0 {
        return Some(None);
    }
    let front = Front::read(frame.as_slice())?;
    shift(frame, strip, 0)?;
    rewrite::decapsulate(frame.as_mut_slice(), front, version)?;
    Some(Some(front.length()))
}

macro_rules! family_tables {
    ($family:ty, $frontend_key:ty, $address:ty, $flow_key:ty, $backend_key:ty,
     $frontends:ident, $vips:ident, $flows:ident, $exceptions:ident, $legacy:ident,
     $backend_index:ident) => {
        impl FamilyTables<$family> for MemoryTables {
            fn frontend(&self, key: &$frontend_key) -> Option<Frontend> {
                self.$frontends.get(key).copied()
            }

            fn vip(&self, address: &$address) -> Option<Vip> {
                self.$vips.get(address).copied()
            }

            fn with_flow<R>(
                &self,
                table: FlowTable,
                key: &$flow_key,
                access: impl FnOnce(&mut Flow) -> R,
            ) -> Option<R> {
                Self::flow(&self.$flows, table, key, access)
            }

            fn insert_flow(&self, table: FlowTable, key: &$flow_key, flow: &Flow) -> bool {
                self.insert(&self.$flows, table, key, flow)
            }

            fn remove_flow(&self, table: FlowTable, key: &$flow_key) {
                self.$flows.borrow_mut().remove(&(table, *key));
            }

            fn with_exception<R>(
                &self,
                key: &$flow_key,
                access: impl FnOnce(&mut Exception) -> R,
            ) -> Option<R> {
                self.$exceptions.borrow_mut().get_mut(key).map(access)
            }

            fn remove_exception(&self, key: &$flow_key) {
                self.$exceptions.borrow_mut().remove(key);
            }

            fn with_legacy<R>(
                &self,
                key: &$flow_key,
                access: impl FnOnce(&mut Legacy) -> R,
            ) -> Option<R> {
                self.$legacy.borrow_mut().get_mut(key).map(access)
            }

            fn insert_legacy(&self, key: &$flow_key, legacy: &Legacy) {
                self.$legacy.borrow_mut().insert(*key, *legacy);
            }

            fn remove_legacy(&self, key: &$flow_key) {
                self.$legacy.borrow_mut().remove(key);
            }

            fn backend_index(&self, key: &$backend_key) -> Option<u32> {
                self.$backend_index.get(key).copied()
            }
        }
    };
}

family_tables!(
    V4,
    FrontendKey4,
    Be32,
    FlowKey4,
    BackendKey4,
    frontends4,
    vips4,
    flows4,
    exceptions4,
    legacy4,
    backend_index4
);
family_tables!(
    V6,
    FrontendKey6,
    AddrWords,
    FlowKey6,
    BackendKey6,
    frontends6,
    vips6,
    flows6,
    exceptions6,
    legacy6,
    backend_index6
);

impl Tables for MemoryTables {
    fn config(&self) -> Option<&Config> {
        Some(&self.config)
    }

    fn slot(&self, index: u32) -> Option<Slot> {
        self.slots.get(&index).copied()
    }

    fn backend(&self, index: u32) -> Option<&Backend> {
        self.backends.get(&index)
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(&number)
    }

    fn is_peer(&self, mac: &MacKey) -> bool {
        self.peers.contains_key(mac)
    }

    fn peer_at(&self, address: &AddrWords) -> Option<u32> {
        self.peer_addrs.get(address).copied()
    }

    fn now(&self) -> u64 {
        self.clock.get()
    }

    fn count_drop(&self, reason: DropReason) {
        *self.drops.borrow_mut().entry(reason).or_default() += 1;
    }

    fn count_frontend(&self, id: u32, more: &FrontendStats) {
        let mut stats = self.stats.borrow_mut();
        let stats = stats.entry(id).or_default();
        stats.packets += more.packets;
        stats.bytes += more.bytes;
        stats.flows += more.flows;
        stats.delivered += more.delivered;
    }

    fn count(&self, outcome: Outcome) {
        *self.outcomes.borrow_mut().entry(outcome).or_default() += 1;
    }

    fn with_tour<R>(&self, access: impl FnOnce(&mut Tour) -> R) -> Option<R> {
        let mut tour = self.tour.get();
        let result = access(&mut tour);
        self.tour.set(tour);
        Some(result)
    }

    fn emit(&self, event: Event) -> bool {
        self.events.borrow_mut().push(event);
        true
    }

    fn with_event_due<R>(&self, bucket: u32, access: impl FnOnce(&mut u64) -> R) -> Option<R> {
        Some(access(
            self.event_due.borrow_mut().entry(bucket).or_default(),
        ))
    }

    fn with_reply_due<R>(&self, access: impl FnOnce(&mut u64) -> R) -> Option<R> {
        let mut due = self.reply_due.get();
        let result = access(&mut due);
        self.reply_due.set(due);
        Some(result)
    }
}
