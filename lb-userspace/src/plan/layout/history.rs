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

    #[test]
    fn a_slot_without_an_owner_keeps_its_history() {
        let slot = succeed(Slot::new([1, 2, 0, 0]), 0, |_| true);
        assert_eq!(slot.owners(), [0, 1, 2, 0]);
        assert!(is_kept(slot));
        assert!(!is_kept(Slot::new([1, 0, 0, 0])));
    }
}
