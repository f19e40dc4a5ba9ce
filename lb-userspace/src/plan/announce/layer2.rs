//! Which node answers ARP and NDP for an address.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;

use sha2::Digest as _;
use sha2::Sha256;

use super::Subject;
use super::Withheld;
use super::chooses;
use super::gate;
use super::selects;
use crate::model::cluster::Cluster;
use crate::model::cluster::L2Advertisement;
use crate::model::cluster::Node;
use crate::model::cluster::TrafficPolicy;
use crate::model::shared_map::SharedMap;

/// Who leads an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leader<'a> {
    /// The node.
    pub node: &'a str,
    /// The advertisements let that node answer on this node's interface too.
    pub on_interface: bool,
}

/// Elects leaders, equally on every node.
pub struct Election<'a> {
    cluster: &'a Cluster,
    interface: &'a str,
    gone: &'a BTreeSet<String>,
    /// By pool: its advertisements, by index.
    advertisements: HashMap<&'a str, Vec<(usize, &'a L2Advertisement)>>,
    /// The candidates that a set of advertisements makes.
    candidates: HashMap<Vec<usize>, Vec<&'a str>>,
}

impl<'a> Election<'a> {
    /// For the pools and nodes of the cluster, but those that are gone, seen from a node with the given
    /// interface.
    pub fn new(cluster: &'a Cluster, interface: &'a str, gone: &'a BTreeSet<String>) -> Self {
        let of_pool = |name: &str, pool| {
            let all = cluster.l2_advertisements.values().enumerate();
            all.filter(|(_, ad)| chooses(&ad.pools, name, pool))
                .collect()
        };
        Self {
            cluster,
            interface,
            gone,
            advertisements: cluster
                .pools
                .iter()
                .map(|(name, pool)| (name.as_str(), of_pool(name, pool)))
                .collect(),
            candidates: HashMap::new(),
        }
    }

    /// The node that leads the addresses of a Service.
    ///
    /// # Errors
    /// Why nobody does.
    pub fn leader(&mut self, subject: &Subject<'_>) -> Result<Leader<'a>, Withheld> {
        let first = subject.addresses.first().ok_or(Withheld::NoAddress)?;
        if !subject.is_served {
            return Err(Withheld::NoEndpoints);
        }
        let of_pool = self.advertisements.get(subject.pool).into_iter().flatten();
        let (indices, ads): (Vec<usize>, Vec<&L2Advertisement>) = of_pool
            .filter(|(_, ad)| selects(&ad.service_selectors, &subject.service.labels))
            .copied()
            .unzip();
        if ads.is_empty() {
            return Err(Withheld::NoAdvertisement);
        }
        let is_shared = subject
            .service
            .sharing_key
            .as_deref()
            .is_some_and(|key| !key.is_empty());
        if is_shared && ads.iter().any(|ad| !ad.service_selectors.is_empty()) {
            return Err(Withheld::SharedWithSelector);
        }
        let nodes = &self.cluster.nodes;
        let gone = self.gone;
        let candidates = self
            .candidates
            .entry(indices)
            .or_insert_with(|| candidates(nodes, gone, &ads));
        let is_local = subject.service.traffic_policy == TrafficPolicy::Local;
        let serving = candidates
            .iter()
            .copied()
            .filter(|node| !is_local || subject.serving_nodes.contains(node));
        let node = elect(serving, *first).ok_or(if is_local {
            Withheld::NoLocalEndpoints
        } else {
            Withheld::NoAdvertisement
        })?;
        let labels = nodes.get(node).map(|node| &node.labels);
        let on_interface = ads
            .iter()
            .filter(|ad| labels.is_some_and(|labels| selects(&ad.node_selectors, labels)))
            .any(|ad| ad.interfaces.is_empty() || ad.interfaces.contains(self.interface));
        Ok(Leader { node, on_interface })
    }
}

/// The node whose name and the address hash lowest.
pub fn elect<'a>(candidates: impl Iterator<Item = &'a str>, addr: IpAddr) -> Option<&'a str> {
    let addr = addr.to_string();
    candidates.min_by_key(|node| {
        let mut hash = Sha256::new();
        hash.update(node);
        hash.update("#");
        hash.update(&addr);
        hash.finalize()
    })
}

fn candidates<'a>(
    nodes: &'a SharedMap<String, Node>,
    gone: &BTreeSet<String>,
    ads: &[&L2Advertisement],
) -> Vec<&'a str> {
    nodes
        .iter()
        .filter(|(name, node)| node.ready && !gone.contains(*name) && gate(node).is_ok())
        .filter(|(_, node)| {
            ads.iter()
                .any(|ad| selects(&ad.node_selectors, &node.labels))
        })
        .map(|(name, _)| name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaders_are_those_that_metallb_elects() {
        let golden = [
            ("node-a node-b node-c", "10.0.0.1", "node-b node-a node-c"),
            ("node-a node-b node-c", "10.0.0.2", "node-b node-c node-a"),
            (
                "edge-a edge-b worker-a worker-b",
                "10.20.30.1",
                "edge-b worker-a edge-a worker-b",
            ),
            ("iris1 iris2", "10.20.30.1", "iris2 iris1"),
            ("iris1 iris2", "10.20.30.2", "iris1 iris2"),
            ("iris1 iris2", "1000::1", "iris1 iris2"),
        ];
        for (nodes, addr, order) in golden {
            let mut left: Vec<&str> = nodes.split(' ').collect();
            let mut elected = Vec::new();
            while let Some(leader) = elect(left.iter().copied(), addr.parse().unwrap()) {
                left.retain(|node| *node != leader);
                elected.push(leader);
            }
            assert_eq!(elected.join(" "), order, "{addr}");
        }
    }
}
