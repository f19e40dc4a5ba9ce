//! Capabilities of an OPEN (RFC 5492).

use bytes::BufMut;

use super::cursor::Cursor;
use super::error::DecodeError;
use super::retention::{GracefulRestart, StaleFamily};
use super::role::Role;

/// A capability, decoded as far as this speaker uses it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Capability {
    /// Code 1, RFC 4760; kept as AFI and SAFI, since peers offer families that we do not know.
    Multiprotocol {
        /// Address family identifier.
        afi: u16,
        /// Subsequent address family identifier.
        safi: u8,
    },
    /// Code 2, RFC 2918.
    RouteRefresh,
    /// Code 5, RFC 8950: families whose next hops may be of another, as AFI, SAFI and the next hop's AFI.
    ExtendedNextHop(Vec<(u16, u16, u16)>),
    /// Code 6, RFC 8654.
    ExtendedMessage,
    /// Code 9, RFC 9234.
    Role(Role),
    /// Code 64, RFC 4724.
    GracefulRestart(GracefulRestart),
    /// Code 65, RFC 6793.
    FourOctetAs(u32),
    /// Code 70, RFC 7313.
    EnhancedRefresh,
    /// Code 71, RFC 9494.
    LongLivedGracefulRestart(Vec<StaleFamily>),
    /// Code 73: the speaker's host name.
    HostName(String),
    /// Any other, or one of these that cannot be read: not looked into.
    Other {
        /// Capability code.
        code: u8,
        /// At most 255 octets.
        value: Vec<u8>,
    },
}

impl Capability {
    /// Writes code, length and value; nothing if the value is too long for a capability.
    pub fn encode(&self, out: &mut impl BufMut) {
        let mut value = Vec::new();
        match self {
            Self::Multiprotocol { afi, safi } => {
                value.put_u16(*afi);
                value.put_slice(&[0, *safi]);
            }
            Self::RouteRefresh | Self::ExtendedMessage | Self::EnhancedRefresh => {}
            Self::ExtendedNextHop(families) => {
                for &(afi, safi, next_hop) in families {
                    value.put_u16(afi);
                    value.put_u16(safi);
                    value.put_u16(next_hop);
                }
            }
            Self::Role(role) => value.put_u8(*role as u8),
            Self::GracefulRestart(restart) => restart.encode(&mut value),
            Self::FourOctetAs(asn) => value.put_u32(*asn),
            Self::LongLivedGracefulRestart(families) => {
                families.iter().for_each(|family| family.encode(&mut value));
            }
            Self::HostName(name) => {
                let name = name
                    .get(..name.floor_char_boundary(HOST_NAME))
                    .unwrap_or_default();
                value.put_u8(u8::try_from(name.len()).unwrap_or(0));
                value.put_slice(name.as_bytes());
                value.put_u8(0);
            }
            Self::Other { value: other, .. } => value.put_slice(other),
        }
        if let Ok(length) = u8::try_from(value.len()) {
            out.put_slice(&[self.code(), length]);
            out.put_slice(&value);
        }
    }

    /// Its number.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Multiprotocol { .. } => 1,
            Self::RouteRefresh => 2,
            Self::ExtendedNextHop(_) => 5,
            Self::ExtendedMessage => 6,
            Self::Role(_) => 9,
            Self::GracefulRestart(_) => 64,
            Self::FourOctetAs(_) => 65,
            Self::EnhancedRefresh => 70,
            Self::LongLivedGracefulRestart(_) => 71,
            Self::HostName(_) => 73,
            Self::Other { code, .. } => *code,
        }
    }

    /// Reads all capabilities of one optional parameter.
    ///
    /// # Errors
    /// [`DecodeError::MalformedOpen`] if one overruns the parameter or has a length that its code excludes.
    pub fn decode_all(parameter: &[u8], into: &mut Vec<Self>) -> Result<(), DecodeError> {
        let mut cursor = Cursor::new(parameter);
        while let Some(code) = cursor.u8() {
            let value = cursor
                .u8()
                .and_then(|length| cursor.take(usize::from(length)));
            into.push(Self::decode(
                code,
                value.ok_or(DecodeError::MalformedOpen)?,
            )?);
        }
        Ok(())
    }

    // A decoder is given its own value and nothing behind it.
    fn decode(code: u8, value: &[u8]) -> Result<Self, DecodeError> {
        let read = match (code, value) {
            (1, &[high, low, _reserved, safi]) => Some(Self::Multiprotocol {
                afi: u16::from_be_bytes([high, low]),
                safi,
            }),
            (2, []) => Some(Self::RouteRefresh),
            (65, &[a, b, c, d]) => Some(Self::FourOctetAs(u32::from_be_bytes([a, b, c, d]))),
            (1 | 2 | 65, _) => return Err(DecodeError::MalformedOpen),
            (5, value) => next_hops(value).map(Self::ExtendedNextHop),
            (6, []) => Some(Self::ExtendedMessage),
            (9, &[role]) => Role::from_octet(role).map(Self::Role),
            (64, value) => GracefulRestart::decode(value).map(Self::GracefulRestart),
            (70, []) => Some(Self::EnhancedRefresh),
            (71, value) => StaleFamily::decode_all(value).map(Self::LongLivedGracefulRestart),
            (73, value) => host_name(value).map(Self::HostName),
            _ => None,
        };
        // The session does without what cannot be read.
        Ok(read.unwrap_or_else(|| Self::Other {
            code,
            value: value.to_vec(),
        }))
    }
}

