//! One pass over an intent: collects the steps in the order in which they are
//! safe.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::maps::Config;
use lb_common::maps::Node;
use lb_common::maps::Vip;
use lb_common::maps::vip_flags;

use super::Layout;
use super::PlacedNode;
use super::Planned;
use super::Settings;
use super::WINDOW;
use super::node;
use super::table;
use super::table::Table;
use crate::model::cluster::Forwarding;
use crate::model::intent::DataplaneIntent;
use crate::model::intent::FrontendIntent;
use crate::model::intent::FrontendName;
use crate::model::intent::PeerNode;
use crate::model::intent::VipIntent;
use crate::model::segment::Segment;
use crate::model::shared_map::SharedMap;
use crate::plan::step::Step;

/// The steps of a pass by kind, and the room that is free once they are taken.
///
/// The step fields stand in the order of execution: what is pointed at is written before what points at
/// it, and emptied after.
pub(super) struct Round<'a> {
    pub(super) layout: &'a mut Layout,
    local: &'a str,
    set_nodes: Vec<Step>,
    set_peer_macs: Vec<Step>,
    set_peer_addrs: Vec<Step>,
    set_config: Vec<Step>,
    pub(super) set_backends: Vec<Step>,
    pub(super) set_indices: Vec<Step>,
    /// Frontends whose slots stay where they are.
    pub(super) update_frontends: Vec<Step>,
    pub(super) set_slots: Vec<Step>,
    pub(super) set_frontends: Vec<Step>,
    set_vips: Vec<Step>,
    /// The very first one: from then on the node answers probes, and packets are led here.
    set_first_config: Vec<Step>,
    remove_vips: Vec<Step>,
    pub(super) remove_frontends: Vec<Step>,
    pub(super) remove_indices: Vec<Step>,
    pub(super) retire_backends: Vec<Step>,
    remove_peer_addrs: Vec<Step>,
    remove_nodes: Vec<Step>,
    remove_peer_macs: Vec<Step>,
    pub(super) free_slots: Vec<(u32, u32)>,
    pub(super) free_elements: Vec<u32>,
    pub(super) free_ids: Vec<u32>,
    free_nodes: Vec<u16>,
    refused: Vec<(FrontendName, String)>,
    pub(super) settings: Settings,
    pub(super) now: u32,
}

impl<'a> Round<'a> {
    /// Plans every part of the intent and commits it to the layout.
    pub(super) fn run(
        layout: &'a mut Layout,
        intent: &'a DataplaneIntent,
        segment: &Segment,
        settings: Settings,
        now: u32,
    ) -> Self {
        let mut round = Self {
            layout,
            local: &intent.node,
            set_nodes: Vec::new(),
            set_peer_macs: Vec::new(),
            set_peer_addrs: Vec::new(),
            set_config: Vec::new(),
            set_backends: Vec::new(),
            set_indices: Vec::new(),
            update_frontends: Vec::new(),
            set_slots: Vec::new(),
            set_frontends: Vec::new(),
            set_vips: Vec::new(),
            set_first_config: Vec::new(),
            remove_vips: Vec::new(),
            remove_frontends: Vec::new(),
            remove_indices: Vec::new(),
            retire_backends: Vec::new(),
            remove_peer_addrs: Vec::new(),
            remove_nodes: Vec::new(),
            remove_peer_macs: Vec::new(),
            free_slots: Vec::new(),
            free_elements: Vec::new(),
            free_ids: Vec::new(),
            free_nodes: Vec::new(),
            refused: Vec::new(),
            settings,
            now,
        };
        let planned = round.layout.planned.take();
        let agenda = Agenda::new(round.layout, planned.as_ref(), intent);
        round.plan_nodes(intent, segment, &agenda);
        let unsettled = round.plan_frontends(&agenda);
        let placed = planned.map(|planned| planned.vips);
        round.plan_vips(&intent.vips, placed.as_ref());
        round.retire_nodes(intent);
        if !round.layout.is_unconfirmed {
            round.layout.planned = Some(Planned {
                frontends: intent.frontends.clone(),
                vips: intent.vips.clone(),
                unsettled,
                tunnelled: agenda.tunnelled,
            });
        }
        round
    }

    /// Whether the round gives back anything that a frontend can be refused for.
    pub(super) fn freed_room(&self) -> bool {
        !(self.free_slots.is_empty()
            && self.free_elements.is_empty()
            && self.free_ids.is_empty()
            && self.free_nodes.is_empty())
    }

