//! From what the cluster says to what this node is to do.
//!
//! Services meet in three places only: the allocation of addresses, the VIPs that they share, and the routes that
//! they share. All else of an intent is `part` by `part`, one for each Service, and `claims` notes who has a word in
//! what is shared. So a [`Planner`] that is given one cluster after the other computes the parts of those Services
//! alone of which something changed. What it computed before changes nothing about what it says.

mod claims;
mod part;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use self::claims::Claims;
use self::part::Part;
use self::part::Shared;
use self::part::Surroundings;
use self::part::check_objects;
use super::allocate::Allocation;
use super::allocate::Assignment;
use super::allocate::allocate;
use super::announce::bgp;
use super::announce::bgp::RouteName;
use crate::model::claim::Neighborhood;
use crate::model::cluster::Cluster;
use crate::model::cluster::Node;
use crate::model::cluster::Placement;
use crate::model::intent::DataplaneIntent;
use crate::model::intent::Finding;
use crate::model::intent::Intent;
use crate::model::intent::PeerNode;
use crate::model::intent::VipIntent;
use crate::model::name::ObjectName;
use crate::model::shared_map::SharedMap;

/// Key of the flow hash of a cluster that has none of its own.
pub const PUBLIC_FLOW_KEY: [u8; 32] = *b"torline public default flow key.";

/// Key between the nodes of a cluster that has none of its own.
pub const PUBLIC_PEER_KEY: [u8; 32] = *b"torline public default peer key.";

/// What the cluster does not say: who asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Name of this node.
    pub node: String,
    /// Name of its compute port.
    pub interface: String,
    /// Other nodes whose program answers no more.
    pub gone: BTreeSet<String>,
    /// The addresses that this node answers ARP and NDP for so far.
    pub held: BTreeSet<IpAddr>,
    /// What others say that they answer for.
    pub neighborhood: Neighborhood,
}

/// Computes what this node is to do.
///
/// Addresses and table length of each Service, which its [`ServiceState`] holds, are to be fed back with
/// the next cluster ([`Service::status_addresses`], [`Service::table_length`]): that makes them stay.
///
/// [`ServiceState`]: crate::model::intent::ServiceState
/// [`Service::status_addresses`]: crate::model::cluster::Service::status_addresses
/// [`Service::table_length`]: crate::model::cluster::Service::table_length
pub fn compute(cluster: &Cluster, context: &Context) -> Intent {
    Planner::default().compute(cluster, context)
}

/// Computes one intent after the other; see the module.
#[derive(Debug, Default)]
pub struct Planner(Option<Last>);

impl Planner {
    /// The same as [`compute`], at the cost of what is not as it was the last time.
    pub fn compute(&mut self, cluster: &Cluster, context: &Context) -> Intent {
        let mut last = match self.0.take() {
            Some(last) if last.is_about(cluster, context) => last,
            _ => Last::without_services(cluster, context),
        };
        last.follow(cluster);
        self.0.insert(last).intent.clone()
    }
}

/// The last intent, and what it was made from.
#[derive(Debug)]
struct Last {
    cluster: Cluster,
    context: Context,
    allocation: Allocation,
    /// Of what is wrong, what no Service is the cause of.
    general: Vec<Finding>,
    /// By Service, what is wrong with it.
    of_services: BTreeMap<ObjectName, Vec<Finding>>,
    shared: BTreeMap<ObjectName, Shared>,
    vips: Claims<IpAddr>,
    routes: Claims<RouteName>,
    /// Routes of which Services say different things.
    conflicts: BTreeMap<RouteName, Vec<Finding>>,
    intent: Intent,
}

impl Last {
    /// The intent of a cluster as it would be without Services.
    fn without_services(cluster: &Cluster, context: &Context) -> Self {
        let unknown = Node::default();
        let node = cluster.nodes.get(&context.node);
        let intent = Intent {
            dataplane: dataplane(cluster, context),
            sessions: Arc::new(bgp::sessions(
                cluster,
                &context.node,
                node.unwrap_or(&unknown),
            )),
            ..Intent::default()
        };
        Self {
            cluster: Cluster {
                services: SharedMap::new(),
                endpoints: SharedMap::new(),
                ..cluster.clone()
            },
            context: context.clone(),
            allocation: allocate(&SharedMap::new(), &cluster.pools, &cluster.namespaces),
            general: check_objects(cluster, context),
            of_services: BTreeMap::new(),
            shared: BTreeMap::new(),
            vips: Claims::default(),
            routes: Claims::default(),
            conflicts: BTreeMap::new(),
            intent,
        }
    }

