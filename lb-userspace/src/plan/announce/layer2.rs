//! Which node answers ARP and NDP for an address.
//!
//! The order is MetalLB's: preferred nodes first, then by a hash of node and address; `torline.io/placement`
//! asks for another one. Every node elects for itself and comes to the same result, from what the cluster says
//! and from what the nodes say of themselves ([`Neighborhood`](crate::model::claim::Neighborhood)). They do not hear it at the same time, so the
//! election alone would let two answer for a moment: the elected node begins when nobody says any more that it
//! answers, and the one that answers ends when the elected one has said that it can begin.

use std::cmp::Reverse;
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
use crate::model::claim::Claim;
use crate::model::cluster::Cluster;
use crate::model::cluster::L2Advertisement;
use crate::model::cluster::Labels;
use crate::model::cluster::Node;
use crate::model::cluster::Placement;
use crate::model::cluster::TrafficPolicy;
use crate::plan::Context;

/// Who leads an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leader<'a> {
    /// The node.
    pub node: &'a str,
    /// Interfaces that the advertisements limit that node to; none for all.
    pub interfaces: BTreeSet<String>,
    /// The advertisements let it answer on its interface.
    pub on_interface: bool,
    /// Addresses that it is not to answer for yet: another node may.
    pub awaited: BTreeSet<IpAddr>,
}

/// Elects leaders, equally on every node.
pub struct Election<'a> {
    cluster: &'a Cluster,
    context: &'a Context,
    /// By pool: its advertisements, by index.
    advertisements: HashMap<&'a str, Vec<(usize, &'a L2Advertisement)>>,
    /// The candidates that a set of advertisements makes.
    candidates: HashMap<Vec<usize>, Vec<Candidate<'a>>>,
    /// Who has the addresses that were placed evenly, and how many each node has.
    placed: HashMap<IpAddr, &'a str>,
    loads: HashMap<&'a str, usize>,
}

/// A node that may lead.
#[derive(Clone, Copy, Debug)]
struct Candidate<'a> {
    name: &'a str,
    /// It is to carry nothing, and leads only where nobody else can.
    is_draining: bool,
    /// Sum of the preferences that match.
    preference: u32,
    /// Some advertisement lets it answer on its interface, as far as that is known.
    on_interface: bool,
    /// It has said that it can take over, or need not say it.
    is_ready: bool,
}

impl<'a> Election<'a> {
    /// For the pools and nodes of the cluster, but those that are gone.
    pub fn new(cluster: &'a Cluster, context: &'a Context) -> Self {
        let of_pool = |name: &str, pool| {
            let all = cluster.l2_advertisements.values().enumerate();
            all.filter(|(_, ad)| chooses(&ad.pools, name, pool))
                .collect()
        };
        Self {
            cluster,
            context,
            advertisements: cluster
                .pools
                .iter()
                .map(|(name, pool)| (name.as_str(), of_pool(name, pool)))
                .collect(),
            candidates: HashMap::new(),
            placed: HashMap::new(),
            loads: HashMap::new(),
        }
    }

