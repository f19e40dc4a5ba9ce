//! What stands behind the ports of a Service.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::model::cluster::Cluster;
use crate::model::cluster::Endpoint;
use crate::model::cluster::Family;
use crate::model::cluster::Node;
use crate::model::cluster::Service;
use crate::model::cluster::ServicePort;
use crate::model::cluster::TrafficPolicy;
use crate::model::intent::BackendIntent;
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
}

impl<'a> Behind<'a> {
    /// The endpoints that packets may be sent to from this node, with the node each runs on and the
    /// weight it has there. Endpoints on no known node are left out with a finding.
    pub fn new(
        name: &ObjectName,
        service: &Service,
        endpoints: &'a [Endpoint],
        nodes: &Nodes<'a>,
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
            if service.traffic_policy == TrafficPolicy::Cluster || node == nodes.local {
                found.push((endpoint, node, u32::from(object.weight.unwrap_or(1))));
            }
        }
        findings.extend(lost.into_iter().map(|message| Finding {
            source: String::new(),
            object: format!("Service {name}"),
            field: "endpoints".into(),
            message,
        }));
        Self { endpoints: found }
    }

    /// The backends of one port in one family, in ascending order of (address, port).
    ///
    /// Ready endpoints share the slots by the weight of their nodes. If none is ready, those that still
    /// serve while they terminate do. All others keep the connections they have: weight 0.
    pub fn backends(&self, port: &ServicePort, family: Family) -> Vec<BackendIntent> {
        let key = (port.name.clone(), port.protocol);
        let mut grades: BTreeMap<(IpAddr, u16), (Grade, &str, u32)> = BTreeMap::new();
        for (endpoint, node, weight) in &self.endpoints {
            if Family::of(endpoint.addr) != family {
                continue;
            }
            let Some(target) = endpoint.ports.get(&key) else {
                continue;
            };
            let found = (Grade::of(endpoint), *node, *weight);
            let best = grades.entry((endpoint.addr, *target)).or_insert(found);
            // One pod can stand in two slices for a moment: the better word counts.
            *best = (*best).max(found);
        }
        let best = grades.values().map(|(grade, ..)| *grade).max();
        grades
            .into_iter()
            .map(|((addr, port), (grade, node, weight))| BackendIntent {
                addr,
                port,
                node: Arc::from(node),
                weight: if Some(grade) == best && grade > Grade::Silent {
                    weight
                } else {
                    0
                },
            })
            .collect()
    }
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
