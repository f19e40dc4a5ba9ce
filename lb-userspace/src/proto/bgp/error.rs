//! Why a message ends the session, and the NOTIFICATION that says so.

use super::notification::{Code, Notification};
use super::role::Role;

/// A failure that RFC 4271 §6 or RFC 7606 answers with a NOTIFICATION.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DecodeError {
    /// A marker octet is not 0xff.
    #[error("the stream is not synchronized: the marker is not all ones")]
    NotSynchronized,
    /// The length does not suit the message type.
    #[error("bad message length {0}")]
    BadMessageLength(u16),
    /// No such message type.
    #[error("unknown message type {0}")]
    BadMessageType(u8),
    /// An OPEN whose parameters or capabilities do not fit their container.
    #[error("malformed OPEN")]
    MalformedOpen,
    /// Not BGP version 4.
    #[error("the peer speaks BGP version {0}, not 4")]
    UnsupportedVersion(u8),
    /// The peer's AS is not the configured one.
    #[error("the peer is AS {actual}, but {expected} is configured: correct peerASN or the router")]
    BadPeerAs {
        /// The AS it said.
        actual: u32,
        /// What the configuration asks for.
        expected: String,
    },
    /// A router ID of zero, or our own on an internal session.
    #[error("the peer's router ID {0} is zero or our own: give each speaker its own")]
    BadBgpIdentifier(std::net::Ipv4Addr),
    /// An optional parameter that is no capability.
    #[error("unsupported optional parameter {0}")]
    UnsupportedOptionalParameter(u8),
    /// A hold time of one or two seconds.
    #[error("the peer's hold time of {0} s is unacceptable: it must be 0 or at least 3")]
    UnacceptableHoldTime(u16),
    /// No address family in common.
    #[error("the peer offers none of the address families that this session is to carry")]
    UnsupportedCapability {
        /// The capabilities that are missing, as they go into an OPEN.
        missing: Vec<u8>,
    },
    /// The peer's role does not go with ours.
    #[error("the peer's role is {actual}, ours is {ours}: correct torline.io/role or the router")]
    RoleMismatch {
        /// What it said.
        actual: String,
        /// What we said.
        ours: Role,
    },
    /// A ROUTE-REFRESH whose length does not suit it, whole.
    #[error("malformed ROUTE-REFRESH")]
    MalformedRefresh(Vec<u8>),
    /// Lengths that contradict each other, or an MP attribute twice.
    #[error("malformed attribute list in an UPDATE")]
    MalformedAttributeList,
    /// A well-known attribute that nobody knows.
    #[error("unrecognized well-known attribute {0:02x?} in an UPDATE")]
    UnrecognizedWellKnownAttribute(Vec<u8>),
    /// An MP attribute whose prefixes cannot be found.
    #[error("malformed multiprotocol attribute in an UPDATE")]
    OptionalAttributeError(Vec<u8>),
    /// A prefix list that cannot be read.
    #[error("invalid prefix in an UPDATE")]
    InvalidNetworkField,
}

impl From<&DecodeError> for Notification {
    fn from(error: &DecodeError) -> Self {
        let (code, subcode, data) = match error {
            DecodeError::NotSynchronized => (Code::MessageHeader, 1, Vec::new()),
            DecodeError::BadMessageLength(length) => {
                (Code::MessageHeader, 2, length.to_be_bytes().to_vec())
            }
            DecodeError::BadMessageType(kind) => (Code::MessageHeader, 3, vec![*kind]),
            DecodeError::MalformedOpen => (Code::Open, 0, Vec::new()),
            // RFC 4271 §6.2: the data is the version to be used instead.
            DecodeError::UnsupportedVersion(_) => (Code::Open, 1, vec![0, 4]),
            DecodeError::BadPeerAs { .. } => (Code::Open, 2, Vec::new()),
            DecodeError::BadBgpIdentifier(_) => (Code::Open, 3, Vec::new()),
            DecodeError::UnsupportedOptionalParameter(_) => (Code::Open, 4, Vec::new()),
            DecodeError::UnacceptableHoldTime(_) => (Code::Open, 6, Vec::new()),
            DecodeError::UnsupportedCapability { missing } => (Code::Open, 7, missing.clone()),
            // RFC 9234 §4.2.
            DecodeError::RoleMismatch { .. } => (Code::Open, 11, Vec::new()),
            // RFC 7313 §5: the data is the message.
            DecodeError::MalformedRefresh(message) => (Code::RouteRefresh, 1, message.clone()),
            DecodeError::MalformedAttributeList => (Code::Update, 1, Vec::new()),
            DecodeError::UnrecognizedWellKnownAttribute(attribute) => {
                (Code::Update, 2, attribute.clone())
            }
            DecodeError::OptionalAttributeError(attribute) => (Code::Update, 9, attribute.clone()),
            DecodeError::InvalidNetworkField => (Code::Update, 10, Vec::new()),
        };
        Self::new(code as u8, subcode, data)
    }
}
