//! BGPSessionState: how a BGP session of a node is, and BFD beside it.
//!
//! MetalLB leaves its sessions to frr-k8s, where this kind comes from: group, fields and columns are its.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Nothing: all there is to say stands in the status.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "frrk8s.metallb.io",
    version = "v1beta1",
    kind = "BGPSessionState",
    root = "BgpSessionState",
    plural = "bgpsessionstates",
    namespaced,
    status = "BgpSessionStateStatus",
    doc = "Says how the session of a node with a BGP peer is.",
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node"),
    printcolumn(name = "Peer", type_ = "string", json_path = ".status.peer"),
    printcolumn(name = "VRF", type_ = "string", json_path = ".status.vrf"),
    printcolumn(name = "BGP", type_ = "string", json_path = ".status.bgpStatus"),
    printcolumn(name = "BFD", type_ = "string", json_path = ".status.bfdStatus")
)]
pub struct BgpSessionStateSpec {}

/// How a session is.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpSessionStateStatus {
    /// State of the BGP session as RFC 4271 calls it: `Established`, `Active`, …
    pub bgp_status: String,
    /// State of BFD as RFC 5880 calls it: `Up`, `Down`, …; `N/A` without BFD.
    pub bfd_status: String,
    /// Node that has the session.
    pub node: String,
    /// Address of the peer.
    pub peer: String,
    /// VRF that the session is in; empty for none.
    pub vrf: String,
}
