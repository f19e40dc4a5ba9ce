//! Applies a verdict to the bytes of a packet.
//!
//! Golden bytes of every reply are in the tests of the programs; here is what they have in common.

use crate::addr::{AddrWords, Be16, Be32};
use crate::checksum::{Difference, Sum};
use crate::decide::{
    Delivery, Encapsulation, Forward, ProbeAnswer, Reply, ReplyKind, SourceTranslation,
};
use crate::family::{Family, V4, Version};
use crate::frame::FrameMut;
use crate::maps::{Config, Node, Tour, node_flags};
use crate::wire::eth::{Front, ether_type};
use crate::wire::tcp::{MssClamp, TcpHeader};
use crate::wire::{arp, eth, geneve, icmp, ipv4, ipv6, ndp, protocol, tcp, udp};

/// TTL and hop limit of packets made here.
const TTL: u8 = 64;

/// Sends the packet on to another node. `None` if the frame is too short, here and below.
#[inline(always)]
pub fn forward<F: FrameMut + ?Sized>(frame: &mut F, hop: &Forward) -> Option<()> {
    match hop.version {
        Version::V4 => ipv4::forward(frame, hop.network, None).map(drop)?,
        Version::V6 => ipv6::forward(frame, hop.network, None).map(drop)?,
    }
    eth::write_words(frame, hop.ethernet)
}

/// Addresses the packet to a pod.
#[inline(always)]
pub fn deliver<F: FrameMut + ?Sized>(frame: &mut F, delivery: &Delivery) -> Option<()> {
    let outside = match delivery.version {
        Version::V4 => {
            let new = V4::from_words(&delivery.address);
            let old = ipv4::forward(frame, delivery.network, Some(new))?;
            Difference::ZERO.replace32(old, new)
        }
        Version::V6 => {
            let new = delivery.address;
            let old = ipv6::forward(frame, delivery.network, Some(new))?;
            replace_words(old, new)
        }
    };
    if delivery.protocol == protocol::UDP {
        udp::translate(frame, delivery.transport, delivery.ports, outside)
    } else {
        tcp::translate(frame, delivery.transport, delivery.ports, outside)
    }
}

/// Makes the packet come from the VIP.
///
/// The kernel's program does the same with helpers that keep partial checksums right; this is for packets
/// whose checksums are whole.
#[inline(always)]
pub fn translate_source<F: FrameMut + ?Sized>(
    frame: &mut F,
    translation: &SourceTranslation,
) -> Option<()> {
    let outside = match translation.version {
        Version::V4 => {
            let new = V4::from_words(&translation.address);
            let old = ipv4::translate_source(frame, translation.network, new)?;
            Difference::ZERO.replace32(old, new)
        }
        Version::V6 => {
            let new = translation.address;
            let old = ipv6::translate_source(frame, translation.network, new)?;
            replace_words(old, new)
        }
    };
    let (transport, ports) = (translation.transport, translation.ports);
    if translation.protocol == protocol::UDP {
        udp::translate(frame, transport, ports, outside)
    } else {
        tcp::translate(frame, transport, ports, outside)?;
        translation.mss.apply(frame, transport)
    }
}

/// Takes the tunnel off: the frame begins where its Ethernet header is to be, right in front of the packet.
#[inline(always)]
pub fn decapsulate<F: FrameMut + ?Sized>(
    frame: &mut F,
    front: Front,
    version: Version,
) -> Option<()> {
    front.write(frame, ether_type_of(version))
}

/// Octets that a tunnel adds in front of the packet's IP header.
#[inline(always)]
pub const fn overhead(node: &Node, tour: &Tour) -> usize {
    let network = if node.flags & node_flags::IPV6 != 0 {
        ipv6::LENGTH
    } else {
        ipv4::LENGTH
    };
    network + udp::LENGTH + geneve::length(tour)
}

/// Largest MSS of TCP over `inner` whose segments fit through tunnels over `outer`, where IP packets of `mtu`
/// octets go through: what [`Config::mss4`] and [`Config::mss6`] are to hold.
///
/// There is room for what an exception adds, so that a flow that is not where its slot leads has it too; not
/// for a list, since a packet that a list makes too long is located. 0 if nothing fits.
pub const fn tunnel_mss(mtu: u32, outer: Version, inner: Version) -> u16 {
    let tunnel = header_length(outer) + udp::LENGTH + geneve::EXCEPTED;
    let headers = tunnel + header_length(inner) + tcp::LENGTH;
    let mss = (mtu as usize).saturating_sub(headers);
    if mss > u16::MAX as usize {
        u16::MAX
    } else {
        mss as u16
    }
}

