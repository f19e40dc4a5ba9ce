//! One frontend in the maps: its members, its slots, and the steps to change
//! them.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use lb_common::addr::Be16;
use lb_common::maps::Backend;
use lb_common::maps::Frontend;
use lb_common::maps::Slot;
use lb_common::maps::backend_flags;
use lb_common::maps::frontend_flags;

use super::WINDOW;
use super::history;
use super::node;
use super::round::Round;
use crate::model::cluster::Forwarding;
use crate::model::intent::BackendIntent;
use crate::model::intent::FrontendIntent;
use crate::model::intent::FrontendName;
use crate::model::name::ObjectName;
use crate::plan::maglev;
use crate::plan::maglev::Candidate;
use crate::plan::step::BackendName;
use crate::plan::step::Step;

/// A frontend in the maps.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    pub(super) intent: Arc<FrontendIntent>,
    pub(super) value: Frontend,
    /// By backend number.
    pub(super) members: BTreeMap<u16, Member>,
    /// The backend numbers that other nodes' names for pods lead to.
    pub(super) indices: BTreeMap<(IpAddr, u16), u16>,
    /// What the maps hold: `slots`, and behind them what other nodes choose where they choose otherwise.
    pub(super) written: Arc<[Slot]>,
    /// Today's and the former owners of each slot.
    pub(super) slots: Arc<[Slot]>,
    /// Slots after which the owners repeat. As long as slots have history the table stays longer than
    /// it need be, which no packet can tell.
    pub(super) length: u32,
    /// The table is all that the intent asks for. It is not where there was no room for all slots, nor
    /// right after a restart.
    pub(super) is_settled: bool,
    pub(super) digest: String,
}

/// A backend in the maps.
#[derive(Clone, PartialEq, Debug)]
pub struct Member {
    /// Pod address.
    pub addr: IpAddr,
    /// Pod port.
    pub port: u16,
    /// Node it runs on.
    pub node: Arc<str>,
    /// Its weight; 0 is draining.
    pub weight: u32,
    pub(super) value: Backend,
}

impl Table {
    /// The Service it belongs to.
    pub fn service(&self) -> &ObjectName {
        &self.intent.service
    }

    /// What was asked for.
    pub fn intent(&self) -> &FrontendIntent {
        &self.intent
    }

    /// The value in the frontend map.
    pub fn value(&self) -> &Frontend {
        &self.value
    }

    /// Number of slots after which the owners repeat.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// Digest over length and owners, equal on all nodes that agree.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The backends in the order of their numbers, each with how many of the [`Table::length`] slots it
    /// owns.
    pub fn members(&self) -> impl Iterator<Item = (u16, &Member, u32)> {
        let mut owned: HashMap<u16, u32> = HashMap::new();
        for slot in self.slots.iter().take(self.length as usize) {
            *owned.entry(slot.current()).or_default() += 1;
        }
        self.members
            .iter()
            .map(move |(number, member)| (*number, member, owned.get(number).copied().unwrap_or(0)))
    }
}

