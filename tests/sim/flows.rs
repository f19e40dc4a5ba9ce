//! The flows of a node: what its programs' tables hold, and what its agent
//! remembers about them.

use std::collections::HashMap;
use std::net::IpAddr;

use lb_common::addr::{AddrWords, Be16, words4, words6};
use lb_common::decide::{FamilyTables, Tables};
use lb_common::family::{Endpoints, Family as _, V4, V6};
use lb_common::flow::{CLOSING, FlowTable};
use lb_common::maps::{
    Event, Exception, Flow, FlowKey4, FlowKey6, backend_flags, exception_state, flow_direction,
};
use lb_common::wire::protocol;
use lb_userspace::model::cluster::{Family, Protocol};

use crate::agent::Way;
use crate::cluster;
use crate::node::{FlowName, Node, NodeId};

/// Exceptions, and what the agent did about flows.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Why there is an exception.
    ways: HashMap<FlowName, Way>,
    /// The `c0` that was told of a flow last.
    pushed: HashMap<FlowName, IpAddr>,
    second: u64,
    asked: u32,
}

impl Node {
    /// The entry of a flow whose backend still is who it was.
    pub(crate) fn flow(&self, table: FlowTable, name: &FlowName) -> Option<Flow> {
        let flow = match key(name) {
            Key::V4(key) => FamilyTables::<V4>::with_flow(&self.tables, table, &key, |flow| *flow),
            Key::V6(key) => FamilyTables::<V6>::with_flow(&self.tables, table, &key, |flow| *flow),
        };
        flow.filter(|flow| self.is_live(flow))
    }

    /// Why there is an exception for a flow, if there is one.
    pub(crate) fn way(&self, name: &FlowName) -> Option<Way> {
        self.memory.ways.get(name).copied()
    }

    /// Notes who has a flow. A pod that this node does not know yet cannot be noted.
    pub(crate) fn except(&mut self, name: FlowName, pod: IpAddr, way: Way) {
        let Some((index, generation)) = self.backend_at(&name.frontend, pod) else {
            return;
        };
        let exception = Exception {
            backend: index,
            generation,
            ..Exception::default()
        };
        self.write_exception(&name, exception);
        self.memory.ways.insert(name, way);
    }

    /// Notes that nobody has a flow.
    pub(crate) fn deny(&mut self, name: FlowName) {
        let exception = Exception {
            state: exception_state::NOBODY,
            ..Exception::default()
        };
        self.write_exception(&name, exception);
        self.memory.ways.remove(&name);
    }

    /// Forgets that nobody has a flow.
    pub(crate) fn doubt(&mut self, name: &FlowName) {
        let is_denial = |exception: &mut Exception| exception.state & exception_state::NOBODY != 0;
        let tables = &self.tables;
        match key(name) {
            Key::V4(key) => {
                if FamilyTables::<V4>::with_exception(tables, &key, is_denial) == Some(true) {
                    FamilyTables::<V4>::remove_exception(tables, &key);
                }
            }
            Key::V6(key) => {
                if FamilyTables::<V6>::with_exception(tables, &key, is_denial) == Some(true) {
                    FamilyTables::<V6>::remove_exception(tables, &key);
                }
            }
        }
    }

    fn write_exception(&self, name: &FlowName, exception: Exception) {
        match key(name) {
            Key::V4(key) => {
                self.tables.exceptions4.borrow_mut().insert(key, exception);
            }
            Key::V6(key) => {
                self.tables.exceptions6.borrow_mut().insert(key, exception);
            }
        }
    }

    /// The flow that an event is about.
    pub(crate) fn flow_of(&self, event: &Event) -> FlowName {
        let protocol = match event.protocol {
            protocol::UDP => Protocol::Udp,
            _ => Protocol::Tcp,
        };
        FlowName {
            client: (self.address(event.source), event.source_port.host()),
            frontend: cluster::frontend(self.family, protocol),
        }
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
    pub(crate) fn forgotten_flows(&mut self) -> Vec<(FlowName, IpAddr, NodeId)> {
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
                forgotten.push((name, pod, current.node));
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
}

/// Key of a flow's forward entry.
enum Key {
    V4(FlowKey4),
    V6(FlowKey6),
}

fn key(name: &FlowName) -> Key {
    let protocol = name.frontend.protocol.number();
    match (name.client.0, name.frontend.addr) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => {
            let ends = ends(words4(client)[0], words4(vip)[0], name);
            Key::V4(V4::flow_key(&ends, protocol, flow_direction::FORWARD))
        }
        (IpAddr::V6(client), IpAddr::V6(vip)) => {
            let ends = ends(words6(client), words6(vip), name);
            Key::V6(V6::flow_key(&ends, protocol, flow_direction::FORWARD))
        }
        _ => unreachable!("both ends are of one family"),
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
