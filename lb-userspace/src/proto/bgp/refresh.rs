//! ROUTE-REFRESH (RFC 2918).

use bytes::Bytes;

use super::message::{self, MessageType};
use super::nlri::Family;

/// Asks for all routes of a family again.
pub fn encode(family: Family) -> Bytes {
    let (afi, safi) = family.to_wire();
    let [high, low] = afi.to_be_bytes();
    message::encode(MessageType::RouteRefresh, &[high, low, 0, safi])
}

/// The family asked for. None for a family that we do not know, for a subtype other than a plain request
/// (RFC 7313 §3.2), and for one with an ORF list behind it, which nobody was offered.
pub fn decode(body: &[u8]) -> Option<Family> {
    let &[high, low, subtype, safi] = body else {
        return None;
    };
    let family = Family::from_wire(u16::from_be_bytes([high, low]), safi);
    family.filter(|_| subtype == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire() {
        let wire = encode(Family::Ipv6Unicast);
        assert_eq!(wire[16..], [0, 23, 5, 0, 2, 0, 1]);
        assert_eq!(decode(&wire[19..]), Some(Family::Ipv6Unicast));
    }

    #[test]
    fn what_was_not_offered_is_ignored() {
        for body in [
            &[0, 1, 1, 1][..],
            &[0, 25, 0, 70],
            &[0, 1, 0, 1, 1, 64, 255],
            &[0, 1],
        ] {
            assert_eq!(decode(body), None);
        }
    }
}
