//! What the cluster says: the objects Torline reads, checked and reduced to
//! what it needs.
//!
//! `k8s::convert` makes these from API objects; nothing else does. A value of these types is legal in
//! itself; what several objects together make wrong (overlapping pools) is `plan`'s to find.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use lb_common::addr::Mac;

use super::bfd::BfdProfile;
use super::name::ObjectName;
use super::password::Password;
use super::peer_options::PeerOptions;
use super::shared_map::SharedMap;
use super::virtual_switch::VirtualSwitch;

/// Label of BGPPeers and IPAddressPools that belong to a virtual switch: its name, in any case.
pub const SWITCH_LABEL: &str = "torline.io/switch";

/// Labels of an object.
pub type Labels = BTreeMap<String, String>;

/// Everything the source holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Cluster {
    /// Objects may be missing, since some of the source could not be read.
    pub is_partial: bool,
    /// No object says how pools are announced, so that the one advertisement here is implied.
    pub is_implied: bool,
    /// Services of every type, by name.
    pub services: SharedMap<ObjectName, Service>,
    /// Endpoints by Service name: all its EndpointSlices together.
    pub endpoints: SharedMap<ObjectName, Vec<Endpoint>>,
    /// Nodes by name.
    pub nodes: SharedMap<String, Node>,
    /// Labels of each namespace.
    pub namespaces: SharedMap<String, Labels>,
    /// IPAddressPools by name.
    pub pools: BTreeMap<String, Pool>,
    /// BGPPeers by name.
    pub peers: BTreeMap<String, BgpPeer>,
    /// BGPAdvertisements by name.
    pub bgp_advertisements: BTreeMap<String, BgpAdvertisement>,
    /// L2Advertisements by name.
    pub l2_advertisements: BTreeMap<String, L2Advertisement>,
    /// VirtualSwitches by name.
    pub virtual_switches: BTreeMap<String, VirtualSwitch>,
    /// Aliases of all Community objects.
    pub communities: BTreeMap<String, Community>,
    /// Passwords of the Secrets that peers refer to, by Secret name.
    pub passwords: BTreeMap<String, Password>,
    /// Keys of the Secret `torline`, if there is one.
    pub keys: Option<ClusterKeys>,
}

/// The Secret `torline`.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterKeys {
    /// Key of the flow hash.
    pub flow_key: [u8; 32],
    /// Key that authenticates nodes to each other.
    pub peer_key: [u8; 32],
}

impl std::fmt::Debug for ClusterKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterKeys(..)")
    }
}

/// Transport protocol of a Service port.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// IP protocol number.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Address family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// The family of an address.
    pub const fn of(addr: IpAddr) -> Self {
        match addr {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }
}

impl std::fmt::Display for Family {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
        })
    }
}

/// `ipFamilyPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum FamilyPolicy {
    /// One family.
    #[default]
    SingleStack,
    /// Two if the cluster has them.
    PreferDualStack,
    /// Two, or nothing.
    RequireDualStack,
}

/// `externalTrafficPolicy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TrafficPolicy {
    /// Any endpoint.
    #[default]
    Cluster,
    /// Endpoints of the receiving node only.
    Local,
}

/// How packets get to the node of the chosen pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Forwarding {
    /// With other MACs, to nodes on this segment only.
    L2,
    /// Through GENEVE tunnels, on this segment too.
    Geneve,
}

/// A Service.
#[derive(Clone, PartialEq, Debug)]
pub struct Service {
    /// Its labels.
    pub labels: Labels,
    /// `type: LoadBalancer`, of our class.
    pub is_load_balancer: bool,
    /// Ports, in the order of the object.
    pub ports: Vec<ServicePort>,
    /// Families the Service's cluster IPs have, first is primary; empty for a headless Service.
    pub families: Vec<Family>,
    /// `ipFamilyPolicy`.
    pub family_policy: FamilyPolicy,
    /// `externalTrafficPolicy`.
    pub traffic_policy: TrafficPolicy,
    /// The zone hints of endpoints are followed: `trafficDistribution` or annotation `topology-mode`.
    pub follows_hints: bool,
    /// `sessionAffinity: ClientIP`.
    pub client_affinity: bool,
    /// `spec.selector` as canonical text: the backend key of address sharing.
    pub selector: String,
    /// Addresses asked for by annotation or `spec.loadBalancerIP`; an error text if they cannot be read.
    pub requested_addresses: Result<Vec<IpAddr>, String>,
    /// Pool asked for by annotation.
    pub requested_pool: Option<String>,
    /// Sharing key by annotation.
    pub sharing_key: Option<String>,
    /// Addresses in `status.loadBalancer.ingress`.
    pub status_addresses: Vec<IpAddr>,
    /// Annotation `torline.io/table-length`.
    pub table_length: Option<u32>,
    /// Annotation `torline.io/forwarding`.
    pub forwarding: Option<Forwarding>,
}

