//! A directory of Kubernetes objects, as `torline run --source dir:PATH` reads
//! it.

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::peer::bird::{HOLD_TIME, NODE_ASN, TOR_ASN};
use crate::topology::{Node, Pod, TOR};

/// The addresses that BGP announces; every Service has a fixed one of them.
pub const BGP_POOL: &str = "bgp";
/// The addresses on the nodes' segment, announced by ARP and NDP.
pub const L2_POOL: &str = "l2";

/// Thirty-two octets in base64: the cluster's keys, which only have to be there.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// The directory.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    staging: PathBuf,
}

impl Directory {
    /// Makes the directory `cluster` in `dir`.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn create(dir: &Path) -> Result<Self> {
        let path = dir.join("cluster");
        fs::create_dir_all(&path)?;
        Ok(Self {
            path,
            staging: dir.join("staging.yaml"),
        })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts `text` in the place of `NAME.yaml` in one step.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write(&self, name: &str, text: &str) -> Result<()> {
        fs::write(&self.staging, text)?;
        Ok(fs::rename(
            &self.staging,
            self.path.join(format!("{name}.yaml")),
        )?)
    }
}

/// A port of a Service: its name, protocol (`TCP`, `UDP`), number on the VIP and in the pod.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Name.
    pub name: &'static str,
    /// Protocol in capitals.
    pub protocol: &'static str,
    /// Number on the VIP.
    pub port: u16,
    /// Number in the pod.
    pub target: u16,
}

/// A Service of type LoadBalancer.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name in namespace `default`.
    pub name: &'static str,
    /// Its addresses: one, or one of each family.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<Port>,
    /// How packets reach pods of other nodes, if that is forced: `l2`, `geneve`.
    pub forwarding: Option<&'static str>,
}

/// What nodes choose among for new connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// All pods.
    #[default]
    Cluster,
    /// Their own: `externalTrafficPolicy: Local`.
    Local,
    /// Those in their zone, by the hints of the EndpointSlices.
    Zones,
}

impl Policy {
    /// Whether a node chooses among others the pods of another one.
    pub fn chooses(self, node: &str, other: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Local => node == other,
            Self::Zones => zone(node) == zone(other),
        }
    }
}

/// What an EndpointSlice says of a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Condition {
    /// It takes new connections.
    Ready,
    /// It takes none.
    NotReady,
    /// It ends, and serves the connections it has.
    Terminating,
    /// Nothing.
    Absent,
}

impl From<bool> for Condition {
    fn from(ready: bool) -> Self {
        if ready { Self::Ready } else { Self::NotReady }
    }
}

impl Service {
    /// The Service as YAML.
    pub fn yaml(&self) -> String {
        self.yaml_under(Policy::Cluster)
    }

    /// The same under a policy.
    pub fn yaml_under(&self, policy: Policy) -> String {
        let Self {
            name,
            addresses,
            ports,
            forwarding,
        } = self;
        let forwarding = forwarding.map_or(String::new(), |word| {
            format!("\n    torline.io/forwarding: {word}")
        });
        let choice = match policy {
            Policy::Cluster => "",
            Policy::Local => "\n  externalTrafficPolicy: Local",
            Policy::Zones => "\n  trafficDistribution: PreferClose",
        };
        let policy = if addresses.len() > 1 {
            "RequireDualStack"
        } else {
            "SingleStack"
        };
        let families: Vec<_> = addresses.iter().map(family).collect();
        let vips: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let mut yaml = format!(
            "apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: default
  annotations:
    metallb.io/loadBalancerIPs: {vips}{forwarding}
spec:
  type: LoadBalancer
  ipFamilyPolicy: {policy}{choice}
  ipFamilies: [{families}]
  selector: {{app: {name}}}
  ports:
",
            vips = vips.join(","),
            families = families.join(", "),
        );
        for Port {
            name,
            protocol,
            port,
            target,
        } in ports
        {
            let _ = writeln!(
                yaml,
                "    - {{name: {name}, protocol: {protocol}, port: {port}, targetPort: {target}}}"
            );
        }
        yaml
    }

    /// Its EndpointSlices, one per family, with these pods.
    pub fn endpoints_yaml(&self, pods: &[(&Pod, Condition)]) -> String {
        let slices = self.addresses.iter().map(|vip| self.slice_yaml(vip, pods));
        slices.collect::<Vec<_>>().join("---\n")
    }

