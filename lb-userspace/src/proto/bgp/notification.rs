//! NOTIFICATION: the last word on a connection (RFC 4271, 4486, 9003).

use std::fmt;

use bytes::Bytes;

use super::cursor::Cursor;
use super::message::{self, MessageType};

/// Error codes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Code {
    /// Message header error.
    MessageHeader = 1,
    /// OPEN message error.
    Open = 2,
    /// UPDATE message error.
    Update = 3,
    /// Hold timer expired.
    HoldTimerExpired = 4,
    /// Finite state machine error (RFC 6608).
    FiniteStateMachine = 5,
    /// Cease.
    Cease = 6,
    /// ROUTE-REFRESH message error (RFC 7313).
    RouteRefresh = 7,
    /// Send hold timer expired (RFC 9687).
    SendHoldTimerExpired = 8,
}

/// Subcodes of Cease that we send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Cease {
    /// Administrative shutdown.
    AdministrativeShutdown = 2,
    /// Peer de-configured.
    PeerDeconfigured = 3,
    /// Administrative reset.
    AdministrativeReset = 4,
    /// Other configuration change.
    OtherConfigurationChange = 6,
    /// Connection collision resolution.
    ConnectionCollision = 7,
    /// Hard reset (RFC 8538).
    HardReset = 9,
    /// BFD down (RFC 9384).
    BfdDown = 10,
}

/// Longest shutdown text that RFC 8203 receivers take; RFC 9003 allows 255.
const MAX_TEXT: usize = 128;

/// An error code, its subcode, and data that depends on both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Notification {
    /// Error code; unknown ones occur.
    pub code: u8,
    /// Error subcode; zero is unspecific.
    pub subcode: u8,
    /// Data.
    pub data: Vec<u8>,
}

impl Notification {
    /// From its parts.
    pub const fn new(code: u8, subcode: u8, data: Vec<u8>) -> Self {
        Self {
            code,
            subcode,
            data,
        }
    }

    /// Hold timer expired.
    pub const fn hold_timer_expired() -> Self {
        Self::new(Code::HoldTimerExpired as u8, 0, Vec::new())
    }

    /// Send hold timer expired.
    pub const fn send_hold_timer_expired() -> Self {
        Self::new(Code::SendHoldTimerExpired as u8, 0, Vec::new())
    }

    /// Cease with a text for the peer's operator, cut to what every receiver takes. Only shutdown and reset
    /// have room for a text (RFC 9003 §2).
    pub fn cease(subcode: Cease, text: &str) -> Self {
        let mut data = Vec::new();
        if matches!(
            subcode,
            Cease::AdministrativeShutdown | Cease::AdministrativeReset
        ) && !text.is_empty()
        {
            let text = text
                .get(..text.floor_char_boundary(MAX_TEXT))
                .unwrap_or_default();
            data.push(u8::try_from(text.len()).unwrap_or(0));
            data.extend_from_slice(text.as_bytes());
        }
        Self::new(Code::Cease as u8, subcode as u8, data)
    }

    /// The same, for a peer that would keep our routes after any other NOTIFICATION.
    // RFC 8538 §3: the data is code, subcode and data of what is meant.
    pub fn into_hard_reset(self) -> Self {
        let mut data = vec![self.code, self.subcode];
        data.extend(self.data);
        Self::new(Code::Cease as u8, Cease::HardReset as u8, data)
    }

    /// What a hard reset means; anything else means itself.
    pub fn meant(&self) -> Self {
        match self.data.as_slice() {
            [code, subcode, data @ ..]
                if (self.code, self.subcode) == (Code::Cease as u8, Cease::HardReset as u8) =>
            {
                Self::new(*code, *subcode, data.to_vec())
            }
            _ => self.clone(),
        }
    }

