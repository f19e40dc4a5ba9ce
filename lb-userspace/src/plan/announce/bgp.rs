//! The BGP sessions of this node and their routes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use sha2::Digest as _;
use sha2::Sha256;

use super::Subject;
use super::Withheld;
use super::chooses;
use super::gate;
use super::selects;
use crate::model::bfd::BfdIntent;
use crate::model::bfd::BfdReach;
use crate::model::cluster::BgpAdvertisement;
use crate::model::cluster::BgpPeer;
use crate::model::cluster::Cluster;
use crate::model::cluster::Family;
use crate::model::cluster::Labels;
use crate::model::cluster::Node;
use crate::model::cluster::PeerAsn;
use crate::model::cluster::TrafficPolicy;
use crate::model::intent::Finding;
use crate::model::intent::RouteAttributes;
use crate::model::intent::SessionConfig;
use crate::model::intent::SessionIntent;
use crate::model::name::ObjectName;

/// Hold time to propose where the peer object says none.
pub const HOLD_TIME: Duration = Duration::from_secs(90);

/// Connect retry time where the peer object says none.
pub const CONNECT_TIME: Duration = Duration::from_secs(5);

/// A BGPPeer, and a prefix that it is told of.
pub type RouteName = (Arc<str>, IpNet);

/// What is announced over the sessions of one node.
pub struct Speaker<'a> {
    name: &'a str,
    /// Nothing, if there is no such node.
    node: Option<&'a Node>,
    /// The peers, and the families that they are told of.
    peers: Vec<(Arc<str>, &'a BTreeSet<Family>)>,
    /// By pool: its advertisements that this node may be next hop for.
    advertisements: BTreeMap<&'a str, Vec<&'a BgpAdvertisement>>,
}

/// Where a Service is announced.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Announced {
    /// Its routes, each with what it says of it.
    pub routes: BTreeMap<RouteName, RouteAttributes>,
    /// Addresses that no peer takes.
    pub without_peer: BTreeSet<IpAddr>,
}

impl Announced {
    /// The peers that take at least one of its addresses.
    pub fn peers(&self) -> BTreeSet<String> {
        let peers = self.routes.keys();
        peers.map(|(peer, _)| peer.to_string()).collect()
    }

    /// What is to be said of the addresses that no peer takes.
    pub fn left_out(&self) -> Option<String> {
        let addresses: Vec<_> = self.without_peer.iter().map(ToString::to_string).collect();
        (!addresses.is_empty()).then(|| format!("{} ({})", Withheld::NoPeer, addresses.join(", ")))
    }
}

/// The sessions that a node holds, without routes.
pub fn sessions(cluster: &Cluster, name: &str, node: &Node) -> BTreeMap<String, SessionIntent> {
    cluster
        .peers
        .iter()
        .filter(|(_, peer)| selects(&peer.node_selectors, &node.labels))
        .map(|(peer_name, peer)| {
            let intent = SessionIntent {
                config: config(peer, name, node),
                routes: BTreeMap::new(),
                is_partial: cluster.is_partial,
                is_draining: node.is_draining,
                bfd: bfd(peer),
            };
            (peer_name.clone(), intent)
        })
        .collect()
}

impl<'a> Speaker<'a> {
    /// Of the node of that name, which holds these sessions.
    pub fn new(
        cluster: &'a Cluster,
        name: &'a str,
        sessions: &'a BTreeMap<String, SessionIntent>,
    ) -> Self {
        let node = cluster.nodes.get(name);
        let unlabelled = Labels::new();
        let labels = node.map_or(&unlabelled, |node| &node.labels);
        let advertisements = cluster
            .pools
            .iter()
            .map(|(pool_name, pool)| {
                let of_pool = cluster.bgp_advertisements.values().filter(|ad| {
                    chooses(&ad.pools, pool_name, pool) && selects(&ad.node_selectors, labels)
                });
                (pool_name.as_str(), of_pool.collect())
            })
            .collect();
        Self {
            name,
            node,
            peers: sessions
                .iter()
                .map(|(peer, session)| (Arc::from(peer.as_str()), &session.config.families))
                .collect(),
            advertisements,
        }
    }

