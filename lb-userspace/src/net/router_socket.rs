//! The socket that sends and hears router advertisements on one interface.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use nix::net::if_::if_nametoindex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);

/// An ICMPv6 socket bound to an interface.
#[derive(Debug)]
pub struct RouterSocket {
    // It sends and receives with addresses, as a UDP socket does, and nothing more is asked of it.
    socket: UdpSocket,
    index: u32,
}

impl RouterSocket {
    /// Opens one.
    ///
    /// # Errors
    /// There is no such interface, or we may not.
    pub fn open(interface: &str) -> io::Result<Self> {
        let index = if_nametoindex(interface)?;
        let kind = Type::RAW.nonblocking().cloexec();
        let socket = Socket::new(Domain::IPV6, kind, Some(Protocol::ICMPV6))?;
        socket.bind_device(Some(interface.as_bytes()))?;
        // RFC 4861 §4.2: anything else is dropped as having come through a router.
        socket.set_multicast_hops_v6(255)?;
        socket.set_unicast_hops_v6(255)?;
        socket.set_multicast_if_v6(index)?;
        socket.set_multicast_loop_v6(false)?;
        socket.join_multicast_v6(&ALL_ROUTERS, index)?;
        let socket = UdpSocket::from_std(socket.into())?;
        Ok(Self { socket, index })
    }

    /// Index of the interface, the scope of addresses on it.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Sends to all nodes of the link.
    ///
    /// # Errors
    /// The interface is down, or has no link-local address yet.
    pub async fn send_to_nodes(&self, message: &[u8]) -> io::Result<()> {
        self.send(message, ALL_NODES).await
    }

    /// Sends to all routers of the link.
    ///
    /// # Errors
    /// The interface is down, or has no link-local address yet.
    pub async fn send_to_routers(&self, message: &[u8]) -> io::Result<()> {
        self.send(message, ALL_ROUTERS).await
    }

    /// Waits for an ICMPv6 message from a link-local address, which no router forwards; says from whom it is and
    /// how long.
    ///
    /// # Errors
    /// The interface is gone.
    pub async fn receive(&self, buffer: &mut [u8]) -> io::Result<(Ipv6Addr, usize)> {
        loop {
            let (length, from) = self.socket.recv_from(buffer).await?;
            if let SocketAddr::V6(from) = from
                && from.ip().is_unicast_link_local()
            {
                return Ok((*from.ip(), length));
            }
        }
    }

    async fn send(&self, message: &[u8], to: Ipv6Addr) -> io::Result<()> {
        let to = SocketAddrV6::new(to, 0, 0, self.index);
        self.socket.send_to(message, SocketAddr::V6(to)).await?;
        Ok(())
    }
}