const fn header_length(version: Version) -> usize {
    match version {
        Version::V4 => ipv4::LENGTH,
        Version::V6 => ipv6::LENGTH,
    }
}

/// Puts the tunnel on: the frame begins where its Ethernet header is to be, [`overhead`] octets in front of
/// the packet's IP header but for the Ethernet header. Takes one from the packet's TTL.
///
/// The UDP checksum is zero in both versions. RFC 6935 allows that for IPv6 where the tunnel protects what
/// it carries by other means: the packet has its own checksum, and the tag covers the addresses.
#[inline(always)]
pub fn encapsulate<F: FrameMut + ?Sized>(
    frame: &mut F,
    way: &Encapsulation,
    mut front: Front,
    node: &Node,
    config: &Config,
    tour: &Tour,
) -> Option<()> {
    let network = front.length();
    let inner = network + overhead(node, tour);
    let length = inner - network + way.length;
    front.addresses = node.ethernet;
    // From the front to the back, or else the compiler leaves out checks that the verifier wants to see.
    let transport = if node.flags & node_flags::IPV6 != 0 {
        front.write(frame, ether_type::IPV6)?;
        let payload = length - ipv6::LENGTH;
        let ends = (tour.sender, node.addr);
        ipv6::write(frame, network, (TTL, protocol::UDP), payload, ends)?;
        network + ipv6::LENGTH
    } else {
        front.write(frame, ether_type::IPV4)?;
        let payload = length - ipv4::LENGTH;
        let ends = (V4::from_words(&tour.sender), V4::from_words(&node.addr));
        ipv4::write(frame, network, (TTL, protocol::UDP), payload, ends)?;
        network + ipv4::LENGTH
    };
    let payload = length - (transport - network);
    udp::write(
        frame,
        transport,
        way.source_port,
        config.geneve_port,
        payload,
    )?;
    geneve::write(
        frame,
        transport + udp::LENGTH,
        tour,
        ether_type_of(way.version),
    )?;
    match way.version {
        Version::V4 => ipv4::forward(frame, inner, None).map(drop)?,
        Version::V6 => ipv6::forward(frame, inner, None).map(drop)?,
    }
    if way.mss == 0 {
        return Some(());
    }
    clamp(frame, inner + way.header_length(), way.mss)
}

/// Lowers the MSS of a SYN.
#[inline(always)]
fn clamp<F: FrameMut + ?Sized>(frame: &mut F, transport: usize, largest: u16) -> Option<()> {
    let length = TcpHeader::read(frame, transport)?.header_length;
    MssClamp::find(frame, transport, length, largest).apply(frame, transport)
}

#[inline(always)]
const fn ether_type_of(version: Version) -> Be16 {
    match version {
        Version::V4 => ether_type::IPV4,
        Version::V6 => ether_type::IPV6,
    }
}

/// Length that the frame must have before [`reply`] writes it; `None` if it is to stay.
#[inline(always)]
pub const fn reply_length(reply: &Reply) -> Option<usize> {
    match (reply.kind, reply.version) {
        (ReplyKind::Arp | ReplyKind::Echo, _) => None,
        (ReplyKind::Advertisement, _) => {
            Some(reply.network + ipv6::LENGTH + ndp::ADVERTISEMENT_LENGTH)
        }
        (ReplyKind::Reset, Version::V4) => Some(reply.network + ipv4::LENGTH + tcp::LENGTH),
        (ReplyKind::Reset, Version::V6) => Some(reply.network + ipv6::LENGTH + tcp::LENGTH),
        (ReplyKind::PortUnreachable | ReplyKind::TooBig, Version::V4) => {
            Some(reply.network + ipv4::LENGTH + icmp::LENGTH + icmp::QUOTE)
        }
        (ReplyKind::PortUnreachable | ReplyKind::TooBig, Version::V6) => {
            Some(reply.network + ipv6::LENGTH + icmp::LENGTH + icmp::QUOTE_V6)
        }
    }
}

