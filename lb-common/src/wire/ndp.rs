//! Neighbour discovery, RFC 4861: solicitations and their advertisements.

use crate::addr::{AddrWords, Be16, Be32};
use crate::checksum::Sum;
use crate::family::V6;
use crate::frame::{Frame, FrameMut, Window, WindowMut};
use crate::maps::MacKey;
use crate::wire::{IpHeader, ipv6, protocol};

/// Octets of an advertisement with its one option.
pub const ADVERTISEMENT_LENGTH: usize = 32;

/// Octets of a solicitation without options.
const SOLICITATION_LENGTH: usize = 24;
/// Room for three options of eight octets, which is more than any system sends.
const MAX_CHUNKS: usize = 6;
const SOLICITATION: Be16 = Be16::new(135 << 8);
const ADVERTISEMENT: Be16 = Be16::new(136 << 8);
const SOURCE_LINK_LAYER_ADDRESS: u8 = 1;
const SOLICITED: u32 = 1 << 30;
const OVERRIDE: u32 = 1 << 29;
/// Target link-layer address, of one unit of eight octets.
const TARGET_LINK_LAYER_ADDRESS: Be16 = Be16::new(0x0201);

/// Sum of the pseudo-header, RFC 8200 §8.1.
#[inline(always)]
fn pseudo_header(source: AddrWords, destination: AddrWords, length: usize) -> Sum {
    Sum::ZERO
        .add_words(source)
        .add_words(destination)
        .add32(Be32::new(length as u32))
        .add16(Be16::new(u16::from(protocol::ICMPV6)))
}

/// `ff02::1:ff00:0/104` and the low 24 bits of the target.
#[inline(always)]
fn solicited_node(target: &AddrWords) -> AddrWords {
    let [.., low] = target;
    let low = Be32::from_raw(low.raw() | Be32::new(0xff00_0000).raw());
    [Be32::new(0xff02_0000), Be32::new(0), Be32::new(1), low]
}

/// Reads the target of a valid solicitation (RFC 4861 §7.1.1); `None` if it is anything else.
#[inline(always)]
pub fn read_solicitation<F: Frame + ?Sized>(frame: &F, header: &IpHeader<V6>) -> Option<AddrWords> {
    if header.ttl != 255 || header.protocol != protocol::ICMPV6 {
        return None;
    }
    let window = frame.window::<SOLICITATION_LENGTH>(header.payload)?;
    if window.be16::<0>() != SOLICITATION {
        return None;
    }
    let target = window.words::<8, 12, 16, 20>();
    let probe = header.source == ipv6::UNSPECIFIED;
    if header.destination != solicited_node(&target) && (probe || header.destination != target) {
        return None;
    }
    let mut sum = pseudo_header(header.source, header.destination, header.payload_length);
    let mut option_end = SOLICITATION_LENGTH;
    let mut at = 0;
    for _ in 0..MAX_CHUNKS {
        if at >= header.payload_length {
            break;
        }
        let chunk = frame.window::<8>(header.payload + at)?;
        sum = sum.add32(chunk.be32::<0>()).add32(chunk.be32::<4>());
        if at == option_end {
            let length = usize::from(chunk.octet::<1>()) * 8;
            if length == 0 || (probe && chunk.octet::<0>() == SOURCE_LINK_LAYER_ADDRESS) {
                return None;
            }
            option_end += length;
        }
        at += 8;
    }
    let whole = at == header.payload_length && option_end == at;
    (whole && sum.finish() == Be16::new(0)).then_some(target)
}

/// Makes the solicitation whose IPv6 header is at `offset` the advertisement that answers it: `mac` has the
/// target. The answer to a duplicate address probe goes to all nodes (RFC 4861 §7.2.4).
#[inline(always)]
pub fn answer<F: FrameMut + ?Sized>(frame: &mut F, offset: usize, mac: MacKey) -> Option<()> {
    let asker = frame
        .window::<{ ipv6::LENGTH }>(offset)?
        .words::<8, 12, 16, 20>();
    let target = frame
        .window::<SOLICITATION_LENGTH>(offset + ipv6::LENGTH)?
        .words::<8, 12, 16, 20>();
    let probe = asker == ipv6::UNSPECIFIED;
    let (destination, flags) = if probe {
        (ipv6::ALL_NODES, OVERRIDE)
    } else {
        (asker, SOLICITED | OVERRIDE)
    };
    ipv6::answer(frame, offset, 255, protocol::ICMPV6, ADVERTISEMENT_LENGTH)?;
    ipv6::set_addresses(frame, offset, target, destination)?;
    let flags = Be32::new(flags);
    let sum = pseudo_header(target, destination, ADVERTISEMENT_LENGTH)
        .add16(ADVERTISEMENT)
        .add32(flags)
        .add_words(target)
        .add16(TARGET_LINK_LAYER_ADDRESS)
        .add32(mac.head)
        .add16(mac.tail);
    let mut window = frame.window_mut::<ADVERTISEMENT_LENGTH>(offset + ipv6::LENGTH)?;
    window.set_be16::<0>(ADVERTISEMENT);
    window.set_be16::<2>(sum.finish());
    window.set_be32::<4>(flags);
    window.set_words::<8, 12, 16, 20>(target);
    window.set_be16::<24>(TARGET_LINK_LAYER_ADDRESS);
    window.set_be32::<26>(mac.head);
    window.set_be16::<30>(mac.tail);
    Some(())
}
