//! A cluster of any number of Services, as objects of an API server.

use anyhow::Result;
use ipnet::IpNet;
use lb_userspace::k8s::object::{Kind, Object};
use lb_userspace::k8s::tree::Tree;
use serde_json::{Value, json};

/// Nodes; the first is this one.
pub(crate) const NODES: u32 = 100;

/// Endpoints of each Service.
pub(crate) const ENDPOINTS: u32 = 10;

/// The compute port.
pub(crate) const INTERFACE: &str = "eth0";

/// Services in one namespace.
const NAMESPACE: u32 = 100;

/// Name of a node.
pub(crate) fn node(number: u32) -> String {
    format!("node-{number:03}")
}

/// Address of a node, with the length of the segment's prefix.
pub(crate) fn address(node: u32) -> IpNet {
    let host = 11 + node;
    IpNet::from(ipnet::Ipv4Net::new_assert(
        [192, 0, 2, host as u8].into(),
        24,
    ))
}

/// Namespace and name of a Service.
pub(crate) fn service(number: u32) -> (String, String) {
    (
        format!("team-{:03}", number / NAMESPACE),
        format!("service-{number:05}"),
    )
}

/// Everything but Services and their endpoints: nodes, a pool, two routers.
pub(crate) fn surroundings() -> impl Iterator<Item = Result<Object>> {
    let metallb = |kind: &str, name: &str, version: &str, spec: Value| {
        json!({
            "apiVersion": format!("metallb.io/{version}"),
            "kind": kind,
            "metadata": {"name": name, "namespace": "metallb-system"},
            "spec": spec,
        })
    };
    let router = |last: u8| {
        let name = format!("tor-{last}");
        let address = format!("192.0.2.{last}");
        let spec = json!({"myASN": 64_513, "peerASN": 64_512, "peerAddress": address});
        metallb("BGPPeer", &name, "v1beta2", spec)
    };
    let pool = json!({"addresses": ["172.16.0.0/12"]});
    let fixed = [
        (
            Kind::IpAddressPool,
            metallb("IPAddressPool", "public", "v1beta1", pool),
        ),
        (
            Kind::BgpAdvertisement,
            metallb("BGPAdvertisement", "all", "v1beta1", json!({})),
        ),
        (Kind::BgpPeer, router(253)),
        (Kind::BgpPeer, router(254)),
    ];
    let nodes = (0..NODES).map(|number| {
        let object = json!({
            "metadata": {"name": node(number), "labels": {
                "kubernetes.io/hostname": node(number),
                "topology.kubernetes.io/zone": format!("zone-{}", number % 3),
            }},
            "status": {
                "addresses": [{"type": "InternalIP", "address": address(number).addr()}],
                "conditions": [{"type": "Ready", "status": "True"}],
            },
        });
        (Kind::Node, object)
    });
    fixed
        .into_iter()
        .chain(nodes)
        .map(|(kind, object)| read(kind, object))
}

/// A Service of one port.
pub(crate) fn service_object(number: u32) -> Result<Object> {
    let (namespace, name) = service(number);
    let object = json!({
        "metadata": {"namespace": namespace, "name": name, "labels": {
            "app.kubernetes.io/name": name,
            "app.kubernetes.io/managed-by": "bench",
        }},
        "spec": {
            "type": "LoadBalancer",
            "clusterIPs": [format!("10.96.{}.{}", number >> 8, number & 255)],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "selector": {"app.kubernetes.io/name": name},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    });
    read(Kind::Service, object)
}

/// The EndpointSlice of a Service, with so many endpoints.
pub(crate) fn slice_object(number: u32, endpoints: u32) -> Result<Object> {
    let (namespace, name) = service(number);
    let endpoints: Vec<Value> = (0..endpoints)
        .map(|endpoint| {
            let pod = number * ENDPOINTS + endpoint;
            json!({
                "addresses": [format!("10.{}.{}.{}", 128 + (pod >> 16), pod >> 8 & 255, pod & 255)],
                "nodeName": node(pod.wrapping_mul(2_654_435_761) % NODES),
                "conditions": {"ready": true, "serving": true, "terminating": false},
            })
        })
        .collect();
    let object = json!({
        "metadata": {"namespace": namespace, "name": format!("{name}-abcde"), "labels": {
            "kubernetes.io/service-name": name,
        }},
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": endpoints,
    });
    read(Kind::EndpointSlice, object)
}

fn read(kind: Kind, object: Value) -> Result<Object> {
    Ok(Object::read(kind, &Tree::from(object))?)
}
