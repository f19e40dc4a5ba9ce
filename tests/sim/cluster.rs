//! What the cluster's objects say: one Service with a TCP and a UDP port, its
//! endpoints, the nodes.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::addr::Mac;
use lb_userspace::model::cluster::{
    Cluster, ClusterKeys, Endpoint, Family, FamilyPolicy, Node, Pool, PoolRange, Protocol, Service,
    ServicePort, TrafficPolicy,
};
use lb_userspace::model::intent::FrontendName;
use lb_userspace::model::name::ObjectName;
use lb_userspace::plan::maglev;

use crate::node::NodeId;
use crate::pod::{Pod, TCP_TARGET, UDP_TARGET};

/// Ports of the Service.
pub(crate) const TCP_PORT: u16 = 80;
pub(crate) const UDP_PORT: u16 = 53;

fn service_name() -> ObjectName {
    ObjectName::new("default", "web")
}

/// The VIP.
pub(crate) fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => [203, 0, 113, 10].into(),
        Family::V6 => [0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 10].into(),
    }
}

/// Address of a node.
pub(crate) fn node_address(family: Family, node: NodeId) -> IpAddr {
    match family {
        Family::V4 => [192, 0, 2, 10 + node].into(),
        Family::V6 => [0x2001, 0xdb8, 2, 0, 0, 0, 0, 10 + u16::from(node)].into(),
    }
}

/// The address with this number among those that pods get.
pub(crate) fn pod_address(family: Family, number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    match family {
        Family::V4 => [10, 1, high, low].into(),
        Family::V6 => [0xfd00, 1, 0, 0, 0, 0, 0, number].into(),
    }
}

/// Address of a client.
pub(crate) fn client_address(family: Family, number: u8) -> IpAddr {
    match family {
        Family::V4 => [198, 51, 100, number].into(),
        Family::V6 => [0x2001, 0xdb8, 0x51, 0, 0, 0, 0, u16::from(number)].into(),
    }
}

/// Whether an address is a client's.
pub(crate) fn is_client(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.octets().starts_with(&[198, 51, 100]),
        IpAddr::V6(addr) => addr.segments().starts_with(&[0x2001, 0xdb8, 0x51]),
    }
}

/// Name of a node.
pub(crate) fn node_name(node: NodeId) -> String {
    format!("node-{node}")
}

/// Zone of a node: there are two.
fn zone(node: NodeId) -> String {
    format!("zone-{}", node % 2)
}

/// MAC of a node's compute port.
pub(crate) fn node_mac(node: NodeId) -> Mac {
    Mac([0x02, 0, 0, 0, 0, node])
}

/// Name of the frontend that serves TCP.
pub(crate) fn frontend(family: Family, protocol: Protocol) -> FrontendName {
    let port = match protocol {
        Protocol::Tcp => TCP_PORT,
        Protocol::Udp => UDP_PORT,
    };
    FrontendName {
        addr: vip(family),
        port,
        protocol,
    }
}

/// What nodes choose among for new connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Policy {
    /// All pods.
    Cluster,
    /// Their own.
    Local,
    /// Those in their zone.
    Zones,
}

/// A cluster without nodes and pods.
pub(crate) fn empty(family: Family, policy: Policy, key: [u8; 32]) -> Cluster {
    let port = |name: &str, protocol, port| ServicePort {
        name: name.into(),
        protocol,
        port,
    };
    let service = Service {
        labels: [].into(),
        is_load_balancer: true,
        ports: vec![
            port("tcp", Protocol::Tcp, TCP_PORT),
            port("udp", Protocol::Udp, UDP_PORT),
        ],
        families: vec![family],
        family_policy: FamilyPolicy::SingleStack,
        traffic_policy: match policy {
            Policy::Cluster | Policy::Zones => TrafficPolicy::Cluster,
            Policy::Local => TrafficPolicy::Local,
        },
        follows_hints: policy == Policy::Zones,
        client_affinity: false,
        selector: "app=web".into(),
        requested_addresses: Ok(vec![vip(family)]),
        requested_pool: None,
        sharing_key: None,
        status_addresses: Vec::new(),
        table_length: None,
        forwarding: None,
    };
    let pool = Pool {
        labels: [].into(),
        addresses: vec![PoolRange {
            text: vip(family).to_string(),
            networks: vec![vip(family).into()],
        }],
        auto_assign: true,
        avoid_buggy_ips: false,
        allocation: None,
    };
    Cluster {
        services: [(service_name(), service)].into(),
        pools: [("pool".to_owned(), pool)].into(),
        keys: Some(ClusterKeys {
            flow_key: key,
            peer_key: key,
        }),
        ..Cluster::default()
    }
}

/// Makes a cluster say that these are its nodes and pods, and publishes the table's length as the agent
/// with the Lease does.
pub(crate) fn describe<'a>(
    cluster: &mut Cluster,
    family: Family,
    nodes: &BTreeSet<NodeId>,
    pods: impl Iterator<Item = &'a Pod>,
) {
    cluster.nodes = nodes
        .iter()
        .map(|node| {
            let object = Node {
                addresses: vec![node_address(family, *node)],
                mac: Some(node_mac(*node)),
                ready: true,
                labels: [("topology.kubernetes.io/zone".into(), zone(*node))].into(),
                ..Node::default()
            };
            (node_name(*node), object)
        })
        .collect();
    let endpoints: Vec<Endpoint> = pods.map(endpoint).collect();
    for service in cluster.services.values_mut() {
        service.status_addresses = vec![vip(family)];
        service.table_length = Some(maglev::table_length(service.table_length, endpoints.len()));
    }
    cluster.endpoints = [(service_name(), endpoints)].into();
}

fn endpoint(pod: &Pod) -> Endpoint {
    Endpoint {
        addr: pod.addr,
        node: Some(node_name(pod.node).into()),
        ports: Arc::new(
            [
                (("tcp".to_owned(), Protocol::Tcp), TCP_TARGET),
                (("udp".to_owned(), Protocol::Udp), UDP_TARGET),
            ]
            .into(),
        ),
        ready: pod.is_ready && !pod.is_terminating,
        serving: pod.is_ready,
        terminating: pod.is_terminating,
        zones: [zone(pod.node)].into(),
    }
}

/// The cluster as an agent plans it that knows some nodes to be dead.
pub(crate) fn without_dead(cluster: &Cluster, dead: &BTreeSet<NodeId>) -> Cluster {
    let mut cluster = cluster.clone();
    let dead: BTreeSet<String> = dead.iter().map(|node| node_name(*node)).collect();
    for endpoints in cluster.endpoints.values_mut() {
        endpoints.retain(|endpoint| endpoint.node.as_deref().is_none_or(|n| !dead.contains(n)));
    }
    cluster
}