/// Makes the packet the reply to itself; its length must be [`reply_length`].
#[inline(always)]
pub fn reply<F: FrameMut + ?Sized>(frame: &mut F, reply: &Reply) -> Option<()> {
    eth::write(frame, reply.destination, reply.source)?;
    let network = reply.network;
    match (reply.kind, reply.version) {
        (ReplyKind::Arp, _) => arp::answer(frame, network, reply.source),
        (ReplyKind::Advertisement, _) => ndp::answer(frame, network, reply.source),
        (ReplyKind::Echo, Version::V4) => {
            ipv4::turn(frame, network, TTL)?;
            icmp::answer_echo(frame, reply.transport)
        }
        (ReplyKind::Echo, Version::V6) => {
            ipv6::turn(frame, network, TTL)?;
            icmp::answer_echo(frame, reply.transport)
        }
        (ReplyKind::Reset, Version::V4) => {
            let addresses = ipv4::answer(frame, network, TTL, protocol::TCP, tcp::LENGTH)?;
            write_segment(frame, network + ipv4::LENGTH, &reply.segment, addresses)
        }
        (ReplyKind::Reset, Version::V6) => {
            let addresses = ipv6::answer(frame, network, TTL, protocol::TCP, tcp::LENGTH)?;
            write_segment(frame, network + ipv6::LENGTH, &reply.segment, addresses)
        }
        (ReplyKind::PortUnreachable | ReplyKind::TooBig, Version::V4) => {
            let quote = icmp::quote::<F, { icmp::QUOTE }>(frame, network)?;
            let length = icmp::LENGTH + icmp::QUOTE;
            ipv4::answer(frame, network, TTL, protocol::ICMP, length)?;
            icmp::write_error(frame, network + ipv4::LENGTH, error(reply), quote)
        }
        (ReplyKind::PortUnreachable | ReplyKind::TooBig, Version::V6) => {
            let quote = icmp::quote::<F, { icmp::QUOTE_V6 }>(frame, network)?;
            let length = icmp::LENGTH + icmp::QUOTE_V6;
            let sum = ipv6::answer(frame, network, TTL, protocol::ICMPV6, length)?
                .add16(Be16::new(u16::from(protocol::ICMPV6)))
                .add16(Be16::new(length as u16))
                .add(quote);
            icmp::write_error(frame, network + ipv6::LENGTH, error(reply), sum)
        }
    }
}

/// Type and code of an error, and its second word.
#[inline(always)]
const fn error(reply: &Reply) -> (Be16, Be32) {
    let type_and_code = match (reply.kind, reply.version) {
        (ReplyKind::TooBig, Version::V4) => icmp::FRAGMENTATION_NEEDED,
        (ReplyKind::TooBig, Version::V6) => icmp::PACKET_TOO_BIG_V6,
        (_, Version::V4) => icmp::PORT_UNREACHABLE,
        (_, Version::V6) => icmp::PORT_UNREACHABLE_V6,
    };
    (type_and_code, Be32::new(reply.mtu))
}

/// Turns a probe into its answer.
#[inline(always)]
pub fn answer_probe<F: FrameMut + ?Sized>(frame: &mut F, answer: &ProbeAnswer) -> Option<()> {
    eth::write(frame, answer.destination, answer.source)?;
    let addresses = match answer.version {
        Version::V4 => {
            ipv4::turn(frame, answer.network, TTL)?;
            None
        }
        Version::V6 => {
            ipv6::turn(frame, answer.network, TTL)?;
            Some(ipv6::sum_addresses(frame, answer.network)?)
        }
    };
    udp::answer_probe(frame, answer.transport, answer.words, addresses)
}

#[inline(always)]
fn write_segment<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    segment: &TcpHeader,
    addresses: Sum,
) -> Option<()> {
    let pseudo_header = addresses
        .add16(Be16::new(u16::from(protocol::TCP)))
        .add16(Be16::new(tcp::LENGTH as u16));
    segment.write(frame, offset, pseudo_header)
}

#[inline(always)]
fn replace_words(old: AddrWords, new: AddrWords) -> Difference {
    let [a, b, c, d] = old;
    let [e, f, g, h] = new;
    Difference::ZERO
        .replace32(a, e)
        .replace32(b, f)
        .replace32(c, g)
        .replace32(d, h)
}
