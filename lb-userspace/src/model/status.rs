//! What the agent says about itself: the JSON of `GET /v1/status`.
//!
//! The admin API serves it, `torline status` prints it, tests read it. Fields are added, never renamed.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The whole answer.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// Name of this node.
    pub node: String,
    /// Version of the agent.
    pub version: String,
    /// Where objects come from, as given to `--source`.
    pub source: String,
    /// The maps hold what the newest state of the source asks for.
    pub in_sync: bool,
    /// Where and how the ingress program is attached.
    pub attach: AttachStatus,
    /// LoadBalancer Services.
    pub services: Vec<ServiceStatus>,
    /// Frontends that the programs serve, or refuse with a reason.
    pub frontends: Vec<FrontendStatus>,
    /// BGP sessions.
    pub sessions: Vec<SessionReport>,
    /// The other nodes.
    pub nodes: Vec<NodeStatus>,
    /// Packets dropped, by reason; reasons that never occurred are left out.
    pub drops: BTreeMap<String, u64>,
    /// What became of flows and of packets that took the long way, each as often as it happened since the
    /// programs were loaded.
    #[serde(default)]
    pub outcomes: BTreeMap<String, u64>,
    /// BFD packets discarded, by reason; reasons that never occurred are left out.
    #[serde(default)]
    pub bfd_discards: BTreeMap<String, u64>,
    /// What is wrong with the objects.
    pub findings: Vec<FindingStatus>,
    /// The slot array.
    pub slots: SlotUse,
    /// Kernel memory of all maps, in bytes.
    pub map_bytes: u64,
    /// What agents told each other about flows.
    #[serde(default)]
    pub peer: PeerStatus,
}

/// Where and how the ingress program is attached.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct AttachStatus {
    /// The compute port.
    pub interface: String,
    /// Its index.
    pub ifindex: u32,
    /// `native` or `generic`.
    pub mode: String,
}

/// A LoadBalancer Service.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// `namespace/name`.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// The pool they came from.
    pub pool: Option<String>,
    /// Why it has no address, or keeps one that it should not have.
    pub error: Option<String>,
    /// `ADDRESS:PORT/PROTOCOL`.
    pub frontends: Vec<String>,
    /// BGPPeers this node announces it to.
    pub announced_to: Vec<String>,
    /// The node that answers ARP and NDP for it.
    pub l2_leader: Option<String>,
    /// Why this node announces it, or one of its addresses, neither by BGP nor by ARP and NDP.
    pub not_announced: Option<String>,
}

/// A frontend.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct FrontendStatus {
    /// `ADDRESS:PORT/PROTOCOL`.
    pub name: String,
    /// `namespace/name` of its Service.
    pub service: String,
    /// Number of slots.
    pub table_length: u32,
    /// Digest of the table: equal on nodes that steer alike.
    pub digest: String,
    /// Why the programs do not serve it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// Its backends.
    pub backends: Vec<BackendStatus>,
    /// Packets from clients, since the programs were loaded.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Flows begun on this node.
    pub flows: u64,
    /// Packets delivered to pods on this node.
    pub delivered: u64,
}

/// A backend of a frontend.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Pod address.
    pub address: String,
    /// Pod port.
    pub port: u16,
    /// Node the pod runs on.
    pub node: String,
    /// Share of the slots relative to the others.
    pub weight: u32,
    /// Slots whose newest owner it is.
    pub slots: u32,
    /// `active`, `draining`, or `elsewhere`: nodes that keep to other pods than this one give it new connections.
    pub state: String,
}

/// A BGP session.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct SessionReport {
    /// BGPPeer.
    pub peer: String,
    /// Address of the peer.
    pub address: String,
    /// State of RFC 4271 §8.2.2 in lower case.
    pub state: String,
    /// Seconds since it was established.
    pub uptime_seconds: Option<u64>,
    /// Negotiated hold time in seconds; 0 for none, absent before OPENs are exchanged.
    pub hold_time_seconds: Option<u64>,
    /// Prefixes announced.
    pub routes: Vec<String>,
    /// What is configured but not announced, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub not_announced: Vec<String>,
    /// Routes the peer sent, all refused.
    pub received_refused: u64,
    /// What ended the last session or attempt.
    pub last_error: Option<String>,
    /// BFD beside the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bfd: Option<BfdSessionStatus>,
}

