//! Nodes.

use k8s_openapi::api::core::v1::Node as ApiNode;

use super::Problems;
use super::annotation::ours;
use crate::k8s::object::Kind;
use crate::model::cluster::{Labels, Node};

const EXCLUDE_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Converts a Node.
pub(super) fn convert(node: &ApiNode, annotations: &Labels, problems: &mut Problems) -> Node {
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let status = node.status.as_ref();
    let mut addresses = Vec::new();
    let listed = status.and_then(|status| status.addresses.as_deref());
    for (index, entry) in listed.unwrap_or_default().iter().enumerate() {
        if entry.type_ != "InternalIP" {
            continue;
        }
        match entry.address.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => problems.refuse(
                format!("status.addresses[{index}].address"),
                format!("\"{}\" is no IP address", entry.address),
            ),
        }
    }
    if addresses.is_empty() {
        problems.note(
            "status.addresses",
            "no InternalIP: other nodes cannot reach this one",
        );
    }
    let condition = |name: &str| {
        status
            .and_then(|status| status.conditions.as_deref())
            .unwrap_or_default()
            .iter()
            .find(|condition| condition.type_ == name)
            .map(|condition| condition.status.as_str())
    };
    Node {
        mac: ours(Kind::Node, "mac", annotations).and_then(|text| text.parse().ok()),
        weight: ours(Kind::Node, "weight", annotations).and_then(|text| text.parse().ok()),
        ready: !matches!(condition("Ready"), Some("False" | "Unknown")),
        network_unavailable: condition("NetworkUnavailable") == Some("True"),
        excluded: labels.contains_key(EXCLUDE_LABEL),
        is_draining: ours(Kind::Node, "drain", annotations) == Some("true"),
        is_cordoned: node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true),
        labels,
        addresses,
    }
}