    /// Appends the steps, gives back the room, and returns what was refused.
    pub(super) fn finish(self, steps: &mut Vec<Step>) -> Vec<(FrontendName, String)> {
        for part in [
            self.set_nodes,
            self.set_peer_macs,
            self.set_peer_addrs,
            self.set_config,
            self.set_backends,
            self.set_indices,
            self.update_frontends,
            self.set_slots,
            self.set_frontends,
            self.set_vips,
            self.set_first_config,
            self.remove_vips,
            self.remove_frontends,
            self.remove_indices,
            self.retire_backends,
            self.remove_peer_addrs,
            self.remove_nodes,
            self.remove_peer_macs,
        ] {
            steps.extend(part);
        }
        for (start, length) in self.free_slots {
            self.layout.slots.give_back(start, length);
        }
        for index in self.free_elements {
            self.layout.windows[(index / WINDOW) as usize].give_back(index % WINDOW);
        }
        for id in self.free_ids {
            self.layout.frontend_ids.give_back(id);
        }
        for number in self.free_nodes {
            self.layout.node_numbers.give_back(u32::from(number));
        }
        self.refused
    }

    /// The number of a node; 0 is this one.
    pub(super) fn node_number(&self, name: &str) -> Option<u16> {
        if name == self.local {
            return Some(0);
        }
        self.layout.nodes.get(name).map(|node| node.number)
    }

    fn plan_nodes(&mut self, intent: &DataplaneIntent, segment: &Segment, agenda: &Agenda<'_>) {
        let unknown = PeerNode::default();
        let spared: Vec<String> = match self.layout.is_unconfirmed {
            true => self.layout.nodes.keys().cloned().collect(),
            false => Vec::new(),
        };
        let mut wanted: BTreeMap<&str, &PeerNode> = intent
            .nodes
            .iter()
            .map(|(name, node)| (name.as_str(), node))
            .collect();
        // Frontends that are as they were name no node that is not there; but one that only they name stays.
        let mut placed = self.layout.nodes.keys();
        let all = placed
            .any(|name| !intent.nodes.contains_key(name))
            .then(|| intent.frontends.values());
        let frontends = all.into_iter().flatten();
        let frontends = frontends.chain(agenda.frontends.iter().map(|(_, frontend)| &***frontend));
        for backend in frontends.flat_map(|frontend| &frontend.backends) {
            wanted.entry(&backend.node).or_insert(&unknown);
        }
        for name in &spared {
            wanted.entry(name).or_insert(&unknown);
        }
        wanted.remove(self.local);

        let mut peer_macs = BTreeMap::new();
        for (name, peer) in wanted {
            let former = self.layout.nodes.get(name).map(|placed| placed.value);
            let is_spared = self.layout.is_unconfirmed && !intent.nodes.contains_key(name);
            let (value, mac) = match former.filter(|_| is_spared) {
                Some(value) => (value, node::mac(&value)),
                None => node::value(peer, former.as_ref(), segment, &intent.addresses),
            };
            let Some(number) = self.place_node(name, value) else {
                continue;
            };
            if let Some(mac) = mac.filter(|mac| *mac != segment.mac) {
                peer_macs.entry(mac).or_insert(number);
            }
        }
        self.plan_router(segment);
        for (mac, number) in &peer_macs {
            if self.layout.peer_macs.get(mac) != Some(number) {
                let (mac, number) = (*mac, *number);
                self.set_peer_macs.push(Step::SetPeerMac { mac, number });
            }
        }
        for mac in self.layout.peer_macs.keys() {
            if !peer_macs.contains_key(mac) {
                self.remove_peer_macs
                    .push(Step::RemovePeerMac { mac: *mac });
            }
        }
        self.plan_peer_addrs(intent);
        let nodes = self.layout.nodes.values().map(|placed| placed.value);
        let mut config = node::config(
            intent,
            peer_macs.keys(),
            nodes,
            segment,
            self.settings,
            agenda.tunnelled > 0,
        );
        if let Some(former) = self.layout.config.filter(|_| self.layout.is_unconfirmed) {
            config = Config {
                flow_key: former.flow_key,
                peer_key: former.peer_key,
                tunnel6: former.tunnel6,
                tunnel4: former.tunnel4,
                ..config
            };
        }
        if self.layout.config != Some(config) {
            let steps = match self.layout.config {
                None => &mut self.set_first_config,
                Some(_) => &mut self.set_config,
            };
            steps.push(Step::SetConfig(Box::new(config)));
        }
        self.layout.config = Some(config);
        self.layout.peer_macs = peer_macs;
    }

