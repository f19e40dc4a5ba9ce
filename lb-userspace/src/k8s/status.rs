//! Objects that say what a node does, for `kubectl get`.
//!
//! | kind | who writes it | about |
//! |---|---|---|
//! | ServiceL2Status, ServiceBGPStatus | the node that announces | each Service that it announces |
//! | BGPSessionState | each node | each of its sessions |
//! | ConfigurationState `speaker-NODE` | each node | what is wrong with the configuration |
//! | ConfigurationState `controller`, status of IPAddressPools | the holder of the Lease | the same of pools, and their use |
//!
//! Names come from what an object is about, so that an agent finds its objects again after a restart. They
//! belong to the agent's pod, where it has one, and go with it.

mod configuration;
mod mirror;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::SystemTime;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use sha2::{Digest, Sha256};

use super::api::{
    BgpSessionState, BgpSessionStateStatus, ConfigurationState, ConfigurationStateStatus,
    InterfaceReference, IpAddressPool, IpAddressPoolStatus, ServiceBgpStatus,
    ServiceBgpStatusStatus, ServiceL2Status, ServiceL2StatusStatus,
};
use super::writer::{Teller, WriteError};
use crate::model::name::ObjectName;
use crate::model::pool_usage::PoolUsage;
pub use configuration::Faults;
use configuration::configuration;
use mirror::{Done, Keeping, Labels, Mirror, Wanted};

const NODE: &str = "metallb.io/node";
const SERVICE: &str = "metallb.io/service-name";
const NAMESPACE: &str = "metallb.io/service-namespace";
const COMPONENT: &str = "metallb.io/component-type";
const COMPONENT_NODE: &str = "metallb.io/node-name";
const SESSION_NODE: &str = "frrk8s.metallb.io/node";
const SESSION_PEER: &str = "frrk8s.metallb.io/peer";
const SESSION_VRF: &str = "frrk8s.metallb.io/vrf";

/// Who the fields belong to, where MetalLB has no name for it.
const MANAGER: &str = "torline";

/// What there is to say.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Board {
    /// Services for which this node answers ARP and NDP, and the interfaces it is limited to.
    pub layer2: BTreeMap<ObjectName, BTreeSet<String>>,
    /// Services that this node announces by BGP, and to whom.
    pub bgp: BTreeMap<ObjectName, BTreeSet<String>>,
    /// Sessions of this node.
    pub sessions: Vec<SessionLine>,
    /// What is wrong with the configuration, for this node.
    pub faults: Faults,
    /// What only the holder of the Lease says.
    pub cluster: Option<ClusterBoard>,
    /// Nodes that do not speak for themselves any more.
    pub gone: BTreeSet<String>,
}

/// What is said once for the cluster.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct ClusterBoard {
    /// What is wrong with the pools.
    pub faults: Faults,
    /// How much of each pool is in use.
    pub pools: BTreeMap<String, PoolUsage>,
}

/// A BGP session in a few words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SessionLine {
    /// Address of the peer.
    pub peer: String,
    /// VRF; empty for none.
    pub vrf: String,
    /// State as RFC 4271 calls it.
    pub bgp: &'static str,
    /// State as RFC 5880 calls it, or `N/A`.
    pub bfd: &'static str,
}

/// The pod that runs the agent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// `metadata.uid`.
    pub uid: String,
}

/// Writes a [`Board`] to an API server.
pub struct StatusWriter {
    node: String,
    layer2: Mirror<ServiceL2StatusStatus>,
    bgp: Mirror<ServiceBgpStatusStatus>,
    sessions: Mirror<BgpSessionStateStatus>,
    speaker: Mirror<ConfigurationStateStatus>,
    controller: Mirror<ConfigurationStateStatus>,
    pools: Mirror<IpAddressPoolStatus>,
    teller: Teller,
}

impl StatusWriter {
    /// For the agent of `node`; the objects are in `namespace`.
    pub(super) fn new(client: &Client, namespace: &str, node: &str, pod: Option<&Pod>) -> Self {
        let owner = pod.map(|pod| OwnerReference {
            api_version: "v1".to_owned(),
            kind: "Pod".to_owned(),
            name: pod.name.clone(),
            uid: pod.uid.clone(),
            ..OwnerReference::default()
        });
        let mirror = Scope {
            client,
            namespace,
            owner: &owner,
        };
        let of_node = |label: &str| format!("{label}={node}");
        let of_component = format!("{COMPONENT}=speaker,{COMPONENT_NODE}={node}");
        Self {
            node: node.to_owned(),
            // All of them: whoever answers for a Service removes what a node that is gone has left.
            layer2: mirror.open::<ServiceL2Status, _>("", MANAGER),
            bgp: mirror.open::<ServiceBgpStatus, _>(&of_node(NODE), MANAGER),
            sessions: mirror.open::<BgpSessionState, _>(&of_node(SESSION_NODE), MANAGER),
            speaker: mirror.open::<ConfigurationState, _>(&of_component, "configReconciler"),
            controller: mirror.open::<ConfigurationState, _>(
                &format!("{COMPONENT}=controller"),
                "poolReconciler",
            ),
            pools: Mirror::new::<IpAddressPool>(
                client,
                namespace,
                "",
                MANAGER,
                Keeping::Status,
                None,
            ),
            teller: Teller::new(client.clone(), "metallb-speaker", node),
        }
    }

