//! The tunnel between nodes: GENEVE (RFC 8926) with one option of ours.
//!
//! ```text
//!  0  version 0, length of options (in words)   C = 1   protocol type of the inner packet
//!  4  VNI 0                                                          reserved
//!  8  option class 0xff54                       type 0x81            length (in words)
//! 12  flags            hops                     count                zero
//! 16  SipHash-2-4 tag (64 bits)
//! 24  origin (128 bits), only in a chain
//! 40  count times: pod address (128 bits), pod port (16 bits), zero (16 bits)
//! ```
//!
//! The class is of the range for experiments. The type has the critical bit, because a tunnel endpoint that
//! does not know the option must not take the inner packet for its own. IPv4 addresses are followed by
//! zeros. Anything that differs from this by one bit is not ours.
//!
//! The tag is made with the peer key over the outer source, the option but for the tag itself, and the
//! inner packet's addresses, ports and protocol. It binds a list to one flow from one sender; it does not
//! prevent replay, which can do no more than the packet's first arrival did.

use crate::addr::{AddrWords, Be16, Be32};
use crate::family::{Endpoints, Family};
use crate::frame::{Frame, FrameMut, Window, WindowMut};
use crate::maps::{Owner, Tour, tour_flags};
use crate::siphash::{self, Key};
use crate::wire::eth::ether_type;

/// UDP port unless set otherwise, RFC 8926 §3.3.
pub const PORT: u16 = 6081;

/// Octets up to the end of the tag.
const FIXED: usize = 24;
/// Octets of the origin.
const ORIGIN: usize = 16;
/// Octets up to the end of the origin.
const CHAINED: usize = FIXED + ORIGIN;
/// Octets of the header of a tunnel to where an exception leads.
pub const EXCEPTED: usize = CHAINED;
/// Octets of an owner.
const OWNER: usize = 20;

/// `C`: there is a critical option.
const CRITICAL: u8 = 0x40;
const OPTION_CLASS: Be16 = Be16::new(0xff54);
const OPTION_TYPE: u8 = 0x81;

/// Octets of the header with its option.
#[inline(always)]
pub const fn length(tour: &Tour) -> usize {
    if tour.flags & tour_flags::CHAIN == 0 {
        FIXED
    } else {
        CHAINED + OWNER * tour.count as usize
    }
}

/// EtherType of the inner packet, and octets of the header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Inner {
    /// EtherType.
    pub ether_type: Be16,
    /// Octets of the header with its option.
    pub length: usize,
}

/// Reads the header at `offset` into the tour; `None` if it is not ours. The tag is not judged.
#[inline(always)]
pub fn read<F: Frame + ?Sized>(frame: &F, offset: usize, tour: &mut Tour) -> Option<Inner> {
    let window = frame.window::<FIXED>(offset)?;
    tour.flags = window.octet::<12>();
    tour.hops = window.octet::<13>();
    tour.count = window.octet::<14>();
    tour.origin = AddrWords::default();
    tour.owners = [Owner::default(); Tour::LENGTH];
    tour.tag = [window.be32::<16>(), window.be32::<20>()];
    let length = length(tour);
    let inner = window.be16::<2>();
    let is_ours = usize::from(window.octet::<0>()) * 4 + 8 == length
        && window.octet::<1>() == CRITICAL
        && (inner == ether_type::IPV4 || inner == ether_type::IPV6)
        && window.be32::<4>() == Be32::new(0)
        && window.be16::<8>() == OPTION_CLASS
        && window.octet::<10>() == OPTION_TYPE
        && usize::from(window.octet::<11>()) * 4 + 12 == length
        && window.octet::<15>() == 0;
    if !is_ours || usize::from(tour.count) > Tour::LENGTH {
        return None;
    }
    if tour.flags & tour_flags::CHAIN != 0 {
        tour.origin = frame
            .window::<ORIGIN>(offset + FIXED)?
            .words::<0, 4, 8, 12>();
        let count = usize::from(tour.count);
        for (position, owner) in tour.owners.iter_mut().enumerate().take(count) {
            let window = frame.window::<OWNER>(offset + CHAINED + OWNER * position)?;
            owner.addr = window.words::<0, 4, 8, 12>();
            owner.port = window.be16::<16>();
            if window.be16::<18>() != Be16::new(0) {
                return None;
            }
        }
    }
    Some(Inner {
        ether_type: inner,
        length,
    })
}