    /// Every address from which a peer may send, whether it lives or not.
    fn plan_peer_addrs(&mut self, intent: &DataplaneIntent) {
        let nodes = &self.layout.nodes;
        let mut wanted = BTreeMap::new();
        for (name, peer) in &intent.nodes {
            let Some(placed) = nodes.get(name).filter(|_| name != self.local) else {
                continue;
            };
            for addr in peer.addresses.iter().map(|addr| node::words(*addr)) {
                wanted.entry(addr).or_insert(placed.number);
            }
        }
        if self.layout.is_unconfirmed {
            for (addr, number) in &self.layout.peer_addrs {
                let is_known = |placed: &PlacedNode| placed.number == *number;
                if nodes.values().any(is_known) {
                    wanted.entry(*addr).or_insert(*number);
                }
            }
        }
        for own in &intent.addresses {
            wanted.remove(&node::words(*own));
        }
        let present = &self.layout.peer_addrs;
        for (&addr, &number) in &wanted {
            if present.get(&addr) != Some(&number) {
                self.set_peer_addrs.push(Step::SetPeerAddr { addr, number });
            }
        }
        for &addr in present.keys().filter(|addr| !wanted.contains_key(*addr)) {
            self.remove_peer_addrs.push(Step::RemovePeerAddr { addr });
        }
        self.layout.peer_addrs = wanted;
    }

    fn plan_router(&mut self, segment: &Segment) {
        let node = node::router(&self.layout.router, segment);
        if self.layout.router != node {
            self.layout.router = node;
            self.set_nodes.push(Step::SetNode {
                name: "router".into(),
                number: 0,
                node,
            });
        }
    }

    fn place_node(&mut self, name: &str, value: Node) -> Option<u16> {
        let number = match self.layout.nodes.get_mut(name) {
            Some(placed) if placed.value == value => return Some(placed.number),
            Some(placed) => {
                placed.value = value;
                placed.number
            }
            None => {
                let number = self.layout.node_numbers.take()? as u16;
                let placed = PlacedNode { number, value };
                self.layout.nodes.insert(name.to_owned(), placed);
                number
            }
        };
        self.set_nodes.push(Step::SetNode {
            name: name.to_owned(),
            number,
            node: value,
        });
        Some(number)
    }

    /// Returns the frontends that are not as they should be.
    fn plan_frontends(&mut self, agenda: &Agenda<'_>) -> BTreeSet<FrontendName> {
        for name in &agenda.gone {
            let table = self.layout.frontends.get(name);
            if table.is_some_and(|table| !self.is_spared(table)) {
                table::remove(self, *name);
            }
        }
        // Tables that are there come first, so that a newcomer is refused rather than they.
        let (present, new): (Vec<_>, Vec<_>) = agenda
            .frontends
            .iter()
            .copied()
            .partition(|(name, _)| self.layout.frontends.contains_key(name));
        for (name, frontend) in present.into_iter().chain(new) {
            let table = self.layout.frontends.get(&name);
            if table.is_some_and(|table| table.is_settled && table.intent == *frontend) {
                continue;
            }
            if frontend.backends.is_empty() && table.is_some_and(|table| self.is_spared(table)) {
                continue;
            }
            if let Err(reason) = table::plan(self, name, frontend) {
                self.refused.push((name, reason));
            }
        }
        let is_settled = |name: &FrontendName| {
            let table = self.layout.frontends.get(name);
            table.is_some_and(|table| table.is_settled)
        };
        let names = agenda.frontends.iter().map(|(name, _)| *name);
        names.filter(|name| !is_settled(name)).collect()
    }

    /// Whether a frontend stays though the intent has nothing of it, or no backends: after a restart, when
    /// the file that would tell cannot be read.
    fn is_spared(&self, table: &Table) -> bool {
        self.layout.is_unconfirmed && !table.is_settled
    }

