//! The daisy chain: a packet without a flow here asks the former owners of its
//! slot, one by one.

use crate::addr::{AddrWords, Be16};
use crate::decide::service::Request;
use crate::decide::{FamilyTables, Tables, Verdict};
use crate::drop::DropReason;
use crate::family::{Family, Version};
use crate::flow::FlowTable;
use crate::frame::Frame;
use crate::hash::Ports;
use crate::limit;
use crate::maps::{
    Event, Flow, Owner, Slot, Tour, config_flags, event_flags, event_kind, flow_state, tour_flags,
};
use crate::outcome::Outcome;

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Request<'_, F, T, A> {
    /// Writes the slot's owners on other nodes into the tour, but for the first, whose node it gives.
    ///
    /// A node is asked once: it looks for the flow, not for the owner that the list names.
    #[inline(always)]
    pub(super) fn list(&self, tour: &mut Tour, slot: Slot) -> Option<u32> {
        let mut first = 0;
        // Numbers of the nodes on the list, 16 bits each.
        let mut asked = 0u64;
        let mut owners = slot.0;
        tour.count = 0;
        while owners != 0 {
            let number = owners as u16;
            owners >>= 16;
            let Some((_, backend)) = self.candidate(number) else {
                continue;
            };
            let node = u32::from(backend.node);
            if has_lane(asked, backend.node) || !self.is_usable(node) {
                continue;
            }
            asked = asked << 16 | u64::from(node);
            if first == 0 {
                first = node;
            } else if let Some(owner) = tour.owners.get_mut(usize::from(tour.count)) {
                owner.addr = backend.addr;
                owner.port = backend.port;
                tour.count += 1;
            }
        }
        (first != 0).then_some(first)
    }

    /// As one on the list who has no entry: to the next.
    #[inline(always)]
    pub(super) fn pass_on(&self, tour: &mut Tour, begins: bool) -> Verdict {
        let tables = self.packet.tables;
        for _ in 0..Tour::LENGTH {
            if tour.count == 0 {
                break;
            }
            let [next, second, third] = tour.owners;
            tour.owners = [second, third, Owner::default()];
            tour.count -= 1;
            let key = A::backend_key(self.frontend.id, &next.addr, next.port);
            let node = FamilyTables::<A>::backend_index(tables, &key)
                .and_then(|index| tables.backend(index))
                .map_or(0, |backend| u32::from(backend.node));
            if self.is_usable(node) {
                tables.count(Outcome::ChainPassed);
                tour.next = node;
                return Verdict::Depart;
            }
        }
        tables.count(Outcome::ChainEnded);
        let is_located = self.packet.config.flags & config_flags::LOCATE != 0;
        let is_awaited = tour.flags & tour_flags::HALF_OPEN != 0 && !is_located;
        if !begins && !is_awaited {
            return self.unknown(tour);
        }
        match tables.peer_at(&tour.origin) {
            Some(node) => {
                tables.count(Outcome::Returned);
                tour.flags = tour_flags::FINAL | tour_flags::RETURNED;
                tour.next = node;
                Verdict::Depart
            }
            None => Verdict::Drop(DropReason::NodeUnreachable),
        }
    }

    /// A segment whose flow nobody on the list knows.
    #[inline(always)]
    pub(super) fn unknown(&self, tour: &mut Tour) -> Verdict {
        if self.packet.config.flags & config_flags::LOCATE == 0 {
            return Verdict::Refuse;
        }
        tour.next = 0;
        Verdict::Depart
    }

    /// Asks the agent where the flow is. The packet ends here, and the client tries again.
    #[inline(always)]
    pub(super) fn locate(&self, tour: &Tour) -> Verdict {
        let packet = self.packet;
        if packet.tables.admit_event(self.bucket()) && self.emit(tour, event_kind::LOCATE, 0) {
            packet.tables.count(Outcome::LocateWanted);
        } else {
            packet.tables.count(Outcome::EventLost);
        }
        Verdict::Drop(DropReason::Located)
    }

    /// Tells the agent that a list led here, at most once a second and flow.
    #[inline(always)]
    pub(super) fn report(&self, tour: &Tour) {
        if tour.flags & (tour_flags::CHAIN | tour_flags::KNOWN) != tour_flags::CHAIN {
            return;
        }
        let tables = self.packet.tables;
        tables.count(Outcome::ChainHit);
        // Never 0, which says that the flow was not reported yet.
        let second = (1 + tables.now_seconds() % 15) as u16;
        let second = second << flow_state::REPORTED_SHIFT;
        let due = |flow: &mut Flow| {
            let is_due = flow.state & flow_state::REPORTED != second;
            flow.state = flow.state & !flow_state::REPORTED | second;
            is_due.then_some(flow.backend)
        };
        // A half-open flow is not worth an exception; UDP that goes one way is.
        let key = self.forward_key();
        let lasting = FlowTable::of_lasting(self.packet.header.protocol);
        let mut backend = FamilyTables::<A>::with_flow(tables, lasting, &key, due);
        if backend.is_none() && lasting == FlowTable::Udp {
            backend = FamilyTables::<A>::with_flow(tables, FlowTable::Unanswered, &key, due);
        }
        if let Some(Some(backend)) = backend
            && !self.emit(tour, event_kind::CHAIN_HIT, backend)
        {
            tables.count(Outcome::EventLost);
        }
    }

    #[inline(always)]
    fn emit(&self, tour: &Tour, kind: u8, backend: u32) -> bool {
        let mut flags = match A::VERSION {
            Version::V4 => 0,
            Version::V6 => event_flags::IPV6,
        };
        if tour.flags & tour_flags::ORIGIN_IPV6 != 0 {
            flags |= event_flags::ORIGIN_IPV6;
        }
        self.packet.tables.emit(Event {
            source: A::to_words(self.ends.source),
            destination: A::to_words(self.ends.destination),
            origin: if tour.flags & tour_flags::CHAIN != 0 {
                tour.origin
            } else {
                AddrWords::default()
            },
            source_port: self.ends.source_port,
            destination_port: self.ends.destination_port,
            protocol: self.packet.header.protocol,
            kind,
            flags,
            zero: 0,
            frontend: self.frontend.id,
            backend,
        })
    }

    /// Bucket of events of the client's network at this frontend.
    #[inline(always)]
    fn bucket(&self) -> u32 {
        let ports = Ports {
            source: Be16::new(0),
            destination: self.ends.destination_port,
            protocol: self.packet.header.protocol,
        };
        let network = A::network(self.ends.source);
        let key = &self.packet.config.flow_key;
        A::hash(key, network, self.ends.destination, ports) % limit::EVENT_BUCKETS
    }
}

/// Whether one of four 16-bit numbers is the given one, which is not 0. Without a branch for each, which
/// would multiply the paths that the verifier walks.
#[inline(always)]
const fn has_lane(lanes: u64, number: u16) -> bool {
    const ONES: u64 = 0x0001_0001_0001_0001;
    let differences = lanes ^ (number as u64 * ONES);
    differences.wrapping_sub(ONES) & !differences & (ONES << 15) != 0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_number_is_found_among_four(lanes in any::<[u16; 4]>(), other in 1u16.., pick in 0usize..8) {
            let number = lanes.get(pick).copied().unwrap_or(other).max(1);
            let packed = Slot::new(lanes).0;
            prop_assert_eq!(has_lane(packed, number), lanes.contains(&number));
        }
    }
}
