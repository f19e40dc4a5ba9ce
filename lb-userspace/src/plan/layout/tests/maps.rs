//! What the kernel's maps would hold, and the invariants of what they hold.

use std::collections::HashMap;

use lb_common::addr::Be16;
use lb_common::maps::Backend;
use lb_common::maps::Frontend;
use lb_common::maps::Slot;
use lb_common::maps::backend_flags;

use super::*;
use crate::plan::maglev;
use crate::plan::step::BackendName;

/// What the kernel's maps would hold.
#[derive(Clone, Default)]
pub(super) struct Maps {
    pub(super) config: Option<Config>,
    pub(super) nodes: HashMap<u16, Node>,
    pub(super) peer_macs: BTreeMap<Mac, u16>,
    pub(super) peer_addrs: BTreeMap<AddrWords, u16>,
    pub(super) indices: BTreeMap<BackendName, u32>,
    pub(super) backends: HashMap<u32, Backend>,
    pub(super) slots: HashMap<u32, Slot>,
    pub(super) frontends: BTreeMap<FrontendName, Frontend>,
    pub(super) vips: BTreeMap<IpAddr, Vip>,
}

impl Maps {
    /// Takes the steps, checking the invariants after each.
    pub(super) fn run(&mut self, steps: &[Step]) {
        for step in steps {
            self.take(step);
            self.check_touched(step);
        }
        self.check();
    }

    fn take(&mut self, step: &Step) {
        match step.clone() {
            Step::SetConfig(config) => self.config = Some(*config),
            Step::SetNode { number, node, .. } => {
                self.nodes.insert(number, node);
            }
            Step::SetPeerMac { mac, number } => {
                self.peer_macs.insert(mac, number);
            }
            Step::RemovePeerMac { mac } => {
                self.peer_macs.remove(&mac).expect("a MAC to remove");
            }
            Step::SetPeerAddr { addr, number } => {
                self.peer_addrs.insert(addr, number);
            }
            Step::RemovePeerAddr { addr } => {
                self.peer_addrs.remove(&addr).expect("an address to remove");
            }
            Step::SetBackendIndex { name, index } => {
                self.indices.insert(name, index);
            }
            Step::RemoveBackendIndex { name } => {
                self.indices.remove(&name).expect("a name to remove");
            }
            Step::SetBackend { index, backend } => {
                let old = self.backends.insert(index, backend).unwrap_or_default();
                let was_other = old.addr != backend.addr
                    || old.port != backend.port
                    || old.node != backend.node;
                assert!(
                    old.flags == 0 || backend.flags == 0 || !was_other,
                    "{step} overwrites a pod"
                );
                let reused = old.flags == 0 && backend.flags != 0;
                assert!(
                    !reused || old.generation < backend.generation,
                    "{step}: old generation"
                );
            }
            Step::SetSlot { index, slot } => {
                self.slots.insert(index, slot);
            }
            Step::SetSlots { index, slots } => {
                for (index, slot) in (index..).zip(slots.iter()) {
                    self.slots.insert(index, *slot);
                }
            }
            Step::ClearCounters { id } => {
                let mut ids = self.frontends.values().map(|frontend| frontend.id);
                assert!(ids.all(|taken| taken != id), "{step}, which is in use");
            }
            Step::SetFrontend { name, frontend } => {
                self.frontends.insert(name, frontend);
            }
            Step::RemoveFrontend { name } => {
                self.frontends.remove(&name).expect("a frontend to remove");
            }
            Step::SetVip { addr, vip } => {
                self.vips.insert(addr, vip);
            }
            Step::RemoveVip { addr } => {
                self.vips.remove(&addr).expect("a VIP to remove");
            }
        }
    }

    /// The invariants that a step can break.
    fn check_touched(&self, step: &Step) {
        match step {
            Step::SetFrontend { name, frontend } => self.check_frontend(name, frontend, None),
            Step::SetSlot { index, .. } => {
                for (name, frontend) in &self.frontends {
                    if (frontend.slots..=frontend.slots + frontend.mask).contains(index) {
                        self.check_frontend(name, frontend, Some(*index));
                    }
                }
            }
            Step::SetSlots { .. } => self.check(),
            Step::SetBackend { backend, .. } if backend.flags == 0 => self.check(),
            Step::SetNode { .. } | Step::SetPeerAddr { .. } => self.check(),
            Step::SetBackendIndex { name, index } => self.check_index(name, *index),
            _ => {}
        }
    }

    fn check(&self) {
        for (name, index) in &self.indices {
            self.check_index(name, *index);
        }
        for number in self.peer_addrs.values() {
            let is_there = |node: &Node| *node != Node::default();
            assert!(
                self.nodes.get(number).is_some_and(is_there),
                "node {number}"
            );
        }
        let mut regions: Vec<(u32, u32)> = Vec::new();
        for (name, frontend) in &self.frontends {
            self.check_frontend(name, frontend, None);
            regions.push((frontend.slots, frontend.slots + frontend.mask));
        }
        regions.sort_unstable();
        assert!(
            regions.windows(2).all(|pair| pair[0].1 < pair[1].0),
            "regions overlap"
        );
    }

    fn check_index(&self, name: &BackendName, index: u32) {
        let backend = self.backends.get(&index).copied().unwrap_or_default();
        assert_ne!(backend.flags & backend_flags::IN_USE, 0, "{name} is empty");
        let pod = (backend.frontend, backend.addr, backend.port.host());
        assert_eq!(pod, (name.frontend, node::words(name.addr), name.port));
    }

