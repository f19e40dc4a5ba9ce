//! The router: spreads packets for VIPs over its next hops by a hash that can
//! be re-seeded.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};

use harness::frame::FrameBuilder;
use lb_common::addr::Mac;

use crate::node::NodeId;
use crate::random::mix;

/// Its address on the segment.
pub(crate) const MAC: Mac = Mac([0x02, 0, 0, 0, 1, 0]);

/// A router.
#[derive(Debug)]
pub(crate) struct Router {
    /// Nodes that announce the VIP, in the order in which the router counts them.
    pub(crate) next_hops: Vec<NodeId>,
    /// Those that announce it no more, since they have no pods to serve it.
    pub(crate) idle: BTreeSet<NodeId>,
    /// Seed of the hash.
    pub(crate) seed: u64,
}

impl Router {
    /// The next hop of a packet for a VIP. A modulo, so that a change of the set moves nearly every flow.
    pub(crate) fn pick(&self, packet: &FrameBuilder) -> Option<NodeId> {
        let mut hasher = DefaultHasher::new();
        (packet.source, packet.source_port).hash(&mut hasher);
        (packet.destination, packet.destination_port).hash(&mut hasher);
        let hash = mix(hasher.finish() ^ self.seed);
        let serving = self.next_hops.iter().filter(|hop| !self.idle.contains(hop));
        let mut hops: Vec<&NodeId> = serving.collect();
        if hops.is_empty() {
            // What is tried is not whether there is a way: the last routes stay.
            hops = self.next_hops.iter().collect();
        }
        let at = hash.checked_rem(hops.len() as u64)?;
        hops.get(at as usize).map(|hop| **hop)
    }
}