/// Octets of a host name that every receiver has room for.
const HOST_NAME: usize = 64;

fn next_hops(value: &[u8]) -> Option<Vec<(u16, u16, u16)>> {
    let mut cursor = Cursor::new(value);
    let mut families = Vec::new();
    while !cursor.is_empty() {
        families.push((cursor.u16()?, cursor.u16()?, cursor.u16()?));
    }
    Some(families)
}

fn host_name(value: &[u8]) -> Option<String> {
    let mut cursor = Cursor::new(value);
    let length = cursor.u8()?;
    let name = cursor.take(length.into())?;
    let name = String::from_utf8_lossy(name);
    Some(name.chars().filter(|c| !c.is_control()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<Capability>, DecodeError> {
        let mut all = Vec::new();
        Capability::decode_all(bytes, &mut all).map(|()| all)
    }

    #[test]
    fn capabilities_survive_the_wire() {
        let all = [
            Capability::Multiprotocol { afi: 2, safi: 1 },
            Capability::RouteRefresh,
            Capability::FourOctetAs(4_200_000_000),
            Capability::ExtendedNextHop(vec![(1, 1, 2)]),
            Capability::ExtendedMessage,
            Capability::Role(Role::Customer),
            Capability::GracefulRestart(GracefulRestart::default()),
            Capability::EnhancedRefresh,
            Capability::LongLivedGracefulRestart(Vec::new()),
            Capability::HostName("tor".to_owned()),
            Capability::Other {
                code: 75,
                value: b"BIRD".to_vec(),
            },
        ];
        let mut wire = Vec::new();
        all.iter()
            .for_each(|capability| capability.encode(&mut wire));
        assert_eq!(wire[..8], [1, 4, 0, 2, 0, 1, 2, 0]);
        assert_eq!(read(&wire).unwrap(), all);
    }

    #[test]
    fn a_known_code_with_a_wrong_length_never_reads_its_neighbour() {
        for wire in [
            &[65, 0, 1, 4, 0, 1, 0, 1][..],
            &[65, 3, 0, 0, 1],
            &[1, 5, 0, 1, 0, 1, 0],
            &[2, 1, 0],
        ] {
            assert_eq!(read(wire), Err(DecodeError::MalformedOpen));
        }
    }

    #[test]
    fn what_a_session_can_do_without_is_passed_over_when_malformed() {
        for wire in [
            &[5, 5, 0, 1, 0, 1, 0][..],
            &[6, 1, 0],
            &[9, 0],
            &[9, 1, 9],
            &[64, 1, 0],
            &[64, 3, 0, 0, 1],
            &[70, 1, 0],
            &[71, 6, 0, 1, 1, 0, 0, 0],
            &[73, 0],
            &[73, 2, 9, 65],
        ] {
            let read = read(wire).unwrap();
            assert!(matches!(read[..], [Capability::Other { .. }]), "{wire:?}");
        }
    }

    #[test]
    fn any_length_of_an_unknown_capability_is_taken() {
        for length in [0, 1, 64, 65, 255_u8] {
            let mut wire = vec![75, length];
            wire.resize(2 + usize::from(length), 0x41);
            assert_eq!(read(&wire).unwrap().len(), 1);
            assert_eq!(
                read(&wire[..wire.len() - 1]),
                Err(DecodeError::MalformedOpen)
            );
        }
    }
}