    fn check_frontend(&self, name: &FrontendName, frontend: &Frontend, only: Option<u32>) {
        let all = frontend.slots..=frontend.slots + frontend.mask;
        for index in only.map_or(all, |index| index..=index) {
            let owners = self
                .slots
                .get(&index)
                .expect("a slot that was written")
                .owners();
            for number in owners.into_iter().filter(|number| *number != 0) {
                let backend = self.backend(frontend, number);
                assert_ne!(
                    backend.flags & backend_flags::IN_USE,
                    0,
                    "{name}: slot {index} names {number}"
                );
                let known = backend.node == 0 || self.nodes.contains_key(&backend.node);
                assert!(known, "{name}: node {} is not there", backend.node);
            }
        }
    }

    /// What a restarted agent would read.
    pub(super) fn dump(&self) -> Dump {
        let region = |value: &Frontend| value.slots..=value.slots + value.mask;
        let slots = |value: &Frontend| region(value).map(|index| self.slots[&index]).collect();
        let frontends = self.frontends.iter();
        Dump {
            config: self.config,
            nodes: self.nodes.iter().map(|(n, node)| (*n, *node)).collect(),
            peer_macs: self.peer_macs.iter().map(|(mac, n)| (*mac, *n)).collect(),
            peer_addrs: self.peer_addrs.iter().map(|(a, n)| (*a, *n)).collect(),
            backend_indices: self.indices.iter().map(|(b, n)| (*b, *n)).collect(),
            backends: self.backends.iter().map(|(n, b)| (*n, *b)).collect(),
            frontends: frontends
                .map(|(name, value)| (*name, *value, slots(value)))
                .collect(),
            vips: self.vips.iter().map(|(addr, vip)| (*addr, *vip)).collect(),
        }
    }

    /// The owners of every slot by address and port, the history included.
    pub(super) fn owners(&self) -> BTreeMap<(FrontendName, u32), Vec<(AddrWords, Be16)>> {
        let mut all = BTreeMap::new();
        for (name, value) in &self.frontends {
            for offset in 0..=value.mask {
                let owners = self.slots[&(value.slots + offset)].owners();
                let pods = owners.into_iter().filter(|number| *number != 0);
                let pods = pods.map(|number| self.backend(value, number));
                let pods = pods.map(|backend| (backend.addr, backend.port)).collect();
                all.insert((*name, offset), pods);
            }
        }
        all
    }

    fn backend(&self, frontend: &Frontend, number: u16) -> Backend {
        let index = frontend.backends + u32::from(number);
        self.backends.get(&index).copied().unwrap_or_default()
    }

    /// Asserts that the maps hold what the intent asks for, and nothing else.
    pub(super) fn assert_is(&self, intent: &DataplaneIntent, layout: &Layout) {
        let names: Vec<_> = self.frontends.keys().collect();
        assert_eq!(names, intent.frontends.keys().collect::<Vec<_>>());
        let mut in_use = 0;
        for (name, wanted) in &intent.frontends {
            let frontend = &self.frontends[name];
            let active: Vec<_> = wanted
                .backends
                .iter()
                .filter(|backend| backend.weight > 0)
                .collect();
            let candidates: Vec<_> = active
                .iter()
                .map(|b| maglev::Candidate {
                    addr: b.addr,
                    port: b.port,
                    weight: b.weight,
                })
                .collect();
            let owners = maglev::fill(wanted.table_length, &candidates);
            assert!(
                frontend.mask + 1 >= wanted.table_length,
                "{name} is too short"
            );
            for offset in 0..=frontend.mask {
                let number = self.slots[&(frontend.slots + offset)].current();
                let owner = owners[(offset & (wanted.table_length - 1)) as usize];
                let found = (number != 0).then(|| self.backend(frontend, number));
                let found = found.map(|b| (b.addr, b.port.host(), b.node, b.flags));
                let wanted = owner.map(|owner| {
                    let node = &*active[owner].node;
                    let node = if node == intent.node {
                        0
                    } else {
                        layout.nodes[node].number
                    };
                    let addr = node::words(active[owner].addr);
                    (addr, active[owner].port, node, backend_flags::IN_USE)
                });
                assert_eq!(found, wanted, "{name}: slot {offset}");
            }
            let draining = wanted
                .backends
                .iter()
                .filter(|backend| backend.weight == 0)
                .count();
            let drains = |b: &&Backend| b.flags & backend_flags::DRAINING != 0;
            let members = layout.frontends[name].members.keys();
            let members: Vec<_> = members
                .map(|number| self.backend(frontend, *number))
                .collect();
            assert_eq!(members.iter().filter(drains).count(), draining);
            in_use += wanted.backends.len();
        }
        let live = self
            .backends
            .values()
            .filter(|backend| backend.flags != 0)
            .count();
        assert_eq!(live, in_use, "backends left over");
        assert_eq!(self.indices.len(), in_use, "a backend nobody can name");
        self.assert_peers_are_known(intent, layout);
        assert_eq!(self.vips.len(), intent.vips.len());
        assert!(self.config.is_some());
        let reachable = self
            .nodes
            .iter()
            .filter(|(number, node)| **number != 0 && node.mode != node_mode::UNREACHABLE)
            .count();
        assert_eq!(self.peer_macs.len(), reachable);
    }

    pub(super) fn assert_peers_are_known(&self, intent: &DataplaneIntent, layout: &Layout) {
        let peers = intent.nodes.iter().flat_map(|(name, peer)| {
            let number = layout.nodes[name].number;
            let words = peer.addresses.iter().map(|addr| node::words(*addr));
            words.map(move |addr| (addr, number))
        });
        assert_eq!(self.peer_addrs, peers.collect());
    }
}
