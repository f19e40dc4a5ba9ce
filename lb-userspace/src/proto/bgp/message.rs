//! The message header: cuts the stream into messages (RFC 4271 §4.1).

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::error::DecodeError;

/// Octets of marker, length and type.
pub const HEADER_LENGTH: usize = 19;
/// Longest message, header included, while RFC 8654 is not negotiated; and longest that we send.
pub const MAX_LENGTH: usize = 4096;
/// Longest message where it is.
pub const MAX_EXTENDED: usize = 65_535;

const MARKER: [u8; 16] = [0xff; 16];

/// Message types.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum MessageType {
    /// OPEN.
    Open = 1,
    /// UPDATE.
    Update = 2,
    /// NOTIFICATION.
    Notification = 3,
    /// KEEPALIVE.
    Keepalive = 4,
    /// ROUTE-REFRESH (RFC 2918).
    RouteRefresh = 5,
}

impl MessageType {
    const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            1 => Some(Self::Open),
            2 => Some(Self::Update),
            3 => Some(Self::Notification),
            4 => Some(Self::Keepalive),
            5 => Some(Self::RouteRefresh),
            _ => None,
        }
    }

    /// RFC 4271 §6.1: the shortest and longest message of this type. RFC 8654 §3 lengthens all but OPEN and
    /// KEEPALIVE.
    const fn lengths(self, longest: usize) -> (usize, usize) {
        match self {
            Self::Open => (29, MAX_LENGTH),
            Self::Update => (23, longest),
            Self::Notification => (21, longest),
            Self::Keepalive => (HEADER_LENGTH, HEADER_LENGTH),
            Self::RouteRefresh => (23, longest),
        }
    }
}

/// One message off the stream, its header checked and removed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Frame {
    /// Type.
    pub kind: MessageType,
    /// What follows the header.
    pub body: Bytes,
}

impl Frame {
    /// The whole message again.
    pub fn encode(&self) -> Bytes {
        assemble(self.kind, &self.body)
    }
}

/// Cuts the received byte stream into messages, however it was split on the way.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: BytesMut,
    extended: bool,
}