/// A port of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePort {
    /// Name; empty if there is one port only. EndpointSlice ports are matched by it.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the VIP.
    pub port: u16,
}

/// One endpoint of a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Endpoint {
    /// Pod address.
    pub addr: IpAddr,
    /// Node it runs on, if known.
    pub node: Option<Arc<str>>,
    /// Target ports by name and protocol.
    pub ports: Arc<BTreeMap<(String, Protocol), u16>>,
    /// `conditions.ready` is not false.
    pub ready: bool,
    /// `conditions.serving`; where absent, as `ready`.
    pub serving: bool,
    /// `conditions.terminating` is true.
    pub terminating: bool,
    /// `hints.forZones`: the zones whose nodes are to choose it.
    pub zones: BTreeSet<String>,
}

/// A Node.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Node {
    /// Its labels.
    pub labels: Labels,
    /// `InternalIP` addresses, in the order of the object.
    pub addresses: Vec<IpAddr>,
    /// Annotation `torline.io/mac`: MAC of its compute port.
    pub mac: Option<Mac>,
    /// Annotation `torline.io/weight`, 1 to 100; absent means 1.
    pub weight: Option<u8>,
    /// The Ready condition is not False or Unknown.
    pub ready: bool,
    /// The NetworkUnavailable condition is True.
    pub network_unavailable: bool,
    /// Label `node.kubernetes.io/exclude-from-external-load-balancers` is present.
    pub excluded: bool,
    /// Annotation `torline.io/drain: "true"`: its routes are to go away, gently.
    pub is_draining: bool,
    /// `spec.unschedulable`: no pods are to come.
    pub is_cordoned: bool,
}

impl Node {
    /// The zone it is in: label `topology.kubernetes.io/zone`.
    pub fn zone(&self) -> Option<&str> {
        let zone = self.labels.get("topology.kubernetes.io/zone");
        zone.map(String::as_str).filter(|zone| !zone.is_empty())
    }
}

/// One requirement of a label selector.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Requirement {
    /// The label has one of the values.
    In(String, BTreeSet<String>),
    /// The label is absent or has none of the values.
    NotIn(String, BTreeSet<String>),
    /// The label is present.
    Exists(String),
    /// The label is absent.
    DoesNotExist(String),
}

/// A label selector: all requirements hold. Empty selects everything.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Selector(pub Vec<Requirement>);

impl Selector {
    /// Whether the labels satisfy every requirement.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

/// An IPAddressPool.
#[derive(Clone, PartialEq, Debug)]
pub struct Pool {
    /// Its labels.
    pub labels: Labels,
    /// Entries in the order of the object, each as the CIDRs it decomposes into.
    pub addresses: Vec<PoolRange>,
    /// `autoAssign`.
    pub auto_assign: bool,
    /// `avoidBuggyIPs`.
    pub avoid_buggy_ips: bool,
    /// `serviceAllocation`.
    pub allocation: Option<PoolAllocation>,
}

/// One entry of `spec.addresses`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolRange {
    /// As written.
    pub text: String,
    /// The minimal cover, in ascending order.
    pub networks: Vec<IpNet>,
}

/// `serviceAllocation` of a pool.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PoolAllocation {
    /// Lower first; 0 is last.
    pub priority: i64,
    /// Namespaces by name.
    pub namespaces: BTreeSet<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<Selector>,
    /// Services by label.
    pub service_selectors: Vec<Selector>,
}

/// Whom a BGPPeer names as the peer's AS.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerAsn {
    /// This one.
    Number(u32),
    /// `dynamicASN: internal`: ours.
    Internal,
    /// `dynamicASN: external`: any but ours.
    External,
}

