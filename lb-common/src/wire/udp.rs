//! UDP, RFC 768.

use crate::addr::Be16;
use crate::checksum::Difference;
use crate::frame::{Frame, FrameMut, Window, WindowMut};

/// Octets of a header.
pub const LENGTH: usize = 8;

/// Source and destination port of a UDP or TCP header, with four more octets behind them.
#[inline(always)]
pub fn ports<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<(Be16, Be16)> {
    let window = frame.window::<LENGTH>(offset)?;
    Some((window.be16::<0>(), window.be16::<2>()))
}

/// Writes a header without a checksum, of a datagram of `length` octets with the header.
#[inline(always)]
pub fn write<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    source_port: Be16,
    destination_port: Be16,
    length: usize,
) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    window.set_be16::<0>(source_port);
    window.set_be16::<2>(destination_port);
    window.set_be16::<4>(Be16::new(length as u16));
    window.set_be16::<6>(Be16::new(0));
    Some(())
}

/// Writes one port and corrects the checksum by that and by what changed in the IP header.
#[inline(always)]
pub fn translate<F: FrameMut + ?Sized, const AT: usize>(
    frame: &mut F,
    offset: usize,
    port: Be16,
    outside: Difference,
) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let difference = outside.replace16(window.be16::<AT>(), port);
    window.set_be16::<AT>(port);
    let checksum = window.be16::<6>();
    // RFC 768: zero says that the sender made no checksum, so a sum of zero is sent as its complement.
    if checksum != Be16::new(0) {
        let checksum = difference.apply(checksum);
        let none = checksum == Be16::new(0);
        window.set_be16::<6>(if none { Be16::new(0xffff) } else { checksum });
    }
    Some(())
}
