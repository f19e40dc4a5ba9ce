//! BGPPeer: a router to hold a BGP session with.
//!
//! v1beta2 is stored. v1beta1 is a subset of it, field by field, so that the API server serves both
//! without a conversion webhook: it only changes `apiVersion` and drops what v1beta1 does not know.

mod v1beta1;

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, LabelSelector, rule};
use crate::model::password::Password;

pub use v1beta1::{BgpPeerV1beta1, BgpPeerV1beta1Spec};

/// The router, and the session with it.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta2",
    kind = "BGPPeer",
    root = "BgpPeer",
    plural = "bgppeers",
    namespaced,
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
#[schemars(extend("x-kubernetes-validations" = [
rule("(has(self.peerASN) && self.peerASN != 0) != has(self.dynamicASN)", "exactly one of peerASN and dynamicASN has to be set"),
rule("(has(self.peerAddress) && self.peerAddress != '') != \
         (has(self.interface) && self.interface != '')", "exactly one of peerAddress and interface has to be set"),
rule("!(has(self.password) && self.password != '' && has(self.passwordSecret) && \
         has(self.passwordSecret.name) && self.passwordSecret.name != '')", "can not have both password and passwordSecret set"),
rule("!(has(self.ebgpMultiHop) && self.ebgpMultiHop && has(self.peerASN) && \
         self.peerASN == self.myASN)", "invalid ebgp-multihop parameter set for an ibgp peer"),
rule("!has(self.holdTime) || !has(self.keepaliveTime) || \
         duration(self.keepaliveTime) <= duration(self.holdTime)", "invalid keepaliveTime: must be lower than holdTime"),
]))]
pub struct BgpPeerSpec {
    /// Our AS number.
    #[serde(rename = "myASN")]
    #[schemars(range(min = 1))]
    pub my_asn: u32,
    /// The peer's AS number.
    #[serde(default, rename = "peerASN")]
    pub peer_asn: u32,
    /// Take the AS number from the peer: `internal` for our own, `external` for any other.
    #[serde(
        default,
        rename = "dynamicASN",
        skip_serializing_if = "String::is_empty"
    )]
    #[schemars(extend("enum" = ["internal", "external"]))]
    pub dynamic_asn: String,
    /// AS number to show to this peer in place of ours.
    #[serde(default, rename = "localASN", skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub local_asn: Option<u32>,
    /// Address of the peer.
    #[serde(default)]
    #[schemars(length(max = 64))]
    pub peer_address: String,
    /// Interface of an unnumbered session (RFC 5549), in place of `peerAddress`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 15))]
    pub interface: String,
    /// Address of ours to connect from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub source_address: String,
    /// TCP port of the peer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 16_384), extend("default" = 179))]
    pub peer_port: Option<u16>,
    /// Hold time to propose (RFC 4271 §4.2), as in `90s`: 0, or 3 seconds to 65535 seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("duration(self) == duration('0s') || \
         (duration(self) >= duration('3s') && duration(self) <= duration('65535s'))", "invalid hold time: must be 0 or >=3s"),
]))]
    pub hold_time: Option<String>,
    /// Interval between keepalives, as in `30s`; a third of the hold time unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub keepalive_time: Option<String>,
    /// Time between attempts to connect, as in `5s`: whole seconds from 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("duration(self).getSeconds() >= 1 && duration(self).getSeconds() <= 65535", "connect time should be between 1 seconds to 65535"),
rule("duration(self).getMilliseconds() % 1000 == 0", "connect time should contain a whole number of seconds"),
]))]
    pub connect_time: Option<String>,
    /// BGP identifier (RFC 4271 §4.2), in the form of an IPv4 address.
    #[serde(default, rename = "routerID", skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub router_id: String,
    /// Nodes that hold the session; any selector may match. All nodes unless set.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024))]
    pub node_selectors: Vec<LabelSelector>,
    /// Password of the session (TCP MD5, RFC 2385).
    #[serde(default, skip_serializing)]
    #[schemars(with = "String", length(max = 1024))]
    pub password: Password,
    /// Secret of type kubernetes.io/basic-auth in the BGPPeer's namespace; its key `password` holds the
    /// password of the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_secret: Option<SecretReference>,
    /// Name of a BFDProfile: a session of it stands beside this one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 253))]
    pub bfd_profile: String,
    /// Ask the peer to keep our routes while this speaker restarts (RFC 4724). Cannot be changed.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("self == oldSelf", "EnableGracefulRestart cannot be changed after creation"),
]))]
    pub enable_graceful_restart: bool,
    /// The peer is of another AS and more than one hop away.
    #[serde(default)]
    #[schemars(extend("default" = null))]
    pub ebgp_multi_hop: bool,
    /// VRF that the session runs in and its routes are announced from.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 15))]
    pub vrf: String,
    /// Has no effect; deprecated.
    #[serde(default, rename = "disableMP")]
    #[schemars(extend("default" = false))]
    pub disable_mp: bool,
    /// Announce both address families over this session.
    #[serde(default)]
    #[schemars(extend("default" = false))]
    pub dual_stack_address_family: bool,
}

/// A reference to a Secret.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct SecretReference {
    /// Name of the Secret.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Not used: the Secret is read from the namespace of the BGPPeer.
    #[schemars(length(max = 253))]
    pub namespace: String,
}
