//! The connections that the kernel tracks, over ctnetlink.
//!
//! One dump of `NETLINK_NETFILTER`, read message by message. `message` takes the messages apart: of a
//! connection its addresses and ports as its first packet had them, and whether it has ended.

mod message;

use std::io;
use std::net::SocketAddr;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr as Port};

pub use self::message::MalformedError;
use self::message::{Message, Messages};

/// Octets that a reply takes at most: what the kernel gives a reader that offers as much.
const REPLY: usize = 1 << 15;

/// Why the connections could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConntrackError {
    /// There is no such socket to be had.
    #[error("failed to open a netfilter socket")]
    Open(#[source] io::Error),
    /// The request or the reply did not get through.
    #[error("failed to talk to the kernel about its connections")]
    Socket(#[source] io::Error),
    /// The kernel refused: it tracks no connections, say.
    #[error("the kernel does not tell what connections it tracks")]
    Refused(#[source] io::Error),
    /// The table changed so that the reply may lack some; the next one may not.
    #[error("the kernel's connections changed while they were read")]
    Interrupted,
    /// The reply is not what the kernel is known to send.
    #[error("the kernel's reply is not understood")]
    Malformed(#[from] MalformedError),
}

/// A connection, TCP or UDP, that the kernel tracks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connection {
    /// Whoever began it.
    pub source: SocketAddr,
    /// Where its first packet was addressed to, before any translation.
    pub destination: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
    /// The kernel serves it: it translates its destination, or has seen a reply.
    pub is_served: bool,
    /// TCP: both sides have sent FIN, or either RST.
    pub has_ended: bool,
}

/// Hands over every TCP and UDP connection that the kernel tracks. Blocks for about a microsecond per
/// connection.
///
/// # Errors
/// Not all of them may have been handed over.
pub fn connections(mut take: impl FnMut(Connection)) -> Result<(), ConntrackError> {
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(ConntrackError::Open)?;
    socket.bind_auto().map_err(ConntrackError::Open)?;
    socket
        .connect(&Port::new(0, 0))
        .map_err(ConntrackError::Open)?;
    socket
        .send(&message::request(), 0)
        .map_err(ConntrackError::Socket)?;
    let mut reply = Vec::with_capacity(REPLY);
    let mut is_whole = true;
    loop {
        reply.clear();
        socket.recv(&mut reply, 0).map_err(ConntrackError::Socket)?;
        for message in Messages::of(&reply) {
            match message? {
                Message::Connection(connection) => take(connection),
                Message::Other => {}
                Message::Interrupted => is_whole = false,
                Message::Done { is_interrupted } if is_interrupted || !is_whole => {
                    return Err(ConntrackError::Interrupted);
                }
                Message::Done { .. } => return Ok(()),
                Message::Refused(number) => {
                    let error = io::Error::from_raw_os_error(number);
                    return Err(ConntrackError::Refused(error));
                }
            }
        }
    }
}
