//! The former owners of a slot.

use lb_common::maps::Slot;

/// The slot after `current` (0 for none) became its owner: today's owner first, then the former ones,
/// newest first, without duplicates and without those that are gone. An owner that returns moves to the
/// front, so that a flapping pod does not use up the history.
pub(super) fn succeed(old: Slot, current: u16, exists: impl Fn(u16) -> bool) -> Slot {
    let mut owners = [0; Slot::DEPTH];
    owners[0] = current;
    let mut length = 1;
    for owner in old.owners() {
        let known = owner == 0 || owners[..length].contains(&owner);
        if !known && length < Slot::DEPTH && exists(owner) {
            owners[length] = owner;
            length += 1;
        }
    }
    Slot::new(owners)
}

/// The slot with what other nodes choose for it behind what it remembers. A node is asked once and for any
/// of its pods: who runs where somebody before does comes last.
pub(super) fn complete(
    slot: Slot,
    others: impl Iterator<Item = u16>,
    node_of: impl Fn(u16) -> Option<u16>,
) -> Slot {
    let [current, former @ ..] = slot.owners();
    let mut owners = [0; Slot::DEPTH];
    owners[0] = current;
    let mut length = 1;
    for owner in former.into_iter().chain(others) {
        let Some(node) = node_of(owner) else {
            continue;
        };
        let mut asked = owners[..length].iter();
        // Where nobody is the owner, this node asks.
        let is_asked = asked.any(|owner| node_of(*owner).unwrap_or(0) == node);
        if !is_asked && length < Slot::DEPTH {
            owners[length] = owner;
            length += 1;
        }
    }
    for owner in former {
        let known = owner == 0 || owners[..length].contains(&owner);
        if !known && length < Slot::DEPTH {
            owners[length] = owner;
            length += 1;
        }
    }
    Slot::new(owners)
}

/// Whether the slot remembers anybody but today's owner.
pub(super) fn is_kept(slot: Slot) -> bool {
    slot.0 >> 16 != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_former_owner_comes_second() {
        let slot = succeed(Slot::new([1, 2, 3, 4]), 9, |_| true);
        assert_eq!(slot.owners(), [9, 1, 2, 3]);
    }

    #[test]
    fn a_returning_owner_moves_to_the_front() {
        let slot = succeed(Slot::new([1, 2, 3, 4]), 3, |_| true);
        assert_eq!(slot.owners(), [3, 1, 2, 4]);
    }

    #[test]
    fn owners_that_are_gone_are_dropped() {
        let slot = succeed(Slot::new([1, 2, 3, 4]), 9, |owner| owner != 1 && owner != 3);
        assert_eq!(slot.owners(), [9, 2, 4, 0]);
    }

    /// Owner n runs on node n / 10; node 0 is this one.
    fn completed(slot: [u16; 4], others: &[u16]) -> [u16; 4] {
        let node_of = |owner| (owner != 0).then_some(owner / 10);
        complete(Slot::new(slot), others.iter().copied(), node_of).owners()
    }

    #[test]
    fn what_other_nodes_choose_stands_behind_what_the_slot_remembers() {
        assert_eq!(completed([1, 21, 0, 0], &[11, 31]), [1, 21, 11, 31]);
        assert_eq!(completed([1, 21, 31, 41], &[11]), [1, 21, 31, 41]);
    }

    #[test]
    fn a_node_that_is_asked_already_gives_way_to_another() {
        assert_eq!(completed([1, 2, 3, 21], &[22, 31, 41]), [1, 21, 31, 41]);
        assert_eq!(completed([11, 12, 1, 0], &[2, 21]), [11, 1, 21, 12]);
    }

    #[test]
    fn a_slot_without_an_owner_asks_others_than_this_node() {
        assert_eq!(completed([0, 1, 0, 0], &[11, 2]), [0, 11, 1, 0]);
    }

    #[test]
    fn a_slot_without_an_owner_keeps_its_history() {
        let slot = succeed(Slot::new([1, 2, 0, 0]), 0, |_| true);
        assert_eq!(slot.owners(), [0, 1, 2, 0]);
        assert!(is_kept(slot));
        assert!(!is_kept(Slot::new([1, 0, 0, 0])));
    }
}
