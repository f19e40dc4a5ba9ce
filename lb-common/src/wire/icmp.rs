//! ICMP (RFC 792) and ICMPv6 (RFC 4443), as far as echo.

use crate::addr::Be16;
use crate::checksum::Difference;
use crate::frame::{Frame, FrameMut, Window, WindowMut};

/// Octets of an echo header.
pub const LENGTH: usize = 8;

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
