//! What nodes say of each other at layer 2: who answers for which address.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a node says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    /// Name of its compute port.
    pub interface: String,
    /// Its tables hold what its source says: it can take over.
    pub is_ready: bool,
    /// The addresses it answers ARP and NDP for.
    pub addresses: BTreeSet<IpAddr>,
}

/// What this node knows of layer 2 that the cluster does not say. By default there is nothing to know, and nobody
/// to wait for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Neighborhood {
    /// What other nodes said last, by name.
    pub claims: BTreeMap<String, Claim>,
    /// Nodes that are to be heard yet: while they live, they may answer for anything. Those that are gone are among
    /// them, so that they are waited for from the moment in which they are back.
    pub awaited: BTreeSet<String>,
    /// This node hears neither other nodes nor its router.
    pub is_isolated: bool,
}
