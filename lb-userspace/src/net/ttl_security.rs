//! Least TTL or hop limit of packets that a connection takes (RFC 5082), which
//! no socket crate offers.
#![expect(
    unsafe_code,
    reason = "setsockopt(IP_MINTTL, IPV6_MINHOPCOUNT) has no safe wrapper"
)]

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// Drops what comes with less.
///
/// # Errors
/// The kernel has no such option.
pub(super) fn set_least(socket: &impl AsFd, is_v4: bool, ttl: u8) -> io::Result<()> {
    let (level, option) = if is_v4 {
        (libc::IPPROTO_IP, libc::IP_MINTTL)
    } else {
        (libc::IPPROTO_IPV6, IPV6_MINHOPCOUNT)
    };
    let value = c_int::from(ttl);
    let length = libc::socklen_t::try_from(size_of::<c_int>()).unwrap_or(0);
    // SAFETY: the fd is open for as long as `socket` is borrowed; the kernel only reads `length` octets from a
    // live integer of that size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            length,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Of linux/in6.h, which the libc crate lacks.
const IPV6_MINHOPCOUNT: c_int = 73;
