//! What is counted while a world runs, and what must never happen.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::agent::Way;
use crate::node::FlowName;

/// Nodes that a packet may visit: the first hop, where a table that lags may lead it, `c0`'s owner,
/// everyone on a list of three, and, if it begins a flow that nobody has, `c0`'s owner again.
pub(crate) const MOST_HOPS: usize = 7;

/// Visits after which a packet is said to loop.
pub(crate) const LOOP: usize = 64;

/// Where a packet's pod stood when the packet was sent, in the tables of `c0`'s owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Place {
    /// It is `c0`.
    Current,
    /// It is `c1`, `c2` or `c3`.
    Former(usize),
    /// The slot does not remember it: push or locate.
    Forgotten,
}

/// Counts of a run.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Tally {
    /// TCP connections that were open at some time.
    pub(crate) connections: u64,
    /// Those that ended though their pod had them.
    pub(crate) broken: u64,
    /// Those that ended with their pod.
    pub(crate) lost_with_pod: u64,
    /// SYNs that were reset: there was no backend, or the answer to a handshake found nobody.
    pub(crate) refused: u64,
    /// Frames that visited a node.
    pub(crate) visits: u64,
    /// Most nodes that one packet visited.
    pub(crate) most_hops: usize,
    /// Packets that did not end.
    pub(crate) loops: u64,
    /// Datagrams sent.
    pub(crate) datagrams: u64,
    /// Datagrams without an answer.
    pub(crate) datagrams_lost: u64,
    /// Times that a UDP client was answered by another pod though the former one lived.
    pub(crate) udp_moved: u64,
    /// Packets that reached a client from another address than the VIP's.
    pub(crate) unsolicited: u64,
    /// Packets of connections whose pod was gone, delivered to a pod that has its address now.
    pub(crate) delivered_to_heir: u64,
    /// Questions to all agents about a flow that nobody on a list knew.
    pub(crate) questions: u64,
    /// Flows sent ahead to the owner of their slot.
    pub(crate) pushes: u64,
    /// Ways by which packets of each connection found their pod.
    #[serde(skip)]
    pub(crate) ways: BTreeMap<(FlowName, u32), BTreeSet<Way>>,
    /// Worst place of each connection, which its pod's initial sequence number tells from the former ones.
    #[serde(skip)]
    pub(crate) places: BTreeMap<(FlowName, u32), Place>,
    /// What must not happen, in words.
    #[serde(skip)]
    pub(crate) violations: BTreeSet<String>,
}

impl Tally {
    /// Notes where a connection's pod stood.
    pub(crate) fn note(&mut self, connection: (FlowName, u32), place: Place) {
        let worst = self.places.entry(connection).or_insert(place);
        *worst = (*worst).max(place);
    }

    /// Connections whose pod was, at worst, at this place.
    pub(crate) fn at(&self, place: Place) -> usize {
        self.places
            .values()
            .filter(|worst| **worst == place)
            .count()
    }

    /// Connections of which a packet went this way.
    pub(crate) fn by(&self, way: Way) -> usize {
        self.ways
            .values()
            .filter(|ways| ways.contains(&way))
            .count()
    }

    /// Notes what must not happen.
    pub(crate) fn violation(&mut self, what: String) {
        self.violations.insert(what);
    }
}
