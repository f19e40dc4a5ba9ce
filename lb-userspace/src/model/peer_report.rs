//! What the agent says about its BGP peers: the JSON of `GET /v1/peers` and
//! `GET /v1/routes`.
//!
//! Fields are added, never renamed.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::session_status::SentAttributes;

/// The peers of one node.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PeersReport {
    /// Name of the node.
    pub node: String,
    /// Its peers by name.
    pub peers: Vec<PeerReport>,
}

/// A BGP peer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PeerReport {
    /// BGPPeer.
    pub peer: String,
    /// Its address.
    pub address: String,
    /// State of RFC 4271 §8.2.2 in lower case.
    pub state: String,
    /// Seconds since that state was entered.
    pub since_seconds: u64,
    /// Its AS, from its OPEN.
    pub asn: Option<u32>,
    /// Its router ID, from its OPEN.
    pub router_id: Option<Ipv4Addr>,
    /// Its host name, if it says one.
    pub host_name: Option<String>,
    /// Negotiated hold time in seconds; 0 for none.
    pub hold_time_seconds: Option<u64>,
    /// Interval between our KEEPALIVEs in seconds; 0 for none.
    pub keepalive_time_seconds: Option<u64>,
    /// Negotiated families.
    pub families: Vec<String>,
    /// Capabilities that both sides offered.
    pub capabilities: Vec<String>,
    /// It keeps our routes while the agent restarts.
    pub keeps_routes: bool,
    /// Number of routes it was sent.
    pub routes: usize,
    /// What is configured but not announced, and why.
    pub not_announced: Vec<String>,
    /// Times that the session came up.
    pub established_count: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// NOTIFICATIONs sent.
    pub notifications_sent: u64,
    /// NOTIFICATIONs received.
    pub notifications_received: u64,
    /// Prefixes it announced, all refused.
    pub received_refused: u64,
    /// UPDATEs with errors that do not end a session (RFC 7606).
    pub updates_malformed: u64,
    /// What ended the last session or attempt.
    pub last_error: Option<String>,
}

/// What the peers of one node were sent.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RoutesReport {
    /// Name of the node.
    pub node: String,
    /// By peer and prefix.
    pub routes: Vec<RouteReport>,
}

/// A route that a peer was sent and should hold.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct RouteReport {
    /// BGPPeer.
    pub peer: String,
    /// The prefix.
    pub prefix: String,
    /// As it stands on the wire.
    #[serde(flatten)]
    pub attributes: SentAttributes,
    /// The Services it is announced for, `namespace/name`.
    pub services: Vec<String>,
}
