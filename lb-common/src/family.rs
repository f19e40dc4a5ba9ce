//! What differs between IPv4 and IPv6, so that everything else is written once.

use crate::addr::{AddrWords, Be16, Be32};
use crate::hash::{Ports, hash4, hash6};
use crate::maps::{FlowKey4, FlowKey6, FrontendKey4, FrontendKey6};
use crate::wire::{ipv4, ipv6};

/// Version of the Internet protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// RFC 791.
    V4,
    /// RFC 8200.
    V6,
}

/// Source and destination of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoints<A> {
    /// Source address.
    pub source: A,
    /// Destination address.
    pub destination: A,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
}

/// An address family: its addresses and its map keys.
pub trait Family: Copy {
    /// An address.
    type Address: Copy + Eq;
    /// Key of the frontends.
    type FrontendKey;
    /// Key of the flow tables.
    type FlowKey;
    /// Which one it is.
    const VERSION: Version;
    /// Octets of an IP header without options or extensions.
    const HEADER_LENGTH: usize;

    /// The address as map values hold it.
    fn to_words(address: Self::Address) -> AddrWords;
    /// The address that a map value holds.
    fn from_words(words: &AddrWords) -> Self::Address;
    /// Whether the address can be a single host's, so that an ICMP error may go to it (RFC 1122 §3.2.2,
    /// RFC 4443 §2.4): no group, not unspecified, not loopback.
    fn is_host(address: Self::Address) -> bool;
    /// Key of a frontend.
    fn frontend_key(address: Self::Address, port: Be16, protocol: u8) -> Self::FrontendKey;
    /// Key of a flow in one `flow_direction`.
    fn flow_key(ends: &Endpoints<Self::Address>, protocol: u8, direction: u8) -> Self::FlowKey;
    /// The flow hash.
    fn hash(key: &[u64; 4], source: Self::Address, destination: Self::Address, ports: Ports)
    -> u32;
}

/// IPv4.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V4;

impl Family for V4 {
    type Address = Be32;
    type FrontendKey = FrontendKey4;
    type FlowKey = FlowKey4;
    const VERSION: Version = Version::V4;
    const HEADER_LENGTH: usize = ipv4::LENGTH;

    #[inline(always)]
    fn to_words(address: Be32) -> AddrWords {
        [address, Be32::new(0), Be32::new(0), Be32::new(0)]
    }

    #[inline(always)]
    fn from_words(words: &AddrWords) -> Be32 {
        let [address, ..] = words;
        *address
    }

    #[inline(always)]
    fn is_host(address: Be32) -> bool {
        let network = address.host() >> 24;
        network != 0 && network != 127 && network < 224
    }

    #[inline(always)]
    fn frontend_key(addr: Be32, port: Be16, protocol: u8) -> FrontendKey4 {
        FrontendKey4 {
            addr,
            port,
            protocol,
            zero: 0,
        }
    }

    #[inline(always)]
    fn flow_key(ends: &Endpoints<Be32>, protocol: u8, direction: u8) -> FlowKey4 {
        FlowKey4 {
            source: ends.source,
            destination: ends.destination,
            source_port: ends.source_port,
            destination_port: ends.destination_port,
            protocol,
            direction,
            zero: 0,
        }
    }

    #[inline(always)]
    fn hash(key: &[u64; 4], source: Be32, destination: Be32, ports: Ports) -> u32 {
        hash4(key, source, destination, ports)
    }
}

/// IPv6.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct V6;

impl Family for V6 {
    type Address = AddrWords;
    type FrontendKey = FrontendKey6;
    type FlowKey = FlowKey6;
    const VERSION: Version = Version::V6;
    const HEADER_LENGTH: usize = ipv6::LENGTH;

    #[inline(always)]
    fn to_words(address: AddrWords) -> AddrWords {
        address
    }

    #[inline(always)]
    fn from_words(words: &AddrWords) -> AddrWords {
        *words
    }

    #[inline(always)]
    fn is_host([a, b, c, d]: AddrWords) -> bool {
        let unspecified_or_loopback =
            a.raw() | b.raw() | c.raw() == 0 && (d == Be32::new(0) || d == Be32::new(1));
        a.host() >> 24 != 0xff && !unspecified_or_loopback
    }

    #[inline(always)]
    fn frontend_key(addr: AddrWords, port: Be16, protocol: u8) -> FrontendKey6 {
        FrontendKey6 {
            addr,
            port,
            protocol,
            zero: 0,
        }
    }

    #[inline(always)]
    fn flow_key(ends: &Endpoints<AddrWords>, protocol: u8, direction: u8) -> FlowKey6 {
        FlowKey6 {
            source: ends.source,
            destination: ends.destination,
            source_port: ends.source_port,
            destination_port: ends.destination_port,
            protocol,
            direction,
            zero: 0,
        }
    }

    #[inline(always)]
    fn hash(key: &[u64; 4], source: AddrWords, destination: AddrWords, ports: Ports) -> u32 {
        hash6(key, source, destination, ports)
    }
}
