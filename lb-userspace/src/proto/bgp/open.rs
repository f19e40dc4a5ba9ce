//! OPEN: who a speaker is and what it can do (RFC 4271, 5492, 9072).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use bytes::{BufMut, Bytes};

use super::AS_TRANS;
use super::capability::Capability;
use super::cursor::Cursor;
use super::error::DecodeError;
use super::message::{self, MessageType};
use super::nlri::Family;
use super::retention::GracefulRestart;

const VERSION: u8 = 4;
const CAPABILITIES: u8 = 2;
const EXTENDED: u8 = 255;

/// An OPEN message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Open {
    /// The My Autonomous System field; [`AS_TRANS`] where the number needs four octets.
    pub my_as: u16,
    /// Proposed hold time in seconds.
    pub hold_time: u16,
    /// BGP identifier.
    pub router_id: Ipv4Addr,
    /// Capabilities, in order.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// The speaker's AS: the capability's where there is one, else the field's.
    pub fn asn(&self) -> u32 {
        let wide = self
            .capabilities
            .iter()
            .find_map(|capability| match capability {
                Capability::FourOctetAs(asn) => Some(*asn),
                _ => None,
            });
        wide.unwrap_or_else(|| u32::from(self.my_as))
    }

    /// Whether the speaker reads 4-octet AS numbers.
    pub fn has_four_octet_as(&self) -> bool {
        self.capabilities
            .iter()
            .any(|capability| matches!(capability, Capability::FourOctetAs(_)))
    }

    /// Whether the speaker offers a capability.
    pub fn offers(&self, code: u8) -> bool {
        let mut capabilities = self.capabilities.iter();
        capabilities.any(|capability| capability.code() == code && !is_unread(capability))
    }

    /// What the speaker says about restarts; the last word counts (RFC 4724 §3).
    pub fn graceful_restart(&self) -> Option<&GracefulRestart> {
        let mut capabilities = self.capabilities.iter().rev();
        capabilities.find_map(|capability| match capability {
            Capability::GracefulRestart(restart) => Some(restart),
            _ => None,
        })
    }

    /// The families offered, of those that we know. A speaker that offers no multiprotocol capability at all
    /// means IPv4 unicast (RFC 4760 §8).
    pub fn families(&self) -> BTreeSet<Family> {
        let mut offered = self
            .capabilities
            .iter()
            .filter_map(|capability| match capability {
                Capability::Multiprotocol { afi, safi } => Some((*afi, *safi)),
                _ => None,
            });
        match offered.next() {
            None => BTreeSet::from([Family::Ipv4Unicast]),
            Some(first) => std::iter::once(first)
                .chain(offered)
                .filter_map(|(afi, safi)| Family::from_wire(afi, safi))
                .collect(),
        }
    }

    /// The My Autonomous System field for an AS.
    pub fn narrow_asn(asn: u32) -> u16 {
        u16::try_from(asn).unwrap_or(AS_TRANS)
    }

    /// The whole message. All capabilities go into one parameter, in the extended form of RFC 9072 only if
    /// the short one is too small; beyond the longest message the last ones are left out.
    pub fn encode(&self) -> Bytes {
        let mut body = vec![VERSION];
        body.put_u16(self.my_as);
        body.put_u16(self.hold_time);
        body.put_slice(&self.router_id.octets());

        let mut capabilities = Vec::new();
        for capability in &self.capabilities {
            let whole = capabilities.len();
            capability.encode(&mut capabilities);
            if message::HEADER_LENGTH + body.len() + 7 + capabilities.len() > message::MAX_LENGTH {
                capabilities.truncate(whole);
                break;
            }
        }
        match u8::try_from(capabilities.len()) {
            Ok(0) => body.put_u8(0),
            Ok(length) if length <= 252 => body.put_slice(&[length + 2, CAPABILITIES, length]),
            _ => {
                let length = u16::try_from(capabilities.len()).unwrap_or(u16::MAX);
                body.put_slice(&[EXTENDED, EXTENDED]);
                body.put_u16(length + 3);
                body.put_u8(CAPABILITIES);
                body.put_u16(length);
            }
        }
        body.put_slice(&capabilities);
        message::encode(MessageType::Open, &body)
    }

    /// Reads the body of an OPEN and checks what needs no configuration.
    ///
    /// # Errors
    /// What RFC 4271 §6.2 answers with an OPEN message error.
    pub fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let version = cursor.u8().ok_or(DecodeError::MalformedOpen)?;
        if version != VERSION {
            return Err(DecodeError::UnsupportedVersion(version));
        }
        let my_as = cursor.u16().ok_or(DecodeError::MalformedOpen)?;
        let hold_time = cursor.u16().ok_or(DecodeError::MalformedOpen)?;
        let router_id = cursor
            .u32()
            .map(Ipv4Addr::from)
            .ok_or(DecodeError::MalformedOpen)?;
        let capabilities = Self::decode_parameters(cursor).ok_or(DecodeError::MalformedOpen)??;

        if matches!(hold_time, 1 | 2) {
            return Err(DecodeError::UnacceptableHoldTime(hold_time));
        }
        if router_id.is_unspecified() {
            return Err(DecodeError::BadBgpIdentifier(router_id));
        }
        Ok(Self {
            my_as,
            hold_time,
            router_id,
            capabilities,
        })
    }

    // None: a length overruns its container.
    fn decode_parameters(mut cursor: Cursor<'_>) -> Option<Result<Vec<Capability>, DecodeError>> {
        let short_length = cursor.u8()?;
        // RFC 9072 §2: the first type tells the extended form; the short length merely must not be zero.
        let extended = short_length != 0 && cursor.rest().first() == Some(&EXTENDED);
        let length = if extended {
            cursor.u8()?;
            cursor.u16()?
        } else {
            u16::from(short_length)
        };
        if usize::from(length) != cursor.rest().len() {
            return None;
        }
        let mut capabilities = Vec::new();
        while let Some(kind) = cursor.u8() {
            let length = if extended {
                cursor.u16()?
            } else {
                u16::from(cursor.u8()?)
            };
            let parameter = cursor.take(usize::from(length))?;
            if kind != CAPABILITIES {
                return Some(Err(DecodeError::UnsupportedOptionalParameter(kind)));
            }
            if let Err(error) = Capability::decode_all(parameter, &mut capabilities) {
                return Some(Err(error));
            }
        }
        Some(Ok(capabilities))
    }
}

const fn is_unread(capability: &Capability) -> bool {
    matches!(capability, Capability::Other { .. })
}

#[cfg(test)]
mod tests;
