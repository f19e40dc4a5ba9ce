//! Which slots forget a pod of this node, whose flows are then to be pushed to
//! `c0`'s owner.
//!
//! A flow that its slot does not remember any more is *stray*: only an exception on the node of today's owner
//! leads to it. It is pushed when it becomes stray, and again whenever `c0` moves. To know of the latter without a
//! look at all flows at every change, the slots that have stray flows are kept.
//!
//! Under another flow key, or with another part of the packet hashed, flows have other slots, which remember
//! other flows' owners: then all are looked at, by the slots that they are to have.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::Layout;
use super::Table;
use crate::model::intent::FrontendName;

/// Slots by frontend.
type Slots = BTreeMap<FrontendName, BTreeSet<u32>>;

/// The slots that have stray flows.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Forgotten(Slots);

/// The slots whose flows are to be looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Those of any slot.
    All,
    /// Those of some.
    Some(Slots),
}

impl Default for Scope {
    fn default() -> Self {
        Self::Some(Slots::new())
    }
}

impl Scope {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Some(slots) if slots.is_empty())
    }

    /// Whether a slot is among them.
    pub fn has(&self, name: &FrontendName, slot: u32) -> bool {
        match self {
            Self::All => true,
            Self::Some(slots) => slots.get(name).is_some_and(|slots| slots.contains(&slot)),
        }
    }
}

impl Forgotten {
    /// The slots that may have flows to be pushed as one layout follows the other. Their stray flows are to be
    /// named by [`Self::note`].
    pub fn changed(&mut self, before: &Layout, after: &Layout) -> Scope {
        if before.flow_key() != after.flow_key() && before.flow_key().is_some() {
            self.0.clear();
            return Scope::All;
        }
        self.0.retain(|name, _| after.frontends.contains_key(name));
        let mut scope = Slots::new();
        for change in after.changes(before) {
            let (name, Some((old, table))) = (change.key, change.before.zip(change.after)) else {
                continue;
            };
            if old.has_client_affinity() != table.has_client_affinity() {
                self.0.remove(name);
                scope.insert(*name, (0..table.slots.len() as u32).collect());
                continue;
            }
            let strays = self.0.get(name);
            let changed = changed(old, table, |slot| {
                strays.is_some_and(|strays| strays.contains(&slot))
            });
            if table.slots.len() != old.slots.len() {
                // They have other numbers from now on.
                self.0.remove(name);
            } else if let Some(strays) = self.0.get_mut(name) {
                strays.retain(|slot| !changed.contains(slot));
            }
            if !changed.is_empty() {
                scope.insert(*name, changed);
            }
        }
        Scope::Some(scope)
    }

    /// A slot that was to be looked at has a stray flow.
    pub fn note(&mut self, name: FrontendName, slot: u32) {
        self.0.entry(name).or_default().insert(slot);
    }
}

/// The slots of a table that forgot a backend of this node, or whose owner changed while they have stray flows.
fn changed(old: &Table, new: &Table, has_strays: impl Fn(u32) -> bool) -> BTreeSet<u32> {
    let is_other_length = old.slots.len() != new.slots.len();
    let longer = old.slots.len().max(new.slots.len());
    let (old_mask, new_mask) = (old.slots.len() - 1, new.slots.len() - 1);
    let slots = (0..longer).filter(|index| {
        let (Some(before), Some(after)) = (
            old.slots.get(index & old_mask),
            new.slots.get(index & new_mask),
        ) else {
            return false;
        };
        if before == after && !is_other_length {
            return false;
        }
        let owners = after.owners();
        let forgets = before.owners().iter().any(|number| {
            let (was, is) = (old.members.get(number), new.members.get(number));
            let stays = was
                .zip(is)
                .is_some_and(|(was, is)| was.is_local() && was.generation() == is.generation());
            stays && !owners.contains(number)
        });
        let moves = before.current() != after.current() || is_other_length;
        forgets || (moves && has_strays((index & old_mask) as u32))
    });
    slots.map(|index| (index & new_mask) as u32).collect()
}
