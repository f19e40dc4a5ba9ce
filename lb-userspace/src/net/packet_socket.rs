//! The socket that sends whole Ethernet frames on one interface.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::ifaddrs::getifaddrs;
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, bind, send, socket,
};

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
#[error("failed to open a packet socket on {interface}")]
pub struct OpenError {
    /// Name of the interface.
    pub interface: String,
    /// The cause.
    #[source]
    pub source: io::Error,
}

/// Sends frames as they are and receives none.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens one.
    ///
    /// # Errors
    /// There is no such interface, or we may not.
    pub fn open(interface: &str) -> Result<Self, OpenError> {
        let failed = |source: io::Error| OpenError {
            interface: interface.to_owned(),
            source,
        };
        let link = link(interface).map_err(failed)?;
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        // Of no protocol: such a socket is given nothing to receive.
        let open = || {
            let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
            bind(socket.as_raw_fd(), &link)?;
            nix::Result::Ok(socket)
        };
        let socket = open().map_err(|errno| failed(errno.into()))?;
        Ok(Self { socket })
    }

    /// Sends a frame, which begins with its destination, at once or not at all.
    ///
    /// # Errors
    /// The interface is down or gone, or has no room.
    pub fn try_send(&self, frame: &[u8]) -> io::Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty())?;
        Ok(())
    }
}

/// Whether the interface is up and has a carrier.
pub fn is_running(interface: &str) -> bool {
    let running = InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING;
    getifaddrs().is_ok_and(|mut entries| {
        entries.any(|entry| entry.interface_name == interface && entry.flags.contains(running))
    })
}

/// The link-layer address of an interface, which names it to a packet socket.
fn link(interface: &str) -> io::Result<LinkAddr> {
    getifaddrs()?
        .filter(|entry| entry.interface_name == interface)
        .filter_map(|entry| entry.address)
        .find(|address| address.family() == Some(AddressFamily::Packet))
        .and_then(|address| address.as_link_addr().copied())
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_is_named() {
        assert!(is_running("lo") && !is_running("torline-none"));
        let error = PacketSocket::open("torline-none").unwrap_err();
        assert!(error.to_string().contains("torline-none"), "{error}");
    }
}