/// A BGPPeer.
#[derive(Clone, PartialEq, Debug)]
pub struct BgpPeer {
    /// Our AS.
    pub my_asn: u32,
    /// The peer's AS.
    pub peer_asn: PeerAsn,
    /// Where the peer listens.
    pub peer_address: IpAddr,
    /// TCP port, 179 unless given.
    pub peer_port: u16,
    /// Address to connect from.
    pub source_address: Option<IpAddr>,
    /// Hold time to propose; zero for none.
    pub hold_time: Option<Duration>,
    /// Keepalive interval.
    pub keepalive_time: Option<Duration>,
    /// Connect retry time.
    pub connect_time: Option<Duration>,
    /// Router ID, never 0.
    pub router_id: Option<std::net::Ipv4Addr>,
    /// Nodes that hold the session; empty means all.
    pub node_selectors: Vec<Selector>,
    /// TCP MD5 password, already looked up.
    pub password: Option<Password>,
    /// `ebgpMultiHop`.
    pub ebgp_multi_hop: bool,
    /// `dualStackAddressFamily`: both families on this session.
    pub dual_stack: bool,
    /// BFD beside the session, its profile already looked up.
    pub bfd: Option<BfdProfile>,
    /// The session waits until BFD is up.
    pub awaits_bfd: bool,
    /// AS to show to this peer in place of ours.
    pub local_asn: Option<u32>,
    /// What not every peer asks for.
    pub options: PeerOptions,
    /// Label `torline.io/switch`: the virtual switch that it is set on.
    pub switch: Option<String>,
}

/// A BGP community.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Community {
    /// RFC 1997.
    Standard(u32),
    /// RFC 8092.
    Large(u32, u32, u32),
}

impl std::fmt::Display for Community {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Standard(value) => write!(f, "{}:{}", value >> 16, value & 0xffff),
            Self::Large(a, b, c) => write!(f, "{a}:{b}:{c}"),
        }
    }
}

/// Which pools an advertisement is about: by name or by label; both empty means all.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct PoolChoice {
    /// By name.
    pub names: BTreeSet<String>,
    /// By label.
    pub selectors: Vec<Selector>,
}

/// A BGPAdvertisement.
#[derive(Clone, PartialEq, Debug)]
pub struct BgpAdvertisement {
    /// Pools.
    pub pools: PoolChoice,
    /// Prefix length of the IPv4 route, 1 to 32.
    pub aggregation_length: u8,
    /// Prefix length of the IPv6 route, 1 to 128.
    pub aggregation_length_v6: u8,
    /// LOCAL_PREF; 0 means unset.
    pub local_pref: u32,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// How often our AS stands in AS_PATH beyond once.
    pub prepend: u8,
    /// Bytes a second behind each endpoint, for weighted ECMP.
    pub link_bandwidth: Option<u32>,
    /// Communities, aliases resolved.
    pub communities: BTreeSet<Community>,
    /// Nodes that may be next hop; empty means all.
    pub node_selectors: Vec<Selector>,
    /// BGPPeer names; empty means all.
    pub peers: BTreeSet<String>,
    /// Services; empty means all.
    pub service_selectors: Vec<Selector>,
}

/// How the addresses of an L2Advertisement are placed on nodes, where MetalLB's order is not wanted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// They stay where they are as long as that node can have them.
    Sticky,
    /// Every node has as many as any other.
    Balanced,
}

impl Placement {
    /// What the annotation may say.
    pub const WORDS: &[&str] = &["sticky", "balanced"];

    /// The placement of that name.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "sticky" => Some(Self::Sticky),
            "balanced" => Some(Self::Balanced),
            _ => None,
        }
    }
}

/// A preference for some nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Preference {
    /// 1 to 100; those of all preferences that match a node add up.
    pub weight: u32,
    /// The nodes.
    pub selector: Selector,
}

/// An L2Advertisement.
#[derive(Clone, PartialEq, Debug)]
pub struct L2Advertisement {
    /// Pools.
    pub pools: PoolChoice,
    /// Nodes that may lead; empty means all.
    pub node_selectors: Vec<Selector>,
    /// Interfaces; empty means all.
    pub interfaces: BTreeSet<String>,
    /// Services; empty means all.
    pub service_selectors: Vec<Selector>,
    /// Nodes that are preferred among those that may lead.
    pub preferences: Vec<Preference>,
    /// Annotation `torline.io/placement`.
    pub placement: Option<Placement>,
}