    /// Announces a Service, each address to the peers that take its family.
    ///
    /// # Errors
    /// Why it is not announced at all.
    pub fn announce(&self, subject: &Subject<'_>) -> Result<Announced, Withheld> {
        self.node.map_or(Ok(()), gate)?;
        subject.is_served_from(self.name)?;
        let advertisements = self.advertisements.get(subject.pool).into_iter().flatten();
        let advertisements: Vec<&BgpAdvertisement> = advertisements
            .filter(|ad| selects(&ad.service_selectors, &subject.service.labels))
            .copied()
            .collect();
        if advertisements.is_empty() {
            return Err(Withheld::NoAdvertisement);
        }
        let endpoints = match subject.service.traffic_policy {
            TrafficPolicy::Local => subject.serving_counts.get(self.name).copied(),
            // Any node sends anywhere: all are the same to the router.
            TrafficPolicy::Cluster => None,
        };
        let mut routes = BTreeMap::new();
        let mut without_peer: BTreeSet<IpAddr> = subject.addresses.iter().copied().collect();
        for (peer, families) in &self.peers {
            let of_peer = advertisements
                .iter()
                .filter(|ad| ad.peers.is_empty() || ad.peers.contains(&**peer));
            for ad in of_peer {
                for addr in subject.addresses {
                    if families.contains(&Family::of(*addr)) {
                        merge(
                            &mut routes,
                            (Arc::clone(peer), route(*addr, ad)),
                            ad,
                            endpoints.unwrap_or(1),
                        )?;
                        without_peer.remove(addr);
                    }
                }
            }
        }
        if routes.is_empty() {
            return Err(Withheld::NoPeer);
        }
        Ok(Announced {
            routes,
            without_peer,
        })
    }
}

/// What is said of a route by all Services that share it, and what is wrong. The first by name has the say where
/// only one can.
pub fn share<'s>(
    (peer, prefix): &RouteName,
    claims: impl Iterator<Item = (&'s ObjectName, &'s RouteAttributes)>,
) -> (Option<RouteAttributes>, Vec<Finding>) {
    let mut shared: Option<RouteAttributes> = None;
    let mut findings = Vec::new();
    for (service, attributes) in claims {
        let present = shared.get_or_insert_with(|| attributes.clone());
        if present.local_pref != attributes.local_pref {
            findings.push(Finding {
                source: String::new(),
                object: format!("Service {service}"),
                field: String::new(),
                message: format!(
                    "route {prefix} to {peer} has another localPref by another Service's BGPAdvertisement, \
                     which stays; give both the same localPref or another aggregationLength"
                ),
            });
        }
        // Services that share a route share what is behind it.
        join(present, attributes);
    }
    (shared, findings)
}

/// Two advertisements of one route: the union of communities, and the least inviting of what can be one
/// value only.
fn join(present: &mut RouteAttributes, other: &RouteAttributes) {
    present
        .communities
        .extend(other.communities.iter().copied());
    present.med = present.med.max(other.med);
    present.prepend = present.prepend.max(other.prepend);
    present.link_bandwidth = present.link_bandwidth.max(other.link_bandwidth);
}

fn merge(
    routes: &mut BTreeMap<RouteName, RouteAttributes>,
    to: RouteName,
    ad: &BgpAdvertisement,
    endpoints: u64,
) -> Result<(), Withheld> {
    let local_pref = Some(ad.local_pref).filter(|preference| *preference != 0);
    let attributes = routes.entry(to).or_insert_with(|| RouteAttributes {
        local_pref,
        ..RouteAttributes::default()
    });
    if attributes.local_pref != local_pref {
        return Err(Withheld::Conflict);
    }
    let of_ad = RouteAttributes {
        med: ad.med,
        prepend: ad.prepend,
        link_bandwidth: ad
            .link_bandwidth
            .map(|each| u64::from(each).saturating_mul(endpoints)),
        ..RouteAttributes::default()
    };
    join(attributes, &of_ad);
    attributes
        .communities
        .extend(ad.communities.iter().copied());
    Ok(())
}