    /// Waits until an object that it keeps is seen to change.
    ///
    /// # Errors
    ///
    /// [`WriteError`] if the API server refuses to show them.
    pub async fn changed(&mut self) -> Result<(), WriteError> {
        tokio::select! {
            seen = self.layer2.next() => seen,
            seen = self.bgp.next() => seen,
            seen = self.sessions.next() => seen,
            seen = self.speaker.next() => seen,
            seen = self.controller.next() => seen,
            seen = self.pools.next() => seen,
        }
    }

    /// Writes what differs; gives what could not be written.
    pub async fn write(&mut self, board: &Board, now: SystemTime) -> Vec<WriteError> {
        let now = Timestamp::try_from(now).unwrap_or_default();
        let layer2 = self.write_layer2(board).await;
        let bgp = self.write_bgp(board).await;
        for (done, services, protocol) in [
            (&layer2, board.layer2.keys(), "layer2"),
            (&bgp, board.bgp.keys(), "bgp"),
        ] {
            tell(&self.teller, &self.node, done, services, protocol).await;
        }
        let sessions = self.write_sessions(board).await;
        let configuration = self.write_configuration(board, now).await;
        let done = [layer2, bgp, sessions].into_iter().chain(configuration);
        done.flat_map(|done| done.errors).collect()
    }

    /// Tells of a Service in an event.
    pub async fn tell(&mut self, service: &ObjectName, reason: &str, note: String) {
        self.teller.tell_of(service, reason, note, "Announce").await;
    }

    async fn write_layer2(&mut self, board: &Board) -> Done {
        let node = &self.node;
        let wanted = board.layer2.iter().map(|(service, interfaces)| {
            let status = ServiceL2StatusStatus {
                node: node.clone(),
                service_name: service.name.clone(),
                service_namespace: service.namespace.clone(),
                interfaces: interfaces
                    .iter()
                    .map(|name| InterfaceReference { name: name.clone() })
                    .collect(),
            };
            (
                object_name("l2", node, service),
                labelled(node, service, status),
            )
        });
        let wanted = wanted.collect();
        let stale = self.layer2.stale(&wanted, |labels| {
            let label = |name| labels.get(name).map_or("", String::as_str);
            let service = ObjectName::new(label(NAMESPACE), label(SERVICE));
            label(NODE) == node
                || board.gone.contains(label(NODE)) && board.layer2.contains_key(&service)
        });
        self.layer2.settle(&wanted, stale).await
    }

    async fn write_bgp(&mut self, board: &Board) -> Done {
        let node = &self.node;
        let wanted = board.bgp.iter().map(|(service, peers)| {
            let status = ServiceBgpStatusStatus {
                node: node.clone(),
                service_name: service.name.clone(),
                service_namespace: service.namespace.clone(),
                peers: peers.iter().cloned().collect(),
            };
            (
                object_name("bgp", node, service),
                labelled(node, service, status),
            )
        });
        let wanted = wanted.collect();
        let stale = self.bgp.stale(&wanted, |_| true);
        self.bgp.settle(&wanted, stale).await
    }

    async fn write_sessions(&mut self, board: &Board) -> Done {
        let node = &self.node;
        let wanted = board.sessions.iter().map(|session| {
            // A label holds no colon, and ends with a letter or digit.
            let mut peer = session.peer.replace(':', "-");
            if peer.ends_with('-') {
                peer.push('0');
            }
            let labels = [
                (SESSION_NODE, node.clone()),
                (SESSION_PEER, peer),
                (SESSION_VRF, session.vrf.clone()),
            ];
            let status = BgpSessionStateStatus {
                bgp_status: session.bgp.to_owned(),
                bfd_status: session.bfd.to_owned(),
                node: node.clone(),
                peer: session.peer.clone(),
                vrf: session.vrf.clone(),
            };
            let name = digest(&[node, &session.peer, &session.vrf]);
            let labels = labels.map(|(name, value)| (name.to_owned(), value));
            let wanted = Wanted {
                labels: labels.into(),
                status,
            };
            (format!("session-{name}"), wanted)
        });
        let wanted = wanted.collect();
        let stale = self.sessions.stale(&wanted, |_| true);
        self.sessions.settle(&wanted, stale).await
    }

