//! What this node sees of its own links.

use std::collections::BTreeMap;
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
}
