//! From what the cluster says to what this node is to do.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::allocate::Assignment;
use super::allocate::allocate;
use super::announce::Subject;
use super::announce::Withheld;
use super::announce::bgp::Speaker;
use super::announce::layer2::Election;
use super::backends::Behind;
use super::backends::Choice;
use super::backends::Nodes;
use super::maglev;
use crate::model::claim::Neighborhood;
use crate::model::cluster::Cluster;
use crate::model::cluster::Endpoint;
use crate::model::cluster::Family;
use crate::model::cluster::Node;
use crate::model::cluster::Service;
use crate::model::intent::DataplaneIntent;
use crate::model::intent::Finding;
use crate::model::intent::FrontendIntent;
use crate::model::intent::FrontendName;
use crate::model::intent::Intent;
use crate::model::intent::PeerNode;
use crate::model::intent::ServiceState;
use crate::model::name::ObjectName;

/// Key of the flow hash of a cluster that has none of its own.
pub const PUBLIC_FLOW_KEY: [u8; 32] = *b"torline public default flow key.";

/// Key between the nodes of a cluster that has none of its own.
pub const PUBLIC_PEER_KEY: [u8; 32] = *b"torline public default peer key.";

/// What the cluster does not say: who asks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context {
    /// Name of this node.
    pub node: String,
    /// Name of its compute port.
    pub interface: String,
    /// Other nodes whose program answers no more.
    pub gone: BTreeSet<String>,
    /// The addresses that this node answers ARP and NDP for so far.
    pub held: BTreeSet<IpAddr>,
    /// What others say that they answer for.
    pub neighborhood: Neighborhood,
}

/// Computes what this node is to do.
///
/// Addresses and table length of each Service, which its [`ServiceState`] holds, are to be fed back with
/// the next cluster ([`Service::status_addresses`], [`Service::table_length`]): that makes them stay.
pub fn compute(cluster: &Cluster, context: &Context) -> Intent {
    let allocation = allocate(&cluster.services, &cluster.pools, &cluster.namespaces);
    let unknown = Node::default();
    let node = cluster.nodes.get(&context.node);
    let mut composer = Composer {
        cluster,
        context,
        nodes: Nodes::new(cluster, &context.node),
        speaker: Speaker::new(cluster, &context.node, node.unwrap_or(&unknown)),
        election: Election::new(cluster, context),
        dataplane: dataplane(cluster, context),
        findings: allocation.findings,
    };
    composer.check_objects(node.is_some());
    let services: BTreeMap<ObjectName, ServiceState> = allocation
        .services
        .iter()
        .filter_map(|(name, assignment)| {
            let (name, service) = cluster.services.get_key_value(name)?;
            Some((name.clone(), composer.add(name, service, assignment)))
        })
        .collect();
    let (sessions, conflicts) = composer.speaker.finish();
    composer.findings.extend(conflicts);
    Intent {
        dataplane: composer.dataplane,
        sessions,
        services,
        findings: composer.findings,
    }
}

struct Composer<'a> {
    cluster: &'a Cluster,
    context: &'a Context,
    nodes: Nodes<'a>,
    speaker: Speaker<'a>,
    election: Election<'a>,
    dataplane: DataplaneIntent,
    findings: Vec<Finding>,
}

impl<'a> Composer<'a> {
    fn check_objects(&mut self, node_exists: bool) {
        if self.cluster.keys.is_none() {
            self.report(
                "Secret torline",
                "there is none: flows are hashed with a public key, so anybody can aim at one backend, and nodes \
                 trust each other by a public key, so anybody can pass for one; create one with `torline secret`",
            );
        }
        if !node_exists {
            let message =
                "there is no such Node, so no pod can be on it; add the Node or correct --node";
            self.report(&format!("Node {}", self.context.node), message);
        }
        if self.context.neighborhood.is_isolated {
            let message = "it hears neither other nodes nor its router, so it answers ARP and NDP for no address: \
                           others may";
            self.report(&format!("Node {}", self.context.node), message);
        }
    }

    /// Plans one Service: its frontends, its VIPs, its announcements.
    fn add(
        &mut self,
        name: &'a ObjectName,
        service: &'a Service,
        assignment: &'a Assignment,
    ) -> ServiceState {
        let mut state = ServiceState {
            addresses: assignment.addresses.clone(),
            pool: assignment.pool.clone(),
            allocation_error: assignment.error.as_ref().map(ToString::to_string),
            ..ServiceState::default()
        };
        let Some(pool) = assignment.pool.as_deref() else {
            state.not_announced = Some(Withheld::NoAddress.to_string());
            return state;
        };
        let cluster = self.cluster;
        let endpoints = cluster.endpoints.get(name).map_or(&[][..], Vec::as_slice);
        let endpoints = &*self.silence(endpoints);
        self.add_frontends(name, service, endpoints, &mut state);

        let nodes = &self.nodes;
        let addresses = &assignment.addresses;
        let subject = Subject::new(name, service, addresses, pool, endpoints, |e| nodes.of(e));
        let by_bgp = self.speaker.announce(&subject);
        let by_layer2 = self.election.leader(&subject);
        state.not_announced = match (&by_bgp, &by_layer2) {
            (Ok(announced), _) => announced.left_out(),
            // Not advertised by BGP is no fault where ARP and NDP are answered, or were meant to be.
            (Err(Withheld::NoAdvertisement), Ok(_)) => None,
            (Err(Withheld::NoAdvertisement), Err(withheld)) | (Err(withheld), _) => {
                Some(withheld.to_string())
            }
        };
        state.announced_to = by_bgp.map(|announced| announced.peers).unwrap_or_default();
        match by_layer2 {
            Ok(leader) => {
                state.l2_leader = Some(leader.node.to_owned());
                if leader.node == self.context.node && !leader.waits {
                    self.lead(name, addresses, leader.on_interface);
                }
                state.l2_interfaces = leader.interfaces;
            }
            Err(Withheld::SharedWithSelector) => {
                let message = Withheld::SharedWithSelector.to_string();
                self.report(&format!("Service {name}"), &message);
            }
            Err(_) => {}
        }
        state
    }