    async fn write_configuration(&mut self, board: &Board, now: Timestamp) -> Vec<Done> {
        let name = format!("speaker-{}", self.node);
        let speaker = configuration(
            "configReconcilerValid",
            &board.faults,
            self.speaker.status(&name),
            now,
        );
        let labels = [(COMPONENT, "speaker"), (COMPONENT_NODE, &self.node)];
        let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let wanted = Wanted {
            labels: labels.into(),
            status: speaker,
        };
        let wanted = BTreeMap::from([(name, wanted)]);
        let mut done = vec![self.speaker.settle(&wanted, Vec::new()).await];
        let Some(cluster) = &board.cluster else {
            return done;
        };
        let name = "controller".to_owned();
        let controller = configuration(
            "poolReconcilerValid",
            &cluster.faults,
            self.controller.status(&name),
            now,
        );
        let wanted = Wanted {
            labels: BTreeMap::from([(COMPONENT.to_owned(), name.clone())]),
            status: controller,
        };
        let wanted = BTreeMap::from([(name, wanted)]);
        done.push(self.controller.settle(&wanted, Vec::new()).await);
        let pools = cluster.pools.iter().map(|(name, usage)| {
            let status = IpAddressPoolStatus {
                assigned_ipv4: usage.assigned_v4,
                assigned_ipv6: usage.assigned_v6,
                available_ipv4: usage.available_v4,
                available_ipv6: usage.available_v6,
            };
            let labels = Labels::new();
            (name.clone(), Wanted { labels, status })
        });
        let pools = pools.collect();
        done.push(self.pools.settle(&pools, Vec::new()).await);
        done
    }
}

/// Events of one round at most: more say nothing that `kubectl get servicel2statuses` does not.
const EVENTS: usize = 100;

/// Tells of Services that this node announces since now; an agent that starts again finds its objects and
/// says nothing.
async fn tell(
    teller: &Teller,
    node: &str,
    done: &Done,
    services: impl Iterator<Item = &ObjectName>,
    protocol: &str,
) {
    let created: BTreeSet<_> = done.created.iter().collect();
    let prefix = if protocol == "bgp" { "bgp" } else { "l2" };
    let new = services.filter(|service| created.contains(&object_name(prefix, node, service)));
    let new: Vec<_> = new.take(EVENTS).collect();
    for service in new {
        let note = format!("announcing from node \"{node}\" with protocol \"{protocol}\"");
        teller
            .tell_of(service, "nodeAssigned", note, "Announce")
            .await;
    }
}

/// What all objects of one agent have in common.
struct Scope<'a> {
    client: &'a Client,
    namespace: &'a str,
    owner: &'a Option<OwnerReference>,
}

impl Scope<'_> {
    fn open<K, S>(&self, labels: &str, manager: &'static str) -> Mirror<S>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
        S: Clone
            + std::fmt::Debug
            + PartialEq
            + serde::Serialize
            + serde::de::DeserializeOwned
            + Send
            + Sync,
    {
        let owner = self.owner.clone();
        Mirror::new::<K>(
            self.client,
            self.namespace,
            labels,
            manager,
            Keeping::Whole,
            owner,
        )
    }
}

fn labelled<S>(node: &str, service: &ObjectName, status: S) -> Wanted<S> {
    let labels = [
        (NODE, node),
        (SERVICE, &service.name),
        (NAMESPACE, &service.namespace),
    ];
    let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
    Wanted {
        labels: labels.into(),
        status,
    }
}

fn object_name(prefix: &str, node: &str, service: &ObjectName) -> String {
    let digest = digest(&[node, &service.namespace, &service.name]);
    format!("{prefix}-{digest}")
}

/// 64 bits in hexadecimal digits.
fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
        hash.update("/");
    }
    let mut text = String::new();
    for octet in hash.finalize().iter().take(8) {
        // A String takes everything.
        let _ = write!(text, "{octet:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_objects_have_one_name() {
        let name =
            |node, namespace, name| object_name("l2", node, &ObjectName::new(namespace, name));
        assert_ne!(name("a", "b", "c"), name("a", "b/c", ""));
        assert_ne!(name("a", "b", "c"), name("a", "c", "b"));
        assert_eq!(name("a", "b", "c").len(), "l2-".len() + 16);
    }
}
