//! What stands behind the ports of a Service.
//!
//! Every endpoint is a backend on every node: what a node does not choose among for new connections has
//! weight 0 there and may have connections all the same. `groups` says which nodes choose among what.

mod groups;

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use self::groups::Groups;
use crate::model::cluster::Cluster;
use crate::model::cluster::Endpoint;
use crate::model::cluster::Family;
use crate::model::cluster::Node;
use crate::model::cluster::Service;
use crate::model::cluster::ServicePort;
use crate::model::cluster::TrafficPolicy;
use crate::model::intent::BackendIntent;
use crate::model::intent::Choices;
use crate::model::intent::Finding;
use crate::model::name::ObjectName;
use crate::model::shared_map::SharedMap;

/// Whether an endpoint counts as serving, as MetalLB sees it: a terminating pod may still serve.
pub fn serves(endpoint: &Endpoint) -> bool {
    endpoint.ready || endpoint.serving
}

/// The nodes, by name and by address.
pub struct Nodes<'a> {
    by_name: &'a SharedMap<String, Node>,
    by_addr: HashMap<IpAddr, &'a str>,
    local: &'a str,
}

impl<'a> Nodes<'a> {
    /// The nodes of the cluster, seen from the one named `local`.
    pub fn new(cluster: &'a Cluster, local: &'a str) -> Self {
        let by_addr = cluster
            .nodes
            .iter()
            .flat_map(|(name, node)| node.addresses.iter().map(|addr| (*addr, name.as_str())))
            .collect();
        Self {
            by_name: &cluster.nodes,
            by_addr,
            local,
        }
    }

    /// The node an endpoint runs on: the one it names, else the one whose address it has.
    pub fn of(&self, endpoint: &'a Endpoint) -> Option<&'a str> {
        let named = endpoint.node.as_deref();
        named.or_else(|| self.by_addr.get(&endpoint.addr).copied())
    }
}

/// The routable endpoints of a Service.
pub struct Behind<'a> {
    endpoints: Vec<(&'a Endpoint, &'a str, u32)>,
    nodes: &'a Nodes<'a>,
    rule: Rule,
}

/// Which backends a node chooses among for new connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// All.
    All,
    /// Those on the node.
    Node,
    /// Those that are hinted for the node's zone.
    Zone,
}

/// What stands behind one port in one family.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Choice {
    /// The backends, in ascending order of (address, port), with their weights on this node.
    pub backends: Vec<BackendIntent>,
    /// What other nodes choose among, if that is not the same.
    pub choices: Option<Choices>,
}

impl<'a> Behind<'a> {
    /// The endpoints that packets may be sent to, with the node each runs on and the weight it has there.
    /// Endpoints on no known node are left out with a finding.
    pub fn new(
        name: &ObjectName,
        service: &Service,
        endpoints: &'a [Endpoint],
        nodes: &'a Nodes<'a>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let mut lost = BTreeSet::new();
        let mut found = Vec::new();
        for endpoint in endpoints {
            let node = nodes.of(endpoint);
            let Some((node, object)) = node.and_then(|node| Some((node, nodes.by_name.get(node)?)))
            else {
                lost.insert(match node {
                    None => format!(
                        "endpoint {} names no node and no Node has its address: it gets no traffic; set nodeName",
                        endpoint.addr
                    ),
                    Some(node) => format!(
                        "endpoints run on node {node}, which does not exist: they get no traffic; add the Node"
                    ),
                });
                continue;
            };
            found.push((endpoint, node, u32::from(object.weight.unwrap_or(1))));
        }
        findings.extend(lost.into_iter().map(|message| Finding {
            source: String::new(),
            object: format!("Service {name}"),
            field: "endpoints".into(),
            message,
        }));
        Self {
            endpoints: found,
            nodes,
            rule: match service.traffic_policy {
                TrafficPolicy::Local => Rule::Node,
                TrafficPolicy::Cluster if service.follows_hints => Rule::Zone,
                TrafficPolicy::Cluster => Rule::All,
            },
        }
    }

    /// The backends of one port in one family.
    ///
    /// Of those that a node chooses among, ready ones share the slots by the weight of their nodes. If none
    /// is ready, those that still serve while they terminate do. All others keep the connections they have:
    /// weight 0.
    pub fn backends(&self, port: &ServicePort, family: Family) -> Choice {
        let key = (port.name.clone(), port.protocol);
        let mut pods: BTreeMap<(IpAddr, u16), Pod<'_>> = BTreeMap::new();
        for (endpoint, node, weight) in &self.endpoints {
            if Family::of(endpoint.addr) != family {
                continue;
            }
            let Some(target) = endpoint.ports.get(&key) else {
                continue;
            };
            let found = Pod {
                grade: Grade::of(endpoint),
                node,
                weight: *weight,
                zones: &endpoint.zones,
            };
            // One pod can stand in two slices for a moment: the better word counts.
            let best = pods.entry((endpoint.addr, *target)).or_insert(found);
            *best = (*best).max(found);
        }
        let places: Vec<Pod<'_>> = pods.values().copied().collect();
        let groups = Groups::new(self.rule, &places, self.nodes);
        let mut backends: Vec<BackendIntent> = pods
            .into_iter()
            .map(|((addr, port), pod)| BackendIntent {
                addr,
                port,
                node: Arc::from(pod.node),
                weight: 0,
            })
            .collect();
        for (place, weight) in groups.own() {
            if let Some(backend) = backends.get_mut(*place as usize) {
                backend.weight = *weight;
            }
        }
        Choice {
            backends,
            choices: groups.choices(),
        }
    }
}

/// An endpoint as a backend. The better one is greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Pod<'a> {
    grade: Grade,
    node: &'a str,
    weight: u32,
    zones: &'a BTreeSet<String>,
}

/// How fit an endpoint is for new connections.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Grade {
    Silent,
    Serving,
    Ready,
}

impl Grade {
    fn of(endpoint: &Endpoint) -> Self {
        if endpoint.ready {
            Self::Ready
        } else if endpoint.serving {
            Self::Serving
        } else {
            Self::Silent
        }
    }
}

#[cfg(test)]
mod tests;
