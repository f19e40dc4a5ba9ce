//! Divides the slot array into power-of-two regions: a buddy allocator.

use std::collections::BTreeSet;

/// The regions of an array that are free, by size.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Regions {
    total: u32,
    used: u32,
    /// `free[k]` holds the starts of the free blocks of 2^k elements.
    free: Vec<BTreeSet<u32>>,
}

impl Regions {
    /// An array of `total` elements, all free.
    pub(super) fn new(total: u32) -> Self {
        let mut free = vec![BTreeSet::new(); 32];
        let mut start = 0;
        for order in (0..32).rev() {
            if total & 1 << order != 0 {
                free[order as usize].insert(start);
                start += 1 << order;
            }
        }
        Self {
            total,
            used: 0,
            free,
        }
    }

    /// Elements in all.
    pub(super) fn total(&self) -> u32 {
        self.total
    }

    /// Elements taken.
    pub(super) fn used(&self) -> u32 {
        self.used
    }

    /// Takes `length` elements, a power of two, from the lowest block that fits best; `None` if there is
    /// no room.
    pub(super) fn take(&mut self, length: u32) -> Option<u32> {
        let order = length.trailing_zeros() as usize;
        let mut found = (order..self.free.len()).find(|order| !self.free[*order].is_empty())?;
        let start = self.free[found].pop_first()?;
        while found > order {
            found -= 1;
            self.free[found].insert(start + (1 << found));
        }
        self.used += length;
        Some(start)
    }

    /// Takes a certain block, as a restart finds it in use; false if it is no block or not free.
    pub(super) fn reserve(&mut self, start: u32, length: u32) -> bool {
        if !length.is_power_of_two() || !start.is_multiple_of(length) {
            return false;
        }
        let order = length.trailing_zeros() as usize;
        let around = |order: usize| start & !((1 << order) - 1);
        let Some(mut found) =
            (order..self.free.len()).find(|order| self.free[*order].remove(&around(*order)))
        else {
            return false;
        };
        while found > order {
            found -= 1;
            self.free[found].insert(around(found) ^ 1 << found);
        }
        self.used += length;
        true
    }

    /// Gives back what [`Regions::take`] or [`Regions::reserve`] gave.
    pub(super) fn give_back(&mut self, start: u32, length: u32) {
        self.used -= length;
        let mut start = start;
        let mut order = length.trailing_zeros() as usize;
        while order + 1 < self.free.len() && self.free[order].remove(&(start ^ 1 << order)) {
            start &= !(1 << order);
            order += 1;
        }
        self.free[order].insert(start);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_array_of_any_length_is_used_whole() {
        let mut regions = Regions::new(13);
        let mut starts: Vec<u32> = std::iter::from_fn(|| regions.take(1)).collect();
        starts.sort_unstable();
        assert_eq!(starts, (0..13).collect::<Vec<_>>());
        assert_eq!(regions.used(), 13);
    }

    proptest! {
        #[test]
        fn regions_never_overlap_and_all_comes_back(
            wishes in proptest::collection::vec((0u32..8, any::<prop::sample::Index>(), any::<bool>()), 1..200),
        ) {
            let fresh = Regions::new(1_000);
            let mut regions = fresh.clone();
            let mut taken: Vec<(u32, u32)> = Vec::new();
            for (order, which, give) in wishes {
                if give && !taken.is_empty() {
                    let (start, length) = taken.swap_remove(which.index(taken.len()));
                    regions.give_back(start, length);
                } else if let Some(start) = regions.take(1 << order) {
                    let length = 1 << order;
                    prop_assert!(start % length == 0 && start + length <= 1_000);
                    prop_assert!(taken.iter().all(|(s, l)| start + length <= *s || s + l <= start));
                    taken.push((start, length));
                }
                prop_assert_eq!(regions.used(), taken.iter().map(|(_, length)| length).sum::<u32>());
            }
            let mut again = fresh.clone();
            for (start, length) in &taken {
                prop_assert!(again.reserve(*start, *length));
                prop_assert!(!again.reserve(*start, *length));
            }
            prop_assert_eq!(&again, &regions);
            for (start, length) in taken {
                regions.give_back(start, length);
            }
            prop_assert_eq!(regions, fresh);
        }
    }
}
