//! Objects that scenarios apply.

use serde_json::{Value, json};

/// Namespace of MetalLB's objects.
pub(crate) const SYSTEM: &str = "metallb-system";

/// Namespace of the scenarios' Services.
pub(crate) const NAMESPACE: &str = "torline-test";

/// An object of MetalLB's.
pub(crate) fn metallb(kind: &str, name: &str, spec: &Value) -> Value {
    let version = if kind == "BGPPeer" {
        "v1beta2"
    } else {
        "v1beta1"
    };
    json!({
        "apiVersion": format!("metallb.io/{version}"),
        "kind": kind,
        "metadata": {"name": name, "namespace": SYSTEM},
        "spec": spec,
    })
}

/// A pool of these addresses.
pub(crate) fn pool(name: &str, addresses: &str) -> Value {
    metallb("IPAddressPool", name, &json!({"addresses": [addresses]}))
}

/// The node that the agent runs on.
pub(crate) fn node() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": "node-a"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": "192.0.2.11"}],
            "conditions": [{"type": "Ready", "status": "True"}],
        },
    })
}

/// A Service with one port.
pub(crate) fn service(name: &str, more: Value) -> Value {
    let mut service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "type": "LoadBalancer",
            "ipFamilyPolicy": "SingleStack",
            "ipFamilies": ["IPv4"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}],
        },
    });
    if let (Value::Object(more), Value::Object(spec)) = (more, &mut service["spec"]) {
        spec.extend(more);
    }
    service
}

/// An EndpointSlice of a Service with these pods of the agent's node.
pub(crate) fn endpoints(service: &str, pods: &[&str]) -> Value {
    let endpoint = |address: &&str| {
        json!({
            "addresses": [address],
            "nodeName": "node-a",
            "conditions": {"ready": true, "serving": true, "terminating": false},
        })
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"),
            "namespace": NAMESPACE,
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        "endpoints": pods.iter().map(endpoint).collect::<Vec<_>>(),
    })
}

/// What the API calls a kind in URLs.
pub(crate) fn plural(kind: &str) -> String {
    match kind {
        "Community" => "communities".to_owned(),
        kind if kind.ends_with(['s', 'h']) => format!("{}es", kind.to_lowercase()),
        kind => format!("{}s", kind.to_lowercase()),
    }
}
