//! Agents and foca's messages as octets, integers in network byte order.
//!
//! ```text
//! agent    name, epoch (64 bits), version, count of addresses (8), each: family 4 or 6 (8), octets
//! member   agent, incarnation (16), state (8)
//! header   sender (agent), its incarnation (16), receiver (agent), message (8) and its fields
//! ```
//!
//! A text is its length in one octet and as many octets of ASCII that can be seen.

use std::net::IpAddr;

use bytes::{Buf, BufMut, TryGetError};
use foca::{Codec, Header, Member, Message, State};

use super::{ADDRESSES, Identity};

/// Octets that are not as written here.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("malformed gossip")]
pub(super) struct Unreadable;

impl From<TryGetError> for Unreadable {
    fn from(_: TryGetError) -> Self {
        Self
    }
}

/// Why something is not written or not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum WireError {
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    #[error("no name or version may be longer than 255 octets")]
    TooLong,
    #[error("the datagram is full")]
    Full,
}

mod message {
    pub(super) const PING: u8 = 1;
    pub(super) const ACK: u8 = 2;
    pub(super) const PING_REQ: u8 = 3;
    pub(super) const INDIRECT_PING: u8 = 4;
    pub(super) const INDIRECT_ACK: u8 = 5;
    pub(super) const FORWARDED_ACK: u8 = 6;
    pub(super) const ANNOUNCE: u8 = 7;
    pub(super) const FEED: u8 = 8;
    pub(super) const GOSSIP: u8 = 9;
    pub(super) const BROADCAST: u8 = 10;
    pub(super) const TURN_UNDEAD: u8 = 11;
}

mod state {
    pub(super) const ALIVE: u8 = 1;
    pub(super) const SUSPECT: u8 = 2;
    pub(super) const DOWN: u8 = 3;
}

/// Writes and reads for foca.
pub(super) struct Octets;

impl Codec<Identity> for Octets {
    type Error = WireError;

    fn encode_header(
        &mut self,
        header: &Header<Identity>,
        buf: impl BufMut,
    ) -> Result<(), WireError> {
        let mut out = Vec::new();
        put_identity(&header.src, &mut out)?;
        out.put_u16(header.src_incarnation);
        put_identity(&header.dst, &mut out)?;
        let mut probe = |kind, number| {
            out.put_u8(kind);
            out.put_u8(number);
        };
        let third = match &header.message {
            Message::Ping(number) => {
                probe(message::PING, *number);
                None
            }
            Message::Ack(number) => {
                probe(message::ACK, *number);
                None
            }
            Message::PingReq {
                target,
                probe_number,
            } => {
                probe(message::PING_REQ, *probe_number);
                Some(target)
            }
            Message::IndirectPing {
                origin,
                probe_number,
            } => {
                probe(message::INDIRECT_PING, *probe_number);
                Some(origin)
            }
            Message::IndirectAck {
                target,
                probe_number,
            } => {
                probe(message::INDIRECT_ACK, *probe_number);
                Some(target)
            }
            Message::ForwardedAck {
                origin,
                probe_number,
            } => {
                probe(message::FORWARDED_ACK, *probe_number);
                Some(origin)
            }
            Message::Announce => put_kind(message::ANNOUNCE, &mut out),
            Message::Feed => put_kind(message::FEED, &mut out),
            Message::Gossip => put_kind(message::GOSSIP, &mut out),
            Message::Broadcast => put_kind(message::BROADCAST, &mut out),
            Message::TurnUndead => put_kind(message::TURN_UNDEAD, &mut out),
        };
        if let Some(third) = third {
            put_identity(third, &mut out)?;
        }
        put_whole(&out, buf)
    }

    fn decode_header(&mut self, mut buf: impl Buf) -> Result<Header<Identity>, WireError> {
        let buf = &mut buf;
        let src = identity(buf)?;
        let src_incarnation = buf.try_get_u16().map_err(Unreadable::from)?;
        let dst = identity(buf)?;
        let message = message(buf)?;
        Ok(Header {
            src,
            src_incarnation,
            dst,
            message,
        })
    }

    fn encode_member(
        &mut self,
        member: &Member<Identity>,
        buf: impl BufMut,
    ) -> Result<(), WireError> {
        let mut out = Vec::new();
        put_identity(member.id(), &mut out)?;
        out.put_u16(member.incarnation());
        out.put_u8(match member.state() {
            State::Alive => state::ALIVE,
            State::Suspect => state::SUSPECT,
            State::Down => state::DOWN,
        });
        put_whole(&out, buf)
    }

