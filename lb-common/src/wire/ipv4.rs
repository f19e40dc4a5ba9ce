//! IPv4, RFC 791.

use crate::addr::{Be16, Be32};
use crate::checksum::{Difference, Sum};
use crate::family::V4;
use crate::frame::{Frame, FrameMut, Window, WindowMut};
use crate::wire::IpHeader;

/// Octets of a header without options.
pub const LENGTH: usize = 20;

const VERSION_AND_LENGTH: Be16 = Be16::new(0x4500);
const DONT_FRAGMENT: Be16 = Be16::new(0x4000);
/// More fragments, or an offset.
const FRAGMENT: Be16 = Be16::new(0x3fff);

/// Reads the header at `offset`; `None` if it is too short or of another version.
#[inline(always)]
pub fn read<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<IpHeader<V4>> {
    let window = frame.window::<LENGTH>(offset)?;
    let first = window.octet::<0>();
    if first >> 4 != 4 {
        return None;
    }
    let header_length = usize::from(first & 0xf) * 4;
    let total_length = usize::from(window.be16::<2>().host());
    Some(IpHeader {
        source: window.be32::<12>(),
        destination: window.be32::<16>(),
        protocol: window.octet::<9>(),
        ttl: window.octet::<8>(),
        offset,
        payload: offset + header_length,
        payload_length: total_length.saturating_sub(header_length),
        fragment: window.be16::<6>().raw() & FRAGMENT.raw() != 0,
        malformed: header_length < LENGTH || total_length < header_length,
    })
}

/// Whether the header at `offset` forbids that routers fragment the packet.
#[inline(always)]
pub fn forbids_fragments<F: Frame + ?Sized>(frame: &F, offset: usize) -> bool {
    frame
        .window::<LENGTH>(offset)
        .is_some_and(|window| window.be16::<6>().raw() & DONT_FRAGMENT.raw() != 0)
}

/// Takes one from the TTL and, if asked to, gives the packet another destination. Keeps the checksum as
/// right or wrong as it was. Gives the old destination.
#[inline(always)]
pub fn forward<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    destination: Option<Be32>,
) -> Option<Be32> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let old_destination = window.be32::<16>();
    let old = window.be16::<8>();
    let new = Be16::new(old.host().wrapping_sub(0x0100));
    let mut difference = Difference::ZERO.replace16(old, new);
    window.set_be16::<8>(new);
    if let Some(destination) = destination {
        difference = difference.replace32(old_destination, destination);
        window.set_be32::<16>(destination);
    }
    window.set_be16::<10>(difference.apply(window.be16::<10>()));
    Some(old_destination)
}

/// Gives the packet another source. Gives the old one.
pub fn translate_source<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    source: Be32,
) -> Option<Be32> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let old = window.be32::<12>();
    window.set_be32::<12>(source);
    window.set_be16::<10>(
        Difference::ZERO
            .replace32(old, source)
            .apply(window.be16::<10>()),
    );
    Some(old)
}

/// Sends the packet back whence it came, with a fresh TTL; options and all else stay.
#[inline(always)]
pub fn turn<F: FrameMut + ?Sized>(frame: &mut F, offset: usize, ttl: u8) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let (source, destination) = (window.be32::<12>(), window.be32::<16>());
    window.set_be32::<12>(destination);
    window.set_be32::<16>(source);
    let old = window.be16::<8>();
    window.set_octet::<8>(ttl);
    window.set_be16::<10>(
        Difference::ZERO
            .replace16(old, window.be16::<8>())
            .apply(window.be16::<10>()),
    );
    Some(())
}

/// Writes a header without options in front of `length` octets. Gives the sum of both addresses.
#[inline(always)]
pub fn write<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    (ttl, protocol): (u8, u8),
    length: usize,
    (source, destination): (Be32, Be32),
) -> Option<Sum> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let length = Be16::new((LENGTH + length) as u16);
    let ttl_and_protocol = Be16::new(u16::from_be_bytes([ttl, protocol]));
    let addresses = Sum::ZERO.add32(source).add32(destination);
    let sum = addresses
        .add16(VERSION_AND_LENGTH)
        .add16(length)
        .add16(DONT_FRAGMENT)
        .add16(ttl_and_protocol);
    window.set_be16::<0>(VERSION_AND_LENGTH);
    window.set_be16::<2>(length);
    window.set_be16::<4>(Be16::new(0));
    window.set_be16::<6>(DONT_FRAGMENT);
    window.set_be16::<8>(ttl_and_protocol);
    window.set_be16::<10>(sum.finish());
    window.set_be32::<12>(source);
    window.set_be32::<16>(destination);
    Some(addresses)
}

/// Overwrites the header with one, without options, that goes back whence the packet came and has
/// `length` octets behind it. Gives the sum of both addresses.
#[inline(always)]
pub fn answer<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    ttl: u8,
    protocol: u8,
    length: usize,
) -> Option<Sum> {
    let window = frame.window::<LENGTH>(offset)?;
    let ends = (window.be32::<16>(), window.be32::<12>());
    drop(window);
    write(frame, offset, (ttl, protocol), length, ends)
}
