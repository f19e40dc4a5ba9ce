//! The UDP sockets of BFD: one per port to receive, one per session to send.
//!
//! All packets of a port come to one socket, which tells where each was sent to and how far it has come:
//! sockets bound to addresses would take packets from each other.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd;

use ipnet::IpNet;
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt,
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;

/// RFC 5881 §4: ports to send from.
const SOURCE_PORTS: RangeInclusive<u16> = 49_152..=65_535;
/// RFC 5881 §5, RFC 5883 §2: how far a packet has come is seen by what is left of this.
const TTL: u32 = 255;
/// DSCP CS6, as routing protocols mark their packets (RFC 4594 §3.1), in the upper six bits.
const NETWORK_CONTROL: u32 = 0xc0;
/// Longest datagram worth reading: a control packet with the longest authentication section has 52 octets.
const LONGEST: usize = 64;
/// More datagrams than a receive buffer holds. Whoever takes so many has heard all that came before.
const BATCH: usize = 512;
/// Ports that are tried before none counts as free.
const ATTEMPTS: u16 = 64;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Nothing can be received.
    #[error("failed to receive at UDP port {port}{}", hint(.source))]
    Receive {
        /// The port.
        port: u16,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing can be sent.
    #[error("failed to send from {address}")]
    Send {
        /// From where.
        address: IpAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": does another BFD daemon run on this node?",
        _ => "",
    }
}

/// A datagram's own account of its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Path {
    /// Its source.
    pub from: IpAddr,
    /// Its destination.
    pub to: IpAddr,
    /// Index of the interface that it came in at.
    pub interface: u32,
    /// TTL or hop limit that it came with.
    pub ttl: u8,
}

/// The socket that all packets of one port and family come to.
#[derive(Debug)]
pub struct ReceiveSocket(tokio::net::UdpSocket);

impl ReceiveSocket {
    /// Opens it, at all addresses. Call it on a tokio runtime.
    ///
    /// # Errors
    /// Somebody else has the port.
    pub fn open(is_v4: bool, port: u16) -> Result<Self, OpenError> {
        let open = || {
            let (domain, address) = if is_v4 {
                (Domain::IPV4, IpAddr::from(Ipv4Addr::UNSPECIFIED))
            } else {
                (Domain::IPV6, IpAddr::from(Ipv6Addr::UNSPECIFIED))
            };
            let kind = Type::DGRAM.nonblocking().cloexec();
            let socket = Socket::new(domain, kind, Some(Protocol::UDP))?;
            if is_v4 {
                setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
                setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
            } else {
                socket.set_only_v6(true)?;
                setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
                setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            }
            socket.bind(&SockAddr::from(SocketAddr::new(address, port)))?;
            tokio::net::UdpSocket::from_std(socket.into())
        };
        let opened = open().map_err(|source| OpenError::Receive { port, source });
        opened.map(Self)
    }

    /// Waits until there is something to [`Self::try_receive`].
    pub async fn readable(&self) {
        // An error is there to be received too.
        let _ = self.0.readable().await;
    }

    /// Hands over what has come. Datagrams that do not tell their way are skipped.
    pub fn try_receive(&self, mut take: impl FnMut(Path, &[u8])) {
        let mut buffer = [0; LONGEST];
        let mut control = nix::cmsg_space!(libc::c_int, libc::in6_pktinfo);
        for _ in 0..BATCH {
            let received = self.0.try_io(Interest::READABLE, || {
                Ok(receive(&self.0, &mut buffer, &mut control)?)
            });
            match received {
                Ok((Some(path), length)) => take(path, buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Ok((None, _)) | Err(_) => {}
            }
        }
    }
}

fn receive(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
    control: &mut [u8],
) -> Result<(Option<Path>, usize), Errno> {
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        socket.as_raw_fd(),
        &mut parts,
        Some(control),
        MsgFlags::empty(),
    )?;
    let (mut ttl, mut to) = (None, None);
    for part in message.cmsgs()? {
        match part {
            ControlMessageOwned::Ipv4Ttl(value) | ControlMessageOwned::Ipv6HopLimit(value) => {
                ttl = u8::try_from(value).ok();
            }
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                let addr = Ipv4Addr::from(info.ipi_addr.s_addr.to_ne_bytes());
                let interface = u32::try_from(info.ipi_ifindex).unwrap_or(0);
                to = Some((addr.into(), interface));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                let addr = Ipv6Addr::from(info.ipi6_addr.s6_addr);
                to = Some((addr.into(), info.ipi6_ifindex));
            }
            _ => {}
        }
    }
    let from = message.address.as_ref().and_then(address);
    let path = from.zip(to).zip(ttl);
    let path = path.map(|((from, (to, interface)), ttl)| Path {
        from,
        to,
        interface,
        ttl,
    });
    Ok((path, message.bytes))
}

