//! The TCP connection of a BGP session.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

use super::tcp_md5::{self, Md5Key};

/// DSCP CS6, as routing protocols mark their packets (RFC 4594 §3.1), in the upper six bits.
const NETWORK_CONTROL: u32 = 0xc0;

/// Whom to connect to, and how.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DialOptions {
    /// The peer.
    pub peer: SocketAddr,
    /// Address to connect from.
    pub source: Option<IpAddr>,
    /// TTL or hop limit of what we send; absent leaves the kernel's.
    pub ttl: Option<u8>,
    /// How long sent bytes may stay unacknowledged; absent means for ever.
    pub user_timeout: Option<Duration>,
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
    let is_v4 = options.peer.is_ipv4();
    let set = |option, result: io::Result<()>| {
        result.map_err(|source| DialError::Option { option, source })
    };

    let domain = Domain::for_address(options.peer);
    let socket = Socket::new(
        domain,
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )
    .map_err(|source| DialError::Option {
        option: "the protocol",
        source,
    })?;
    set("TCP_NODELAY", socket.set_tcp_nodelay(true))?;
    set(
        "TCP_USER_TIMEOUT",
        socket.set_tcp_user_timeout(options.user_timeout),
    )?;
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
    if let Some(key) = &options.md5_key {
        set(
            "TCP_MD5SIG",
            tcp_md5::set_key(&socket, options.peer.ip(), &key.0),
        )?;
    }
    if let Some(address) = options.source {
        let bound = socket.bind(&SockAddr::from(SocketAddr::new(address, 0)));
        bound.map_err(|source| DialError::Source { address, source })?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(peer: SocketAddr) -> DialOptions {
        DialOptions {
            peer,
            source: None,
            ttl: Some(1),
            user_timeout: Some(Duration::from_secs(6)),
            md5_key: None,
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
    async fn a_foreign_source_address_is_named() {
        let options = DialOptions {
            source: Some([192, 0, 2, 1].into()),
            ..options("127.0.0.1:9".parse().unwrap())
        };
        let error = Connection::dial(&options).await.unwrap_err();
        assert_eq!(error.to_string(), "cannot connect from 192.0.2.1");
    }
}
