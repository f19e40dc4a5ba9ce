//! Router advertisements, as far as unnumbered BGP needs them (RFC 4861 §4.1,
//! §4.2).
//!
//! Routers that peer by interface learn the other end's address from its advertisements and from nothing else.
//! Ours are of lifetime 0: they say where we are, and that nobody is to take us for a default router.

use std::time::Duration;

/// Between advertisements (RFC 4861 §6.2.1 allows 4 to 1,800 seconds).
pub const INTERVAL: Duration = Duration::from_secs(5);

const SOLICITATION: u8 = 133;
const ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_LAYER: u8 = 1;

/// What an ICMPv6 message means here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Message {
    /// Somebody asks who is a router.
    Solicitation,
    /// Somebody says that it is one.
    Advertisement,
}

impl Message {
    /// Reads an ICMPv6 message; none if it is another, or too short.
    // RFC 4861 §6.1.1, §6.1.2: code 0; the kernel has checked the checksum.
    pub const fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [SOLICITATION, 0, rest @ ..] if rest.len() >= 6 => Some(Self::Solicitation),
            [ADVERTISEMENT, 0, rest @ ..] if rest.len() >= 14 => Some(Self::Advertisement),
            _ => None,
        }
    }
}

/// An advertisement of lifetime 0 from this MAC; the kernel fills in the checksum.
pub fn encode(mac: Option<[u8; 6]>) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    if let Some(kind) = bytes.first_mut() {
        *kind = ADVERTISEMENT;
    }
    if let Some(mac) = mac {
        bytes.extend([SOURCE_LINK_LAYER, 1]);
        bytes.extend(mac);
    }
    bytes
}

/// A solicitation.
pub const fn solicit() -> [u8; 8] {
    [SOLICITATION, 0, 0, 0, 0, 0, 0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_makes_nobody_a_default_router() {
        let bytes = encode(Some([2, 0, 0, 0, 0, 1]));
        assert_eq!(bytes[..4], [134, 0, 0, 0]);
        assert_eq!(bytes[6..8], [0, 0], "router lifetime");
        assert_eq!(bytes[16..], [1, 1, 2, 0, 0, 0, 0, 1]);
        assert_eq!(Message::decode(&bytes), Some(Message::Advertisement));
        assert_eq!(encode(None).len(), 16);
    }

    #[test]
    fn what_is_short_or_something_else_is_nothing() {
        assert_eq!(Message::decode(&solicit()), Some(Message::Solicitation));
        for bytes in [
            &[][..],
            &[133],
            &[133, 0, 0],
            &encode(None)[..15],
            &[134, 1],
            &[135; 40],
        ] {
            assert_eq!(Message::decode(bytes), None);
        }
    }
}