    /// Whether nothing changed but Services, their endpoints, and namespaces, which only the allocation reads. Where
    /// addresses are placed evenly, who leads one depends on all others.
    fn is_about(&self, cluster: &Cluster, context: &Context) -> bool {
        let Cluster {
            is_partial,
            is_implied: _,
            services: _,
            endpoints: _,
            nodes,
            namespaces: _,
            pools,
            peers,
            bgp_advertisements,
            l2_advertisements,
            // Nothing of an intent depends on them.
            virtual_switches: _,
            // Peers and advertisements hold what these say.
            communities: _,
            passwords: _,
            keys,
        } = cluster;
        let last = &self.cluster;
        self.context == *context
            && last.is_partial == *is_partial
            && last.keys == *keys
            && last.nodes == *nodes
            && last.pools == *pools
            && last.peers == *peers
            && last.bgp_advertisements == *bgp_advertisements
            && last.l2_advertisements == *l2_advertisements
            && !l2_advertisements
                .values()
                .any(|ad| ad.placement == Some(Placement::Balanced))
    }

    /// Brings the intent from the last cluster to this one.
    fn follow(&mut self, cluster: &Cluster) {
        let before = std::mem::replace(&mut self.cluster, cluster.clone());
        let services = cluster.services.changes(&before.services);
        let endpoints = cluster.endpoints.changes(&before.endpoints);
        let endpoints = endpoints
            .iter()
            .filter(|change| change.before != change.after);
        let mut changed: BTreeSet<&ObjectName> = endpoints.map(|change| change.key).collect();
        changed.extend(services.iter().map(|change| change.key));
        let former = (!services.is_empty() || before.namespaces != cluster.namespaces)
            .then(|| self.allocate(cluster));
        if let Some(former) = &former {
            let assigned = self.allocation.services.iter();
            let moved = assigned.filter(|(name, assignment)| {
                former.services.get(*name).unwrap_or(&Assignment::default()) != *assignment
            });
            changed.extend(moved.map(|(name, _)| name));
        }
        let changed: Vec<ObjectName> = changed.into_iter().cloned().collect();
        if !changed.is_empty() {
            self.replace_parts(cluster, &changed);
        }
        self.intent.findings = self.findings();
    }

    /// Allocates anew; the allocation before.
    fn allocate(&mut self, cluster: &Cluster) -> Allocation {
        let allocation = allocate(&cluster.services, &cluster.pools, &cluster.namespaces);
        std::mem::replace(&mut self.allocation, allocation)
    }

    /// Computes the parts of these Services anew and puts them in place of the former ones.
    fn replace_parts(&mut self, cluster: &Cluster, names: &[ObjectName]) {
        let context = self.context.clone();
        let sessions = Arc::clone(&self.intent.sessions);
        let mut surroundings = Surroundings::new(cluster, &context, &sessions);
        let parts: Vec<_> = names
            .iter()
            .map(|name| {
                let assignment = self.allocation.services.get(name);
                let service = cluster.services.get(name);
                let part = assignment
                    .zip(service)
                    .map(|(assignment, service)| surroundings.part(name, service, assignment));
                (name, part)
            })
            .collect();
        drop(surroundings);
        drop(sessions);
        let mut stale_vips = BTreeSet::new();
        let mut stale_routes = BTreeSet::new();
        // What one of them gives up another may get.
        for (name, part) in &parts {
            let former = self.intent.services.get_shared(name).cloned();
            for frontend in former.iter().flat_map(|state| &state.frontends) {
                let is_kept = |part: &Part| part.frontends.contains_key(frontend);
                if !part.as_ref().is_some_and(is_kept) {
                    self.intent.dataplane.frontends.remove(frontend);
                }
            }
            let Shared { vips, routes } = self.shared.remove(*name).unwrap_or_default();
            self.vips.remove(vips.keys(), name);
            self.routes.remove(routes.keys(), name);
            stale_vips.extend(vips.into_keys());
            // Mostly the Service says of a route what it said before.
            let said = part.as_ref().map(|part| &part.shared.routes);
            let differs = |route: &RouteName, attributes| {
                said.and_then(|said| said.get(route)) != Some(attributes)
            };
            let differing = routes.iter().filter(|(route, was)| differs(route, was));
            stale_routes.extend(differing.map(|(route, _)| route.clone()));
            let new = said.into_iter().flat_map(BTreeMap::keys);
            let new = new.filter(|route| !routes.contains_key(*route));
            stale_routes.extend(new.cloned());
        }
        for (name, part) in parts {
            self.of_services.remove(name);
            let Some(part) = part else {
                self.intent.services.remove(name);
                continue;
            };
            for (frontend, intended) in part.frontends {
                self.intent.dataplane.frontends.put(frontend, intended);
            }
            self.vips.add(part.shared.vips.keys(), name);
            self.routes.add(part.shared.routes.keys(), name);
            stale_vips.extend(part.shared.vips.keys());
            self.shared.insert(name.clone(), part.shared);
            self.intent.services.put(name.clone(), part.state);
            if !part.findings.is_empty() {
                self.of_services.insert(name.clone(), part.findings);
            }
        }
        for addr in stale_vips {
            self.settle_vip(addr);
        }
        if !stale_routes.is_empty() {
            self.settle_routes(stale_routes);
        }
    }

