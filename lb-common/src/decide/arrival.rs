//! What came through a tunnel from a peer.

use crate::addr::{Be16, is_none};
use crate::decide::resume::{with_v4, with_v6};
use crate::decide::{Act, FamilyTables, Packet, Tables, Verdict, outset};
use crate::drop::DropReason;
use crate::family::{Endpoints, Family, Version};
use crate::frame::Frame;
use crate::maps::{Config, Slot, Tour, tour_flags};
use crate::wire::eth::{EthHeader, ether_type};
use crate::wire::{IpHeader, geneve, ipv4, ipv6, protocol, udp};

/// Tunnels that a packet may go through: a slot, sent on, a list, and back.
const HOPS: u8 = 2 + Slot::DEPTH as u8 + 1;

/// Reads how a packet came here into the tables' tour: through which tunnel, or through none. Gives the IP
/// version of the packet; `None` if it is not for us.
#[inline(always)]
pub fn arrive<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Option<Version> {
    let (ethernet, config) = outset(frame, tables)?;
    tables.with_tour(|tour| match ethernet.ether_type {
        ether_type::IPV4 => {
            let header = ipv4::read(frame, ethernet.payload)?;
            enter(frame, tables, config, &ethernet, &header, tour)
        }
        ether_type::IPV6 => {
            let header = ipv6::read(frame, ethernet.payload)?;
            enter(frame, tables, config, &ethernet, &header, tour)
        }
        _ => None,
    })?
}

#[inline(always)]
fn enter<F: Frame + ?Sized, T: Tables, A: Family>(
    frame: &F,
    tables: &T,
    config: &Config,
    ethernet: &EthHeader,
    header: &IpHeader<A>,
    tour: &mut Tour,
) -> Option<Version> {
    *tour = Tour::default();
    if !is_tunnel(frame, config, header) {
        tour.network = ethernet.payload as u16;
        return Some(A::VERSION);
    }
    let sender = A::to_words(header.source);
    tables.peer_at(&sender)?;
    let inner = geneve::read(frame, header.payload + udp::LENGTH, tour)?;
    let network = header.payload + udp::LENGTH + inner.length;
    tour.sender = sender;
    tour.network = network as u16;
    tour.strip = (network - ethernet.payload) as u16;
    Some(if inner.ether_type == ether_type::IPV4 {
        Version::V4
    } else {
        Version::V6
    })
}

/// Whether an IPv4 packet that has arrived came without a tunnel, or through one whose tag is right.
#[inline(always)]
pub fn authenticate_v4<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> bool {
    with_v4(frame, tables, |packet, tour| packet.is_authentic(tour)).unwrap_or(false)
}

/// The same of an IPv6 packet.
#[inline(always)]
pub fn authenticate_v6<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> bool {
    with_v6(frame, tables, |packet, tour| packet.is_authentic(tour)).unwrap_or(false)
}

/// Delivers an IPv4 packet that came through a tunnel, if its flow is here. [`Verdict::Resume`] if not, or if
/// it came through none.
#[inline(always)]
pub fn receive_v4<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v4(frame, tables, |packet, tour| packet.receive(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

/// The same of an IPv6 packet.
#[inline(always)]
pub fn receive_v6<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v6(frame, tables, |packet, tour| packet.receive(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

/// Whether a packet is addressed to where this node's tunnels end.
#[inline(always)]
fn is_tunnel<F: Frame + ?Sized, A: Family>(
    frame: &F,
    config: &Config,
    header: &IpHeader<A>,
) -> bool {
    header.protocol == protocol::UDP
        && header.destination == A::tunnel(config)
        && !is_none(&A::to_words(header.destination))
        && !header.fragment
        && !header.malformed
        && !header.exceeds(frame.length())
        && udp::ports(frame, header.payload).is_some_and(|(_, port)| port == config.geneve_port)
        && config.geneve_port != Be16::new(0)
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Packet<'_, F, T, A> {
    /// Whether the packet is addressed to where this node's tunnels end.
    #[inline(always)]
    pub(super) fn is_tunnel(&self) -> bool {
        is_tunnel(self.frame, self.config, &self.header)
    }

    #[inline(always)]
    fn receive<C: Act>(&self, tour: &Tour, actor: &C) -> C::Result {
        if tour.strip == 0 {
            return actor.act(Verdict::Resume);
        }
        let Some(request) = self.request() else {
            return actor.act(Verdict::Pass);
        };
        if self.header.ttl <= 1 || tour.hops > HOPS {
            return actor.act(Verdict::Drop(DropReason::TtlExpired));
        }
        let is_found = tour.flags & tour_flags::KNOWN != 0;
        let Some(flow) = request.known(is_found) else {
            return actor.act(Verdict::Resume);
        };
        request.report(tour);
        actor.act(request.deliver(&flow, 0))
    }

    #[inline(always)]
    fn is_authentic(&self, tour: &Tour) -> bool {
        if tour.strip == 0 {
            return true;
        }
        let Some((source_port, destination_port)) = udp::ports(self.frame, self.header.payload)
        else {
            return false;
        };
        let ends = Endpoints {
            source: self.header.source,
            destination: self.header.destination,
            source_port,
            destination_port,
        };
        let key = self.config.peer_key;
        geneve::tag::<A>(key, tour, &ends, self.header.protocol) == tour.tag
    }
}
