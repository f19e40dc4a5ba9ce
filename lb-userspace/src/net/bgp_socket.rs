//! The TCP connection of a BGP session.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::tcp_md5::{self, Md5Key};
use super::ttl_security;

/// DSCP CS6, as routing protocols mark their packets (RFC 4594 §3.1), in the upper six bits.
const NETWORK_CONTROL: u32 = 0xc0;

/// Whom to connect to, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DialOptions {
    /// The peer.
    pub peer: SocketAddr,
    /// Address to connect from.
    pub source: Option<IpAddr>,
    /// What the socket is set to.
    pub socket: SocketOptions,
}

/// What the socket of a connection is set to, whoever makes it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SocketOptions {
    /// TTL or hop limit of what we send; absent leaves the kernel's.
    pub ttl: Option<u8>,
    /// Packets that come with less are dropped (RFC 5082).
    pub least_ttl: Option<u8>,
    /// How long sent bytes may stay unacknowledged; absent means for ever.
    pub user_timeout: Option<Duration>,
    /// VRF device.
    pub device: Option<String>,
    /// TCP MD5 key.
    pub md5_key: Option<Md5Key>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The socket refused an option.
    #[error("cannot set {option} of the BGP socket")]
    Option {
        /// Which.
        option: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The source address is not one of ours, or not free.
    #[error("cannot connect from {address}")]
    Source {
        /// The address.
        address: IpAddr,
        /// Why.
        source: io::Error,
    },
    /// The peer did not accept.
    #[error("cannot connect to {peer}")]
    Connect {
        /// The peer.
        peer: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The connection was lost as soon as it was made.
    #[error("the connection is gone")]
    Gone(#[source] io::Error),
}

/// An established TCP connection.
#[derive(Debug)]
pub struct Connection(TcpStream);

impl Connection {
    /// Connects; waits for as long as the kernel does.
    ///
    /// # Errors
    /// An option is refused, the source address is not ours, or the peer does not accept.
    pub async fn dial(options: &DialOptions) -> Result<Self, DialError> {
        let socket = prepare(options)?;
        let connect = |source| DialError::Connect {
            peer: options.peer,
            source,
        };
        let stream = TcpSocket::from_std_stream(socket.into())
            .connect(options.peer)
            .await;
        stream.map(Self).map_err(connect)
    }

    /// Takes a connection that the peer made.
    ///
    /// # Errors
    /// An option is refused.
    pub fn accepted(stream: TcpStream, options: &SocketOptions) -> Result<Self, DialError> {
        let is_v4 = stream.peer_addr().map_err(DialError::Gone)?.is_ipv4();
        set_options(&SockRef::from(&stream), is_v4, options)?;
        Ok(Self(stream))
    }

    /// The peer's address.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn peer_address(&self) -> io::Result<IpAddr> {
        self.0.peer_addr().map(|addr| addr.ip())
    }

    /// Our end's address.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn local_address(&self) -> io::Result<IpAddr> {
        self.0.local_addr().map(|addr| addr.ip())
    }

    /// Waits for bytes or the end of the stream, and reads what is there; 0 is the end. Nothing is lost if the
    /// future is dropped.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            self.0.readable().await?;
            match self.0.try_read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return result,
            }
        }
    }

    /// Writes what the connection takes now; 0 if it takes nothing.
    ///
    /// # Errors
    /// The connection is gone.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self.0.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            result => result,
        }
    }

    /// Waits until the connection takes bytes again.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn writable(&self) -> io::Result<()> {
        self.0.writable().await
    }

    /// Half-closes and discards what still comes until the peer closes: closing with unread input would send a
    /// reset, and the peer could lose the last message.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn drain(mut self) -> io::Result<()> {
        tokio::io::AsyncWriteExt::shutdown(&mut self.0).await?;
        let mut sink = [0; 4096];
        while self.read(&mut sink).await? > 0 {}
        Ok(())
    }
}