fn address(storage: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = storage.as_sockaddr_in().map(|addr| addr.ip().into());
    v4.or_else(|| storage.as_sockaddr_in6().map(|addr| addr.ip().into()))
}

/// The socket that the packets of one session leave from.
#[derive(Debug)]
pub struct SendSocket {
    socket: UdpSocket,
    peer: SocketAddr,
}

impl SendSocket {
    /// Opens one for packets to `peer`, from this address or, without one, whichever the kernel chooses.
    /// `number` is random; it decides which of the free ports it gets.
    ///
    /// # Errors
    /// The address is not this node's, or not yet.
    pub fn open(peer: SocketAddr, source: Option<IpAddr>, number: u16) -> Result<Self, OpenError> {
        let address = source.unwrap_or(match peer {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        });
        let open = || {
            let kind = Type::DGRAM.nonblocking().cloexec();
            let socket = Socket::new(Domain::for_address(peer), kind, Some(Protocol::UDP))?;
            if peer.is_ipv4() {
                socket.set_ttl_v4(TTL)?;
                socket.set_tos_v4(NETWORK_CONTROL)?;
            } else {
                socket.set_unicast_hops_v6(TTL)?;
                socket.set_tclass_v6(NETWORK_CONTROL)?;
            }
            bind(&socket, address, number)?;
            Ok(socket.into())
        };
        let opened = open().map_err(|source| OpenError::Send { address, source });
        opened.map(|socket| Self { socket, peer })
    }

    /// Sends at once or not at all: a packet that waits says nothing about the path.
    ///
    /// # Errors
    /// There is no way to the peer, or no room in the socket.
    pub fn send(&self, payload: &[u8]) -> io::Result<()> {
        self.socket.send_to(payload, self.peer).map(drop)
    }
}

/// RFC 5881 §4: a port of its own for every session, from the upper range.
fn bind(socket: &Socket, address: IpAddr, number: u16) -> io::Result<()> {
    let count = SOURCE_PORTS.end() - SOURCE_PORTS.start() + 1;
    let mut outcome = Ok(());
    for attempt in 0..ATTEMPTS {
        let port = SOURCE_PORTS.start() + number.wrapping_add(attempt) % count;
        outcome = socket.bind(&SockAddr::from(SocketAddr::new(address, port)));
        match &outcome {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            _ => break,
        }
    }
    outcome
}

/// Whether an interface here has a network that holds the address.
pub fn is_on_link(peer: IpAddr) -> bool {
    let Ok(interfaces) = getifaddrs() else {
        return false;
    };
    interfaces.into_iter().any(|interface| {
        let own = interface.address.as_ref().and_then(address);
        let mask = interface.netmask.as_ref().and_then(address);
        let network = own
            .zip(mask)
            .and_then(|(own, mask)| IpNet::with_netmask(own, mask).ok());
        network.is_some_and(|network| network.contains(&peer))
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_datagram_tells_where_it_came_from_where_to_and_from_how_far() {
        for home in ["127.0.0.1", "::1"] {
            let home: IpAddr = home.parse().unwrap();
            let free = UdpSocket::bind((home, 0)).unwrap();
            let port = free.local_addr().unwrap().port();
            drop(free);
            let receiver = ReceiveSocket::open(home.is_ipv4(), port).unwrap();
            let peer = SocketAddr::new(home, port);
            let sender = SendSocket::open(peer, Some(home), 7).unwrap();
            let from = sender.socket.local_addr().unwrap();
            assert!(SOURCE_PORTS.contains(&from.port()), "{from}");
            sender.send(b"hello").unwrap();
            tokio::time::timeout(Duration::from_secs(5), receiver.readable())
                .await
                .unwrap();
            let mut received = Vec::new();
            receiver.try_receive(|path, payload| received.push((path, payload.to_vec())));
            let loopback = nix::net::if_::if_nametoindex("lo").unwrap();
            let path = Path {
                from: home,
                to: home,
                interface: loopback,
                ttl: 255,
            };
            assert_eq!(received, [(path, b"hello".to_vec())]);
        }
    }

    #[test]
    fn each_session_sends_from_a_port_of_its_own() {
        let peer = "127.0.0.1:9".parse().unwrap();
        let sockets = [1, 2].map(|_| SendSocket::open(peer, None, u16::MAX).unwrap());
        let [a, b] = sockets.map(|s| s.socket.local_addr().unwrap().port());
        assert_ne!(a, b);
    }

    #[test]
    fn a_foreign_source_address_is_named() {
        let peer = "127.0.0.1:9".parse().unwrap();
        let error = SendSocket::open(peer, Some([192, 0, 2, 1].into()), 0).unwrap_err();
        assert_eq!(error.to_string(), "failed to send from 192.0.2.1");
    }

    #[test]
    fn loopback_is_on_link_and_a_reserved_address_is_not() {
        assert!(is_on_link([127, 0, 0, 9].into()));
        assert!(!is_on_link([240, 0, 0, 1].into()));
    }
}
