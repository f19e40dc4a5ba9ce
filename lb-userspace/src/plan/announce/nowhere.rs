//! Services that no node announces, and why.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};

use super::bgp::{self, Speaker};
use super::layer2::Election;
use super::{Subject, Withheld};
use crate::model::cluster::Cluster;
use crate::model::intent::{ServiceState, SessionIntent};
use crate::model::name::ObjectName;
use crate::model::shared_map::SharedMap;
use crate::plan::Context;
use crate::plan::backends::Nodes;

/// Services with addresses that no node announces, and what keeps that from happening. `services` is what
/// `node` makes of the cluster; `gone` are nodes that do not live. Costs little while most are announced by
/// `node` itself.
pub fn nowhere(
    cluster: &Cluster,
    services: &SharedMap<ObjectName, ServiceState>,
    node: &str,
    gone: &BTreeSet<String>,
) -> BTreeMap<ObjectName, Withheld> {
    let places = Nodes::new(cluster, node);
    let context = Context {
        node: node.to_owned(),
        gone: gone.clone(),
        ..Context::default()
    };
    let mut election = Election::new(cluster, &context);
    let sessions: OnceCell<Vec<(&str, BTreeMap<String, SessionIntent>)>> = OnceCell::new();
    let mut speakers: Option<Vec<Speaker<'_>>> = None;
    let mut found = BTreeMap::new();
    for (name, state) in services {
        let is_announced = !state.announced_to.is_empty() || state.l2_leader.is_some();
        let (Some(pool), Some(service), false) =
            (&state.pool, cluster.services.get(name), is_announced)
        else {
            continue;
        };
        let endpoints = cluster.endpoints.get(name).map_or(&[][..], Vec::as_slice);
        let addresses = &state.addresses;
        let subject = Subject::new(name, service, addresses, pool, endpoints, |e| places.of(e));
        if !subject.is_served {
            found.insert(name.clone(), Withheld::NoEndpoints);
            continue;
        }
        let Err(by_layer2) = election.leader(&subject) else {
            continue;
        };
        let speakers = speakers.get_or_insert_with(|| {
            let sessions = sessions.get_or_init(|| {
                let nodes = cluster.nodes.iter();
                nodes
                    .filter(|(name, node)| node.ready && !gone.contains(*name))
                    .map(|(name, node)| (name.as_str(), bgp::sessions(cluster, name, node)))
                    .collect()
            });
            let sessions = sessions.iter();
            sessions
                .map(|(name, sessions)| Speaker::new(cluster, name, sessions))
                .collect()
        });
        let by_bgp = speakers
            .iter_mut()
            .map(|speaker| speaker.announce(&subject).err())
            .collect::<Option<Vec<_>>>();
        if let Some(by_bgp) = by_bgp {
            let by_bgp = by_bgp
                .into_iter()
                .max_by_key(|withheld| progress(*withheld));
            found.insert(name.clone(), nearest(by_bgp, by_layer2));
        }
    }
    found
}

/// What to tell of two protocols: of the one that was meant to be used.
fn nearest(by_bgp: Option<Withheld>, by_layer2: Withheld) -> Withheld {
    match (by_bgp, by_layer2) {
        (Some(by_bgp), Withheld::NoAdvertisement) => by_bgp,
        (None | Some(Withheld::NoAdvertisement), by_layer2) => by_layer2,
        (Some(by_bgp), by_layer2) => [by_layer2, by_bgp]
            .into_iter()
            .max_by_key(|withheld| progress(*withheld))
            .unwrap_or(by_bgp),
    }
}

/// How far an announcement got, in the order in which a node decides.
const fn progress(withheld: Withheld) -> u8 {
    match withheld {
        Withheld::NoAddress => 0,
        Withheld::NodeNetworkUnavailable | Withheld::NodeExcluded => 1,
        Withheld::NoLocalEndpoints | Withheld::NoEndpoints => 2,
        Withheld::NoAdvertisement => 3,
        Withheld::NoPeer | Withheld::Conflict | Withheld::SharedWithSelector => 4,
        Withheld::NotOwner => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::compute::compute;
    use crate::plan::fixture::{
        bgp_advertisement, endpoint, l2_advertisement, named, node, object, peer, pool, service,
    };

    fn cluster() -> Cluster {
        Cluster {
            services: [(object("web"), service())].into(),
            endpoints: [(object("web"), vec![endpoint("10.0.0.1", "other")])].into(),
            nodes: named([("other", node("192.0.2.2")), ("own", node("192.0.2.1"))]),
            pools: named([("a", pool("1.2.3.0/24"))]),
            ..Cluster::default()
        }
    }

    /// As the node `own` sees it.
    fn reason(cluster: &Cluster) -> Option<Withheld> {
        let context = Context {
            node: "own".to_owned(),
            ..Context::default()
        };
        let services = compute(cluster, &context).services;
        let found = nowhere(cluster, &services, "own", &BTreeSet::new());
        found.get(&object("web")).copied()
    }

    #[test]
    fn what_another_node_announces_is_announced() {
        let mut cluster = cluster();
        assert_eq!(reason(&cluster), Some(Withheld::NoAdvertisement));
        cluster.bgp_advertisements = named([("all", bgp_advertisement())]);
        assert_eq!(reason(&cluster), Some(Withheld::NoPeer));
        cluster.peers = named([("tor", peer("192.0.2.9"))]);
        let own = cluster.nodes.get_mut("own").unwrap();
        own.excluded = true;
        assert_eq!(reason(&cluster), None);
    }

    #[test]
    fn the_reason_is_that_of_the_protocol_that_was_meant() {
        let mut cluster = cluster();
        cluster.l2_advertisements = named([("all", l2_advertisement())]);
        assert_eq!(reason(&cluster), None);
        for node in cluster.nodes.values_mut() {
            node.excluded = true;
        }
        assert_eq!(reason(&cluster), Some(Withheld::NodeExcluded));
        cluster.endpoints = SharedMap::new();
        assert_eq!(reason(&cluster), Some(Withheld::NoEndpoints));
    }
}