    fn decode_member(&mut self, mut buf: impl Buf) -> Result<Member<Identity>, WireError> {
        let id = identity(&mut buf)?;
        let incarnation = buf.try_get_u16().map_err(Unreadable::from)?;
        let state = match buf.try_get_u8().map_err(Unreadable::from)? {
            state::ALIVE => State::Alive,
            state::SUSPECT => State::Suspect,
            state::DOWN => State::Down,
            _ => return Err(Unreadable.into()),
        };
        Ok(Member::new(id, incarnation, state))
    }
}

fn message(buf: &mut impl Buf) -> Result<Message<Identity>, Unreadable> {
    let kind = buf.try_get_u8()?;
    Ok(match kind {
        message::PING => Message::Ping(buf.try_get_u8()?),
        message::ACK => Message::Ack(buf.try_get_u8()?),
        message::PING_REQ => {
            let (probe_number, target) = (buf.try_get_u8()?, identity(buf)?);
            Message::PingReq {
                target,
                probe_number,
            }
        }
        message::INDIRECT_PING => {
            let (probe_number, origin) = (buf.try_get_u8()?, identity(buf)?);
            Message::IndirectPing {
                origin,
                probe_number,
            }
        }
        message::INDIRECT_ACK => {
            let (probe_number, target) = (buf.try_get_u8()?, identity(buf)?);
            Message::IndirectAck {
                target,
                probe_number,
            }
        }
        message::FORWARDED_ACK => {
            let (probe_number, origin) = (buf.try_get_u8()?, identity(buf)?);
            Message::ForwardedAck {
                origin,
                probe_number,
            }
        }
        message::ANNOUNCE => Message::Announce,
        message::FEED => Message::Feed,
        message::GOSSIP => Message::Gossip,
        message::BROADCAST => Message::Broadcast,
        message::TURN_UNDEAD => Message::TurnUndead,
        _ => return Err(Unreadable),
    })
}

fn put_kind<'a>(kind: u8, out: &mut Vec<u8>) -> Option<&'a Identity> {
    out.put_u8(kind);
    None
}

/// All of it or nothing.
fn put_whole(octets: &[u8], mut buf: impl BufMut) -> Result<(), WireError> {
    if buf.remaining_mut() < octets.len() {
        return Err(WireError::Full);
    }
    buf.put_slice(octets);
    Ok(())
}

fn put_identity(identity: &Identity, out: &mut Vec<u8>) -> Result<(), WireError> {
    put_text(&identity.name, out)?;
    out.put_u64(identity.epoch);
    put_text(&identity.version, out)?;
    let count = identity.addresses.len().min(ADDRESSES);
    out.put_u8(count as u8);
    for addr in identity.addresses.iter().take(count) {
        match addr {
            IpAddr::V4(addr) => {
                out.put_u8(4);
                out.put_slice(&addr.octets());
            }
            IpAddr::V6(addr) => {
                out.put_u8(6);
                out.put_slice(&addr.octets());
            }
        }
    }
    Ok(())
}

fn identity(buf: &mut impl Buf) -> Result<Identity, Unreadable> {
    let name = text(buf)?;
    if name.is_empty() {
        return Err(Unreadable);
    }
    let epoch = buf.try_get_u64()?;
    let version = text(buf)?;
    let count = usize::from(buf.try_get_u8()?);
    if count > ADDRESSES {
        return Err(Unreadable);
    }
    let mut addresses = Vec::with_capacity(count);
    for _ in 0..count {
        addresses.push(match buf.try_get_u8()? {
            4 => IpAddr::from(buf.try_get_u32()?.to_be_bytes()),
            6 => IpAddr::from(buf.try_get_u128()?.to_be_bytes()),
            _ => return Err(Unreadable),
        });
    }
    Ok(Identity {
        name,
        epoch,
        addresses,
        version,
    })
}

/// Appends a text.
pub(super) fn put_text(text: &str, out: &mut Vec<u8>) -> Result<(), WireError> {
    let Ok(length) = u8::try_from(text.len()) else {
        return Err(WireError::TooLong);
    };
    out.put_u8(length);
    out.put_slice(text.as_bytes());
    Ok(())
}

/// Reads a text.
pub(super) fn text(buf: &mut impl Buf) -> Result<String, Unreadable> {
    let mut octets = vec![0; usize::from(buf.try_get_u8()?)];
    buf.try_copy_to_slice(&mut octets)?;
    if !octets.iter().all(u8::is_ascii_graphic) {
        return Err(Unreadable);
    }
    String::from_utf8(octets).or(Err(Unreadable))
}