/// Plans a frontend that is new or other than its table.
///
/// # Errors
/// Says what there is no room for; nothing is changed then. A table that cannot become longer is planned
/// at its old length and says so too.
pub(super) fn plan(
    round: &mut Round<'_>,
    name: FrontendName,
    intent: &Arc<FrontendIntent>,
) -> Result<(), String> {
    let old = round.layout.frontends.get_shared(&name).cloned();
    let length = intent.table_length;
    if !length.is_power_of_two() || length > maglev::MAX_LENGTH {
        return Err(format!(
            "table length {length} is not a power of two from 1 to {}",
            maglev::MAX_LENGTH
        ));
    }
    let numbers = node_numbers(round, &intent.backends)?;
    let (kept, added) = compare(old.as_deref(), intent);
    let window = window(round, old.as_deref(), added.len())?;
    if old.is_none() && round.layout.frontend_ids.free() == 0 {
        return Err("the frontend maps are full; remove a Service or raise their size".into());
    }
    let first = match old.as_deref() {
        Some(table) => table.value.slots,
        None => round
            .layout
            .slots
            .take(length)
            .ok_or_else(|| no_slots(round, length))?,
    };
    let id = match old.as_deref() {
        Some(table) => table.value.id,
        None => round.layout.frontend_ids.take().unwrap_or(0),
    };

    let mut members = kept;
    for backend in added {
        let Some(number) = round.layout.windows[window].take() else {
            continue;
        };
        round.layout.generation = round.layout.generation.wrapping_add(1);
        let member = Member {
            addr: backend.addr,
            port: backend.port,
            node: Arc::clone(&backend.node),
            weight: backend.weight,
            value: Backend {
                addr: node::words(backend.addr),
                port: Be16::new(backend.port),
                node: numbers.get(&*backend.node).copied().unwrap_or(0),
                generation: round.layout.generation,
                flags: flags(backend.weight),
                frontend: id,
            },
        };
        members.insert(number as u16, member);
    }

    let mut table = Table {
        intent: Arc::clone(intent),
        value: Frontend {
            slots: first,
            mask: old.as_ref().map_or(length - 1, |table| table.value.mask),
            backends: window as u32 * WINDOW,
            id,
            flags: frontend_flags(intent, round.settings.forwarding),
            changed_at: old.as_ref().map_or(0, |table| table.value.changed_at),
        },
        indices: index(&members),
        members,
        written: Arc::default(),
        slots: Arc::default(),
        length,
        is_settled: true,
        digest: String::new(),
    };
    table.fill(old.as_deref());
    let refusal = table.place(round, old.as_deref());
    table.complete();
    if old
        .as_deref()
        .is_some_and(|old| table.has_other_owners(old))
    {
        table.value.changed_at = round.now.max(1);
    }
    table.digest = table.compute_digest();
    table.write(round, name, old.as_deref());
    round.layout.frontends.insert(name, table);
    refusal.map_or(Ok(()), Err)
}

/// Removes a frontend, its backends and its slots.
pub(super) fn remove(round: &mut Round<'_>, name: FrontendName) {
    if let Some(table) = round.layout.frontends.remove(&name) {
        round.remove_frontends.push(Step::RemoveFrontend { name });
        for pod in table.indices.keys() {
            let name = table.called(pod);
            round.remove_indices.push(Step::RemoveBackendIndex { name });
        }
        for (number, member) in &table.members {
            table.empty(round, *number, member);
        }
        round
            .free_slots
            .push((table.value.slots, table.value.mask + 1));
        round.free_ids.push(table.value.id);
    }
}

impl Table {
    /// Fills the slots from the members, at the length asked for or, to keep history, the old one.
    fn fill(&mut self, old: Option<&Table>) {
        let order = self.order();
        let candidates: Vec<Candidate> = order
            .iter()
            .filter_map(|number| self.members.get(number))
            .map(|member| Candidate {
                addr: member.addr,
                port: member.port,
                weight: member.weight,
            })
            .collect();
        let owners = maglev::fill(self.length, &candidates);
        let former = old.map_or(&[][..], |table| match &self.intent.choices {
            Some(_) => &*table.slots,
            // What others chose is from now on what this node has to remember.
            None => &*table.written,
        });
        let length = owners.len().max(former.len());
        let mut slots: Vec<Slot> = owners
            .iter()
            .cycle()
            .take(length)
            .enumerate()
            .map(|(index, owner)| {
                let current = owner.map_or(0, |owner| order[owner]);
                let former = match former.len() {
                    0 => Slot::default(),
                    length => former[index & (length - 1)],
                };
                history::succeed(former, current, |number| self.members.contains_key(&number))
            })
            .collect();
        if !slots.iter().copied().any(history::is_kept) {
            slots.truncate(owners.len());
        }
        self.slots = slots.into();
    }

