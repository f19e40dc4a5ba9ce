//! ICMP (RFC 792) and ICMPv6 (RFC 4443): echo, and the errors sent here.

use crate::addr::{Be16, Be32};
use crate::checksum::{Difference, Sum};
use crate::frame::{Frame, FrameMut, Window, WindowMut};
use crate::wire::{ipv4, ipv6, udp};

/// Octets of the header of an echo or an error.
pub const LENGTH: usize = 8;
/// Octets that an error quotes: the IP header and eight behind it, as RFC 792 wants it.
///
/// They are as many as the two headers before them, so the quote is moved by its own length.
pub const QUOTE: usize = ipv4::LENGTH + udp::LENGTH;
/// The same in IPv6. RFC 4443 §3.1 allows more; this much is what the sender looks at.
pub const QUOTE_V6: usize = ipv6::LENGTH + udp::LENGTH;
/// Type 3, code 3.
pub const PORT_UNREACHABLE: Be16 = Be16::new(0x0303);
/// Type 1, code 4.
pub const PORT_UNREACHABLE_V6: Be16 = Be16::new(0x0104);
/// Type 3, code 4: fragmentation needed and DF set; the second word is the next hop's MTU (RFC 1191 §4).
pub const FRAGMENTATION_NEEDED: Be16 = Be16::new(0x0304);
/// Type 2, code 0; the second word is the next hop's MTU (RFC 4443 §3.2).
pub const PACKET_TOO_BIG_V6: Be16 = Be16::new(0x0200);

const ECHO_REQUEST: Be16 = Be16::new(0x0800);
const ECHO_REPLY: Be16 = Be16::new(0x0000);
const ECHO_REQUEST_V6: Be16 = Be16::new(0x8000);
const ECHO_REPLY_V6: Be16 = Be16::new(0x8100);

/// Whether an ICMP echo request begins at `offset`.
#[inline(always)]
pub fn is_echo_request<F: Frame + ?Sized>(frame: &F, offset: usize) -> bool {
    frame
        .window::<LENGTH>(offset)
        .is_some_and(|window| window.be16::<0>() == ECHO_REQUEST)
}

/// Whether an ICMPv6 echo request begins at `offset`.
#[inline(always)]
pub fn is_echo_request_v6<F: Frame + ?Sized>(frame: &F, offset: usize) -> bool {
    frame
        .window::<LENGTH>(offset)
        .is_some_and(|window| window.be16::<0>() == ECHO_REQUEST_V6)
}

/// Makes the request at `offset` the reply to it.
#[inline(always)]
pub fn answer_echo<F: FrameMut + ?Sized>(frame: &mut F, offset: usize) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let request = window.be16::<0>();
    let reply = if request == ECHO_REQUEST_V6 {
        ECHO_REPLY_V6
    } else {
        ECHO_REPLY
    };
    window.set_be16::<0>(reply);
    window.set_be16::<2>(
        Difference::ZERO
            .replace16(request, reply)
            .apply(window.be16::<2>()),
    );
    Some(())
}

/// Copies the `OCTETS` octets at `offset` to where they end. Gives their sum.
#[inline(always)]
pub fn quote<F: FrameMut + ?Sized, const OCTETS: usize>(
    frame: &mut F,
    offset: usize,
) -> Option<Sum> {
    let mut sum = Sum::ZERO;
    for at in (offset..offset + OCTETS).step_by(4) {
        let word: Be32 = frame.window::<4>(at)?.be32::<0>();
        frame.window_mut::<4>(at + OCTETS)?.set_be32::<0>(word);
        sum = sum.add32(word);
    }
    Some(sum)
}

/// Writes the header of an error, type and code and then the second word, whose other octets,
/// pseudo-header included, have that sum.
#[inline(always)]
pub fn write_error<F: FrameMut + ?Sized>(
    frame: &mut F,
    offset: usize,
    (type_and_code, word): (Be16, Be32),
    rest: Sum,
) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    window.set_be16::<0>(type_and_code);
    window.set_be16::<2>(rest.add16(type_and_code).add32(word).finish());
    window.set_be32::<4>(word);
    Some(())
}
