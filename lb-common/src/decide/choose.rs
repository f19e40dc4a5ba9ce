//! What a new flow gets: a pod, and another port of the client's where the pod
//! meets that one in a flow already.
//!
//! Two frontends may lead to one pod's port, and a client may use one port for both: the replies could not be
//! told apart. The second flow gets the slot's next owner on this node, or else the pod sees another port of
//! the client's, and the replies get the client's own back. Forward entries go by the client's own port all the
//! same, as do exceptions and what agents tell each other.

use crate::addr::Be16;
use crate::decide::resume::{with_v4, with_v6};
use crate::decide::service::Request;
use crate::decide::{FamilyTables, Packet, Tables, Verdict};
use crate::drop::DropReason;
use crate::family::Family;
use crate::flow::FlowTable;
use crate::frame::Frame;
use crate::hash::Ports;
use crate::maps::{Tour, backend_flags};
use crate::outcome::Outcome;

/// Ports that are tried.
const TRIES: u16 = 8;

/// First of the ports that a client may seem to have: the upper half.
const FIRST_PORT: u16 = 0x8000;

/// From one try to the next; odd, so that no port is tried twice.
const STRIDE: u16 = 0x1d35;

/// Chooses for an IPv4 packet of which [`crate::decide::resume_v4`] said [`Verdict::Choose`].
#[inline(always)]
pub fn choose_v4<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    with_v4(frame, tables, |packet, tour| packet.choose(tour)).unwrap_or(Verdict::Pass)
}

/// Chooses for an IPv6 packet of which [`crate::decide::resume_v6`] said [`Verdict::Choose`].
#[inline(always)]
pub fn choose_v6<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    with_v6(frame, tables, |packet, tour| packet.choose(tour)).unwrap_or(Verdict::Pass)
}

/// Chooses a port for an IPv4 packet of which [`choose_v4`] said [`Verdict::Renumber`].
#[inline(always)]
pub fn renumber_v4<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    with_v4(frame, tables, |packet, tour| packet.renumber(tour)).unwrap_or(Verdict::Pass)
}

/// Chooses a port for an IPv6 packet of which [`choose_v6`] said [`Verdict::Renumber`].
#[inline(always)]
pub fn renumber_v6<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    with_v6(frame, tables, |packet, tour| packet.renumber(tour)).unwrap_or(Verdict::Pass)
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Packet<'_, F, T, A> {
    #[inline(always)]
    fn choose(&self, tour: &mut Tour) -> Verdict {
        self.request()
            .map_or(Verdict::Pass, |request| request.choose(tour))
    }

    #[inline(always)]
    fn renumber(&self, tour: &mut Tour) -> Verdict {
        self.request()
            .map_or(Verdict::Pass, |request| request.renumber(tour))
    }
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Request<'_, F, T, A> {
    /// The first owner of the slot on this node whose replies would not be taken for another flow's.
    #[inline(always)]
    fn choose(&self, tour: &mut Tour) -> Verdict {
        let tables = self.packet.tables;
        let table = FlowTable::of_new(self.packet.header.protocol);
        let mut owners = tables.slot(self.slot()).unwrap_or_default().0;
        // Today's owner may drain, where all do. A former one that drains gets nothing new.
        let mut unwanted = 0;
        while owners != 0 {
            let number = owners as u16;
            owners >>= 16;
            let Some((index, backend)) = self.candidate(number) else {
                continue;
            };
            if backend.node != 0 || backend.flags & unwanted != 0 {
                continue;
            }
            if !self.is_taken(table, &self.first(index, backend, self.ends.source_port)) {
                if unwanted != 0 {
                    tables.count(Outcome::CandidateSkipped);
                }
                tour.backend = index;
                tour.client_port = self.ends.source_port;
                return Verdict::Begin;
            }
            unwanted = backend_flags::DRAINING;
        }
        Verdict::Renumber
    }

    /// A port that is free at the pod of today's owner.
    #[inline(always)]
    fn renumber(&self, tour: &mut Tour) -> Verdict {
        let tables = self.packet.tables;
        let table = FlowTable::of_new(self.packet.header.protocol);
        let slot = tables.slot(self.slot()).unwrap_or_default();
        let Some((index, backend)) = self.candidate(slot.current()) else {
            return Verdict::Drop(DropReason::NoBackend);
        };
        let mut flow = self.first(index, backend, self.ends.source_port);
        let mut port = self.first_try();
        for _ in 0..TRIES {
            flow.client_port = Be16::new(FIRST_PORT | port);
            if !self.is_taken(table, &flow) {
                tables.count(Outcome::PortTranslated);
                tour.backend = index;
                tour.client_port = flow.client_port;
                return Verdict::Begin;
            }
            port = port.wrapping_add(STRIDE);
        }
        Verdict::Drop(DropReason::ReverseTaken)
    }

    /// A keyed hash of the flow: another flow of the client's begins elsewhere, and nobody else knows where.
    #[inline(always)]
    fn first_try(&self) -> u16 {
        let ports = Ports {
            source: self.ends.source_port,
            destination: self.ends.destination_port,
            protocol: self.packet.header.protocol,
        };
        let key = &self.packet.config.flow_key;
        A::hash(key, self.ends.source, self.ends.destination, ports) as u16
    }
}
