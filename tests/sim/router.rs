//! The router: spreads packets for VIPs over its next hops by a hash that can
//! be re-seeded.

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
        let at = hash.checked_rem(self.next_hops.len() as u64)?;
        self.next_hops.get(at as usize).copied()
    }
}
