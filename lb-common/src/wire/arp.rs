//! ARP for IPv4 over Ethernet, RFC 826.

use crate::addr::{Be16, Be32};
use crate::frame::{Frame, FrameMut, Window, WindowMut};
use crate::maps::MacKey;

/// Octets of an ARP packet for IPv4 over Ethernet.
pub const LENGTH: usize = 28;

const ETHERNET: Be16 = Be16::new(1);
const IPV4: Be16 = Be16::new(0x0800);
const ADDRESS_LENGTHS: Be16 = Be16::new(0x0604);
const REQUEST: Be16 = Be16::new(1);
const REPLY: Be16 = Be16::new(2);

/// A request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// Address of who asks; zero in a probe (RFC 5227).
    pub sender_address: Be32,
    /// The address asked for.
    pub target_address: Be32,
}

impl Request {
    /// Reads a request at `offset`; `None` if it is anything else.
    #[inline(always)]
    pub fn read<F: Frame + ?Sized>(frame: &F, offset: usize) -> Option<Self> {
        let window = frame.window::<LENGTH>(offset)?;
        let is_request = window.be16::<0>() == ETHERNET
            && window.be16::<2>() == IPV4
            && window.be16::<4>() == ADDRESS_LENGTHS
            && window.be16::<6>() == REQUEST;
        is_request.then(|| Self {
            sender_address: window.be32::<14>(),
            target_address: window.be32::<24>(),
        })
    }
}

/// Makes the request at `offset` the reply to it: `mac` has the address asked for.
#[inline(always)]
pub fn answer<F: FrameMut + ?Sized>(frame: &mut F, offset: usize, mac: MacKey) -> Option<()> {
    let mut window = frame.window_mut::<LENGTH>(offset)?;
    let sender = (window.be32::<8>(), window.be16::<12>(), window.be32::<14>());
    window.set_be16::<6>(REPLY);
    window.set_be32::<8>(mac.head);
    window.set_be16::<12>(mac.tail);
    window.set_be32::<14>(window.be32::<24>());
    window.set_be32::<18>(sender.0);
    window.set_be16::<22>(sender.1);
    window.set_be32::<24>(sender.2);
    Some(())
}
