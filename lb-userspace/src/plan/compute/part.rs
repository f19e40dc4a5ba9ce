//! What one Service adds to an intent: its frontends, its VIPs, its
//! announcements.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Context;
use crate::model::cluster::Cluster;
use crate::model::cluster::Endpoint;
use crate::model::cluster::Family;
use crate::model::cluster::Service;
use crate::model::intent::Finding;
use crate::model::intent::FrontendIntent;
use crate::model::intent::FrontendName;
use crate::model::intent::RouteAttributes;
use crate::model::intent::ServiceState;
use crate::model::intent::SessionIntent;
use crate::model::intent::VipIntent;
use crate::model::name::ObjectName;
use crate::plan::allocate::Assignment;
use crate::plan::announce::Subject;
use crate::plan::announce::Withheld;
use crate::plan::announce::bgp::RouteName;
use crate::plan::announce::bgp::Speaker;
use crate::plan::announce::layer2::Election;
use crate::plan::backends::Behind;
use crate::plan::backends::Choice;
use crate::plan::backends::Nodes;
use crate::plan::maglev;

/// What a Service adds.
#[derive(Debug, Default)]
pub(super) struct Part {
    /// What became of it.
    pub(super) state: ServiceState,
    /// Its alone.
    pub(super) frontends: BTreeMap<FrontendName, FrontendIntent>,
    /// What it has a word in.
    pub(super) shared: Shared,
    /// What is wrong with it.
    pub(super) findings: Vec<Finding>,
}

/// What a Service says of what several may share.
#[derive(Debug, Default)]
pub(super) struct Shared {
    pub(super) vips: BTreeMap<IpAddr, VipIntent>,
    pub(super) routes: BTreeMap<RouteName, RouteAttributes>,
}

/// What all Services are planned by.
pub(super) struct Surroundings<'a> {
    cluster: &'a Cluster,
    context: &'a Context,
    nodes: Nodes<'a>,
    speaker: Speaker<'a>,
    election: Election<'a>,
}

impl<'a> Surroundings<'a> {
    /// Of a node with these sessions.
    pub(super) fn new(
        cluster: &'a Cluster,
        context: &'a Context,
        sessions: &'a BTreeMap<String, SessionIntent>,
    ) -> Self {
        Self {
            cluster,
            context,
            nodes: Nodes::new(cluster, &context.node),
            speaker: Speaker::new(cluster, &context.node, sessions),
            election: Election::new(cluster, context),
        }
    }