/// BFD beside a BGP session.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct BfdSessionStatus {
    /// `admin_down`, `down`, `init` or `up`.
    pub state: String,
    /// Seconds since it was entered.
    pub since_seconds: u64,
    /// What the peer said last of its own state.
    pub remote_state: String,
    /// Why our state changed last: a diagnostic of RFC 5880 §4.1 in lower case.
    pub local_diag: String,
    /// The same of the peer.
    pub remote_diag: String,
    /// The longest time between two packets of ours; absent while none are sent.
    pub transmit_interval_ms: Option<u64>,
    /// How long the peer may be silent; absent before it was heard.
    pub detect_ms: Option<u64>,
    /// The peer may be behind routers.
    pub multihop: bool,
    /// How often the path was there and was lost.
    pub losses: u64,
    /// Why nothing can be sent or received.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
}

/// Another node.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Name.
    pub name: String,
    /// How it is reached: `l2`, `geneve` or `unreachable`.
    pub mode: String,
    /// Whether it lives: `live`, `agent_away`, `gone`, or `unheard` while nothing is known.
    #[serde(default)]
    pub state: String,
    /// MAC of its compute port, once known.
    pub mac: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

/// What agents told each other about flows since this one started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Chains that led to a flow here, reported to the node that began them.
    pub reported: u64,
    /// Flows pushed ahead, as their slots forgot their pods.
    pub pushed: u64,
    /// Flows of which the node that was told did not acknowledge it, or was lost first.
    pub unacknowledged: u64,
    /// Changes that could not wait until all flows were read: some that they moved were not pushed in time.
    #[serde(default)]
    pub slow_walks: u64,
    /// Questions asked: who has a flow?
    pub asked: u64,
    /// Those to which a node answered that it has it.
    pub found: u64,
    /// Those to which all nodes answered that they have not.
    pub nobody: u64,
    /// Those to which a node that may have it did not answer.
    pub uncertain: u64,
    /// Not asked again, as the same question was open or just settled.
    pub merged: u64,
    /// Not asked, as there were too many.
    pub over_budget: u64,
    /// Questions of other nodes that were answered.
    pub answered: u64,
    /// Exceptions made because a chain led elsewhere.
    pub exceptions_chain: u64,
    /// Exceptions made because another node pushed a flow.
    pub exceptions_push: u64,
    /// Exceptions made because a flow was located.
    pub exceptions_locate: u64,
    /// Flows of which it was noted that nobody has them.
    pub denials: u64,
    /// Exceptions not made, as the pod is no backend here.
    pub unknown_pods: u64,
    /// Frontends whose slots' history was fetched from another node.
    pub histories: u64,
    /// Datagrams that were forged, malformed, or from nobody known.
    pub refused: u64,
    /// Datagrams that had been here before, or were for a former life of this agent.
    pub replayed: u64,
}

/// Something wrong with an object.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FindingStatus {
    /// Where it was read.
    pub source: String,
    /// `Kind namespace/name`.
    pub object: String,
    /// Path of the field.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// How much of the slot array is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SlotUse {
    /// Slots that belong to frontends.
    pub used: u32,
    /// All slots.
    pub total: u32,
}

/// The nodes as the agent of one of them sees them: the JSON of `GET /v1/members`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct MembersStatus {
    /// Name of the node that sees them so.
    pub node: String,
    /// Most others vanished while the router is silent: this node changes nothing.
    pub cut_off: bool,
    /// Milliseconds since the router was heard; it is asked for only while other nodes are silent.
    pub router_heard_ms: Option<u64>,
    /// The longest by which a probe went out late, in milliseconds.
    pub lateness_ms: u64,
    /// All nodes by name, that one too, and those that only other agents or the command line name.
    pub members: Vec<MemberStatus>,
}

/// A node.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// `live`, `agent_away`, `gone`, or `unheard` while nothing is known.
    pub state: String,
    /// Age of its agent's heartbeat in milliseconds when it was heard last.
    pub heartbeat_age_ms: Option<u64>,
    /// Milliseconds since it was heard.
    pub heard_ms: Option<u64>,
    /// The address from which it was heard.
    pub heard_from: Option<IpAddr>,
    /// Version of its agent, where it is known.
    pub version: Option<String>,
    /// Whether the source names the node.
    #[serde(default = "yes")]
    pub in_source: bool,
    /// How gossip between agents sees its agent: `alive`, `suspect`, `down` or `unknown`. Nothing follows from it.
    #[serde(default)]
    pub gossip: String,
    /// Nodes whose agents take it for gone, as they say.
    #[serde(default)]
    pub taken_for_gone_by: Vec<String>,
}

const fn yes() -> bool {
    true
}
