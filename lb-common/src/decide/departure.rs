//! The way to another node through a tunnel.

use crate::addr::{AddrWords, Be16, Be32, is_none};
use crate::decide::resume::{with_v4, with_v6};
use crate::decide::service::Request;
use crate::decide::{Act, Encapsulation, FamilyTables, Packet, ReplyKind, Tables, Verdict};
use crate::drop::DropReason;
use crate::family::{Family, Version};
use crate::frame::Frame;
use crate::hash::Ports;
use crate::maps::{Config, Node, Tour, config_flags, node_flags, node_mode, tour_flags};
use crate::outcome::Outcome;
use crate::rewrite::overhead;
use crate::wire::tcp::TcpHeader;
use crate::wire::{geneve, ipv4, protocol};

/// First of the source ports of tunnels, which tell flows apart where paths are chosen by hash.
const SOURCE_PORTS: u16 = 0xc000;

/// Where this node's tunnels to a node begin.
#[inline(always)]
const fn tunnel_from(config: &Config, node: &Node) -> AddrWords {
    if node.flags & node_flags::IPV6 != 0 {
        config.tunnel6
    } else {
        let none = Be32::new(0);
        [config.tunnel4, none, none, none]
    }
}

/// Decides how an IPv4 packet goes on of which [`crate::decide::resume_v4`] said [`Verdict::Depart`].
#[inline(always)]
pub fn depart_v4<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v4(frame, tables, |packet, tour| packet.depart(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

/// Decides how an IPv6 packet goes on of which [`crate::decide::resume_v6`] said [`Verdict::Depart`].
#[inline(always)]
pub fn depart_v6<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v6(frame, tables, |packet, tour| packet.depart(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

/// Answers an IPv4 packet of which [`depart_v4`] said [`Verdict::TooBig`].
#[inline(always)]
pub fn complain_v4<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v4(frame, tables, |packet, tour| packet.complain(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

/// Answers an IPv6 packet of which [`depart_v6`] said [`Verdict::TooBig`].
#[inline(always)]
pub fn complain_v6<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v6(frame, tables, |packet, tour| packet.complain(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Request<'_, F, T, A> {
    /// Through a tunnel to the next node; the tour says what the tunnel is to say.
    #[inline(always)]
    fn send<C: Act>(&self, tour: &mut Tour, actor: &C) -> C::Result {
        let packet = self.packet;
        let Some(node) = packet
            .tables
            .node(tour.next)
            .filter(|node| node.mode != node_mode::UNREACHABLE)
        else {
            return actor.act(Verdict::Drop(DropReason::NodeUnreachable));
        };
        tour.sender = tunnel_from(packet.config, node);
        if is_none(&tour.sender) || is_none(&node.addr) {
            return actor.act(Verdict::Drop(DropReason::NoTunnel));
        }
        if !self.fits(tour, node) {
            // A list makes the tunnel longer; without one the packet would reach the flow.
            return if tour.count != 0 && packet.config.flags & config_flags::LOCATE != 0 {
                actor.act(self.locate(tour))
            } else {
                actor.act(Verdict::TooBig)
            };
        }
        self.count(0, 0);
        tour.hops = tour.hops.wrapping_add(1);
        let ports = Ports {
            source: self.ends.source_port,
            destination: self.ends.destination_port,
            protocol: packet.header.protocol,
        };
        let (source, destination) = (self.ends.source, self.ends.destination);
        let hash = A::hash(&packet.config.flow_key, source, destination, ports);
        let key = packet.config.peer_key;
        tour.tag = geneve::tag::<A>(key, tour, &self.ends, packet.header.protocol);
        actor.act(Verdict::Encapsulate(Encapsulation {
            version: A::VERSION,
            network: packet.header.offset,
            length: self.length(),
            node: tour.next,
            source_port: Be16::new(SOURCE_PORTS | (hash >> 16) as u16 & !SOURCE_PORTS),
            transport: packet.header.payload,
            mss: self.mss(),
        }))
    }

    /// Largest MSS that the packet may offer, if it is a SYN.
    #[inline(always)]
    fn mss(&self) -> u16 {
        let packet = self.packet;
        let is_syn = packet.header.protocol == protocol::TCP
            && packet.segment().is_some_and(|segment| segment.is_opening());
        if is_syn { A::mss(packet.config) } else { 0 }
    }

    /// Whether the packet and its tunnel are no longer than what goes there in one piece.
    #[inline(always)]
    fn fits(&self, tour: &Tour, node: &Node) -> bool {
        self.length() + overhead(node, tour) <= mtu(self.packet.config, node)
    }

    /// Octets of the packet.
    #[inline(always)]
    fn length(&self) -> usize {
        let header = &self.packet.header;
        header.payload - header.offset + header.payload_length
    }

    /// Whether a list may lead to a node: another one that lives and can be reached.
    #[inline(always)]
    pub(super) fn is_usable(&self, number: u32) -> bool {
        let is_usable =
            |node: &Node| node.mode != node_mode::UNREACHABLE && node.flags & node_flags::DEAD == 0;
        number != 0 && self.packet.tables.node(number).is_some_and(is_usable)
    }

    /// Makes this node the origin of a list that leads to a node first.
    #[inline(always)]
    pub(super) fn follow(&self, tour: &mut Tour, number: u32, flags: u8) -> Verdict {
        let Some(node) = self.packet.tables.node(number) else {
            return Verdict::Drop(DropReason::NodeUnreachable);
        };
        tour.flags = flags;
        if node.flags & node_flags::IPV6 != 0 {
            tour.flags |= tour_flags::ORIGIN_IPV6;
        }
        tour.origin = tunnel_from(self.packet.config, node);
        tour.next = number;
        Verdict::Depart
    }
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Packet<'_, F, T, A> {
    #[inline(always)]
    fn depart<C: Act>(&self, tour: &mut Tour, actor: &C) -> C::Result {
        match self.request() {
            Some(request) if tour.next == 0 => actor.act(request.locate(tour)),
            Some(request) => request.send(tour, actor),
            None => actor.act(Verdict::Pass),
        }
    }

    /// Tells the sender what fits (RFC 1191, RFC 8201), unless it leaves it to routers to fragment, which
    /// this one does not.
    #[inline(always)]
    fn complain<C: Act>(&self, tour: &Tour, actor: &C) -> C::Result {
        let expects_errors = match A::VERSION {
            Version::V4 => ipv4::forbids_fragments(self.frame, self.header.offset),
            Version::V6 => true,
        };
        let Some(node) = self.tables.node(tour.next).filter(|_| expects_errors) else {
            return actor.act(Verdict::Drop(DropReason::TooBig));
        };
        if !self.is_quotable() {
            return actor.act(Verdict::Drop(DropReason::TooBig));
        }
        if !self.tables.admit_reply() {
            return actor.act(Verdict::Drop(DropReason::ReplyLimited));
        }
        self.tables.count(Outcome::TooBigAnswered);
        let mtu = mtu(self.config, node).saturating_sub(overhead(node, tour)) as u32;
        let (mac, none) = (self.way_back(tour), TcpHeader::default());
        actor.act(self.reply_by(mac, ReplyKind::TooBig, none, mtu))
    }
}

/// Longest IP packet on the way to a node.
#[inline(always)]
fn mtu(config: &Config, node: &Node) -> usize {
    match node.mtu {
        0 => config.mtu as usize,
        mtu => usize::from(mtu),
    }
}
