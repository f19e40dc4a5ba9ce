//! What this node is to do: one value, computed by `plan` from the cluster,
//! diffed by adapters.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use lb_common::addr::Mac;

use super::bfd::BfdIntent;
use super::cluster::{Community, Family, Forwarding, PeerAsn, Protocol};
use super::name::ObjectName;
use super::password::Password;
use super::peer_options::PeerOptions;
use super::shared_map::SharedMap;

/// The desired state of this node.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Intent {
    /// What the programs are to do.
    pub dataplane: DataplaneIntent,
    /// BGP sessions by BGPPeer name.
    pub sessions: Arc<BTreeMap<String, SessionIntent>>,
    /// What became of each LoadBalancer Service.
    pub services: SharedMap<ObjectName, ServiceState>,
    /// What is wrong with the objects, for status and logs.
    pub findings: Vec<Finding>,
}

/// What the programs are to do.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DataplaneIntent {
    /// Some of the source could not be read: what is missing here may still be wanted.
    pub is_partial: bool,
    /// Name of this node; backends on it are local.
    pub node: String,
    /// Its own `InternalIP` addresses.
    pub addresses: Vec<IpAddr>,
    /// Key of the flow hash.
    pub flow_key: [u8; 32],
    /// Key that authenticates nodes to each other.
    pub peer_key: [u8; 32],
    /// (VIP, port, protocol) and the backends behind it.
    pub frontends: SharedMap<FrontendName, FrontendIntent>,
    /// Every allocated address that this node may receive packets for.
    pub vips: SharedMap<IpAddr, VipIntent>,
    /// The other nodes, by name.
    pub nodes: BTreeMap<String, PeerNode>,
}

/// A frontend's identity; orders by address, port, protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrontendName {
    /// VIP.
    pub addr: IpAddr,
    /// Port on the VIP.
    pub port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

impl std::fmt::Display for FrontendName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.addr {
            IpAddr::V4(addr) => write!(f, "{addr}:{}/{}", self.port, self.protocol),
            IpAddr::V6(addr) => write!(f, "[{addr}]:{}/{}", self.port, self.protocol),
        }
    }
}

/// A frontend and its backends.
#[derive(Clone, PartialEq, Debug)]
pub struct FrontendIntent {
    /// The Service it belongs to.
    pub service: ObjectName,
    /// Number of slots, a power of two from 1 to 65,536, equal on every node.
    pub table_length: u32,
    /// `sessionAffinity: ClientIP`.
    pub client_affinity: bool,
    /// How packets get to other nodes, where the Service says it.
    pub forwarding: Option<Forwarding>,
    /// Backends in ascending order of (address, port).
    pub backends: Vec<BackendIntent>,
    /// What nodes choose among for new connections, where not all of them choose among the same.
    pub choices: Option<Choices>,
}

impl FrontendIntent {
    /// Whether nodes elsewhere choose that backend for new connections.
    pub fn is_chosen_elsewhere(&self, addr: IpAddr, port: u16) -> bool {
        let place = |backend: &BackendIntent| (backend.addr, backend.port).cmp(&(addr, port));
        let Ok(place) = self.backends.binary_search_by(place) else {
            return false;
        };
        let groups = self.choices.iter().flat_map(|choices| &choices.groups);
        groups
            .flatten()
            .any(|(chosen, weight)| *chosen as usize == place && *weight > 0)
    }
}

/// What groups of nodes choose among for new connections.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Choices {
    /// For each group the places in `backends`, ascending, each with the weight it has there. Equal on all
    /// nodes.
    pub groups: Vec<Vec<(u32, u32)>>,
    /// The groups that this node looks to for a connection which it does not know, first to last.
    pub others: Vec<usize>,
}

/// A backend.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct BackendIntent {
    /// Pod address.
    pub addr: IpAddr,
    /// Pod port.
    pub port: u16,
    /// Node it runs on.
    pub node: Arc<str>,
    /// Share of the slots relative to the others; 0 keeps connections and gets no new ones.
    pub weight: u32,
}

/// An address that this node may receive packets for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct VipIntent {
    /// This node answers ARP/NDP for it.
    pub answer_neighbors: bool,
    /// At least one backend serves.
    pub answer_echo: bool,
}

/// Another node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerNode {
    /// Its `InternalIP` addresses.
    pub addresses: Vec<IpAddr>,
    /// Its MAC, where the Node object says it.
    pub mac: Option<Mac>,
    /// Its program answers no more.
    pub is_gone: bool,
}

/// A BGP session and what goes over it.
#[derive(Clone, PartialEq, Debug)]
pub struct SessionIntent {
    /// Parameters.
    pub config: SessionConfig,
    /// Routes to announce.
    pub routes: BTreeMap<IpNet, RouteAttributes>,
    /// BFD beside it.
    pub bfd: Option<BfdIntent>,
    /// Routes may be missing yet: the peer is not told that these are all.
    pub is_partial: bool,
    /// The routes are to go away, gently: first with GRACEFUL_SHUTDOWN, then altogether.
    pub is_draining: bool,
}

