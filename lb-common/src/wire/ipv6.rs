//! IPv6, RFC 8200.

use crate::addr::{AddrWords, Be16, Be32};
use crate::checksum::Sum;
use crate::family::V6;
use crate::frame::{Frame, FrameMut, Window, WindowMut};
use crate::wire::IpHeader;

/// Octets of the fixed header.
pub const LENGTH: usize = 40;

/// `::`.
pub const UNSPECIFIED: AddrWords = [Be32::new(0), Be32::new(0), Be32::new(0), Be32::new(0)];
/// `ff02::1`, all nodes on the link.
pub const ALL_NODES: AddrWords = [
    Be32::new(0xff02_0000),
    Be32::new(0),
    Be32::new(0),
    Be32::new(1),
];

/// Reads the header at `offset`; `None` if it is too short or of another version.
#[inline(always)]
pub fn read<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<IpHeader<V6>> {
    let window = frame.window::<LENGTH>(offset)?;
    if window.octet::<0>() >> 4 != 6 {
        return None;
    }
    Some(IpHeader {
        source: window.words::<8, 12, 16, 20>(),
        destination: window.words::<24, 28, 32, 36>(),
        protocol: window.octet::<6>(),
        ttl: window.octet::<7>(),
        offset,
        payload: offset + LENGTH,
        payload_length: usize::from(window.be16::<4>().host()),
        fragment: window.octet::<6>() == FRAGMENT_HEADER,
        malformed: false,
    })
}

/// Next header of a fragment.
const FRAGMENT_HEADER: u8 = 44;

/// Takes one from the hop limit and, if asked to, gives the packet another destination. Gives the old one.
#[inline(always)]
pub fn forward<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    destination: Option<AddrWords>,
) -> Option<AddrWords> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let old_destination = window.words::<24, 28, 32, 36>();
    window.set_octet::<7>(window.octet::<7>().wrapping_sub(1));
    if let Some(destination) = destination {
        window.set_words::<24, 28, 32, 36>(destination);
    }
    Some(old_destination)
}

/// Gives the packet another source. Gives the old one.
pub fn translate_source<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    source: AddrWords,
) -> Option<AddrWords> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let old = window.words::<8, 12, 16, 20>();
    window.set_words::<8, 12, 16, 20>(source);
    Some(old)
}

/// Sends the packet back whence it came, with a fresh hop limit; all else stays.
#[inline(always)]
pub fn turn<F: FrameMut + ?Sized>(frame: &mut F, offset: usize, hop_limit: u8) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let source = window.words::<8, 12, 16, 20>();
    let destination = window.words::<24, 28, 32, 36>();
    window.set_words::<8, 12, 16, 20>(destination);
    window.set_words::<24, 28, 32, 36>(source);
    window.set_octet::<7>(hop_limit);
    Some(())
}

/// Writes a header in front of `length` octets.
#[inline(always)]
pub fn write<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    (hop_limit, protocol): (u8, u8),
    length: usize,
    (source, destination): (AddrWords, AddrWords),
) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    window.set_be32::<0>(Be32::new(0x6000_0000));
    window.set_be16::<4>(Be16::new(length as u16));
    window.set_octet::<6>(protocol);
    window.set_octet::<7>(hop_limit);
    window.set_words::<8, 12, 16, 20>(source);
    window.set_words::<24, 28, 32, 36>(destination);
    Some(())
}

/// Overwrites the header with one that goes back whence the packet came and has `length` octets behind it.
/// Gives the sum of both addresses.
#[inline(always)]
pub fn answer<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    hop_limit: u8,
    protocol: u8,
    length: usize,
) -> Option<Sum> {
    turn(frame, offset, hop_limit)?;
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    window.set_be32::<0>(Be32::new(0x6000_0000));
    window.set_be16::<4>(Be16::new(length as u16));
    window.set_octet::<6>(protocol);
    drop(window);
    sum_addresses(frame, offset)
}

/// The sum of both addresses.
#[inline(always)]
pub fn sum_addresses<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<Sum> {
    let window = frame.window::<LENGTH>(offset)?;
    Some(
        Sum::ZERO
            .add_words(window.words::<8, 12, 16, 20>())
            .add_words(window.words::<24, 28, 32, 36>()),
    )
}

/// Overwrites both addresses.
#[inline(always)]
pub fn set_addresses<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    source: AddrWords,
    destination: AddrWords,
) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    window.set_words::<8, 12, 16, 20>(source);
    window.set_words::<24, 28, 32, 36>(destination);
    Some(())
}
