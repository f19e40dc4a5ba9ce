//! Hands out small numbers and takes them back: node numbers, frontend ids,
//! backend elements.

/// A set of numbers in use. Numbers go round, so that one taken back is given out again as late as
/// possible.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Numbers {
    first: u32,
    end: u32,
    used: Vec<u64>,
    free: u32,
    cursor: u32,
}

impl Numbers {
    /// All numbers from `first` up to, not including, `end`.
    pub(super) fn new(first: u32, end: u32) -> Self {
        let end = end.max(first);
        Self {
            first,
            end,
            used: vec![0; end.div_ceil(64) as usize],
            free: end - first,
            cursor: first,
        }
    }

    /// How many numbers are left.
    pub(super) fn free(&self) -> u32 {
        self.free
    }

    /// Takes a number; `None` if none is left.
    pub(super) fn take(&mut self) -> Option<u32> {
        if self.free == 0 {
            return None;
        }
        let number = self
            .first_free(self.cursor, self.end)
            .or_else(|| self.first_free(self.first, self.cursor))?;
        self.used[(number / 64) as usize] |= 1 << (number % 64);
        self.free -= 1;
        self.cursor = number + 1;
        Some(number)
    }

    /// Takes a certain number, as a restart finds it in use; false if it is none of these or not free.
    pub(super) fn reserve(&mut self, number: u32) -> bool {
        if !(self.first..self.end).contains(&number) {
            return false;
        }
        let bit = 1 << (number % 64);
        let word = &mut self.used[(number / 64) as usize];
        if *word & bit != 0 {
            return false;
        }
        *word |= bit;
        self.free -= 1;
        true
    }

    /// Goes on after `number`, the one given out last before a restart.
    pub(super) fn go_on_after(&mut self, number: u32) {
        self.cursor = number.saturating_add(1).clamp(self.first, self.end);
    }

    /// Gives a number back.
    pub(super) fn give_back(&mut self, number: u32) {
        let bit = 1 << (number % 64);
        let word = &mut self.used[(number / 64) as usize];
        debug_assert!(*word & bit != 0, "{number} was not taken");
        *word &= !bit;
        self.free += 1;
    }

    fn first_free(&self, from: u32, to: u32) -> Option<u32> {
        let mut at = from;
        while at < to {
            let word = self.used[(at / 64) as usize] | ((1u64 << (at % 64)) - 1);
            let number = at / 64 * 64 + word.trailing_ones();
            if word != u64::MAX {
                return (number < to).then_some(number);
            }
            at = number;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_given_out_once_and_reused_last() {
        let mut numbers = Numbers::new(1, 131);
        let all: Vec<u32> = std::iter::from_fn(|| numbers.take()).collect();
        assert_eq!(all, (1..131).collect::<Vec<_>>());
        for number in [7, 70, 130] {
            numbers.give_back(number);
        }
        assert_eq!(numbers.free(), 3);
        assert_eq!([numbers.take(), numbers.take()], [Some(7), Some(70)]);
        numbers.give_back(7);
        assert_eq!([numbers.take(), numbers.take()], [Some(130), Some(7)]);
        assert_eq!(numbers.take(), None);
    }

    #[test]
    fn what_is_in_use_already_is_not_given_out() {
        let mut numbers = Numbers::new(1, 6);
        assert!(numbers.reserve(3));
        assert!(![0, 3, 6].into_iter().any(|number| numbers.reserve(number)));
        numbers.go_on_after(3);
        let all: Vec<u32> = std::iter::from_fn(|| numbers.take()).collect();
        assert_eq!(all, [4, 5, 1, 2]);
    }
}