    /// The node that leads the addresses of a Service. Of Services whose addresses are placed evenly, it is
    /// to be called in the same order on every node.
    ///
    /// # Errors
    /// Why nobody does.
    pub fn leader(&mut self, subject: &Subject<'_>) -> Result<Leader<'a>, Withheld> {
        let first = *subject.addresses.first().ok_or(Withheld::NoAddress)?;
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
        let (cluster, context) = (self.cluster, self.context);
        let candidates = self
            .candidates
            .entry(indices)
            .or_insert_with(|| candidates(cluster, context, &ads));
        let is_local = subject.service.traffic_policy == TrafficPolicy::Local;
        let mut serving: Vec<Candidate<'a>> = candidates
            .iter()
            .filter(|candidate| !is_local || subject.serving_nodes.contains(candidate.name))
            .copied()
            .collect();
        keep_if_any(&mut serving, |candidate| candidate.on_interface);
        // The node with its network gone and back again leads when it says that its tables are filled.
        keep_if_any(&mut serving, |candidate| candidate.is_ready);
        keep_if_any(&mut serving, |candidate| !candidate.is_draining);
        let placement = ads.iter().find_map(|ad| ad.placement);
        let chosen = match placement {
            None => serving,
            Some(Placement::Sticky) => {
                keep_if_any(&mut serving, |candidate| self.holds(candidate.name, first));
                serving
            }
            Some(Placement::Balanced) => self.least_loaded(serving, first),
        };
        let leader = elect(&chosen, first).ok_or(if is_local {
            Withheld::NoLocalEndpoints
        } else {
            Withheld::NoAdvertisement
        })?;
        if placement == Some(Placement::Balanced)
            && self.placed.insert(first, leader.name).is_none()
        {
            *self.loads.entry(leader.name).or_default() += 1;
        }
        let addresses = subject.addresses.iter().copied();
        Ok(Leader {
            node: leader.name,
            interfaces: self.interfaces(leader.name, &ads),
            on_interface: leader.on_interface,
            awaited: addresses
                .filter(|addr| self.may_be_answered_elsewhere(*addr))
                .collect(),
        })
    }

    /// What a node is limited to by the advertisements that choose it; none for all.
    fn interfaces(&self, node: &str, ads: &[&L2Advertisement]) -> BTreeSet<String> {
        let labels = self.cluster.nodes.get(node).map(|node| &node.labels);
        let of_node = ads
            .iter()
            .filter(|ad| labels.is_some_and(|labels| selects(&ad.node_selectors, labels)));
        if of_node.clone().any(|ad| ad.interfaces.is_empty()) {
            return BTreeSet::new();
        }
        of_node.flat_map(|ad| &ad.interfaces).cloned().collect()
    }

    /// Those that have the fewest addresses, or the one that has this one already by another Service.
    fn least_loaded(&self, mut from: Vec<Candidate<'a>>, addr: IpAddr) -> Vec<Candidate<'a>> {
        if let Some(placed) = self.placed.get(&addr)
            && let Some(candidate) = from.iter().find(|candidate| candidate.name == *placed)
        {
            return vec![*candidate];
        }
        let load = |candidate: &Candidate<'_>| self.loads.get(candidate.name).copied().unwrap_or(0);
        let least = from.iter().map(load).min();
        from.retain(|candidate| Some(load(candidate)) == least);
        from
    }

    fn holds(&self, node: &str, addr: IpAddr) -> bool {
        if node == self.context.node {
            return self.context.held.contains(&addr);
        }
        let claims = &self.context.neighborhood.claims;
        claims
            .get(node)
            .is_some_and(|claim| claim.addresses.contains(&addr))
    }

    /// Whether this node is to wait before it answers, unless it does already: another one says that it answers,
    /// or has not been heard yet.
    fn may_be_answered_elsewhere(&self, addr: IpAddr) -> bool {
        let Context {
            gone,
            held,
            neighborhood,
            ..
        } = self.context;
        if neighborhood.is_isolated {
            return true;
        }
        let lives = |node: &String| !gone.contains(node);
        let mut claims = neighborhood.claims.iter().filter(|(node, _)| lives(node));
        !held.contains(&addr)
            && (neighborhood.awaited.iter().any(lives)
                || claims.any(|(_, claim)| claim.addresses.contains(&addr)))
    }
}

/// Drops what is not wanted, if anything is left then.
fn keep_if_any<'a>(
    candidates: &mut Vec<Candidate<'a>>,
    is_wanted: impl Fn(&Candidate<'a>) -> bool,
) {
    if candidates.iter().any(&is_wanted) {
        candidates.retain(is_wanted);
    }
}

/// The most preferred node; among those, the one whose name and the address hash lowest.
fn elect<'a>(candidates: &[Candidate<'a>], addr: IpAddr) -> Option<Candidate<'a>> {
    let addr = addr.to_string();
    let order = |candidate: &Candidate<'_>| {
        let mut hash = Sha256::new();
        hash.update(candidate.name);
        hash.update("#");
        hash.update(&addr);
        (Reverse(candidate.preference), hash.finalize())
    };
    candidates.iter().copied().min_by_key(order)
}

fn candidates<'a>(
    cluster: &'a Cluster,
    context: &Context,
    ads: &[&L2Advertisement],
) -> Vec<Candidate<'a>> {
    let neighborhood = &context.neighborhood;
    let is_possible = |name: &String, node: &Node| {
        node.ready && !context.gone.contains(name) && gate(node).is_ok()
    };
    let candidate = |(name, node): (&'a String, &'a Node)| {
        let allowing: Vec<_> = ads
            .iter()
            .filter(|ad| selects(&ad.node_selectors, &node.labels))
            .collect();
        let is_own = *name == context.node;
        let claim = neighborhood.claims.get(name).filter(|_| !is_own);
        let interface = if is_own {
            Some(&context.interface)
        } else {
            claim.map(|claim| &claim.interface)
        };
        let may_answer = |ad: &&&L2Advertisement| {
            ad.interfaces.is_empty() || interface.is_none_or(|name| ad.interfaces.contains(name))
        };
        (is_possible(name, node) && !allowing.is_empty()).then(|| Candidate {
            name,
            is_draining: node.is_draining,
            preference: allowing.iter().map(|ad| preference(ad, &node.labels)).sum(),
            on_interface: allowing.iter().any(may_answer),
            is_ready: is_own || is_ready(claim, neighborhood.awaited.contains(name)),
        })
    };
    cluster.nodes.iter().filter_map(candidate).collect()
}

fn is_ready(claim: Option<&Claim>, is_awaited: bool) -> bool {
    claim.map_or(!is_awaited, |claim| claim.is_ready)
}

fn preference(ad: &L2Advertisement, labels: &Labels) -> u32 {
    let preferences = ad.preferences.iter();
    preferences
        .filter(|preference| preference.selector.matches(labels))
        .map(|preference| preference.weight)
        .sum()
}

#[cfg(test)]
mod tests;