    /// Finds a region for the slots if there are more or fewer than before; the reason if more do not fit.
    fn place(&mut self, round: &mut Round<'_>, old: Option<&Table>) -> Option<String> {
        let wanted = self.slots.len() as u32;
        let present = self.value.mask + 1;
        if wanted == present {
            return None;
        }
        if let Some(start) = round.layout.slots.take(wanted) {
            round.free_slots.push((self.value.slots, present));
            self.value.slots = start;
            self.value.mask = wanted - 1;
            return None;
        }
        if wanted < present {
            let repeated = self.slots.iter().copied().cycle().take(present as usize);
            self.slots = repeated.collect();
            return None;
        }
        self.length = present;
        self.is_settled = false;
        self.fill(old);
        // Without history the table could shrink to the length it has: it has it.
        Some(no_slots(round, wanted))
    }

    /// The steps from the old table to this one.
    fn write(&self, round: &mut Round<'_>, name: FrontendName, old: Option<&Table>) {
        for (number, member) in &self.members {
            let index = self.value.backends + u32::from(*number);
            let backend = member.value;
            let step = Step::SetBackend { index, backend };
            match old.and_then(|old| old.members.get(number)) {
                Some(before) if before.value == backend => {}
                Some(_) if member.weight == 0 => round.retire_backends.push(step),
                _ => round.set_backends.push(step),
            }
        }
        self.write_indices(round, old);
        let is_moved = old.is_none_or(|old| old.value.slots != self.value.slots);
        match old.filter(|_| !is_moved) {
            None => round.set_slots.push(Step::SetSlots {
                index: self.value.slots,
                slots: Arc::clone(&self.written),
            }),
            Some(old) => {
                for (offset, slot) in self.written.iter().enumerate() {
                    if old.written.get(offset) != Some(slot) {
                        let index = self.value.slots + offset as u32;
                        round.set_slots.push(Step::SetSlot { index, slot: *slot });
                    }
                }
            }
        }
        if old.is_none() {
            let id = self.value.id;
            round.set_frontends.push(Step::ClearCounters { id });
        }
        if old.is_none_or(|old| old.value != self.value) {
            let frontend = self.value;
            let steps = match is_moved {
                true => &mut round.set_frontends,
                false => &mut round.update_frontends,
            };
            steps.push(Step::SetFrontend { name, frontend });
        }
        for (number, member) in old.iter().flat_map(|old| &old.members) {
            if !self.members.contains_key(number) {
                self.empty(round, *number, member);
            }
        }
    }

    fn write_indices(&self, round: &mut Round<'_>, old: Option<&Table>) {
        let former = |pod| old.and_then(|old| old.indices.get(pod));
        for (pod, number) in &self.indices {
            if former(pod) != Some(number) {
                let index = self.value.backends + u32::from(*number);
                let name = self.called(pod);
                round
                    .set_indices
                    .push(Step::SetBackendIndex { name, index });
            }
        }
        for pod in old.iter().flat_map(|old| old.indices.keys()) {
            if !self.indices.contains_key(pod) {
                let name = self.called(pod);
                round.remove_indices.push(Step::RemoveBackendIndex { name });
            }
        }
    }

    fn called(&self, pod: &(IpAddr, u16)) -> BackendName {
        let (addr, port) = *pod;
        BackendName {
            frontend: self.value.id,
            addr,
            port,
        }
    }

    /// Whether new connections of any slot go elsewhere than before.
    fn has_other_owners(&self, old: &Table) -> bool {
        let length = self.slots.len().max(old.slots.len());
        let owners = |table: &Table| {
            let slots = Arc::clone(&table.slots);
            (0..length).map(move |index| slots[index & (slots.len() - 1)].current())
        };
        owners(self).ne(owners(old))
    }

