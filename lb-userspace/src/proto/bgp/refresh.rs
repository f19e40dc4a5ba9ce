//! ROUTE-REFRESH (RFC 2918) and what marks its answer (RFC 7313).

use bytes::Bytes;

use super::error::DecodeError;
use super::message::{self, MessageType};
use super::nlri::Family;

/// What a ROUTE-REFRESH says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Subtype {
    /// Send all routes again.
    Request = 0,
    /// All routes follow.
    Begin = 1,
    /// Those were all routes.
    End = 2,
}

/// A whole message.
pub fn encode(family: Family, subtype: Subtype) -> Bytes {
    let (afi, safi) = family.to_wire();
    let [high, low] = afi.to_be_bytes();
    message::encode(MessageType::RouteRefresh, &[high, low, subtype as u8, safi])
}

/// The family whose routes are asked for. None for a family that we do not know, for a subtype other than a
/// plain request, and for one with an ORF list behind it, which nobody was offered.
///
/// # Errors
/// `enhanced` is negotiated, and a mark has another length than a mark has.
pub fn decode(body: &[u8], enhanced: bool) -> Result<Option<Family>, DecodeError> {
    let &[high, low, subtype, safi] = body else {
        // RFC 7313 §5.
        let is_mark = matches!(body, [_, _, 1 | 2, ..]);
        return if enhanced && is_mark {
            let room = message::MAX_LENGTH - message::HEADER_LENGTH;
            let cut = body.get(..room).unwrap_or(body);
            let whole = message::encode(MessageType::RouteRefresh, cut);
            Err(DecodeError::MalformedRefresh(whole.to_vec()))
        } else {
            Ok(None)
        };
    };
    let family = Family::from_wire(u16::from_be_bytes([high, low]), safi);
    Ok(family.filter(|_| subtype == Subtype::Request as u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_survives_the_wire() {
        let wire = encode(Family::Ipv6Unicast, Subtype::Request);
        assert_eq!(wire[16..], [0, 23, 5, 0, 2, 0, 1]);
        assert_eq!(decode(&wire[19..], true), Ok(Some(Family::Ipv6Unicast)));
        let mark = encode(Family::Ipv4Unicast, Subtype::End);
        assert_eq!(mark[19..], [0, 1, 2, 1]);
        assert_eq!(decode(&mark[19..], true), Ok(None));
    }

    #[test]
    fn what_was_not_offered_is_ignored() {
        for body in [
            &[0, 1, 1, 1][..],
            &[0, 25, 0, 70],
            &[0, 1, 0, 1, 1, 64, 255],
            &[0, 1],
        ] {
            assert_eq!(decode(body, true), Ok(None));
        }
    }

    #[test]
    fn a_mark_of_another_length_is_answered_whole() {
        let body = [0, 1, 1, 1, 0];
        assert_eq!(decode(&body, false), Ok(None));
        let Err(DecodeError::MalformedRefresh(whole)) = decode(&body, true) else {
            panic!("accepted");
        };
        assert_eq!(whole[16..], [0, 24, 5, 0, 1, 1, 1, 0]);
    }
}