    fn slice_yaml(&self, vip: &IpAddr, pods: &[(&Pod, Condition)]) -> String {
        let (name, family) = (self.name, family(vip));
        let mut yaml = format!(
            "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-{suffix}
  namespace: default
  labels: {{kubernetes.io/service-name: {name}}}
addressType: {family}
ports:
",
            suffix = family.to_lowercase(),
        );
        for Port {
            name,
            protocol,
            target,
            ..
        } in &self.ports
        {
            let _ = writeln!(
                yaml,
                "  - {{name: {name}, protocol: {protocol}, port: {target}}}"
            );
        }
        let present = pods
            .iter()
            .filter(|(_, condition)| *condition != Condition::Absent);
        yaml.push_str(if present.clone().next().is_none() {
            "endpoints: []\n"
        } else {
            "endpoints:\n"
        });
        for (pod, condition) in present {
            let ready = *condition == Condition::Ready;
            let terminating = *condition == Condition::Terminating;
            let address = pod.addresses.iter().find(|a| a.is_ipv4() == vip.is_ipv4());
            let Some(address) = address else { continue };
            let _ = writeln!(
                yaml,
                "  - addresses: [\"{address}\"]
    nodeName: {node}
    hints: {{forZones: [{{name: {zone}}}]}}
    conditions: {{ready: {ready}, serving: {serving}, terminating: {terminating}}}",
                node = pod.node,
                zone = zone(&pod.node),
                serving = ready || terminating,
            );
        }
        yaml
    }
}

/// The Node objects.
pub fn nodes_yaml(nodes: &[Node]) -> String {
    let node_yaml = |node: &Node| {
        let [addr4, addr6] = node.addresses;
        format!(
            "apiVersion: v1
kind: Node
metadata:
  name: {}
  labels: {{topology.kubernetes.io/zone: {}}}
status:
  addresses:
    - {{type: InternalIP, address: {addr4}}}
    - {{type: InternalIP, address: \"{addr6}\"}}
  conditions:
    - {{type: Ready, status: \"True\"}}
",
            node.name,
            zone(&node.name),
        )
    };
    nodes
        .iter()
        .map(node_yaml)
        .collect::<Vec<_>>()
        .join("---\n")
}

/// The zone of a node: every second one is in the same.
fn zone(node: &str) -> &'static str {
    let last = node.bytes().last();
    match last {
        Some(letter) if letter % 2 == 0 => "west",
        _ => "east",
    }
}

/// The namespace, the keys, the pools, the router as a peer over each family, and what is announced how.
pub fn network_yaml() -> String {
    let [tor4, tor6] = TOR;
    let hold = HOLD_TIME.as_secs();
    let peer = |name: &str, address: IpAddr| {
        format!(
            "apiVersion: metallb.io/v1beta2
kind: BGPPeer
metadata: {{name: {name}, namespace: metallb-system}}
spec:
  myASN: {NODE_ASN}
  peerASN: {TOR_ASN}
  peerAddress: \"{address}\"
  holdTime: {hold}s
  keepaliveTime: 1s
  connectTime: 1s
"
        )
    };
    let pool = |name: &str, addresses: &str| {
        format!(
            "apiVersion: metallb.io/v1beta1
kind: IPAddressPool
metadata: {{name: {name}, namespace: metallb-system}}
spec:
  addresses: [{addresses}]
"
        )
    };
    let advertisement = |kind: &str, pool: &str| {
        format!(
            "apiVersion: metallb.io/v1beta1
kind: {kind}
metadata: {{name: {pool}, namespace: metallb-system}}
spec:
  ipAddressPools: [{pool}]
"
        )
    };
    [
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n".to_owned(),
        format!(
            "apiVersion: v1
kind: Secret
metadata: {{name: torline, namespace: torline-system}}
data: {{flow-key: {KEY}, peer-key: {KEY}}}
"
        ),
        pool(BGP_POOL, "203.0.113.0/24, \"2001:db8:113::/120\""),
        pool(
            L2_POOL,
            "192.0.2.200-192.0.2.220, \"2001:db8:2::200-2001:db8:2::220\"",
        ),
        peer("tor-v4", tor4),
        peer("tor-v6", tor6),
        advertisement("BGPAdvertisement", BGP_POOL),
        advertisement("L2Advertisement", L2_POOL),
    ]
    .join("---\n")
}

const fn family(address: &IpAddr) -> &'static str {
    match address {
        IpAddr::V4(_) => "IPv4",
        IpAddr::V6(_) => "IPv6",
    }
}
