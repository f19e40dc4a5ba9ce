//! ICMP echo.

use std::io::Read;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use socket2::{Domain, Protocol, Socket, Type};

use crate::netns::Netns;

/// Sends one echo request from the namespace and waits for the reply with the same payload.
///
/// # Errors
/// When none comes within `limit`.
pub fn ping(from: &Netns, target: IpAddr, payload: &[u8], limit: Duration) -> Result<()> {
    from.enter(|| echo(target, payload, limit))
}

fn echo(target: IpAddr, payload: &[u8], limit: Duration) -> Result<()> {
    let (domain, protocol, request, reply) = match target {
        IpAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8, 0),
        IpAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128, 129),
    };
    let mut socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.connect(&SocketAddr::new(target, 0).into())?;
    // The kernel fills in ICMPv6 checksums; those of ICMPv4 are ours.
    let mut message = vec![request, 0, 0, 0, 0x70, 0x69, 0, 1];
    message.extend_from_slice(payload);
    if target.is_ipv4() {
        let sum = checksum(&message);
        message.splice(2..4, sum.to_be_bytes());
    }
    socket.send(&message)?;
    let start = Instant::now();
    let mut buffer = vec![0; 64 << 10];
    while let Some(left) = limit
        .checked_sub(start.elapsed())
        .filter(|left| !left.is_zero())
    {
        socket.set_read_timeout(Some(left))?;
        let Ok(length) = socket.read(&mut buffer) else {
            break;
        };
        // An IPv4 raw socket shows the IP header.
        let header = if target.is_ipv4() {
            usize::from(buffer[0] & 0xf) * 4
        } else {
            0
        };
        let Some([kind, 0, _, _, rest @ ..]) = buffer.get(header..length) else {
            continue;
        };
        if *kind == reply && message.get(4..) == Some(rest) {
            return Ok(());
        }
    }
    bail!("no echo reply from {target} in {limit:?}")
}

/// The Internet checksum (RFC 1071).
fn checksum(message: &[u8]) -> u16 {
    let words = message.chunks(2).map(|pair| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(high) << 8,
        _ => 0,
    });
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !(((folded & 0xffff) + (folded >> 16)) as u16)
}
