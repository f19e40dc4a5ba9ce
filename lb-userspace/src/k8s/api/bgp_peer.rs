//! BGPPeer: a router to hold a BGP session with.

use serde::Deserialize;

use super::LabelSelector;
use crate::model::password::Password;

/// `spec` of a BGPPeer (v1beta2; v1beta1 is a subset of it).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BgpPeerSpec {
    /// Our AS.
    #[serde(rename = "myASN")]
    pub my_asn: u32,
    /// The peer's AS.
    #[serde(default, rename = "peerASN")]
    pub peer_asn: u32,
    /// `internal` or `external`, in place of `peerASN`.
    #[serde(default, rename = "dynamicASN")]
    pub dynamic_asn: String,
    /// AS to show to this peer in place of ours.
    #[serde(default, rename = "localASN")]
    pub local_asn: Option<u32>,
    /// Address of the peer.
    #[serde(default)]
    pub peer_address: String,
    /// Interface of an unnumbered session, in place of `peerAddress`.
    #[serde(default)]
    pub interface: String,
    /// Address to connect from.
    #[serde(default)]
    pub source_address: String,
    /// TCP port of the peer.
    #[serde(default)]
    pub peer_port: Option<u16>,
    /// Hold time to propose, in Go's notation.
    #[serde(default)]
    pub hold_time: Option<String>,
    /// Keepalive interval, in Go's notation.
    #[serde(default)]
    pub keepalive_time: Option<String>,
    /// Connect retry time, in Go's notation.
    #[serde(default)]
    pub connect_time: Option<String>,
    /// Router ID.
    #[serde(default, rename = "routerID")]
    pub router_id: String,
    /// Nodes that hold the session.
    #[serde(default)]
    pub node_selectors: Vec<LabelSelector>,
    /// TCP MD5 password.
    #[serde(default)]
    pub password: Password,
    /// Secret that holds the TCP MD5 password.
    #[serde(default)]
    pub password_secret: Option<SecretReference>,
    /// Name of a BFDProfile.
    #[serde(default)]
    pub bfd_profile: String,
    /// Ask the peer to keep our routes over a restart.
    #[serde(default)]
    pub enable_graceful_restart: bool,
    /// The peer is more than one hop away.
    #[serde(default)]
    pub ebgp_multi_hop: bool,
    /// VRF of the session.
    #[serde(default)]
    pub vrf: String,
    /// Has no effect; deprecated.
    #[serde(default, rename = "disableMP")]
    pub disable_mp: bool,
    /// Both address families on this session.
    #[serde(default)]
    pub dual_stack_address_family: bool,
}

/// A reference to a Secret.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SecretReference {
    /// Name of the Secret.
    pub name: String,
    /// Not used: the Secret is read from the namespace of the BGPPeer.
    pub namespace: String,
}
