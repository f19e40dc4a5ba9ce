//! The first hop: which backend, and by which way.

use crate::addr::Be16;
use crate::decide::{FamilyTables, Forward, Packet, Tables, Verdict};
use crate::drop::DropReason;
use crate::family::{Endpoints, Family};
use crate::frame::Frame;
use crate::hash::Ports;
use crate::maps::{
    Backend, Frontend, FrontendStats, backend_flags, frontend_flags, node_mode, peer_filter_bit,
};
use crate::wire::{protocol, udp};

/// A packet for a frontend.
pub(super) struct Request<'a, F: ?Sized, T, A: Family> {
    pub(super) packet: &'a Packet<'a, F, T, A>,
    pub(super) frontend: Frontend,
    pub(super) ends: Endpoints<A::Address>,
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Packet<'_, F, T, A> {
    /// Decides what becomes of an IP packet.
    #[inline(always)]
    pub(super) fn ingress(&self) -> Verdict {
        // A frame that a switch floods to every port is not for us to answer or to forward.
        if self.ethernet.destination != self.own_mac() {
            return Verdict::Pass;
        }
        match self.request() {
            Some(request) => request.steer(),
            None => self.without_frontend(),
        }
    }

    #[inline(always)]
    pub(super) fn request(&self) -> Option<Request<'_, F, T, A>> {
        let header = &self.header;
        if header.protocol != protocol::TCP && header.protocol != protocol::UDP {
            return None;
        }
        if header.fragment
            || header.malformed
            || header.payload_length < udp::LENGTH
            || header.exceeds(self.frame.length())
        {
            return None;
        }
        let (source_port, destination_port) = udp::ports(self.frame, header.payload)?;
        let key = A::frontend_key(header.destination, destination_port, header.protocol);
        let frontend = FamilyTables::<A>::frontend(self.tables, &key)?;
        let ends = Endpoints {
            source: header.source,
            destination: header.destination,
            source_port,
            destination_port,
        };
        Some(Request {
            packet: self,
            frontend,
            ends,
        })
    }

    #[inline(always)]
    pub(super) fn is_from_peer(&self) -> bool {
        let source = &self.ethernet.source;
        self.config.peer_filter & peer_filter_bit(source.head, source.tail) != 0
            && self.tables.is_peer(source)
    }
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Request<'_, F, T, A> {
    #[inline(always)]
    fn steer(&self) -> Verdict {
        let packet = self.packet;
        // Every way on takes one from the TTL, and a packet does not leave with none.
        if packet.header.ttl <= 1 {
            return Verdict::Drop(DropReason::TtlExpired);
        }
        let slot = packet.tables.slot(self.slot()).unwrap_or_default();
        match self.candidate(slot.current()) {
            Some((_, backend)) if backend.node != 0 && !packet.is_from_peer() => self.hop(backend),
            _ => match self.known() {
                Some(flow) => self.deliver(&flow, 0),
                None => Verdict::Resume,
            },
        }
    }

    /// The backend of a number, with its index.
    #[inline(always)]
    pub(super) fn candidate(&self, number: u16) -> Option<(u32, &Backend)> {
        let index = self.frontend.backends.wrapping_add(u32::from(number));
        let backend = self.packet.tables.backend(index)?;
        (number != 0 && backend.flags & backend_flags::IN_USE != 0).then_some((index, backend))
    }

    /// Index of the packet's slot.
    #[inline(always)]
    pub(super) fn slot(&self) -> u32 {
        let affinity = self.frontend.flags & frontend_flags::CLIENT_AFFINITY != 0;
        let ports = Ports {
            source: if affinity {
                Be16::new(0)
            } else {
                self.ends.source_port
            },
            destination: self.ends.destination_port,
            protocol: self.packet.header.protocol,
        };
        let hash = A::hash(
            &self.packet.config.flow_key,
            self.ends.source,
            self.ends.destination,
            ports,
        );
        self.frontend.slots.wrapping_add(hash & self.frontend.mask)
    }

    /// To the node of a backend: over the segment, unless a tunnel is to lead there.
    #[inline(always)]
    fn hop(&self, backend: &Backend) -> Verdict {
        let is_asked_for = |flag: u32| self.frontend.flags & flag != 0;
        match self.packet.tables.node(u32::from(backend.node)) {
            Some(node) if node.mode == node_mode::L2 && !is_asked_for(frontend_flags::TUNNEL) => {
                self.count(0, 0);
                Verdict::Forward(Forward {
                    version: A::VERSION,
                    network: self.packet.header.offset,
                    ethernet: node.ethernet,
                })
            }
            Some(node)
                if node.mode != node_mode::UNREACHABLE
                    && !is_asked_for(frontend_flags::SEGMENT) =>
            {
                Verdict::Resume
            }
            _ => Verdict::Drop(DropReason::NodeUnreachable),
        }
    }

    /// Counts the packet, which began or did not begin a flow, and was or was not delivered.
    #[inline(always)]
    pub(super) fn count(&self, flows: u64, delivered: u64) {
        let bytes = self.packet.frame.length() as u64;
        let more = FrontendStats {
            packets: 1,
            bytes,
            flows,
            delivered,
        };
        self.packet.tables.count_frontend(self.frontend.id, &more);
    }
}
