//! The TCP MD5 signature option (RFC 2385), which no socket crate offers.
#![expect(unsafe_code, reason = "setsockopt(TCP_MD5SIG) has no safe wrapper")]

use std::ffi::c_int;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use ipnet::IpNet;

/// Longest key that the kernel takes.
const MAX_KEY: usize = 80;

/// A key of the option; `Debug` does not print it.
#[derive(Clone, PartialEq, Eq)]
pub struct Md5Key(pub(super) Vec<u8>);

impl Md5Key {
    /// From its octets.
    pub fn new(octets: impl AsRef<[u8]>) -> Self {
        Self(octets.as_ref().to_vec())
    }
}

impl std::fmt::Debug for Md5Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Md5Key(..)")
    }
}

/// `TCP_MD5SIG_EXT` of linux/tcp.h: as `TCP_MD5SIG`, and the flags count.
const TCP_MD5SIG_EXT: c_int = 32;

/// `TCP_MD5SIG_FLAG_PREFIX`: the key is for a whole prefix; the longest one counts.
const FLAG_PREFIX: u8 = 1;

/// Octets of `struct sockaddr_storage`.
const ADDRESS: usize = 128;

/// `struct tcp_md5sig` of linux/tcp.h.
#[repr(C, align(8))]
struct TcpMd5Sig {
    address: [u8; ADDRESS],
    flags: u8,
    prefix_length: u8,
    key_length: u16,
    ifindex: c_int,
    key: [u8; MAX_KEY],
}

const _: () = assert!(size_of::<TcpMd5Sig>() == 216);

/// Signs and checks every segment from and to `peers` with `key`, or no longer. Must come before connect; on a
/// listening socket it counts for connections to come.
///
/// # Errors
/// The key has no or more than 80 octets, there was none to forget, or the kernel has no TCP MD5.
pub(super) fn set_key(socket: &impl AsFd, peers: IpNet, key: Option<&Md5Key>) -> io::Result<()> {
    let octets = key.map(|key| key.0.as_slice());
    // The kernel takes a key without length for none.
    if octets.is_some_and(<[u8]>::is_empty) {
        return Err(wrong_length(0));
    }
    let key = octets.unwrap_or_default();
    let mut option = TcpMd5Sig {
        address: socket_address(peers.network()),
        flags: FLAG_PREFIX,
        prefix_length: peers.prefix_len(),
        key_length: 0,
        ifindex: 0,
        key: [0; MAX_KEY],
    };
    let Some(room) = option.key.get_mut(..key.len()) else {
        return Err(wrong_length(key.len()));
    };
    room.copy_from_slice(key);
    option.key_length = u16::try_from(key.len()).unwrap_or(u16::MAX);
    let length = libc::socklen_t::try_from(size_of::<TcpMd5Sig>()).unwrap_or(0);
    // SAFETY: the fd is open for as long as `socket` is borrowed; the kernel only reads `length` octets from a
    // live value of that size, laid out as it expects.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::IPPROTO_TCP,
            TCP_MD5SIG_EXT,
            (&raw const option).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

fn wrong_length(length: usize) -> io::Error {
    let message = format!("a TCP MD5 password has 1 to {MAX_KEY} octets, not {length}");
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// `struct sockaddr_in` or `sockaddr_in6` without port and scope, padded with zeros.
fn socket_address(addr: IpAddr) -> [u8; ADDRESS] {
    let (family, offset, octets) = match addr {
        IpAddr::V4(addr) => (libc::AF_INET, 4, addr.octets().to_vec()),
        IpAddr::V6(addr) => (libc::AF_INET6, 8, addr.octets().to_vec()),
    };
    let mut bytes = [0; ADDRESS];
    let family = u16::try_from(family).unwrap_or(0).to_ne_bytes();
    let fields = family.into_iter().enumerate();
    for (index, octet) in fields.chain((offset..).zip(octets)) {
        if let Some(byte) = bytes.get_mut(index) {
            *byte = octet;
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use socket2::{Domain, Socket, Type};

    use super::*;

    #[test]
    fn keys_have_one_to_eighty_octets() {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let peer = IpNet::from(IpAddr::from([127, 0, 0, 1]));
        for length in [0, 81, 1000] {
            let key = Md5Key::new(vec![b'x'; length]);
            let error = set_key(&socket, peer, Some(&key)).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
    }
}
