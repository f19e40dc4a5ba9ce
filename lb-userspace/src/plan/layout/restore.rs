//! What a restarted agent knows of the maps that the one before it filled.
//!
//! The maps hold everything but names: regions and ids are in the frontends, members in the backends
//! (each says whose it is, and an emptied one keeps its generation). The names of nodes are told from the
//! intent that is planned next, by address and by the pods that run there; a node that cannot be told
//! gets a name that no node has, and goes as any node does that nobody asks for.
//!
//! The agent before may have been killed between any two steps. What it had written and nothing pointed
//! at yet is free; elements of `BACKENDS` that belong to no frontend are emptied first of all.
//!
//! Until the source could be read whole once, what the maps have and the intent lacks stays.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::addr::AddrWords;
use lb_common::addr::Mac;
use lb_common::maps::Backend;
use lb_common::maps::Config;
use lb_common::maps::Frontend;
use lb_common::maps::Node;
use lb_common::maps::Slot;
use lb_common::maps::Vip;
use lb_common::maps::backend_flags;
use lb_common::maps::frontend_flags;

use super::Capacity;
use super::Layout;
use super::PlacedNode;
use super::WINDOW;
use super::node;
use super::table::Member;
use super::table::Table;
use crate::model::intent::DataplaneIntent;
use crate::model::intent::FrontendIntent;
use crate::model::intent::FrontendName;
use crate::model::name::ObjectName;
use crate::plan::step::BackendName;
use crate::plan::step::Step;

/// What the maps hold, as it was read from them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Dump {
    /// The configuration, if there ever was one.
    pub config: Option<Config>,
    /// Nodes by number; those not in use may be left out.
    pub nodes: Vec<(u16, Node)>,
    /// MACs of peers with node numbers.
    pub peer_macs: Vec<(Mac, u16)>,
    /// Tunnel addresses of peers with node numbers.
    pub peer_addrs: Vec<(AddrWords, u16)>,
    /// Backends by index, each that ever was in use.
    pub backends: Vec<(u32, Backend)>,
    /// What other nodes call backends, with their indices.
    pub backend_indices: Vec<(BackendName, u32)>,
    /// Frontends, each with the slots that it reaches.
    pub frontends: Vec<(FrontendName, Frontend, Arc<[Slot]>)>,
    /// VIPs.
    pub vips: Vec<(IpAddr, Vip)>,
}

impl Layout {
    /// What the maps hold. Elements that make no sense are removed by the next plan.
    pub fn restore(capacity: Capacity, dump: Dump, intent: &DataplaneIntent) -> Self {
        let mut layout = Self::new(capacity);
        layout.is_unconfirmed = true;
        layout.config = dump.config.map(|config| Config {
            heartbeat: 0,
            ..config
        });
        layout.vips = dump.vips.into_iter().collect();
        layout.peer_macs = dump.peer_macs.into_iter().collect();
        layout.peer_addrs = dump.peer_addrs.into_iter().collect();
        let mut members = layout.restore_members(&dump.backends, &dump.frontends);
        let names = name_nodes(&dump.nodes, &members, &dump.frontends, intent);
        layout.restore_nodes(dump.nodes, &members, &names);
        for (name, value, slots) in dump.frontends {
            let members = members.remove(&value.id).unwrap_or_default();
            layout.restore_frontend(name, value, slots, members, &names, intent);
        }
        for element in members.into_values().flatten() {
            layout.empty(element);
        }
        layout.restore_indices(dump.backend_indices);
        let ids = layout.frontends.values().map(|table| table.value.id);
        if let Some(highest) = ids.max() {
            layout.frontend_ids.go_on_after(highest);
        }
        layout
    }

    /// The members of each frontend id: index and value.
    fn restore_members(
        &mut self,
        backends: &[(u32, Backend)],
        frontends: &[(FrontendName, Frontend, Arc<[Slot]>)],
    ) -> HashMap<u32, Vec<(u32, Backend)>> {
        let windows: HashMap<u32, u32> = frontends
            .iter()
            .map(|(_, value, _)| (value.id, value.backends))
            .collect();
        let mut members: HashMap<u32, Vec<_>> = HashMap::new();
        let mut latest: HashMap<u32, (u32, u32)> = HashMap::new();
        for &(index, backend) in backends {
            self.generation = self.generation.max(backend.generation);
            let newest = latest.entry(index / WINDOW).or_default();
            *newest = (*newest).max((backend.generation, index % WINDOW));
            if backend.flags & backend_flags::IN_USE == 0 {
                continue;
            }
            let window = index / WINDOW * WINDOW;
            if windows.get(&backend.frontend) != Some(&window) {
                self.empty((index, backend));
                continue;
            }
            let element = (index, backend);
            members.entry(backend.frontend).or_default().push(element);
        }
        for (window, (_, number)) in latest {
            if let Some(numbers) = self.windows.get_mut(window as usize) {
                numbers.go_on_after(number);
            }
        }
        members
    }

    fn restore_nodes(
        &mut self,
        nodes: Vec<(u16, Node)>,
        members: &HashMap<u32, Vec<(u32, Backend)>>,
        names: &BTreeMap<u16, String>,
    ) {
        let mut values: BTreeMap<u16, Node> = nodes
            .into_iter()
            .filter(|(_, node)| *node != Node::default())
            .collect();
        // A node of which nothing is known but that pods run there has an empty value.
        for (_, backend) in members.values().flatten() {
            values.entry(backend.node).or_default();
        }
        self.router = values.remove(&0).unwrap_or_default();
        for (number, value) in values {
            if self.node_numbers.reserve(u32::from(number)) {
                let placed = PlacedNode { number, value };
                self.nodes.insert(name_of(names, number), placed);
                self.node_numbers.go_on_after(u32::from(number));
            }
        }
    }

