//! Who tells the network about an address: MetalLB's rules for BGP and for ARP
//! and NDP.
//!
//! `bgp` decides the routes of this node, `layer2` who answers ARP and NDP. Both read the same things
//! about a Service: [`Subject`]. `withheld` says in MetalLB's words why an address is not announced, `nowhere` which Services
//! no node announces.

pub mod bgp;
pub mod layer2;
pub mod nowhere;
mod withheld;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

pub use self::withheld::Withheld;
use super::backends::serves;
use crate::model::cluster::Endpoint;
use crate::model::cluster::Labels;
use crate::model::cluster::Node;
use crate::model::cluster::Pool;
use crate::model::cluster::PoolChoice;
use crate::model::cluster::Selector;
use crate::model::cluster::Service;
use crate::model::cluster::TrafficPolicy;
use crate::model::name::ObjectName;

/// A Service that has addresses, as announcements see it.
pub struct Subject<'a> {
    /// Its name.
    pub name: &'a ObjectName,
    /// Itself.
    pub service: &'a Service,
    /// Its addresses.
    pub addresses: &'a [IpAddr],
    /// Name of the pool they are from.
    pub pool: &'a str,
    /// Nodes with an endpoint that serves.
    pub serving_nodes: BTreeSet<&'a str>,
    /// How many endpoints that serve each node has.
    pub serving_counts: BTreeMap<&'a str, u64>,
    /// Whether any endpoint serves, on a known node or not.
    pub is_served: bool,
}

impl<'a> Subject<'a> {
    /// From a Service, its addresses and its endpoints; `node_of` says where an endpoint runs.
    pub fn new(
        name: &'a ObjectName,
        service: &'a Service,
        addresses: &'a [IpAddr],
        pool: &'a str,
        endpoints: &'a [Endpoint],
        node_of: impl Fn(&'a Endpoint) -> Option<&'a str>,
    ) -> Self {
        let serving = || endpoints.iter().filter(|endpoint| serves(endpoint));
        let mut serving_counts = BTreeMap::new();
        for node in serving().filter_map(&node_of) {
            *serving_counts.entry(node).or_default() += 1;
        }
        Self {
            name,
            service,
            addresses,
            pool,
            serving_counts,
            serving_nodes: serving().filter_map(node_of).collect(),
            is_served: serving().next().is_some(),
        }
    }

    /// Whether `node` has what `externalTrafficPolicy` asks of a node that attracts traffic.
    fn is_served_from(&self, node: &str) -> Result<(), Withheld> {
        match self.service.traffic_policy {
            TrafficPolicy::Cluster if !self.is_served => Err(Withheld::NoEndpoints),
            TrafficPolicy::Local if !self.serving_nodes.contains(node) => {
                Err(Withheld::NoLocalEndpoints)
            }
            TrafficPolicy::Cluster | TrafficPolicy::Local => Ok(()),
        }
    }
}

/// Whether a node may attract traffic at all.
fn gate(node: &Node) -> Result<(), Withheld> {
    if node.network_unavailable {
        Err(Withheld::NodeNetworkUnavailable)
    } else if node.excluded {
        Err(Withheld::NodeExcluded)
    } else {
        Ok(())
    }
}

/// Whether a list of selectors, of which an empty one selects everything, selects the labels.
fn selects(selectors: &[Selector], labels: &Labels) -> bool {
    selectors.is_empty() || selectors.iter().any(|selector| selector.matches(labels))
}

/// Whether an advertisement is about a pool.
fn chooses(choice: &PoolChoice, name: &str, pool: &Pool) -> bool {
    let all = choice.names.is_empty() && choice.selectors.is_empty();
    let mut selectors = choice.selectors.iter();
    all || choice.names.contains(name) || selectors.any(|selector| selector.matches(&pool.labels))
}

#[cfg(test)]
mod tests;
