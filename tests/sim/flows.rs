//! The flows of a node: what its programs' tables hold, and what its agent remembers about them.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::addr::{AddrWords, Be16, words4, words6};
use lb_common::decide::{FamilyTables, Tables};
use lb_common::family::{Endpoints, Family as _, V4, V6};
use lb_common::flow::{CLOSING, FlowTable};
use lb_common::maps::{Flow, backend_flags, flow_direction};
use lb_userspace::model::cluster::{Family, Protocol};

use crate::chain::Way;
use crate::cluster;
use crate::node::{FlowName, Node, NodeId};

/// Milliseconds that "nobody has it" is believed.
const DENIAL: u64 = 1_000;

/// Exceptions, and what the agent did about flows.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    exceptions: HashMap<FlowName, (NodeId, Way)>,
    denied: HashMap<FlowName, u64>,
    /// The `c0` that was told of a flow last.
    pushed: HashMap<FlowName, IpAddr>,
    second: u64,
    asked: u32,
}

impl Node {
    /// The entry of a flow whose backend still is who it was.
    pub(crate) fn flow(&self, table: FlowTable, name: &FlowName) -> Option<Flow> {
        let flow = match (name.client.0, name.frontend.addr) {
            (IpAddr::V4(client), IpAddr::V4(vip)) => {
                let ends = ends(words4(client)[0], words4(vip)[0], name);
                let key = V4::flow_key(
                    &ends,
                    name.frontend.protocol.number(),
                    flow_direction::FORWARD,
                );
                FamilyTables::<V4>::with_flow(&self.tables, table, &key, |flow| *flow)
            }
            (IpAddr::V6(client), IpAddr::V6(vip)) => {
                let ends = ends(words6(client), words6(vip), name);
                let key = V6::flow_key(
                    &ends,
                    name.frontend.protocol.number(),
                    flow_direction::FORWARD,
                );
                FamilyTables::<V6>::with_flow(&self.tables, table, &key, |flow| *flow)
            }
            _ => None,
        };
        flow.filter(|flow| self.is_live(flow))
    }

    /// The flow's other owner, as this node was told.
    pub(crate) fn exception(&self, name: &FlowName) -> Option<(NodeId, Way)> {
        let exception = self.memory.exceptions.get(name).copied();
        exception.filter(|(owner, _)| !self.is_dead(*owner))
    }

    /// Notes who has a flow.
    pub(crate) fn except(&mut self, name: FlowName, owner: NodeId, way: Way) {
        self.memory.exceptions.insert(name, (owner, way));
        self.memory.denied.remove(&name);
    }

    /// Notes that nobody has a flow.
    pub(crate) fn deny(&mut self, name: FlowName) {
        let until = self.now() + DENIAL;
        self.memory.exceptions.remove(&name);
        self.memory.denied.insert(name, until);
    }

    /// Whether nobody has the flow.
    pub(crate) fn is_denied(&self, name: &FlowName) -> bool {
        let until = self.memory.denied.get(name).copied();
        until.is_some_and(|until| until > self.now())
    }

    /// Takes one question from the budget.
    pub(crate) fn may_ask(&mut self, now: u64, budget: u32) -> bool {
        let memory = &mut self.memory;
        if memory.second != now / 1_000 {
            memory.second = now / 1_000;
            memory.asked = 0;
        }
        memory.asked += 1;
        memory.asked <= budget
    }

    /// Established flows of pods here that their slots do not remember, with the node that is to be told:
    /// each once, and again when its slot has another `c0`.
    pub(crate) fn forgotten_flows(&mut self) -> Vec<(FlowName, NodeId)> {
        let mut forgotten = Vec::new();
        for (name, pod) in self.established() {
            let owners = self.owners(&name);
            let Some(current) = self.current(&name) else {
                continue;
            };
            if owners.iter().any(|owner| owner.addr == pod) {
                continue;
            }
            let told = self.memory.pushed.insert(name, current.addr);
            if told != Some(current.addr) && current.node != self.id {
                forgotten.push((name, current.node));
            }
        }
        forgotten
    }

    /// Established flows, each with its pod's address, in an order that does not change.
    fn established(&self) -> Vec<(FlowName, IpAddr)> {
        let is_ours = |table, direction, flow: &Flow| {
            let is_forward = direction == flow_direction::FORWARD;
            table == FlowTable::Established
                && is_forward
                && flow.state & CLOSING == 0
                && self.is_live(flow)
        };
        let mut found = Vec::new();
        let frontend = cluster::frontend(self.family, Protocol::Tcp);
        let mut add = |source: AddrWords, port: Be16, flow: &Flow| {
            let client = (self.address(source), port.host());
            found.push((FlowName { client, frontend }, self.address(flow.addr)));
        };
        match self.family {
            Family::V4 => {
                for ((table, key), flow) in self.tables.flows4.borrow().iter() {
                    if is_ours(*table, key.direction, flow) {
                        add(V4::to_words(key.source), key.source_port, flow);
                    }
                }
            }
            Family::V6 => {
                for ((table, key), flow) in self.tables.flows6.borrow().iter() {
                    if is_ours(*table, key.direction, flow) {
                        add(key.source, key.source_port, flow);
                    }
                }
            }
        }
        found.sort_unstable();
        found
    }

    fn is_live(&self, flow: &Flow) -> bool {
        self.tables.backend(flow.backend).is_some_and(|backend| {
            backend.generation == flow.generation && backend.flags & backend_flags::IN_USE != 0
        })
    }

    fn now(&self) -> u64 {
        self.tables.clock.get() / 1_000_000
    }
}

fn ends<A>(source: A, destination: A, name: &FlowName) -> Endpoints<A> {
    Endpoints {
        source,
        destination,
        source_port: Be16::new(name.client.1),
        destination_port: Be16::new(name.frontend.port),
    }
}