    /// The endpoints, of which those on nodes that are gone neither are ready nor serve.
    fn silence(&self, endpoints: &'a [Endpoint]) -> Cow<'a, [Endpoint]> {
        let gone = &self.context.gone;
        let is_lost = |endpoint: &Endpoint, node: Option<&str>| {
            (endpoint.ready || endpoint.serving) && node.is_some_and(|node| gone.contains(node))
        };
        if gone.is_empty() || !endpoints.iter().any(|e| is_lost(e, self.nodes.of(e))) {
            return Cow::Borrowed(endpoints);
        }
        let silenced = endpoints.iter().map(|endpoint| {
            let mut copy = endpoint.clone();
            if is_lost(endpoint, self.nodes.of(endpoint)) {
                copy.ready = false;
                copy.serving = false;
            }
            copy
        });
        Cow::Owned(silenced.collect())
    }

    fn add_frontends(
        &mut self,
        name: &ObjectName,
        service: &Service,
        endpoints: &[Endpoint],
        state: &mut ServiceState,
    ) {
        let behind = Behind::new(name, service, endpoints, &self.nodes, &mut self.findings);
        let mut frontends: Vec<(FrontendName, Choice)> = Vec::new();
        for addr in &state.addresses {
            for port in &service.ports {
                let frontend = FrontendName {
                    addr: *addr,
                    port: port.port,
                    protocol: port.protocol,
                };
                frontends.push((frontend, behind.backends(port, Family::of(*addr))));
            }
        }
        let most = self.most_backends(service, endpoints);
        let table_length = maglev::table_length(service.table_length, most);
        state.table_length = Some(table_length);
        state.frontends = frontends.iter().map(|(frontend, _)| *frontend).collect();
        for addr in &state.addresses {
            self.dataplane.vips.entry(*addr).or_default();
        }
        for (frontend, Choice { backends, choices }) in frontends {
            if let Some(vip) = self.dataplane.vips.get_mut(&frontend.addr) {
                vip.answer_echo |= backends.iter().any(|backend| backend.weight > 0);
            }
            let intent = FrontendIntent {
                service: name.clone(),
                table_length,
                client_affinity: service.client_affinity,
                forwarding: service.forwarding,
                backends,
                choices,
            };
            self.dataplane.frontends.insert(frontend, intent);
        }
    }

    /// The most endpoints that one family of the Service has: the same on all nodes, whatever
    /// `externalTrafficPolicy` lets each of them use.
    fn most_backends(&self, service: &Service, endpoints: &[Endpoint]) -> usize {
        let count = |family: &Family| {
            endpoints
                .iter()
                .filter(|e| Family::of(e.addr) == *family)
                .count()
        };
        service.families.iter().map(count).max().unwrap_or(0)
    }

    fn lead(&mut self, name: &ObjectName, addresses: &[IpAddr], on_interface: bool) {
        if !on_interface {
            let message = format!(
                "this node is to answer ARP and NDP for it, but no L2Advertisement lists interface {}; \
                 no other node has one that is listed",
                self.context.interface
            );
            self.report(&format!("Service {name}"), &message);
            return;
        }
        for addr in addresses {
            self.dataplane
                .vips
                .entry(*addr)
                .or_default()
                .answer_neighbors = true;
        }
    }

    fn report(&mut self, object: &str, message: &str) {
        self.findings.push(Finding {
            source: String::new(),
            object: object.to_owned(),
            field: String::new(),
            message: message.to_owned(),
        });
    }
}

fn dataplane(cluster: &Cluster, context: &Context) -> DataplaneIntent {
    let others = cluster
        .nodes
        .iter()
        .filter(|(name, _)| **name != context.node);
    let keys = cluster.keys.as_ref();
    DataplaneIntent {
        is_partial: cluster.is_partial,
        node: context.node.clone(),
        addresses: cluster
            .nodes
            .get(&context.node)
            .map_or_else(Vec::new, |node| node.addresses.clone()),
        flow_key: keys.map_or(PUBLIC_FLOW_KEY, |keys| keys.flow_key),
        peer_key: keys.map_or(PUBLIC_PEER_KEY, |keys| keys.peer_key),
        frontends: BTreeMap::new(),
        vips: BTreeMap::new(),
        nodes: others
            .map(|(name, node)| {
                let addresses = node.addresses.clone();
                (
                    name.clone(),
                    PeerNode {
                        addresses,
                        mac: node.mac,
                        is_gone: context.gone.contains(name),
                    },
                )
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests;
