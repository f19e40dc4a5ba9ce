//! Address families and prefix lists (RFC 4271 §4.3, RFC 4760).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::BufMut;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::cursor::Cursor;

/// SAFI of unicast forwarding.
const UNICAST: u8 = 1;

/// An address family that a session can carry.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// AFI 1, SAFI 1.
    Ipv4Unicast,
    /// AFI 2, SAFI 1.
    Ipv6Unicast,
}

impl Family {
    /// The family of an address.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::Ipv4Unicast,
            IpAddr::V6(_) => Self::Ipv6Unicast,
        }
    }

    /// By AFI and SAFI, if it is one that we know.
    pub const fn from_wire(afi: u16, safi: u8) -> Option<Self> {
        match (afi, safi) {
            (1, UNICAST) => Some(Self::Ipv4Unicast),
            (2, UNICAST) => Some(Self::Ipv6Unicast),
            _ => None,
        }
    }

    /// AFI and SAFI.
    pub const fn to_wire(self) -> (u16, u8) {
        match self {
            Self::Ipv4Unicast => (1, UNICAST),
            Self::Ipv6Unicast => (2, UNICAST),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "IPv4 unicast",
            Self::Ipv6Unicast => "IPv6 unicast",
        })
    }
}

/// Octets that a prefix takes on the wire.
pub fn encoded_length(prefix: &IpNet) -> usize {
    1 + usize::from(prefix.prefix_len()).div_ceil(8)
}

/// Writes a prefix.
pub fn encode(prefix: &IpNet, out: &mut impl BufMut) {
    let length = encoded_length(prefix) - 1;
    out.put_u8(prefix.prefix_len());
    match prefix.network() {
        IpAddr::V4(addr) => out.put_slice(addr.octets().get(..length).unwrap_or_default()),
        IpAddr::V6(addr) => out.put_slice(addr.octets().get(..length).unwrap_or_default()),
    }
}

/// Reads a list of prefixes; bits behind a prefix's length are ignored. None if a length is out of range or
/// the list ends within a prefix.
pub fn decode(family: Family, bytes: &[u8]) -> Option<Vec<IpNet>> {
    let mut cursor = Cursor::new(bytes);
    let mut prefixes = Vec::new();
    while let Some(length) = cursor.u8() {
        let octets = cursor.take(usize::from(length).div_ceil(8))?;
        let prefix = match family {
            Family::Ipv4Unicast => {
                let addr = Ipv4Addr::from(padded::<4>(octets)?);
                IpNet::V4(Ipv4Net::new(addr, length).ok()?)
            }
            Family::Ipv6Unicast => {
                let addr = Ipv6Addr::from(padded::<16>(octets)?);
                IpNet::V6(Ipv6Net::new(addr, length).ok()?)
            }
        };
        prefixes.push(prefix.trunc());
    }
    Some(prefixes)
}

fn padded<const N: usize>(octets: &[u8]) -> Option<[u8; N]> {
    let mut whole = [0; N];
    whole.get_mut(..octets.len())?.copy_from_slice(octets);
    Some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prefixes_take_only_the_octets_they_need() {
        for (text, wire) in [
            ("0.0.0.0/0", &[0][..]),
            ("203.0.113.0/24", &[24, 203, 0, 113]),
            ("203.0.113.128/25", &[25, 203, 0, 113, 128]),
            ("203.0.113.1/32", &[32, 203, 0, 113, 1]),
            ("2001:db8::/32", &[32, 0x20, 0x01, 0x0d, 0xb8]),
        ] {
            let prefix: IpNet = text.parse().unwrap();
            let mut out = Vec::new();
            encode(&prefix, &mut out);
            assert_eq!(out, wire);
            assert_eq!(decode(Family::of(prefix.addr()), wire), Some(vec![prefix]));
        }
    }

    #[test]
    fn lengths_out_of_range_and_cut_prefixes_are_refused() {
        assert_eq!(decode(Family::Ipv4Unicast, &[33, 1, 2, 3, 4, 5]), None);
        assert_eq!(decode(Family::Ipv6Unicast, &[129; 40]), None);
        assert_eq!(decode(Family::Ipv4Unicast, &[24, 1, 2]), None);
        assert_eq!(decode(Family::Ipv4Unicast, &[255]), None);
    }

    #[test]
    fn stray_host_bits_are_ignored() {
        let read = decode(Family::Ipv4Unicast, &[25, 203, 0, 113, 0xff]).unwrap();
        assert_eq!(read, ["203.0.113.128/25".parse::<IpNet>().unwrap()]);
    }

    proptest! {
        #[test]
        fn a_list_read_back_is_the_list(v4: Vec<(u32, u8)>, v6: Vec<(u128, u8)>) {
            let v4 = v4.iter().map(|&(a, l)| IpNet::new(Ipv4Addr::from(a).into(), l % 33).unwrap().trunc());
            let v6 = v6.iter().map(|&(a, l)| IpNet::new(Ipv6Addr::from(a).into(), l % 129).unwrap().trunc());
            for (family, list) in [
                (Family::Ipv4Unicast, v4.collect::<Vec<_>>()),
                (Family::Ipv6Unicast, v6.collect()),
            ] {
                let mut wire = Vec::new();
                list.iter().for_each(|prefix| encode(prefix, &mut wire));
                prop_assert_eq!(wire.len(), list.iter().map(encoded_length).sum::<usize>());
                prop_assert_eq!(decode(family, &wire), Some(list));
            }
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes: Vec<u8>) {
            let _ = decode(Family::Ipv4Unicast, &bytes);
            let _ = decode(Family::Ipv6Unicast, &bytes);
        }
    }
}
