//! What differs between IPv4 and IPv6, so that everything else is written once.

use crate::addr::{AddrWords, Be16, Be32};
use crate::hash::{Ports, hash4, hash6};
use crate::maps::{
    BackendKey4, BackendKey6, Config, FlowKey4, FlowKey6, FrontendKey4, FrontendKey6,
};
use crate::wire::eth::ether_type;
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
    /// Key of the backends by what other nodes call them.
    type BackendKey;
    /// Which one it is.
    const VERSION: Version;
    /// Its EtherType.
    const ETHER_TYPE: Be16;
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
    /// Key of a backend.
    fn backend_key(frontend: u32, words: &AddrWords, port: Be16) -> Self::BackendKey;
    /// Where this node's tunnels begin and end; zero is nowhere.
    fn tunnel(config: &Config) -> Self::Address;
    /// Largest MSS of flows that tunnels carry; 0 is no limit.
    fn mss(config: &Config) -> u16;
    /// The network that an address is counted with where clients share a budget: /24 or /48.
    fn network(address: Self::Address) -> Self::Address;
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
    type BackendKey = BackendKey4;
    const VERSION: Version = Version::V4;
    const ETHER_TYPE: Be16 = ether_type::IPV4;
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
    fn backend_key(frontend: u32, words: &AddrWords, port: Be16) -> BackendKey4 {
        BackendKey4 {
            frontend,
            addr: Self::from_words(words),
            port,
            zero: 0,
        }
    }

    #[inline(always)]
    fn tunnel(config: &Config) -> Be32 {
        config.tunnel4
    }

    #[inline(always)]
    fn mss(config: &Config) -> u16 {
        config.mss4
    }

    #[inline(always)]
    fn network(address: Be32) -> Be32 {
        Be32::from_raw(address.raw() & Be32::new(0xffff_ff00).raw())
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
    type BackendKey = BackendKey6;
    const VERSION: Version = Version::V6;
    const ETHER_TYPE: Be16 = ether_type::IPV6;
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
    fn backend_key(frontend: u32, words: &AddrWords, port: Be16) -> BackendKey6 {
        BackendKey6 {
            frontend,
            addr: *words,
            port,
            zero: 0,
        }
    }

    #[inline(always)]
    fn tunnel(config: &Config) -> AddrWords {
        config.tunnel6
    }

    #[inline(always)]
    fn mss(config: &Config) -> u16 {
        config.mss6
    }

    #[inline(always)]
    fn network(address: AddrWords) -> AddrWords {
        let [a, b, ..] = address;
        let b = Be32::from_raw(b.raw() & Be32::new(0xffff_0000).raw());
        [a, b, Be32::new(0), Be32::new(0)]
    }

    #[inline(always)]
    fn hash(key: &[u64; 4], source: AddrWords, destination: AddrWords, ports: Ports) -> u32 {
        hash6(key, source, destination, ports)
    }
}
