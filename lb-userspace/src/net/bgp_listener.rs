//! The sockets on which peers connect to us.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
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
    /// A listen range has as many peers as it may have.
    #[error(
        "a connection from {from} was closed: {limit} peers are there already; torline.io/listen-limit may say more"
    )]
    Full {
        /// Who is one too many.
        from: IpAddr,
        /// How many there may be.
        limit: u16,
    },
    /// Anything else.
    #[error("cannot listen on port {port}: {cause}")]
    Failed {
        /// The port.
        port: u16,
        /// Why.
        cause: String,
    },
}

/// Where to listen.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Place {
    /// VRF device.
    pub device: Option<String>,
    /// One of our addresses, or all of its family.
    pub address: IpAddr,
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
    /// Binds; port 0 takes any.
    ///
    /// # Errors
    /// The port is taken or not allowed.
    pub fn bind(place: &Place, port: u16) -> Result<Self, ListenError> {
        bind(place, port).map(Self).map_err(|error| {
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

    /// Takes connections from `peers` only with this key, or without one.
    ///
    /// # Errors
    /// The kernel refuses the key.
    pub fn set_key(&self, peers: IpNet, key: Option<&Md5Key>) -> io::Result<()> {
        match tcp_md5::set_key(&self.0, peers, key) {
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

fn bind(place: &Place, port: u16) -> io::Result<TcpListener> {
    let address = SocketAddr::new(place.address, port);
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))?;
    if let Some(device) = &place.device {
        socket.bind_device(Some(device.as_bytes()))?;
    }
    if address.is_ipv6() {
        // A key is of one family: an IPv4 peer would be let in on an IPv6 socket without.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
