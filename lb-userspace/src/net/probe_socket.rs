//! The UDP socket from which probes go out and to which their answers come.

use std::io;
use std::net::{IpAddr, SocketAddr};

use tokio::net::UdpSocket;

/// Longest datagram worth reading; what is longer is no answer, and is cut.
const LONGEST: usize = 64;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("failed to open a UDP socket at {address}")]
pub struct OpenError {
    /// The address.
    pub address: IpAddr,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// A socket at one of this node's addresses. An answer is addressed to it, so the kernel delivers what the
/// peer's program sent back.
#[derive(Debug)]
pub struct ProbeSocket {
    address: IpAddr,
    socket: UdpSocket,
}

impl ProbeSocket {
    /// Opens one at an address, on a port that the kernel chooses. Call it on a tokio runtime.
    ///
    /// # Errors
    /// The address is not this node's, or not yet.
    pub async fn open(address: IpAddr) -> Result<Self, OpenError> {
        let failed = |source| OpenError { address, source };
        let socket = UdpSocket::bind(SocketAddr::new(address, 0))
            .await
            .map_err(failed)?;
        // Until the event queue has said so once, nothing is sent.
        socket.writable().await.map_err(failed)?;
        Ok(Self { address, socket })
    }

    /// The address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Sends at once or not at all: a probe that waits is worth nothing.
    ///
    /// # Errors
    /// There is no way to the peer, or no room in the socket.
    pub fn try_send(&self, payload: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.try_send_to(payload, to).map(drop)
    }

    /// Waits until there is something to [`Self::try_receive`].
    pub async fn readable(&self) {
        // An error is there to be received too.
        let _ = self.socket.readable().await;
    }

    /// Hands over all that has come. Errors about datagrams that were sent (RFC 1122 §4.1.3.3) are skipped: a
    /// peer that cannot be reached is silent.
    pub fn try_receive(&self, mut take: impl FnMut(SocketAddr, &[u8])) {
        let mut buffer = [0; LONGEST];
        loop {
            match self.socket.try_recv_from(&mut buffer) {
                Ok((length, from)) => take(from, buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_sent_is_received_once() {
        for address in ["127.0.0.1", "::1"] {
            let address = address.parse().unwrap();
            let [from, to] = [
                ProbeSocket::open(address).await.unwrap(),
                ProbeSocket::open(address).await.unwrap(),
            ];
            from.try_send(b"hello", to.socket.local_addr().unwrap())
                .unwrap();
            to.readable().await;
            let mut received = Vec::new();
            to.try_receive(|from, payload| received.push((from, payload.to_vec())));
            let sender = from.socket.local_addr().unwrap();
            assert_eq!(received, [(sender, b"hello".to_vec())]);
        }
    }

    #[tokio::test]
    async fn an_address_of_somebody_else_is_refused() {
        let error = ProbeSocket::open([192, 0, 2, 99].into()).await.unwrap_err();
        assert!(error.to_string().contains("192.0.2.99"), "{error}");
    }
}