    fn empty(&self, round: &mut Round<'_>, number: u16, member: &Member) {
        let index = self.value.backends + u32::from(number);
        let backend = Backend {
            generation: member.value.generation,
            ..Backend::default()
        };
        round
            .retire_backends
            .push(Step::SetBackend { index, backend });
        round.free_elements.push(index);
    }

    /// Backend numbers in ascending order of (address, port).
    pub(super) fn order(&self) -> Vec<u16> {
        let mut order: Vec<(IpAddr, u16, u16)> = self
            .members
            .iter()
            .map(|(number, member)| (member.addr, member.port, *number))
            .collect();
        order.sort_unstable();
        order.into_iter().map(|(_, _, number)| number).collect()
    }
}

fn frontend_flags(intent: &FrontendIntent, forwarding: Option<Forwarding>) -> u32 {
    let affinity = match intent.client_affinity {
        true => frontend_flags::CLIENT_AFFINITY,
        false => 0,
    };
    affinity
        | match intent.forwarding.or(forwarding) {
            None => 0,
            Some(Forwarding::L2) => frontend_flags::SEGMENT,
            Some(Forwarding::Geneve) => frontend_flags::TUNNEL,
        }
}

/// What other nodes call the members.
fn index(members: &BTreeMap<u16, Member>) -> BTreeMap<(IpAddr, u16), u16> {
    members
        .iter()
        .map(|(number, member)| ((member.addr, member.port), *number))
        .collect()
}

/// The members that stay, with their numbers, and the backends that come.
fn compare<'a>(
    old: Option<&Table>,
    intent: &'a FrontendIntent,
) -> (BTreeMap<u16, Member>, Vec<&'a BackendIntent>) {
    let present: HashMap<(IpAddr, u16, &str), (u16, &Member)> = old
        .iter()
        .flat_map(|table| &table.members)
        .map(|(number, member)| ((member.addr, member.port, &*member.node), (*number, member)))
        .collect();
    let mut kept = BTreeMap::new();
    let mut added = Vec::new();
    for backend in &intent.backends {
        match present.get(&(backend.addr, backend.port, &*backend.node)) {
            None => added.push(backend),
            Some((number, member)) => {
                let mut member = (*member).clone();
                member.weight = backend.weight;
                member.value.flags = flags(backend.weight);
                kept.insert(*number, member);
            }
        }
    }
    (kept, added)
}

/// The numbers of the nodes that the backends run on.
fn node_numbers<'a>(
    round: &Round<'_>,
    backends: &'a [BackendIntent],
) -> Result<HashMap<&'a str, u16>, String> {
    let mut numbers = HashMap::new();
    for backend in backends {
        let number = round.node_number(&backend.node).ok_or_else(|| {
            format!(
                "the node map is full: there is no number left for node {}",
                backend.node
            )
        })?;
        numbers.insert(&*backend.node, number);
    }
    Ok(numbers)
}

/// The window with room for `wanted` more backends: a table's own, else the emptiest.
fn window(round: &Round<'_>, old: Option<&Table>, wanted: usize) -> Result<usize, String> {
    let windows = &round.layout.windows;
    let window = match old {
        Some(table) => Some((table.value.backends / WINDOW) as usize),
        None => {
            (0..windows.len()).max_by_key(|window| (windows[*window].free(), usize::MAX - window))
        }
    };
    window
        .filter(|window| windows[*window].free() as usize >= wanted)
        .ok_or_else(|| {
            format!("the backend map has no room for {wanted} more backends; raise its size")
        })
}

fn no_slots(round: &Round<'_>, wanted: u32) -> String {
    format!(
        "no room for {wanted} slots: {} of {} are in use; raise --slots or remove Services",
        round.layout.slots.used(),
        round.layout.slots.total()
    )
}

fn flags(weight: u32) -> u32 {
    match weight {
        0 => backend_flags::IN_USE | backend_flags::DRAINING,
        _ => backend_flags::IN_USE,
    }
}
