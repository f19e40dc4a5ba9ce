//! Captures of a session in MRT (RFC 6396), as written and as read back.
//!
//! Every record has microseconds (`BGP4MP_ET`) and four octets for an AS. A message of ours is a
//! `BGP4MP_MESSAGE_AS4_LOCAL`, one of the peer's a `BGP4MP_MESSAGE_AS4`; changes of state stand between them
//! as `BGP4MP_STATE_CHANGE_AS4`, so that a capture can be played through a session again.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::cursor::Cursor;
use super::fsm::State;
use super::message::MAX_EXTENDED;
use super::session::acts::Act;

/// Octets of type, length and time in front of a record.
const HEADER_LENGTH: usize = 12;
/// Longest record: a message, and the ends of its session.
const MAX_RECORD: usize = MAX_EXTENDED + 64;

const BGP4MP: u16 = 16;
const BGP4MP_ET: u16 = 17;

const STATE_CHANGE: u16 = 0;
const MESSAGE: u16 = 1;
const MESSAGE_AS4: u16 = 4;
const STATE_CHANGE_AS4: u16 = 5;
const MESSAGE_LOCAL: u16 = 6;
const MESSAGE_AS4_LOCAL: u16 = 7;

const AFI_IPV4: u16 = 1;
const AFI_IPV6: u16 = 2;

/// The ends of a session, as far as they are known; what is not is zero.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// The peer's AS.
    pub peer_asn: u32,
    /// Ours.
    pub local_asn: u32,
    /// The peer's address.
    pub peer: IpAddr,
    /// Ours, of the same family.
    pub local: IpAddr,
}

/// What happened at a time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Since 1970, in microseconds.
    pub at: Duration,
    /// Between whom.
    pub ends: Ends,
    /// What.
    pub act: Act,
}

/// Why a capture cannot be read on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// A record that is longer than any can be.
    #[error("a record of {0} octets: this is no capture of BGP")]
    TooLong(u32),
    /// A record that ends too soon, or names an address family or a state that there is not.
    #[error("a record of type {kind}, subtype {subtype} is malformed")]
    Malformed {
        /// MRT type.
        kind: u16,
        /// MRT subtype.
        subtype: u16,
    },
}

impl Record {
    /// Appends the record.
    pub fn encode(&self, into: &mut BytesMut) {
        let mut body = BytesMut::new();
        let subtype = match &self.act {
            Act::Sent(_) => MESSAGE_AS4_LOCAL,
            Act::Received(_) => MESSAGE_AS4,
            Act::State { .. } => STATE_CHANGE_AS4,
        };
        body.put_u32(self.at.subsec_micros());
        body.put_u32(self.ends.peer_asn);
        body.put_u32(self.ends.local_asn);
        // The interface is not known.
        body.put_u16(0);
        match (self.ends.peer, self.ends.local) {
            (IpAddr::V4(peer), IpAddr::V4(local)) => {
                body.put_u16(AFI_IPV4);
                body.put_slice(&[peer.octets(), local.octets()].concat());
            }
            (peer, local) => {
                body.put_u16(AFI_IPV6);
                body.put_slice(&[wide(peer).octets(), wide(local).octets()].concat());
            }
        }
        match &self.act {
            Act::Sent(message) | Act::Received(message) => body.put_slice(message),
            Act::State { from, to } => {
                body.put_u16(number(*from));
                body.put_u16(number(*to));
            }
        }
        // Good until 2106.
        into.put_u32(u32::try_from(self.at.as_secs()).unwrap_or(u32::MAX));
        into.put_u16(BGP4MP_ET);
        into.put_u16(subtype);
        into.put_u32(u32::try_from(body.len()).unwrap_or(u32::MAX));
        into.put_slice(&body);
    }
}

/// Reads records off a stream, however it was split.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: BytesMut,
}

impl Reader {
    /// Appends what was read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Octets that wait for the rest of their record.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the next record of a session, or nothing if more bytes are needed; records about anything else
    /// are left out.
    ///
    /// # Errors
    /// The stream is beyond repair.
    pub fn take(&mut self) -> Result<Option<Record>, ReadError> {
        loop {
            let mut header = Cursor::new(&self.buffer);
            let read = (header.u32(), header.u16(), header.u16(), header.u32());
            let (Some(seconds), Some(kind), Some(subtype), Some(announced)) = read else {
                return Ok(None);
            };
            let length = usize::try_from(announced).unwrap_or(usize::MAX);
            if length > MAX_RECORD {
                return Err(ReadError::TooLong(announced));
            }
            if header.rest().len() < length {
                return Ok(None);
            }
            self.buffer.advance(HEADER_LENGTH);
            let body = self.buffer.split_to(length).freeze();
            let malformed = ReadError::Malformed { kind, subtype };
            let (micros, body) = match kind {
                BGP4MP => (0, body),
                BGP4MP_ET => {
                    let micros = Cursor::new(&body).u32().ok_or(malformed)?;
                    (micros, body.slice(4..))
                }
                _ => continue,
            };
            let at = Duration::from_secs(seconds.into()) + Duration::from_micros(micros.into());
            match decode(subtype, &body) {
                Some(Some((ends, act))) => return Ok(Some(Record { at, ends, act })),
                Some(None) => {}
                None => return Err(malformed),
            }
        }
    }
}

/// Ends and act of a record; `None` inside for a subtype that is of no session, outside if it is malformed.
fn decode(subtype: u16, body: &Bytes) -> Option<Option<(Ends, Act)>> {
    let is_wide = match subtype {
        STATE_CHANGE | MESSAGE | MESSAGE_LOCAL => false,
        STATE_CHANGE_AS4 | MESSAGE_AS4 | MESSAGE_AS4_LOCAL => true,
        _ => return Some(None),
    };
    let mut cursor = Cursor::new(body);
    let mut asn = || {
        if is_wide {
            cursor.u32()
        } else {
            cursor.u16().map(u32::from)
        }
    };
    let (peer_asn, local_asn) = (asn()?, asn()?);
    let _interface = cursor.u16()?;
    let (peer, local): (IpAddr, IpAddr) = match cursor.u16()? {
        AFI_IPV4 => (cursor.array::<4>()?.into(), cursor.array::<4>()?.into()),
        AFI_IPV6 => (cursor.array::<16>()?.into(), cursor.array::<16>()?.into()),
        _ => return None,
    };
    let ends = Ends {
        peer_asn,
        local_asn,
        peer,
        local,
    };
    let act = match subtype {
        STATE_CHANGE | STATE_CHANGE_AS4 => Act::State {
            from: state(cursor.u16()?)?,
            to: state(cursor.u16()?)?,
        },
        MESSAGE_LOCAL | MESSAGE_AS4_LOCAL => Act::Sent(body.slice_ref(cursor.rest())),
        _ => Act::Received(body.slice_ref(cursor.rest())),
    };
    Some(Some((ends, act)))
}

const fn wide(addr: IpAddr) -> Ipv6Addr {
    match addr {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv6Addr::UNSPECIFIED,
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    }
}

/// RFC 6396 §4.4.1.
const fn number(state: State) -> u16 {
    match state {
        State::Idle => 1,
        State::Connect => 2,
        State::Active => 3,
        State::OpenSent => 4,
        State::OpenConfirm => 5,
        State::Established => 6,
    }
}

const fn state(number: u16) -> Option<State> {
    Some(match number {
        1 => State::Idle,
        2 => State::Connect,
        3 => State::Active,
        4 => State::OpenSent,
        5 => State::OpenConfirm,
        6 => State::Established,
        _ => return None,
    })
}

#[cfg(test)]
mod tests;
