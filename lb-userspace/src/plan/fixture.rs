//! Objects for the tests of this layer: small, legal, and changed by the test
//! where it matters.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::cluster::BgpAdvertisement;
use crate::model::cluster::BgpPeer;
use crate::model::cluster::Endpoint;
use crate::model::cluster::Family;
use crate::model::cluster::FamilyPolicy;
use crate::model::cluster::L2Advertisement;
use crate::model::cluster::Labels;
use crate::model::cluster::Node;
use crate::model::cluster::PeerAsn;
use crate::model::cluster::Pool;
use crate::model::cluster::PoolChoice;
use crate::model::cluster::PoolRange;
use crate::model::cluster::Protocol;
use crate::model::cluster::Requirement;
use crate::model::cluster::Selector;
use crate::model::cluster::Service;
use crate::model::cluster::ServicePort;
use crate::model::cluster::TrafficPolicy;
use crate::model::name::ObjectName;

pub(super) fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn addrs(text: &str) -> Vec<IpAddr> {
    text.split_whitespace().map(addr).collect()
}

pub(super) fn object(name: &str) -> ObjectName {
    ObjectName::new("default", name)
}

pub(super) fn label(key: &str, value: &str) -> Labels {
    [(key.to_owned(), value.to_owned())].into()
}

pub(super) fn selector(key: &str, value: &str) -> Selector {
    Selector(vec![Requirement::In(
        key.to_owned(),
        [value.to_owned()].into(),
    )])
}

/// An IPv4 Service with port 80/tcp.
pub(super) fn service() -> Service {
    Service {
        labels: Labels::new(),
        is_load_balancer: true,
        ports: vec![port(80)],
        families: vec![Family::V4],
        family_policy: FamilyPolicy::SingleStack,
        traffic_policy: TrafficPolicy::Cluster,
        follows_hints: false,
        client_affinity: false,
        selector: "app=web".into(),
        requested_addresses: Ok(Vec::new()),
        requested_pool: None,
        sharing_key: None,
        status_addresses: Vec::new(),
        table_length: None,
        forwarding: None,
    }
}

pub(super) fn dual(policy: FamilyPolicy) -> Service {
    Service {
        families: vec![Family::V4, Family::V6],
        family_policy: policy,
        ..service()
    }
}

pub(super) fn port(port: u16) -> ServicePort {
    ServicePort {
        name: String::new(),
        protocol: Protocol::Tcp,
        port,
    }
}

/// A pool of CIDRs separated by blanks.
pub(super) fn pool(networks: &str) -> Pool {
    let ranges = networks.split_whitespace().map(|text| PoolRange {
        text: text.to_owned(),
        networks: vec![text.parse::<IpNet>().unwrap()],
    });
    Pool {
        labels: Labels::new(),
        addresses: ranges.collect(),
        auto_assign: true,
        avoid_buggy_ips: false,
        allocation: None,
    }
}

pub(super) fn named<T, M: FromIterator<(String, T)>>(
    items: impl IntoIterator<Item = (&'static str, T)>,
) -> M {
    items
        .into_iter()
        .map(|(name, item)| (name.to_owned(), item))
        .collect()
}

/// A ready endpoint with target port 8080.
pub(super) fn endpoint(at: &str, node: &str) -> Endpoint {
    Endpoint {
        addr: addr(at),
        node: Some(node.into()),
        ports: Arc::new([((String::new(), Protocol::Tcp), 8080)].into()),
        ready: true,
        serving: true,
        terminating: false,
        zones: [].into(),
    }
}

pub(super) fn terminating(at: &str, node: &str) -> Endpoint {
    Endpoint {
        ready: false,
        terminating: true,
        ..endpoint(at, node)
    }
}

pub(super) fn silent(at: &str, node: &str) -> Endpoint {
    Endpoint {
        ready: false,
        serving: false,
        ..endpoint(at, node)
    }
}

pub(super) fn node(addresses: &str) -> Node {
    Node {
        addresses: addrs(addresses),
        ready: true,
        ..Node::default()
    }
}

pub(super) fn peer(address: &str) -> BgpPeer {
    BgpPeer {
        my_asn: 64_513,
        peer_asn: PeerAsn::Number(64_512),
        peer_address: addr(address),
        peer_port: 179,
        source_address: None,
        hold_time: None,
        keepalive_time: None,
        connect_time: None,
        router_id: None,
        node_selectors: Vec::new(),
        password: None,
        ebgp_multi_hop: false,
        dual_stack: false,
        bfd: None,
        awaits_bfd: false,
        local_asn: None,
        options: Default::default(),
        switch: None,
    }
}

pub(super) fn bgp_advertisement() -> BgpAdvertisement {
    BgpAdvertisement {
        pools: PoolChoice::default(),
        aggregation_length: 32,
        aggregation_length_v6: 128,
        local_pref: 0,
        med: None,
        prepend: 0,
        link_bandwidth: None,
        communities: Default::default(),
        node_selectors: Vec::new(),
        peers: Default::default(),
        service_selectors: Vec::new(),
    }
}

pub(super) fn l2_advertisement() -> L2Advertisement {
    L2Advertisement {
        pools: PoolChoice::default(),
        node_selectors: Vec::new(),
        interfaces: Default::default(),
        service_selectors: Vec::new(),
        preferences: Vec::new(),
        placement: None,
    }
}
