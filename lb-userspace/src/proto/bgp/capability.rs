//! Capabilities of an OPEN (RFC 5492).

use bytes::BufMut;

use super::cursor::Cursor;
use super::error::DecodeError;

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
    /// Code 65, RFC 6793.
    FourOctetAs(u32),
    /// Any other, not looked into.
    Other {
        /// Capability code.
        code: u8,
        /// At most 255 octets.
        value: Vec<u8>,
    },
}

impl Capability {
    /// Writes code, length and value.
    pub fn encode(&self, out: &mut impl BufMut) {
        match self {
            Self::Multiprotocol { afi, safi } => {
                out.put_slice(&[1, 4]);
                out.put_u16(*afi);
                out.put_slice(&[0, *safi]);
            }
            Self::RouteRefresh => out.put_slice(&[2, 0]),
            Self::FourOctetAs(asn) => {
                out.put_slice(&[65, 4]);
                out.put_u32(*asn);
            }
            Self::Other { code, value } => {
                let length = u8::try_from(value.len()).unwrap_or(u8::MAX);
                out.put_slice(&[*code, length]);
                out.put_slice(value.get(..usize::from(length)).unwrap_or_default());
            }
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
        match (code, value) {
            (1, &[high, low, _reserved, safi]) => Ok(Self::Multiprotocol {
                afi: u16::from_be_bytes([high, low]),
                safi,
            }),
            (2, []) => Ok(Self::RouteRefresh),
            (65, &[a, b, c, d]) => Ok(Self::FourOctetAs(u32::from_be_bytes([a, b, c, d]))),
            (1 | 2 | 65, _) => Err(DecodeError::MalformedOpen),
            (code, value) => Ok(Self::Other {
                code,
                value: value.to_vec(),
            }),
        }
    }
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
            Capability::Other {
                code: 73,
                value: b"\x03tor\x00".to_vec(),
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