    /// `placed` are those that were wanted the last time.
    fn plan_vips(
        &mut self,
        wanted: &SharedMap<IpAddr, VipIntent>,
        placed: Option<&SharedMap<IpAddr, VipIntent>>,
    ) {
        // Those that found no room are looked at again.
        let placed = placed.filter(|placed| placed.len() == self.layout.vips.len());
        let mut gone = Vec::new();
        let mut changed = Vec::new();
        match placed {
            None => {
                gone.extend(self.layout.vips.keys().copied());
                gone.retain(|addr| !wanted.contains_key(addr) && !self.is_reached(addr));
                changed.extend(wanted);
            }
            Some(placed) => {
                for change in wanted.changes(placed) {
                    match change.after {
                        None => gone.push(*change.key),
                        Some(intent) => changed.push((change.key, &**intent)),
                    }
                }
            }
        }
        for (addr, intent) in changed {
            let vip = vip(*intent);
            let present = self.layout.vips.get(addr).copied();
            let has_room = self.layout.vips.len() < self.layout.vip_capacity;
            if present != Some(vip) && (present.is_some() || has_room) {
                self.layout.vips.insert(*addr, vip);
                self.set_vips.push(Step::SetVip { addr: *addr, vip });
            }
        }
        for addr in gone {
            self.layout.vips.remove(&addr);
            self.remove_vips.push(Step::RemoveVip { addr });
        }
    }

    /// Whether a frontend that was spared is reached by that address.
    fn is_reached(&self, addr: &IpAddr) -> bool {
        let mut names = self.layout.frontends.keys();
        self.layout.is_unconfirmed && names.any(|name| name.addr == *addr)
    }

    /// Forgets nodes that nobody asks for and no backend runs on.
    fn retire_nodes(&mut self, intent: &DataplaneIntent) {
        let mut gone: BTreeSet<&str> = self
            .layout
            .nodes
            .keys()
            .map(String::as_str)
            .filter(|name| !intent.nodes.contains_key(*name) || *name == self.local)
            .collect();
        if gone.is_empty() || self.layout.is_unconfirmed {
            return;
        }
        for table in self.layout.frontends.values() {
            for member in table.members.values() {
                gone.remove(&*member.node);
            }
        }
        let gone: Vec<String> = gone.into_iter().map(str::to_owned).collect();
        for name in gone {
            if let Some(placed) = self.layout.nodes.remove(&name) {
                self.remove_nodes.push(Step::SetNode {
                    name,
                    number: placed.number,
                    node: Node::default(),
                });
                self.free_nodes.push(placed.number);
            }
        }
    }
}

/// What of an intent has to be looked at: what was planned before is as it was planned.
struct Agenda<'a> {
    /// Frontends that are not wanted.
    gone: Vec<FrontendName>,
    /// Frontends that may be other than their tables.
    frontends: Vec<(FrontendName, &'a Arc<FrontendIntent>)>,
    /// How many of all frontends have tunnels used always.
    tunnelled: usize,
}

impl<'a> Agenda<'a> {
    fn new(layout: &Layout, planned: Option<&Planned>, intent: &'a DataplaneIntent) -> Self {
        let wanted = &intent.frontends;
        let nothing = SharedMap::new();
        let before = planned.map_or(&nothing, |planned| &planned.frontends);
        let mut agenda = Self {
            gone: Vec::new(),
            frontends: Vec::new(),
            tunnelled: planned.map_or(0, |planned| planned.tunnelled),
        };
        let is_tunnelled = |frontend: &Arc<FrontendIntent>| {
            usize::from(frontend.forwarding == Some(Forwarding::Geneve))
        };
        let mut looked_at = BTreeSet::new();
        for change in wanted.changes(before) {
            agenda.tunnelled += change.after.map_or(0, is_tunnelled);
            agenda.tunnelled -= change.before.map_or(0, is_tunnelled);
            looked_at.insert(*change.key);
        }
        match planned {
            Some(planned) => looked_at.extend(&planned.unsettled),
            None => looked_at.extend(layout.frontends.keys()),
        }
        for name in looked_at {
            match wanted.get_shared(&name) {
                Some(frontend) => agenda.frontends.push((name, frontend)),
                None => agenda.gone.push(name),
            }
        }
        agenda
    }
}

fn vip(intent: VipIntent) -> Vip {
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    Vip {
        flags: flag(intent.answer_neighbors, vip_flags::ANSWER_NEIGHBORS)
            | flag(intent.answer_echo, vip_flags::ANSWER_ECHO),
        zero: 0,
    }
}
