//! What a joining agent takes over of the history that its peers keep.
//!
//! Peers call a pod by its address and port. Whoever was a slot's owner with a peer, and is a backend here, was
//! its owner here too; today's owner is this node's own choice always.

use std::net::IpAddr;
use std::sync::Arc;

use lb_common::maps::Slot;

use super::Layout;
use super::Plan;
use super::Table;
use super::history;
use crate::model::intent::FrontendName;
use crate::plan::step::Step;

/// The owners of a slot, newest first.
type Owners = [Option<(IpAddr, u16)>; Slot::DEPTH];

/// What a peer remembers of a frontend.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Heritage {
    /// The frontend.
    pub name: FrontendName,
    /// Owners by slot; their number is a power of two.
    pub slots: Vec<[Option<(IpAddr, u16)>; Slot::DEPTH]>,
}

impl Layout {
    /// Gives history to frontends that the plan writes for the first time, in the plan and in the layout that
    /// came of it. All others stay as they are.
    pub fn inherit(&mut self, plan: &mut Plan, heritage: &[Heritage]) {
        for Heritage { name, slots } in heritage {
            let Some(table) = self.frontends.get_mut(name) else {
                continue;
            };
            let first = table.value.slots;
            let written = plan.steps.iter_mut().rev().find_map(|step| match step {
                Step::SetSlots { index, slots } if *index == first => Some(slots),
                _ => None,
            });
            if let Some(written) = written
                && slots.len().is_power_of_two()
            {
                table.inherit(slots);
                table.complete();
                *written = Arc::clone(&table.written);
            }
        }
    }
}

impl Table {
    fn inherit(&mut self, slots: &[Owners]) {
        let own = self.slots.iter().enumerate();
        let slots = own.map(|(index, slot)| {
            // As a table that grew or shrank would have carried it over.
            let former = slots.get(index & (slots.len() - 1));
            let owners = former.copied().unwrap_or_default().map(|owner| {
                let number = owner.and_then(|pod| self.indices.get(&pod));
                number.copied().unwrap_or(0)
            });
            history::succeed(Slot::new(owners), slot.current(), |_| true)
        });
        self.slots = slots.collect();
    }
}