    /// An address is for as much as any of its Services says.
    fn settle_vip(&mut self, addr: IpAddr) {
        let claims = self.vips.of(&addr).filter_map(|name| {
            let shared = self.shared.get(name)?;
            shared.vips.get(&addr)
        });
        let vip = claims.copied().reduce(|one, other| VipIntent {
            answer_neighbors: one.answer_neighbors | other.answer_neighbors,
            answer_echo: one.answer_echo | other.answer_echo,
        });
        let vips = &mut self.intent.dataplane.vips;
        match vip {
            Some(vip) => drop(vips.put(addr, vip)),
            None => drop(vips.remove(&addr)),
        }
    }

    /// Services that share a route share what is behind it.
    fn settle_routes(&mut self, names: BTreeSet<RouteName>) {
        let sessions = Arc::make_mut(&mut self.intent.sessions);
        for name in names {
            self.conflicts.remove(&name);
            let (peer, prefix) = &name;
            let Some(session) = sessions.get_mut(&**peer) else {
                continue;
            };
            let claims = self.routes.of(&name).filter_map(|service| {
                let shared = self.shared.get(service)?;
                Some((service, shared.routes.get(&name)?))
            });
            let (attributes, conflicts) = bgp::share(&name, claims);
            match attributes {
                Some(attributes) => drop(session.routes.insert(*prefix, attributes)),
                None => drop(session.routes.remove(prefix)),
            }
            if !conflicts.is_empty() {
                self.conflicts.insert(name, conflicts);
            }
        }
    }

    fn findings(&self) -> Vec<Finding> {
        let of_parts = self.of_services.values().flatten();
        let of_pools = self.allocation.findings.iter();
        let general = of_pools.chain(&self.general);
        let all = general.chain(of_parts);
        all.chain(self.conflicts.values().flatten())
            .cloned()
            .collect()
    }
}

fn dataplane(cluster: &Cluster, context: &Context) -> DataplaneIntent {
    let others = cluster
        .nodes
        .iter()
        .filter(|(name, _)| **name != context.node);
    let keys = cluster.keys.as_ref();
    DataplaneIntent {
        is_partial: cluster.is_partial,
        node: context.node.clone(),
        addresses: cluster
            .nodes
            .get(&context.node)
            .map_or_else(Vec::new, |node| node.addresses.clone()),
        flow_key: keys.map_or(PUBLIC_FLOW_KEY, |keys| keys.flow_key),
        peer_key: keys.map_or(PUBLIC_PEER_KEY, |keys| keys.peer_key),
        frontends: SharedMap::new(),
        vips: SharedMap::new(),
        nodes: others
            .map(|(name, node)| {
                let addresses = node.addresses.clone();
                (
                    name.clone(),
                    PeerNode {
                        addresses,
                        mac: node.mac,
                        is_gone: context.gone.contains(name),
                    },
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
