//! What agents call a flow: the addresses and ports of its ends, which mean the
//! same on every node.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::wire::{Malformed, Reader};

/// A (VIP, port, protocol) as other nodes know it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Frontend {
    /// VIP and port.
    pub vip: SocketAddr,
    /// IP protocol number.
    pub protocol: u8,
}

/// A flow by its ends; both addresses are of one family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowName {
    /// Client's address and port.
    pub client: SocketAddr,
    /// What it talks to.
    pub frontend: Frontend,
}

/// Where a flow is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Located {
    /// The flow.
    pub flow: FlowName,
    /// The pod that has it, of the same family.
    pub pod: SocketAddr,
}

/// Why somebody is told where a flow is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Reason {
    /// A chain led to it.
    Chain,
    /// Its slot is about to forget its pod.
    Push,
    /// Somebody asked.
    Locate,
}

impl Reason {
    pub(super) const fn number(self) -> u8 {
        match self {
            Self::Chain => 1,
            Self::Push => 2,
            Self::Locate => 3,
        }
    }

    pub(super) const fn from_number(number: u8) -> Result<Self, Malformed> {
        match number {
            1 => Ok(Self::Chain),
            2 => Ok(Self::Push),
            3 => Ok(Self::Locate),
            _ => Err(Malformed),
        }
    }
}

/// A pod that has a flow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Holder {
    /// The pod.
    pub pod: SocketAddr,
    /// The handshake is not over: a late or forged SYN may have made the flow.
    pub is_half_open: bool,
}

impl FlowName {
    /// The network with which the client shares its budget: /24 or /56.
    pub fn network(&self) -> IpAddr {
        match self.client.ip() {
            IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits() & !0xff).into(),
            IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits() >> 72 << 72).into(),
        }
    }

    /// Family, protocol, client, VIP, their ports.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_family(self.client.ip(), out);
        out.push(self.frontend.protocol);
        write_end(self.client, out);
        write_end(self.frontend.vip, out);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let family = read_family(reader)?;
        let protocol = reader.u8()?;
        let client = read_end(family, reader)?;
        let vip = read_end(family, reader)?;
        Ok(Self {
            client,
            frontend: Frontend { vip, protocol },
        })
    }

    /// Octets that [`Self::write`] writes.
    pub(super) const fn length(&self) -> usize {
        2 + 2 * end_length(self.client)
    }
}

impl Located {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        self.flow.write(out);
        write_end(self.pod, out);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let flow = FlowName::read(reader)?;
        let pod = read_end(Family::of(flow.client), reader)?;
        Ok(Self { flow, pod })
    }

    pub(super) const fn length(&self) -> usize {
        self.flow.length() + end_length(self.pod)
    }
}

impl fmt::Display for FlowName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.client, self.frontend.vip)
    }
}

/// Family of the addresses that follow.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn of(end: SocketAddr) -> Self {
        match end {
            SocketAddr::V4(_) => Self::V4,
            SocketAddr::V6(_) => Self::V6,
        }
    }
}

pub(super) fn write_family(addr: IpAddr, out: &mut Vec<u8>) {
    out.push(if addr.is_ipv4() { 4 } else { 6 });
}

pub(super) fn read_family(reader: &mut Reader<'_>) -> Result<Family, Malformed> {
    match reader.u8()? {
        4 => Ok(Family::V4),
        6 => Ok(Family::V6),
        _ => Err(Malformed),
    }
}

/// Address and port, in network byte order.
pub(super) fn write_end(end: SocketAddr, out: &mut Vec<u8>) {
    match end.ip() {
        IpAddr::V4(addr) => out.extend(addr.octets()),
        IpAddr::V6(addr) => out.extend(addr.octets()),
    }
    out.extend(end.port().to_be_bytes());
}

pub(super) fn read_end(family: Family, reader: &mut Reader<'_>) -> Result<SocketAddr, Malformed> {
    let addr: IpAddr = match family {
        Family::V4 => Ipv4Addr::from(reader.array::<4>()?).into(),
        Family::V6 => Ipv6Addr::from(reader.array::<16>()?).into(),
    };
    Ok(SocketAddr::new(addr, reader.u16()?))
}

pub(super) const fn end_length(end: SocketAddr) -> usize {
    match end {
        SocketAddr::V4(_) => 6,
        SocketAddr::V6(_) => 18,
    }
}
