//! UDP, RFC 768.

use crate::addr::{Be16, Be32};
use crate::checksum::{Difference, Sum};
use crate::frame::{Frame, FrameMut, Window, WindowMut};
use crate::probe;
use crate::wire::{protocol, split};

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

/// Writes both ports and corrects the checksum by that and by what changed in the IP header.
#[inline(always)]
pub fn translate<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    ports: Be32,
    outside: Difference,
) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let difference = outside.replace32(window.be32::<0>(), ports);
    window.set_be32::<0>(ports);
    let checksum = window.be16::<6>();
    // RFC 768: zero says that the sender made no checksum, so a sum of zero is sent as its complement.
    if checksum != Be16::new(0) {
        let checksum = difference.apply(checksum);
        let none = checksum == Be16::new(0);
        window.set_be16::<6>(if none { Be16::new(0xffff) } else { checksum });
    }
    Some(())
}

/// Makes a datagram that carries a probe go back whence it came, with these words in it. Without the sum of
/// the addresses, which IPv4 does not need, it goes without a checksum.
#[inline(always)]
pub fn answer_probe<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    words: [u64; 5],
    addresses: Option<Sum>,
) -> Option<()> {
    const OCTETS: usize = LENGTH + probe::LEN;
    let mut window = frame.window_mut::<OCTETS>(offset)?;
    let (source, destination) = (window.be16::<0>(), window.be16::<2>());
    window.set_be16::<0>(destination);
    window.set_be16::<2>(source);
    let [a, b, c, d, e] = words.map(split);
    window.set_be32::<8>(a.0);
    window.set_be32::<12>(a.1);
    window.set_be32::<16>(b.0);
    window.set_be32::<20>(b.1);
    window.set_be32::<24>(c.0);
    window.set_be32::<28>(c.1);
    window.set_be32::<32>(d.0);
    window.set_be32::<36>(d.1);
    window.set_be32::<40>(e.0);
    window.set_be32::<44>(e.1);
    // From scratch: of a packet that a virtual interface brought, the checksum may not have been finished.
    let checksum = match addresses {
        None => Be16::new(0),
        Some(addresses) => {
            let length = Be16::new(OCTETS as u16);
            let header = addresses
                .add16(Be16::new(u16::from(protocol::UDP)))
                .add16(length)
                .add16(source)
                .add16(destination)
                .add16(length);
            let sum = [a, b, c, d, e]
                .into_iter()
                .fold(header, |sum, (high, low)| sum.add32(high).add32(low))
                .finish();
            // RFC 8200 §8.1: zero would say that there is none.
            if sum == Be16::new(0) {
                Be16::new(0xffff)
            } else {
                sum
            }
        }
    };
    window.set_be16::<6>(checksum);
    Some(())
}
