//! What other nodes choose, where a frontend gives nodes different choices.
//!
//! A connection that the router moves comes to a node whose table never led to its pod. Every node can tell what
//! the others choose for a slot, and names it in the slot behind what the slot remembers: so the chain finds the
//! connection. What others choose is no history; it is made anew with every plan.

use std::collections::HashMap;
use std::sync::Arc;

use super::history;
use super::table::Table;
use crate::plan::maglev;
use crate::plan::maglev::Candidate;

impl Table {
    /// Names behind the owners of each slot what other nodes choose.
    pub(super) fn complete(&mut self) {
        self.written = Arc::clone(&self.slots);
        let Some(choices) = &self.intent.choices else {
            return;
        };
        let others = choices.others.iter();
        let others: Vec<_> = others
            .filter_map(|group| choices.groups.get(*group))
            .map(|group| self.choose(group))
            .collect();
        let node_of = |number| Some(self.members.get(&number)?.value.node);
        let slots = self.slots.iter().enumerate().map(|(index, slot)| {
            let others = others.iter().filter_map(|owners| {
                let owner = owners.get(index & (owners.len() - 1))?;
                owner.as_ref().copied()
            });
            history::complete(*slot, others, node_of)
        });
        self.written = slots.collect();
    }

    /// The owners that nodes give the slots which choose among a group.
    fn choose(&self, group: &[(u32, u32)]) -> Vec<Option<u16>> {
        let candidates = self.candidates(group);
        let owners = maglev::fill(self.length, &candidates).into_iter();
        let number = |owner: usize| {
            let owner = candidates.get(owner)?;
            self.indices.get(&(owner.addr, owner.port)).copied()
        };
        owners.map(|owner| owner.and_then(number)).collect()
    }

    fn candidates(&self, group: &[(u32, u32)]) -> Vec<Candidate> {
        let backends = group.iter().filter_map(|(place, weight)| {
            let backend = self.intent.backends.get(*place as usize)?;
            Some(Candidate {
                addr: backend.addr,
                port: backend.port,
                weight: *weight,
            })
        });
        backends.collect()
    }

    /// Over what all nodes have in common.
    pub(super) fn compute_digest(&self) -> String {
        if let Some(choices) = &self.intent.choices {
            let groups = choices.groups.iter();
            let groups: Vec<_> = groups.map(|group| self.candidates(group)).collect();
            return maglev::digest_of_groups(self.length, &groups);
        }
        let order = self.order();
        let mut owners = Vec::with_capacity(order.len());
        let mut places = HashMap::with_capacity(order.len());
        for number in order {
            if let Some(member) = self.members.get(&number).filter(|member| member.weight > 0) {
                places.insert(number, owners.len() as u16);
                owners.push((member.addr, member.port));
            }
        }
        let slots = self.slots.iter().take(self.length as usize);
        let slots: Vec<Option<u16>> = slots
            .map(|slot| places.get(&slot.current()).copied())
            .collect();
        maglev::digest(&owners, &slots)
    }
}