/// The route that an advertisement makes of an address.
fn route(addr: IpAddr, ad: &BgpAdvertisement) -> IpNet {
    let length = match addr {
        IpAddr::V4(_) => ad.aggregation_length,
        IpAddr::V6(_) => ad.aggregation_length_v6,
    };
    IpNet::new(addr, length).map_or_else(|_| IpNet::from(addr), |network| network.trunc())
}

fn config(peer: &BgpPeer, name: &str, node: &Node) -> SessionConfig {
    let own = Family::of(peer.peer_address);
    let mut families = BTreeSet::from([own]);
    let mut next_hops = BTreeMap::new();
    if peer.options.interface.is_some() {
        // RFC 8950: both families by the link-local address of the connection.
        families.extend([Family::V4, Family::V6]);
    } else if peer.dual_stack {
        let other = node.addresses.iter().find(|addr| Family::of(**addr) != own);
        // Without an address of the other family there is no next hop to give.
        if let Some(addr) = other {
            families.insert(Family::of(*addr));
            next_hops.insert(Family::of(*addr), *addr);
        }
    }
    SessionConfig {
        my_asn: peer.local_asn.unwrap_or(peer.my_asn),
        peer_asn: peer.peer_asn,
        peer_address: peer.peer_address,
        peer_port: peer.peer_port,
        source_address: peer.source_address,
        router_id: peer.router_id.unwrap_or_else(|| router_id(name, node)),
        hold_time: peer.hold_time.unwrap_or(HOLD_TIME),
        keepalive_time: peer.keepalive_time,
        connect_time: peer.connect_time.unwrap_or(CONNECT_TIME),
        password: peer.password.clone(),
        multihop: peer.ebgp_multi_hop,
        families,
        next_hops,
        host_name: name.to_owned(),
        options: peer.options.clone(),
    }
}

fn bfd(peer: &BgpPeer) -> Option<BfdIntent> {
    let is_internal = match peer.peer_asn {
        PeerAsn::Number(asn) => asn == peer.my_asn,
        PeerAsn::Internal => true,
        PeerAsn::External => false,
    };
    // As FRR does, so that routers which MetalLB was used with need no change.
    let reach = if peer.ebgp_multi_hop {
        BfdReach::MultiHop
    } else if is_internal {
        BfdReach::AsConnected
    } else {
        BfdReach::SingleHop
    };
    peer.bfd.clone().map(|profile| BfdIntent {
        profile,
        reach,
        is_strict: peer.awaits_bfd,
    })
}

/// The first IPv4 address of the node, else a hash of its name; never 0 (RFC 6286 §2.1).
fn router_id(name: &str, node: &Node) -> Ipv4Addr {
    let addresses = node.addresses.iter().filter_map(|addr| match addr {
        IpAddr::V4(addr) if !addr.is_unspecified() => Some(*addr),
        _ => None,
    });
    addresses.into_iter().next().unwrap_or_else(|| {
        let hash = Sha256::digest(name);
        let bits = hash
            .iter()
            .take(4)
            .fold(0, |bits, byte| bits << 8 | u32::from(*byte));
        Ipv4Addr::from_bits(bits.max(1))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_id_is_the_first_ipv4_address_or_a_hash() {
        let mut node = Node {
            addresses: vec!["2001:db8::1".parse().unwrap(), "192.0.2.7".parse().unwrap()],
            ..Node::default()
        };
        assert_eq!(router_id("node-a", &node), Ipv4Addr::new(192, 0, 2, 7));
        node.addresses.pop();
        assert_ne!(router_id("node-a", &node), router_id("node-b", &node));
        assert_eq!(router_id("node-a", &node), router_id("node-a", &node));
        assert!(!router_id("", &node).is_unspecified());
    }
}