/// Parameters of a BGP session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionConfig {
    /// Our AS.
    pub my_asn: u32,
    /// The peer's AS.
    pub peer_asn: PeerAsn,
    /// The peer's address.
    pub peer_address: IpAddr,
    /// The peer's TCP port.
    pub peer_port: u16,
    /// Address to connect from.
    pub source_address: Option<IpAddr>,
    /// Router ID.
    pub router_id: Ipv4Addr,
    /// Hold time to propose; zero for none.
    pub hold_time: Duration,
    /// Keepalive interval; absent means a third of the negotiated hold time.
    pub keepalive_time: Option<Duration>,
    /// Connect retry time.
    pub connect_time: Duration,
    /// TCP MD5 password.
    pub password: Option<Password>,
    /// The peer may be several hops away.
    pub multihop: bool,
    /// Families to negotiate.
    pub families: BTreeSet<Family>,
    /// Next hop of routes whose family is not the session's: this node's address of that family.
    pub next_hops: BTreeMap<Family, IpAddr>,
    /// Name of this node, for the peer's operator.
    pub host_name: String,
    /// What not every peer asks for.
    pub options: PeerOptions,
}

/// Attributes of a route, beyond those that the session gives.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct RouteAttributes {
    /// LOCAL_PREF, sent to internal peers.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// How often our AS stands in AS_PATH beyond once, to external peers.
    pub prepend: u8,
    /// Bytes a second behind this route, for weighted ECMP.
    pub link_bandwidth: Option<u64>,
    /// Communities.
    pub communities: BTreeSet<Community>,
}

/// What became of a LoadBalancer Service on this node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ServiceState {
    /// Its addresses, in the order of its status.
    pub addresses: Vec<IpAddr>,
    /// Pool they came from.
    pub pool: Option<String>,
    /// Why it has no address, or why it keeps one that it should not have.
    pub allocation_error: Option<String>,
    /// Number of slots of its frontends, to be kept with the addresses; absent while it has none.
    pub table_length: Option<u32>,
    /// Frontends of the Service.
    pub frontends: Vec<FrontendName>,
    /// BGPPeers it is announced to by this node.
    pub announced_to: BTreeSet<String>,
    /// The node that answers ARP/NDP for it.
    pub l2_leader: Option<String>,
    /// Interfaces of the leader that L2Advertisements limit it to; none for all.
    pub l2_interfaces: BTreeSet<String>,
    /// Why this node announces it, or one of its addresses, neither by BGP nor by ARP and NDP.
    pub not_announced: Option<String>,
}

/// Something wrong with an object: says where, what, and what to do.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    /// Where it was read: `FILE:LINE`, or empty for an API server.
    pub source: String,
    /// `Kind namespace/name`.
    pub object: String,
    /// Path of the field, `spec.addresses[1]`.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

impl Finding {
    /// Ends the message of a refused object of which an older version is in use.
    pub const KEPT: &str = "the last good version stays in force";
    /// Ends the message of a refused object of which nothing is in use.
    pub const WITHOUT_EFFECT: &str = "it has no effect until then";

    /// Ends the message about objects that cannot be read any more.
    pub const UNREAD_KEPT: &str = "the last state stays in force";
    /// Ends the message about objects that could never be read.
    pub const UNREAD: &str = "none is known until then";

    /// Whether objects of the kind cannot be read.
    pub fn is_unread(&self) -> bool {
        self.message.ends_with(Self::UNREAD_KEPT) || self.message.ends_with(Self::UNREAD)
    }

    /// Whether the object is refused; a mere note on one that is used says nothing of its fate.
    pub fn is_refusal(&self) -> bool {
        self.message.ends_with(Self::KEPT) || self.message.ends_with(Self::WITHOUT_EFFECT)
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for part in [&self.source, &self.object, &self.field] {
            if !part.is_empty() {
                write!(f, "{part}: ")?;
            }
        }
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_that_no_node_chooses_is_not_chosen_elsewhere() {
        let backend = |last| BackendIntent {
            addr: IpAddr::from([10, 0, 0, last]),
            port: 8080,
            node: "node-a".into(),
            weight: 0,
        };
        let mut frontend = FrontendIntent {
            service: ObjectName::new("default", "web"),
            table_length: 1,
            client_affinity: false,
            forwarding: None,
            backends: (1..4).map(backend).collect(),
            choices: None,
        };
        let chosen = |frontend: &FrontendIntent| {
            [1, 2, 3, 4].map(|last| frontend.is_chosen_elsewhere([10, 0, 0, last].into(), 8080))
        };
        assert_eq!(chosen(&frontend), [false; 4]);
        frontend.choices = Some(Choices {
            groups: vec![vec![(0, 1)], vec![(1, 0), (2, 5)]],
            others: Vec::new(),
        });
        assert_eq!(chosen(&frontend), [true, false, true, false]);
        assert!(!frontend.is_chosen_elsewhere([10, 0, 0, 1].into(), 80));
    }
}