    /// Reads the body of a NOTIFICATION; none if it is too short.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(body);
        Some(Self::new(
            cursor.u8()?,
            cursor.u8()?,
            cursor.rest().to_vec(),
        ))
    }

    /// The whole message; data that would not fit is cut off.
    pub fn encode(&self) -> Bytes {
        let mut body = vec![self.code, self.subcode];
        body.extend(
            self.data
                .iter()
                .take(message::MAX_LENGTH - message::HEADER_LENGTH - 2),
        );
        message::encode(MessageType::Notification, &body)
    }

    /// The shutdown text, with whatever is not printable escaped; a wrong length is no reason to hide it.
    pub fn shutdown_text(&self) -> Option<String> {
        let has_text = self.code == Code::Cease as u8 && matches!(self.subcode, 2 | 4);
        let (&length, text) = self.data.split_first().filter(|_| has_text)?;
        let text = text.get(..usize::from(length)).unwrap_or(text);
        let escape = |c: char| {
            if c.is_control() {
                c.escape_default().to_string()
            } else {
                c.into()
            }
        };
        Some(String::from_utf8_lossy(text).chars().map(escape).collect())
            .filter(|text: &String| !text.is_empty())
    }

    /// The name of code and subcode as the RFCs give it.
    pub const fn name(&self) -> &'static str {
        match (self.code, self.subcode) {
            (1, 1) => "connection not synchronized",
            (1, 2) => "bad message length",
            (1, 3) => "bad message type",
            (1, _) => "message header error",
            (2, 1) => "unsupported version number",
            (2, 2) => "bad peer AS",
            (2, 3) => "bad BGP identifier",
            (2, 4) => "unsupported optional parameter",
            (2, 6) => "unacceptable hold time",
            (2, 7) => "unsupported capability",
            (2, 11) => "role mismatch",
            (2, _) => "OPEN message error",
            (3, 1) => "malformed attribute list",
            (3, 2) => "unrecognized well-known attribute",
            (3, 3) => "missing well-known attribute",
            (3, 4) => "attribute flags error",
            (3, 5) => "attribute length error",
            (3, 6) => "invalid ORIGIN",
            (3, 8) => "invalid NEXT_HOP",
            (3, 9) => "optional attribute error",
            (3, 10) => "invalid network field",
            (3, 11) => "malformed AS_PATH",
            (3, _) => "UPDATE message error",
            (4, _) => "hold timer expired",
            (5, 1) => "unexpected message in OpenSent",
            (5, 2) => "unexpected message in OpenConfirm",
            (5, 3) => "unexpected message in Established",
            (5, _) => "finite state machine error",
            (6, 1) => "maximum number of prefixes reached",
            (6, 2) => "administrative shutdown",
            (6, 3) => "peer de-configured",
            (6, 4) => "administrative reset",
            (6, 5) => "connection rejected",
            (6, 6) => "other configuration change",
            (6, 7) => "connection collision resolution",
            (6, 8) => "out of resources",
            (6, 9) => "hard reset",
            (6, 10) => "BFD down",
            (6, _) => "cease",
            (7, _) => "ROUTE-REFRESH message error",
            (8, _) => "send hold timer expired",
            (_, _) => "unknown error",
        }
    }
}

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}/{})", self.name(), self.code, self.subcode)?;
        let meant = self.meant();
        if meant != *self {
            write!(f, ", {} ({}/{})", meant.name(), meant.code, meant.subcode)?;
        }
        match meant.shutdown_text() {
            Some(text) => write!(f, ": \"{text}\""),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shutdown_text_survives_the_wire() {
        let sent = Notification::cease(Cease::AdministrativeShutdown, "node drain");
        let wire = sent.encode();
        assert_eq!(wire[16..], *b"\x00\x20\x03\x06\x02\x0anode drain");
        let read = Notification::decode(&wire[19..]).unwrap();
        assert_eq!(read, sent);
        assert_eq!(
            read.to_string(),
            "administrative shutdown (6/2): \"node drain\""
        );
    }

    #[test]
    fn a_hard_reset_carries_what_is_meant() {
        let hard = Notification::cease(Cease::AdministrativeShutdown, "bye").into_hard_reset();
        assert_eq!((hard.subcode, &hard.data[..]), (9, &b"\x06\x02\x03bye"[..]));
        let told = "hard reset (6/9), administrative shutdown (6/2): \"bye\"";
        assert_eq!(hard.to_string(), told);
        assert_eq!(
            Notification::new(6, 9, vec![6]).to_string(),
            "hard reset (6/9)"
        );
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let sent = Notification::cease(Cease::AdministrativeShutdown, &"ä".repeat(100));
        assert_eq!(sent.shutdown_text().unwrap().chars().count(), 64);
        let sent = Notification::cease(
            Cease::AdministrativeShutdown,
            &format!("x{}", "ä".repeat(100)),
        );
        assert_eq!(sent.data[0], 127);
    }

    #[test]
    fn bad_text_is_shown_escaped() {
        let overrun = Notification::new(6, 2, b"\xffhi".to_vec());
        assert_eq!(overrun.shutdown_text().unwrap(), "hi");
        let control = Notification::new(6, 4, b"\x04a\x1b\xff\n".to_vec());
        assert_eq!(control.shutdown_text().unwrap(), "a\\u{1b}\u{fffd}\\n");
        assert_eq!(Notification::new(6, 2, Vec::new()).shutdown_text(), None);
    }

    #[test]
    fn data_that_does_not_fit_is_cut_off() {
        assert_eq!(Notification::new(3, 2, vec![0; 5000]).encode().len(), 4096);
    }
}