impl Framer {
    /// Appends received bytes. Callers take all messages out before they append again, so that the buffer
    /// never holds more than one message and one read.
    pub fn extend(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets everything, for a new connection.
    pub fn clear(&mut self) {
        self.buffer = BytesMut::new();
        self.extended = false;
    }

    /// Takes messages of up to [`MAX_EXTENDED`] octets from here on (RFC 8654).
    pub const fn extend_messages(&mut self) {
        self.extended = true;
    }

    /// Octets that wait for the rest of their message.
    pub fn held(&self) -> usize {
        self.buffer.len()
    }

    /// The beginning of what [`take`](Self::take) found to be no message.
    pub fn unreadable(&self) -> Bytes {
        let beginning = self.buffer.get(..MAX_LENGTH).unwrap_or(&self.buffer);
        Bytes::copy_from_slice(beginning)
    }

    /// Takes the next whole message, or nothing if more bytes are needed.
    ///
    /// # Errors
    /// The stream is beyond repair: marker, length or type are wrong.
    pub fn take(&mut self) -> Result<Option<Frame>, DecodeError> {
        // The marker is checked as it arrives, so that garbage is answered at once.
        if self
            .buffer
            .iter()
            .zip(MARKER)
            .any(|(&octet, marker)| octet != marker)
        {
            return Err(DecodeError::NotSynchronized);
        }
        let Some(header) = self.buffer.first_chunk::<HEADER_LENGTH>() else {
            return Ok(None);
        };
        let [.., high, low, octet] = *header;
        let announced = u16::from_be_bytes([high, low]);
        let length = usize::from(announced);
        let longest = if self.extended {
            MAX_EXTENDED
        } else {
            MAX_LENGTH
        };
        if !(HEADER_LENGTH..=longest).contains(&length) {
            return Err(DecodeError::BadMessageLength(announced));
        }
        let kind = MessageType::from_octet(octet).ok_or(DecodeError::BadMessageType(octet))?;
        let (shortest, longest) = kind.lengths(longest);
        if !(shortest..=longest).contains(&length) {
            return Err(DecodeError::BadMessageLength(announced));
        }
        if self.buffer.len() < length {
            return Ok(None);
        }
        let mut body = self.buffer.split_to(length).freeze();
        body.advance(HEADER_LENGTH);
        Ok(Some(Frame { kind, body }))
    }
}

/// Puts a header in front of a body. The caller keeps the body within [`MAX_LENGTH`].
pub fn encode(kind: MessageType, body: &[u8]) -> Bytes {
    debug_assert!(HEADER_LENGTH + body.len() <= MAX_LENGTH);
    assemble(kind, body)
}

fn assemble(kind: MessageType, body: &[u8]) -> Bytes {
    let length = HEADER_LENGTH + body.len();
    let mut message = BytesMut::with_capacity(length);
    message.put_slice(&MARKER);
    message.put_u16(u16::try_from(length).unwrap_or(u16::MAX));
    message.put_u8(kind as u8);
    message.put_slice(body);
    message.freeze()
}

/// A KEEPALIVE.
pub fn keepalive() -> Bytes {
    encode(MessageType::Keepalive, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(length: u16, kind: u8) -> Vec<u8> {
        let mut bytes = vec![0xff; 16];
        bytes.extend(length.to_be_bytes());
        bytes.push(kind);
        bytes
    }

    fn first(bytes: &[u8]) -> Result<Option<Frame>, DecodeError> {
        let mut framer = Framer::default();
        framer.extend(bytes);
        framer.take()
    }

    #[test]
    fn messages_survive_one_octet_reads_and_coalescing() {
        let stream = [
            keepalive(),
            encode(MessageType::Update, &[0; 4]),
            keepalive(),
        ]
        .concat();
        let kinds = [
            MessageType::Keepalive,
            MessageType::Update,
            MessageType::Keepalive,
        ];

        let mut whole = Framer::default();
        whole.extend(&stream);
        let coalesced: Vec<_> = std::iter::from_fn(|| whole.take().unwrap())
            .map(|f| f.kind)
            .collect();
        assert_eq!(coalesced, kinds);

        let mut dribble = Framer::default();
        let mut seen = Vec::new();
        for octet in stream.chunks(1) {
            dribble.extend(octet);
            seen.extend(std::iter::from_fn(|| dribble.take().unwrap()).map(|f| f.kind));
        }
        assert_eq!(seen, kinds);
    }

    #[test]
    fn every_marker_octet_counts() {
        for position in 0..16 {
            let mut bytes = keepalive().to_vec();
            bytes[position] = 0xfe;
            assert_eq!(first(&bytes), Err(DecodeError::NotSynchronized));
        }
        assert_eq!(first(b"GET / HTTP/1.1"), Err(DecodeError::NotSynchronized));
    }

    #[test]
    fn lengths_are_checked_before_the_body_is_there() {
        for (length, kind) in [
            (18, 4),
            (0, 2),
            (4097, 2),
            (65535, 2),
            (28, 1),
            (22, 2),
            (20, 3),
            (20, 4),
            (22, 5),
        ] {
            assert_eq!(
                first(&header(length, kind)),
                Err(DecodeError::BadMessageLength(length))
            );
        }
        for (length, kind) in [(29, 1), (4096, 2), (23, 2), (21, 3), (23, 5)] {
            assert_eq!(first(&header(length, kind)), Ok(None));
        }
    }

    #[test]
    fn long_messages_are_taken_where_they_are_negotiated_but_for_open_and_keepalive() {
        let take = |length, kind| {
            let mut framer = Framer::default();
            framer.extend_messages();
            framer.extend(&header(length, kind));
            framer.take()
        };
        for kind in [2, 3, 5] {
            assert_eq!(take(65_535, kind), Ok(None));
        }
        for kind in [1, 4] {
            assert!(take(4_097, kind).is_err());
        }
    }

    #[test]
    fn unknown_types_are_named() {
        for kind in [0, 6, 255] {
            assert_eq!(
                first(&header(19, kind)),
                Err(DecodeError::BadMessageType(kind))
            );
        }
    }
}
