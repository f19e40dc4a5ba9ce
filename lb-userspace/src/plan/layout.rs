//! What the maps hold, and the steps from there to what they are to hold.
//!
//! `round` is one pass over an intent: nodes, frontends, VIPs. `table` plans a single frontend with its
//! backends and slots; `history` keeps a slot's former owners, `elsewhere` adds what other nodes choose.
//! `region` and `numbers` hand out the room. `inherit` takes over the history that peers keep, `forget` finds
//! slots whose flows are to be pushed, `lookup` answers the agent's questions. `restore` is where a restarted
//! agent begins: it reads all of this back from the maps.
//!
//! [`Layout::plan`] changes nothing: it returns the steps and the layout that holds once all of them are
//! taken. If one fails, [`Layout::with_pending`] keeps the steps not taken in front of the next plan, so
//! that the order of writes survives the failure.
//!
//! Invariants, at every step
//! - A slot that a frontend reaches names backends whose elements are in use, or nobody.
//! - What other nodes can call a backend leads to an element in use that is that backend.
//! - A tunnel address leads to a node that is there.
//! - An element of `BACKENDS` never changes from one pod to another without being empty in between.

mod elsewhere;
mod forget;
mod history;
mod inherit;
mod lookup;
mod node;
mod numbers;
mod region;
mod restore;
mod round;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::addr::AddrWords;
use lb_common::addr::Mac;
use lb_common::maps::Config;
use lb_common::maps::Node;
use lb_common::maps::Vip;
use lb_common::maps::vip_flags;
use lb_common::wire::geneve;

pub use self::forget::Forgotten;
pub use self::forget::Scope;
pub use self::inherit::Heritage;
pub(crate) use self::node::address6;
pub(crate) use self::node::tunnel_end;
use self::numbers::Numbers;
use self::region::Regions;
pub use self::restore::Dump;
use self::round::Round;
pub use self::table::Member;
pub use self::table::Table;
use super::step::Step;
use crate::model::cluster::Forwarding;
use crate::model::intent::DataplaneIntent;
use crate::model::intent::{FrontendIntent, FrontendName, VipIntent};
use crate::model::segment::Segment;
use crate::model::shared_map::SharedMap;

/// How many elements the maps have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Capacity {
    /// Of `SLOTS`.
    pub slots: u32,
    /// Of `BACKENDS`; a single frontend can have 65,535.
    pub backends: u32,
    /// Of the frontend maps, each, and of the counters.
    pub frontends: u32,
    /// Of the VIP maps, each.
    pub vips: u32,
    /// Of `NODES`, at most 65,536.
    pub nodes: u32,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            slots: 1 << 24,
            backends: 1 << 18,
            frontends: 1 << 16,
            vips: 1 << 16,
            nodes: 4_096,
        }
    }
}

/// Settings of the programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Settings {
    /// kube-proxy (or its like) knows the VIPs.
    pub kernel_knows_vips: bool,
    /// A VIP port nobody serves is refused rather than dropped.
    pub reject_unserved: bool,
    /// The agent asks its peers for flows that nobody on a list knows.
    pub locates: bool,
    /// UDP port of the tunnels between nodes.
    pub geneve_port: u16,
    /// How packets get to other nodes where their Service does not say it; `None` has those on this segment
    /// reached over it and others through tunnels.
    pub forwarding: Option<Forwarding>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            kernel_knows_vips: false,
            reject_unserved: false,
            locates: false,
            geneve_port: geneve::PORT,
            forwarding: None,
        }
    }
}

/// Steps, and what could not be done.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Plan {
    /// To be taken in this order.
    pub steps: Vec<Step>,
    /// Frontends that are not as they should be, and why.
    pub refused: Vec<(FrontendName, String)>,
}

/// What the maps hold.
#[derive(Clone, PartialEq, Debug)]
pub struct Layout {
    config: Option<Config>,
    /// Node 0.
    router: Node,
    nodes: BTreeMap<String, PlacedNode>,
    peer_macs: BTreeMap<Mac, u16>,
    peer_addrs: BTreeMap<AddrWords, u16>,
    frontends: SharedMap<FrontendName, Table>,
    vips: SharedMap<IpAddr, Vip>,
    slots: Regions,
    /// Windows of 65,536 elements of `BACKENDS`; a frontend's backends all lie in one.
    windows: Vec<Numbers>,
    frontend_ids: Numbers,
    node_numbers: Numbers,
    generation: u32,
    vip_capacity: usize,
    pending: Vec<Step>,
    /// What was planned last; nothing before a whole intent was.
    planned: Option<Planned>,
    /// Read back from the maps, and no whole intent was planned since.
    is_unconfirmed: bool,
}

