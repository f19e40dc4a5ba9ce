//! What this node sees of its own links.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lb_common::addr::Mac;

/// The compute port and the neighbours that were resolved on it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Segment {
    /// Interface name.
    pub interface: String,
    /// Interface index.
    pub ifindex: u32,
    /// MAC of the interface.
    pub mac: Mac,
    /// MTU in bytes, as `ip link` shows it.
    pub mtu: u32,
    /// Addresses of the interface with their prefix lengths.
    pub addresses: Vec<ipnet::IpNet>,
    /// Neighbours with a known MAC.
    pub neighbors: BTreeMap<IpAddr, Mac>,
    /// Gateways of the default routes over the port.
    pub gateways: BTreeSet<IpAddr>,
    /// Routes over the port to addresses of nodes that are not on the segment.
    pub routes: BTreeMap<IpAddr, Route>,
}

/// A way beyond the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The next hop; the destination itself if that is on the segment in spite of its address.
    pub next_hop: IpAddr,
    /// Longest IP packet that goes there in one piece, where the kernel knows less than that of the port.
    pub mtu: Option<u32>,
}

impl Segment {
    /// Whether an address is of a network on the port.
    pub fn is_on_link(&self, addr: IpAddr) -> bool {
        self.addresses.iter().any(|net| net.contains(&addr))
    }
}