    /// Plans one Service.
    pub(super) fn part(
        &mut self,
        name: &ObjectName,
        service: &'a Service,
        assignment: &Assignment,
    ) -> Part {
        let mut part = Part {
            state: ServiceState {
                addresses: assignment.addresses.clone(),
                pool: assignment.pool.clone(),
                allocation_error: assignment.error.as_ref().map(ToString::to_string),
                ..ServiceState::default()
            },
            ..Part::default()
        };
        let Some(pool) = assignment.pool.as_deref() else {
            part.state.not_announced = Some(Withheld::NoAddress.to_string());
            return part;
        };
        let cluster = self.cluster;
        let endpoints = cluster.endpoints.get(name).map_or(&[][..], Vec::as_slice);
        let endpoints = &*self.silence(endpoints);
        self.add_frontends(name, service, endpoints, &mut part);

        let nodes = &self.nodes;
        let addresses = &assignment.addresses;
        let subject = Subject::new(name, service, addresses, pool, endpoints, |e| nodes.of(e));
        let by_bgp = self.speaker.announce(&subject);
        let by_layer2 = self.election.leader(&subject);
        part.state.not_announced = match (&by_bgp, &by_layer2) {
            (Ok(announced), _) => announced.left_out(),
            // Not advertised by BGP is no fault where ARP and NDP are answered, or were meant to be.
            (Err(Withheld::NoAdvertisement), Ok(_)) => None,
            (Err(Withheld::NoAdvertisement), Err(withheld)) | (Err(withheld), _) => {
                Some(withheld.to_string())
            }
        };
        if let Ok(announced) = by_bgp {
            part.state.announced_to = announced.peers();
            part.shared.routes = announced.routes;
        }
        match by_layer2 {
            Ok(leader) => {
                part.state.l2_leader = Some(leader.node.to_owned());
                if leader.node == self.context.node {
                    let addresses = addresses.iter().copied();
                    let free: Vec<_> = addresses
                        .filter(|addr| !leader.awaited.contains(addr))
                        .collect();
                    self.lead(name, &free, leader.on_interface, &mut part);
                }
                part.state.l2_interfaces = leader.interfaces;
            }
            Err(withheld @ Withheld::SharedWithSelector) => {
                part.findings
                    .push(finding(&format!("Service {name}"), &withheld.to_string()));
            }
            Err(_) => {}
        }
        part
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
        &self,
        name: &ObjectName,
        service: &Service,
        endpoints: &[Endpoint],
        part: &mut Part,
    ) {
        let behind = Behind::new(name, service, endpoints, &self.nodes, &mut part.findings);
        let most = most_backends(service, endpoints);
        let table_length = maglev::table_length(service.table_length, most);
        part.state.table_length = Some(table_length);
        for addr in &part.state.addresses {
            let vip = part.shared.vips.entry(*addr).or_default();
            for port in &service.ports {
                let frontend = FrontendName {
                    addr: *addr,
                    port: port.port,
                    protocol: port.protocol,
                };
                let Choice { backends, choices } = behind.backends(port, Family::of(*addr));
                vip.answer_echo |= backends.iter().any(|backend| backend.weight > 0);
                let intent = FrontendIntent {
                    service: name.clone(),
                    table_length,
                    client_affinity: service.client_affinity,
                    forwarding: service.forwarding,
                    backends,
                    choices,
                };
                part.state.frontends.push(frontend);
                part.frontends.insert(frontend, intent);
            }
        }
    }

    fn lead(&self, name: &ObjectName, addresses: &[IpAddr], on_interface: bool, part: &mut Part) {
        if !on_interface {
            let message = format!(
                "this node is to answer ARP and NDP for it, but no L2Advertisement lists interface {}; \
                 no other node has one that is listed",
                self.context.interface
            );
            part.findings
                .push(finding(&format!("Service {name}"), &message));
            return;
        }
        for addr in addresses {
            part.shared.vips.entry(*addr).or_default().answer_neighbors = true;
        }
    }
}

/// The most endpoints that one family of the Service has: the same on all nodes, whatever
/// `externalTrafficPolicy` lets each of them use.
fn most_backends(service: &Service, endpoints: &[Endpoint]) -> usize {
    let count = |family: &Family| {
        endpoints
            .iter()
            .filter(|e| Family::of(e.addr) == *family)
            .count()
    };
    service.families.iter().map(count).max().unwrap_or(0)
}

/// What is wrong beside Services.
pub(super) fn check_objects(cluster: &Cluster, context: &Context) -> Vec<Finding> {
    let mut findings = Vec::new();
    if cluster.keys.is_none() {
        findings.push(finding(
            "Secret torline",
            "there is none: flows are hashed with a public key, so anybody can aim at one backend, and nodes \
             trust each other by a public key, so anybody can pass for one; create one with `torline secret`",
        ));
    }
    if !cluster.nodes.contains_key(&context.node) {
        let message =
            "there is no such Node, so no pod can be on it; add the Node or correct --node";
        findings.push(finding(&format!("Node {}", context.node), message));
    }
    if context.neighborhood.is_isolated {
        let message = "it hears neither other nodes nor its router, so it answers ARP and NDP for no address: \
                       others may";
        findings.push(finding(&format!("Node {}", context.node), message));
    }
    findings
}

fn finding(object: &str, message: &str) -> Finding {
    Finding {
        source: String::new(),
        object: object.to_owned(),
        field: String::new(),
        message: message.to_owned(),
    }
}