    fn restore_frontend(
        &mut self,
        name: FrontendName,
        value: Frontend,
        slots: Arc<[Slot]>,
        elements: Vec<(u32, Backend)>,
        names: &BTreeMap<u16, String>,
        intent: &DataplaneIntent,
    ) {
        let length = slots.len() as u32;
        let is_whole = value.mask.checked_add(1) == Some(length)
            && self.frontend_ids.reserve(value.id)
            && self.slots.reserve(value.slots, length);
        if !is_whole {
            self.pending.push(Step::RemoveFrontend { name });
            for element in elements {
                self.empty(element);
            }
            return;
        }
        let window = (value.backends / WINDOW) as usize;
        let mut members = BTreeMap::new();
        for (index, backend) in elements {
            let number = index % WINDOW;
            let numbers = self.windows.get_mut(window);
            if numbers.is_some_and(|numbers| numbers.reserve(number)) {
                let member = member(&name, backend, names, &intent.node);
                members.insert(number as u16, member);
            }
        }
        let mut table = Table {
            intent: Arc::new(FrontendIntent {
                service: intent.frontends.get(&name).map_or_else(
                    || ObjectName::new(String::new(), String::new()),
                    |frontend| frontend.service.clone(),
                ),
                table_length: length,
                client_affinity: value.flags & frontend_flags::CLIENT_AFFINITY != 0,
                forwarding: None,
                backends: Vec::new(),
                choices: None,
            }),
            value,
            length,
            is_settled: false,
            members,
            indices: BTreeMap::new(),
            written: Arc::clone(&slots),
            slots,
            digest: String::new(),
        };
        table.digest = table.compute_digest();
        self.frontends.insert(name, table);
    }

    /// Takes over what leads to the backend that it names, and removes the rest before anything else.
    fn restore_indices(&mut self, found: Vec<(BackendName, u32)>) {
        let mut tables: HashMap<u32, &mut Table> = self
            .frontends
            .values_mut()
            .map(|table| (table.value.id, table))
            .collect();
        let mut stale = Vec::new();
        for (name, index) in found {
            let pod = (name.addr, name.port);
            let named = tables.get_mut(&name.frontend).and_then(|table| {
                let number = u16::try_from(index.checked_sub(table.value.backends)?).ok()?;
                let member = table.members.get(&number)?;
                ((member.addr, member.port) == pod).then_some((table, number))
            });
            match named {
                Some((table, number)) => {
                    table.indices.insert(pod, number);
                }
                None => stale.push(Step::RemoveBackendIndex { name }),
            }
        }
        self.pending.splice(..0, stale);
    }

    /// Empties an element that no frontend has, before anything else is written.
    fn empty(&mut self, (index, backend): (u32, Backend)) {
        let backend = Backend {
            generation: backend.generation,
            ..Backend::default()
        };
        self.pending.push(Step::SetBackend { index, backend });
    }
}

fn member(
    frontend: &FrontendName,
    value: Backend,
    names: &BTreeMap<u16, String>,
    local: &str,
) -> Member {
    Member {
        addr: node::address(value.addr, frontend.addr),
        port: value.port.host(),
        node: match value.node {
            0 => local.into(),
            number => name_of(names, number).into(),
        },
        weight: u32::from(value.flags & backend_flags::DRAINING == 0),
        value,
    }
}

/// The names of node numbers: a node has one of the addresses that the intent gives it, or a pod that
/// the intent says runs there.
fn name_nodes(
    nodes: &[(u16, Node)],
    members: &HashMap<u32, Vec<(u32, Backend)>>,
    frontends: &[(FrontendName, Frontend, Arc<[Slot]>)],
    intent: &DataplaneIntent,
) -> BTreeMap<u16, String> {
    let mut names = BTreeMap::new();
    let mut taken: BTreeSet<&str> = BTreeSet::from([intent.node.as_str()]);
    let by_address: HashMap<_, &str> = intent
        .nodes
        .iter()
        .flat_map(|(name, peer)| {
            let addresses = peer.addresses.iter();
            addresses.map(move |addr| (node::words(*addr), name.as_str()))
        })
        .collect();
    for (number, value) in nodes {
        if *number != 0
            && let Some(name) = by_address.get(&value.addr)
            && taken.insert(name)
        {
            names.insert(*number, (*name).to_owned());
        }
    }
    for (name, value, _) in frontends {
        let Some(wanted) = intent.frontends.get(name) else {
            continue;
        };
        let by_pod: HashMap<_, &str> = wanted
            .backends
            .iter()
            .map(|backend| {
                let pod = (node::words(backend.addr), backend.port);
                (pod, &*backend.node)
            })
            .collect();
        for (_, backend) in members.get(&value.id).into_iter().flatten() {
            if backend.node != 0
                && !names.contains_key(&backend.node)
                && let Some(name) = by_pod.get(&(backend.addr, backend.port.host()))
                && taken.insert(name)
            {
                names.insert(backend.node, (*name).to_owned());
            }
        }
    }
    names
}

/// The name of a node number; where it is not known, one that no node has.
fn name_of(names: &BTreeMap<u16, String>, number: u16) -> String {
    match names.get(&number) {
        Some(name) => name.clone(),
        None => format!("#{number}"),
    }
}