/// Writes the header with the tour's list and tag at `offset`. `None` if the frame is too short.
#[inline(always)]
pub fn write<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    tour: &Tour,
    inner: Be16,
) -> Option<()> {
    let words = (length(tour) / 4) as u8;
    let mut window = frame.window_mut::<FIXED>(offset)?;
    window.set_octet::<0>(words - 2);
    window.set_octet::<1>(CRITICAL);
    window.set_be16::<2>(inner);
    window.set_be32::<4>(Be32::new(0));
    window.set_be16::<8>(OPTION_CLASS);
    window.set_octet::<10>(OPTION_TYPE);
    window.set_octet::<11>(words - 3);
    window.set_octet::<12>(tour.flags);
    window.set_octet::<13>(tour.hops);
    window.set_octet::<14>(tour.count);
    window.set_octet::<15>(0);
    let [high, low] = tour.tag;
    window.set_be32::<16>(high);
    window.set_be32::<20>(low);
    drop(window);
    if tour.flags & tour_flags::CHAIN == 0 {
        return Some(());
    }
    write_list(frame, offset + FIXED, tour)
}

#[inline(always)]
fn write_list<F: FrameMut + ?Sized>(frame: &mut F, offset: usize, tour: &Tour) -> Option<()> {
    frame
        .window_mut::<ORIGIN>(offset)?
        .set_words::<0, 4, 8, 12>(tour.origin);
    let count = usize::from(tour.count);
    for (position, owner) in tour.owners.iter().enumerate().take(count) {
        let mut window = frame.window_mut::<OWNER>(offset + ORIGIN + OWNER * position)?;
        window.set_words::<0, 4, 8, 12>(owner.addr);
        window.set_be16::<16>(owner.port);
        window.set_be16::<18>(Be16::new(0));
    }
    Some(())
}

/// The tag of a tour from its sender, around a packet with these ends.
#[inline(always)]
pub fn tag<A: Family>(
    key: Key,
    tour: &Tour,
    ends: &Endpoints<A::Address>,
    ip_protocol: u8,
) -> [Be32; 2] {
    let [s0, s1] = join(tour.sender);
    let [c0, c1] = join(A::to_words(ends.source));
    let [v0, v1] = join(A::to_words(ends.destination));
    let head = u32::from_be_bytes([tour.flags, tour.hops, tour.count, ip_protocol]);
    let head = u64::from(head) << 32 | u64::from(A::ETHER_TYPE.host());
    let ports = u64::from(ends.source_port.host()) << 16 | u64::from(ends.destination_port.host());
    let tag = if tour.flags & tour_flags::CHAIN == 0 {
        siphash::tag(key, [s0, s1, head, c0, c1, v0, v1, ports])
    } else {
        let [o0, o1] = join(tour.origin);
        let [a, b, c] = &tour.owners;
        let ([a0, a1], [b0, b1], [c2, c3]) = (join(a.addr), join(b.addr), join(c.addr));
        let owner_ports = u64::from(a.port.host()) << 32
            | u64::from(b.port.host()) << 16
            | u64::from(c.port.host());
        siphash::tag(
            key,
            [
                s0,
                s1,
                head,
                c0,
                c1,
                v0,
                v1,
                ports,
                o0,
                o1,
                a0,
                a1,
                b0,
                b1,
                c2,
                c3,
                owner_ports,
            ],
        )
    };
    [Be32::new((tag >> 32) as u32), Be32::new(tag as u32)]
}

#[inline(always)]
const fn join(words: AddrWords) -> [u64; 2] {
    let [a, b, c, d] = words;
    [
        (a.host() as u64) << 32 | b.host() as u64,
        (c.host() as u64) << 32 | d.host() as u64,
    ]
}

#[cfg(test)]
mod tests;
