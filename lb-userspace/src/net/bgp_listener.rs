//! The sockets on which peers connect to us.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use super::tcp_md5::{self, Md5Key};

/// Connections that wait to be taken.
const BACKLOG: i32 = 64;

/// Why no peer can connect to us.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else listens there.
    #[error(
        "cannot listen on port {0}: another BGP daemon (Calico, Cilium, FRR, BIRD) has it on this node; let this \
         node connect (torline.io/connect: active), or have the router connect to another torline.io/listen-port"
    )]
    Taken(u16),
    /// Anything else.
    #[error("cannot listen on port {port}: {cause}")]
    Failed {
        /// The port.
        port: u16,
        /// Why.
        cause: String,
    },
}

/// A listening socket of one family, all addresses.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds; port 0 takes any.
    ///
    /// # Errors
    /// The port is taken or not allowed.
    pub fn bind(is_v4: bool, port: u16) -> Result<Self, ListenError> {
        bind(is_v4, port).map(Self).map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                ListenError::Taken(port)
            } else {
                ListenError::Failed {
                    port,
                    cause: error.to_string(),
                }
            }
        })
    }

    /// Takes connections from `peer` only with this key, or without one.
    ///
    /// # Errors
    /// The kernel refuses the key.
    pub fn set_key(&self, peer: IpAddr, key: Option<&Md5Key>) -> io::Result<()> {
        match tcp_md5::set_key(&self.0, peer, key) {
            // There was none to forget.
            Err(error) if key.is_none() && error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
            result => result,
        }
    }

    /// Waits for a connection.
    ///
    /// # Errors
    /// There are no more file descriptors, or the connection went as it came.
    pub async fn accept(&self) -> io::Result<(TcpStream, IpAddr)> {
        let (stream, from) = self.0.accept().await?;
        Ok((stream, from.ip()))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

fn bind(is_v4: bool, port: u16) -> io::Result<TcpListener> {
    let (domain, any): (_, IpAddr) = if is_v4 {
        (Domain::IPV4, Ipv4Addr::UNSPECIFIED.into())
    } else {
        (Domain::IPV6, Ipv6Addr::UNSPECIFIED.into())
    };
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(domain, kind, Some(Protocol::TCP))?;
    if !is_v4 {
        // A key is of one family: an IPv4 peer would be let in on an IPv6 socket without.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(SocketAddr::new(any, port)))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
