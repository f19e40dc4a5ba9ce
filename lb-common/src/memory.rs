//! The tables in ordinary memory, for tests and models on the host.

extern crate std;

use core::cell::{Cell, RefCell};
use core::hash::Hash;
use std::collections::HashMap;
use std::vec::Vec;

use crate::addr::{AddrWords, Be32};
use crate::decide::{EgressVerdict, FamilyTables, Tables, Verdict, answer_probe, egress, ingress};
use crate::drop::DropReason;
use crate::family::{V4, V6};
use crate::flow::FlowTable;
use crate::maps::{
    Backend, Config, Flow, FlowKey4, FlowKey6, Frontend, FrontendKey4, FrontendKey6, FrontendStats,
    MacKey, Node, Slot, Vip,
};
use crate::rewrite;

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
    /// Does to a frame what the ingress program does.
    pub fn run_ingress(&self, frame: &mut Vec<u8>) -> Action {
        let (done, action) = match ingress(frame.as_slice(), self) {
            Verdict::Pass => match answer_probe(frame.as_slice(), self) {
                None => return Action::Pass,
                Some(answer) => (
                    rewrite::answer_probe(frame.as_mut_slice(), &answer),
                    Action::Transmit,
                ),
            },
            Verdict::Drop(reason) => {
                self.count_drop(reason);
                return Action::Drop;
            }
            Verdict::Forward(hop) => (
                rewrite::forward(frame.as_mut_slice(), &hop),
                Action::Transmit,
            ),
            Verdict::Deliver(delivery) => (
                rewrite::deliver(frame.as_mut_slice(), &delivery),
                Action::Pass,
            ),
            Verdict::Reply(reply) => {
                if let Some(length) = rewrite::reply_length(&reply) {
                    frame.resize(length, 0);
                }
                (
                    rewrite::reply(frame.as_mut_slice(), &reply),
                    Action::Transmit,
                )
            }
        };
        match done {
            Some(()) => action,
            None => {
                self.count_drop(DropReason::NotRewritable);
                Action::Drop
            }
        }
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
        let held = flows.keys().filter(|(other, _)| *other == table).count();
        let full = self.capacity != 0 && held >= self.capacity && table != FlowTable::HalfOpen;
        if full && !flows.contains_key(&(table, *key)) {
            return false;
        }
        flows.insert((table, *key), *flow);
        true
    }
}

macro_rules! family_tables {
    ($family:ty, $frontend_key:ty, $address:ty, $flow_key:ty,
     $frontends:ident, $vips:ident, $flows:ident) => {
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
        }
    };
}

family_tables!(V4, FrontendKey4, Be32, FlowKey4, frontends4, vips4, flows4);
family_tables!(
    V6,
    FrontendKey6,
    AddrWords,
    FlowKey6,
    frontends6,
    vips6,
    flows6
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

    fn with_reply_due<R>(&self, access: impl FnOnce(&mut u64) -> R) -> Option<R> {
        let mut due = self.reply_due.get();
        let result = access(&mut due);
        self.reply_due.set(due);
        Some(result)
    }
}