fn prepare(options: &DialOptions) -> Result<Socket, DialError> {
    let domain = Domain::for_address(options.peer);
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = set("a protocol", Socket::new(domain, kind, Some(Protocol::TCP)))?;
    set_options(
        &SockRef::from(&socket),
        options.peer.is_ipv4(),
        &options.socket,
    )?;
    if let Some(device) = &options.socket.device {
        set(
            "SO_BINDTODEVICE",
            socket.bind_device(Some(device.as_bytes())),
        )?;
    }
    if let Some(key) = &options.socket.md5_key {
        let keyed = tcp_md5::set_key(&socket, options.peer.ip().into(), Some(key));
        set("TCP_MD5SIG", keyed)?;
    }
    if let Some(address) = options.source {
        let bound = socket.bind(&SockAddr::from(SocketAddr::new(address, 0)));
        bound.map_err(|source| DialError::Source { address, source })?;
    }
    Ok(socket)
}

fn set<T>(option: &'static str, result: io::Result<T>) -> Result<T, DialError> {
    result.map_err(|source| DialError::Option { option, source })
}

/// What can be set before and after the connection is there.
fn set_options(
    socket: &SockRef<'_>,
    is_v4: bool,
    options: &SocketOptions,
) -> Result<(), DialError> {
    set("TCP_NODELAY", socket.set_tcp_nodelay(true))?;
    let timeout = socket.set_tcp_user_timeout(options.user_timeout);
    set("TCP_USER_TIMEOUT", timeout)?;
    if is_v4 {
        set("IP_TOS", socket.set_tos_v4(NETWORK_CONTROL))?;
    } else {
        set("IPV6_TCLASS", socket.set_tclass_v6(NETWORK_CONTROL))?;
    }
    if let Some(ttl) = options.ttl {
        if is_v4 {
            set("IP_TTL", socket.set_ttl_v4(ttl.into()))?;
        } else {
            set("IPV6_UNICAST_HOPS", socket.set_unicast_hops_v6(ttl.into()))?;
        }
    }
    if let Some(ttl) = options.least_ttl {
        set("IP_MINTTL", ttl_security::set_least(&**socket, is_v4, ttl))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(peer: SocketAddr) -> DialOptions {
        DialOptions {
            peer,
            source: None,
            socket: SocketOptions {
                ttl: Some(1),
                least_ttl: None,
                user_timeout: Some(Duration::from_secs(6)),
                ..SocketOptions::default()
            },
        }
    }

    #[tokio::test]
    async fn a_connection_comes_from_the_configured_address() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let source = IpAddr::from([127, 0, 0, 2]);
        let options = DialOptions {
            source: Some(source),
            ..options(listener.local_addr().unwrap())
        };
        let connection = Connection::dial(&options).await.unwrap();
        let (_peer, from) = listener.accept().await.unwrap();
        assert_eq!(from.ip(), source);
        assert_eq!(connection.local_address().unwrap(), source);
        assert_eq!(connection.0.ttl().unwrap(), 1);
    }

    #[tokio::test]
    async fn packets_that_came_farther_than_allowed_are_dropped() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut options = options(listener.local_addr().unwrap());
        options.socket.user_timeout = Some(Duration::from_millis(200));
        // The listener answers with 64.
        options.socket.least_ttl = Some(65);
        let refused = Connection::dial(&options).await.unwrap_err();
        assert!(matches!(refused, DialError::Connect { .. }), "{refused:?}");
        options.socket.least_ttl = Some(64);
        assert!(Connection::dial(&options).await.is_ok());
    }

    #[tokio::test]
    async fn a_foreign_source_address_is_named() {
        let options = DialOptions {
            source: Some([192, 0, 2, 1].into()),
            ..options("127.0.0.1:9".parse().unwrap())
        };
        let error = Connection::dial(&options).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot connect from 192.0.2.1");
    }
}
