//! The UDP socket through which agents speak to each other.

use std::io;
use std::net::{IpAddr, SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

/// Longest datagram worth reading; what is longer is not ours, and is cut.
const LONGEST: usize = 2_048;

/// Octets that may wait to be read: ten thousand flows are pushed at once.
const BUFFER: usize = 4 << 20;

/// Datagrams that are read in a row, so that other work has its turn.
const TURN: usize = 256;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("failed to open UDP socket {address}")]
pub struct OpenError {
    /// The address and port.
    pub address: SocketAddr,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// A socket at one of this node's addresses.
#[derive(Debug)]
pub struct PeerSocket {
    address: SocketAddr,
    socket: UdpSocket,
}

impl PeerSocket {
    /// Opens one. Call it on a tokio runtime.
    ///
    /// # Errors
    /// The address is not this node's, or not yet, or the port is taken.
    pub fn open(address: SocketAddr) -> Result<Self, OpenError> {
        let failed = |source| OpenError { address, source };
        let socket = bind(address).map_err(failed)?;
        let socket = UdpSocket::from_std(socket.into()).map_err(failed)?;
        Ok(Self { address, socket })
    }

    /// The address.
    pub const fn address(&self) -> IpAddr {
        self.address.ip()
    }

    /// Sends at once or not at all: what matters is sent again.
    ///
    /// # Errors
    /// There is no way to the peer, or no room in the socket.
    pub fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        match self.socket.try_send_to(payload, to) {
            // Until the event queue has said that the socket is writable, tokio does not try.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                socket2::SockRef::from(&self.socket).send_to(payload, &to.into())
            }
            sent => sent,
        }
        .map(drop)
    }

    /// Waits until there is something to [`Self::try_receive`].
    pub async fn readable(&self) {
        // An error is there to be received too.
        let _ = self.socket.readable().await;
    }

    /// Hands over what has come, or a good part of it. Errors about datagrams that were sent (RFC 1122 §4.1.3.3)
    /// are skipped: a peer that cannot be reached is silent.
    pub fn try_receive(&self, mut take: impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = [0; LONGEST];
        for _ in 0..TURN {
            match self.socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => take(from, buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }
}

fn bind(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::DGRAM,
        Some(Protocol::UDP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Less room is no reason not to speak.
    let _ = socket.set_recv_buffer_size(BUFFER);
    let _ = socket.set_send_buffer_size(BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_sent_is_received_once() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let address = address.parse().unwrap();
            let [from, to] = [
                PeerSocket::open(address).unwrap(),
                PeerSocket::open(address).unwrap(),
            ];
            let target = to.socket.local_addr().unwrap();
            from.try_send(b"hello", target).unwrap();
            to.readable().await;
            let mut received = Vec::new();
            to.try_receive(|from, payload| received.push((from, payload.to_vec())));
            let sender = from.socket.local_addr().unwrap();
            assert_eq!(received, [(sender, b"hello".to_vec())]);
        }
    }

    #[tokio::test]
    async fn an_address_of_somebody_else_is_refused() {
        let address = ([192, 0, 2, 99], 17474).into();
        let error = PeerSocket::open(address).unwrap_err();
        assert!(error.to_string().contains("192.0.2.99:17474"), "{error}");
    }
}
