//! Readers of protocol headers. Each reads what the decision needs and judges
//! nothing else.

pub mod arp;
pub mod eth;
pub mod geneve;
pub mod icmp;
pub mod ipv4;
pub mod ipv6;
pub mod ndp;
pub mod tcp;
pub mod udp;
pub mod vlan;

use crate::addr::Be32;
use crate::family::Family;

/// IP protocol numbers.
pub mod protocol {
    /// ICMP, RFC 792.
    pub const ICMP: u8 = 1;
    /// TCP, RFC 9293.
    pub const TCP: u8 = 6;
    /// UDP, RFC 768.
    pub const UDP: u8 = 17;
    /// ICMPv6, RFC 4443.
    pub const ICMPV6: u8 = 58;
}

/// The 64-bit integer, in host order, that two halves make.
#[inline(always)]
pub const fn join(high: Be32, low: Be32) -> u64 {
    (high.host() as u64) << 32 | low.host() as u64
}

/// The two halves of a 64-bit integer in host order.
#[inline(always)]
pub const fn split(word: u64) -> (Be32, Be32) {
    (Be32::new((word >> 32) as u32), Be32::new(word as u32))
}

/// What an IP header says, in either version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IpHeader<A: Family> {
    /// Source address.
    pub source: A::Address,
    /// Destination address.
    pub destination: A::Address,
    /// Protocol of the payload; IPv6 extension headers are not followed.
    pub protocol: u8,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Where the header begins in the frame.
    pub offset: usize,
    /// Where the payload begins in the frame.
    pub payload: usize,
    /// Octets of payload that the header claims; nothing says that the frame has them.
    pub payload_length: usize,
    /// The packet is a fragment, be it the first.
    pub fragment: bool,
    /// Header lengths contradict each other.
    pub malformed: bool,
}

impl<A: Family> IpHeader<A> {
    /// Whether the frame, of that many octets, is too short for what the header claims.
    #[inline(always)]
    pub fn exceeds(&self, frame_length: usize) -> bool {
        self.payload + self.payload_length > frame_length
    }
}