/// What does not have to be looked at again as long as the intent has it.
#[derive(Clone, PartialEq, Debug)]
struct Planned {
    frontends: SharedMap<FrontendName, FrontendIntent>,
    vips: SharedMap<IpAddr, VipIntent>,
    /// Frontends that are not as they should be.
    unsettled: BTreeSet<FrontendName>,
    /// How many frontends have tunnels used always.
    tunnelled: usize,
}

/// A node and its number.
#[derive(Clone, Copy, PartialEq, Debug)]
struct PlacedNode {
    number: u16,
    value: Node,
}

impl Layout {
    /// Empty maps.
    pub fn new(capacity: Capacity) -> Self {
        let windows = (0..capacity.backends.div_ceil(WINDOW))
            .map(|window| Numbers::new(1, (capacity.backends - window * WINDOW).min(WINDOW)))
            .collect();
        Self {
            config: None,
            router: Node::default(),
            nodes: BTreeMap::new(),
            peer_macs: BTreeMap::new(),
            peer_addrs: BTreeMap::new(),
            frontends: SharedMap::new(),
            vips: SharedMap::new(),
            slots: Regions::new(capacity.slots),
            windows,
            frontend_ids: Numbers::new(0, capacity.frontends),
            node_numbers: Numbers::new(1, capacity.nodes.min(1 << 16)),
            generation: 0,
            vip_capacity: capacity.vips as usize,
            pending: Vec::new(),
            planned: None,
            is_unconfirmed: false,
        }
    }

    /// The steps from here to the intent, and the layout once they are taken. `now` is `CLOCK_MONOTONIC` in
    /// seconds, to be noted where slots change their owners; 0 says that it does not matter.
    pub fn plan(
        &self,
        intent: &DataplaneIntent,
        segment: &Segment,
        settings: Settings,
        now: u32,
    ) -> (Plan, Self) {
        let mut next = self.clone();
        next.is_unconfirmed &= intent.is_partial;
        let mut steps = std::mem::take(&mut next.pending);
        loop {
            let round = Round::run(&mut next, intent, segment, settings, now);
            let freed = round.freed_room();
            let refused = round.finish(&mut steps);
            // What this round gave back may be what a frontend was refused for.
            if refused.is_empty() || !freed {
                return (Plan { steps, refused }, next);
            }
        }
    }

    /// The layout that [`Layout::plan`] returned, of whose steps the given last ones were not taken.
    #[must_use]
    pub fn with_pending(mut self, steps: Vec<Step>) -> Self {
        self.pending = steps;
        self
    }

    /// The frontends in the maps.
    pub fn frontends(&self) -> impl Iterator<Item = (&FrontendName, &Table)> {
        self.frontends.iter()
    }

    /// The addresses that the programs answer ARP and NDP for.
    pub fn answered(&self) -> impl Iterator<Item = IpAddr> {
        let answers = |vip: &Vip| vip.flags & vip_flags::ANSWER_NEIGHBORS != 0;
        let vips = self.vips.iter();
        vips.filter(move |(_, vip)| answers(vip))
            .map(|(addr, _)| *addr)
    }

    /// A frontend in the maps.
    pub fn frontend(&self, name: &FrontendName) -> Option<&Table> {
        self.frontends.get(name)
    }

    /// The other nodes: name, number, value.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, u16, &Node)> {
        self.nodes
            .iter()
            .map(|(name, node)| (name.as_str(), node.number, &node.value))
    }

    /// Slots in use.
    pub fn slots_used(&self) -> u32 {
        self.slots.used()
    }

    /// Slots in all.
    pub fn slots_total(&self) -> u32 {
        self.slots.total()
    }
}

/// Elements of `BACKENDS` that a backend number can reach from one base.
const WINDOW: u32 = 1 << 16;

#[cfg(test)]
mod tests;
