//! BGPPeer v1beta1, deprecated; [`BgpPeerSpec`](super::BgpPeerSpec) reads it
//! too.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, LabelSelector};
use crate::model::password::Password;

/// The router, and the session with it.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BGPPeer",
    root = "BgpPeerV1beta1",
    plural = "bgppeers",
    namespaced,
    storage = false,
    deprecated = "v1beta1 is deprecated, please use v1beta2",
    status = "ConfigStatus",
    doc = "A router that nodes hold a BGP session with.",
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.peerAddress"),
    printcolumn(name = "ASN", type_ = "string", json_path = ".spec.peerASN"),
    printcolumn(name = "BFD Profile", type_ = "string", json_path = ".spec.bfdProfile"),
    printcolumn(
        name = "Multi Hops",
        type_ = "string",
        json_path = ".spec.ebgpMultiHop"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPeerV1beta1Spec {
    /// Our AS number.
    #[serde(rename = "myASN")]
    pub my_asn: u32,
    /// The peer's AS number.
    #[serde(rename = "peerASN")]
    pub peer_asn: u32,
    /// Address of the peer.
    #[schemars(length(max = 64))]
    pub peer_address: String,
    /// Address of ours to connect from.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub source_address: String,
    /// TCP port of the peer; 179 unless set.
    #[serde(default)]
    #[schemars(range(min = 0, max = 16_384))]
    pub peer_port: Option<u16>,
    /// Hold time to propose (RFC 4271 §4.2), as in `90s`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub hold_time: Option<String>,
    /// Interval between keepalives, as in `30s`.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub keepalive_time: Option<String>,
    /// BGP identifier (RFC 4271 §4.2), in the form of an IPv4 address.
    #[serde(default, rename = "routerID")]
    #[schemars(length(max = 64))]
    pub router_id: String,
    /// Nodes that hold the session; any selector may match. All nodes unless set.
    #[serde(default)]
    #[schemars(length(max = 1024))]
    pub node_selectors: Vec<LabelSelector>,
    /// Password of the session (TCP MD5, RFC 2385).
    #[serde(default, skip_serializing)]
    #[schemars(with = "String", length(max = 1024))]
    pub password: Password,
    /// Name of a BFDProfile: a session of it stands beside this one.
    #[serde(default)]
    #[schemars(length(max = 253))]
    pub bfd_profile: String,
    /// The peer is of another AS and more than one hop away.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub ebgp_multi_hop: bool,
}
