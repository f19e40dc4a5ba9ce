//! The Internet checksum: from scratch (RFC 1071) and by difference (RFC 1624).
//!
//! One's complement sums do not care about byte order (RFC 1071 §2 B), so everything here adds integers
//! as they lie on the wire.

use crate::addr::{AddrWords, Be16, Be32};

/// A sum of 16-bit words, carries not yet folded in. Room for 2³² words of 32 bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Self = Self(0);

    /// Adds a 16-bit word.
    #[inline(always)]
    pub const fn add16(self, word: Be16) -> Self {
        Self(self.0 + word.raw() as u64)
    }

    /// Adds two 16-bit words.
    #[inline(always)]
    pub const fn add32(self, words: Be32) -> Self {
        Self(self.0 + words.raw() as u64)
    }

    /// Adds the eight 16-bit words of an address.
    #[inline(always)]
    pub const fn add_words(self, words: AddrWords) -> Self {
        let [a, b, c, d] = words;
        self.add32(a).add32(b).add32(c).add32(d)
    }

    /// Adds octets, the last one padded with zero if their number is odd.
    pub fn add_octets(mut self, octets: &[u8]) -> Self {
        for pair in octets.chunks(2) {
            let mut word = [0; 2];
            for (to, from) in word.iter_mut().zip(pair) {
                *to = *from;
            }
            self.0 += u64::from(u16::from_ne_bytes(word));
        }
        self
    }

    /// Adds another sum.
    #[inline(always)]
    pub const fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }

    /// The one's complement of the sum: what goes into a checksum field.
    #[inline(always)]
    pub const fn finish(self) -> Be16 {
        Be16::from_raw(!self.fold())
    }

    #[inline(always)]
    const fn fold(self) -> u16 {
        // A u64 has at most 2^32 + 2^32 after the first step, 2^17 after the second, 2^16 after the third.
        let sum = (self.0 & 0xffff_ffff) + (self.0 >> 32);
        let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
        let sum = (sum & 0xffff) + (sum >> 16);
        let sum = (sum & 0xffff) + (sum >> 16);
        sum as u16
    }
}

/// What a rewrite adds to a checksum: `~m + m'` of RFC 1624 §3, equation 3.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Difference(Sum);

impl Difference {
    /// Nothing was rewritten.
    pub const ZERO: Self = Self(Sum::ZERO);

    /// A 16-bit word was rewritten.
    #[inline(always)]
    pub const fn replace16(self, old: Be16, new: Be16) -> Self {
        Self(self.0.add16(Be16::from_raw(!old.raw())).add16(new))
    }

    /// Two 16-bit words were rewritten.
    #[inline(always)]
    pub const fn replace32(self, old: Be32, new: Be32) -> Self {
        Self(self.0.add32(Be32::from_raw(!old.raw())).add32(new))
    }

    /// The checksum after the rewrite. A wrong checksum stays wrong by the same amount.
    #[inline(always)]
    pub const fn apply(self, checksum: Be16) -> Be16 {
        self.0.add16(Be16::from_raw(!checksum.raw())).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_example_of_rfc_1071_comes_out() {
        let sum = Sum::ZERO.add_octets(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(sum.finish(), Be16::new(!0xddf2));
    }

    #[test]
    fn the_example_of_rfc_1624_comes_out() {
        let difference = Difference::ZERO.replace16(Be16::new(0x5555), Be16::new(0x3285));
        assert_eq!(difference.apply(Be16::new(0xdd2f)), Be16::new(0x0000));
    }

    proptest! {
        #[test]
        fn incremental_equals_full(
            mut octets in proptest::collection::vec(any::<u8>(), 8..200),
            at in any::<prop::sample::Index>(),
            new in any::<u32>(),
        ) {
            octets.truncate(octets.len() & !3);
            octets[0] |= 1;
            let before = Sum::ZERO.add_octets(&octets).finish();
            let at = 4 * (1 + at.index(octets.len() / 4 - 1));
            let old = u32::from_ne_bytes(octets[at..at + 4].try_into().unwrap());
            octets[at..at + 4].copy_from_slice(&new.to_ne_bytes());
            let difference = Difference::ZERO.replace32(Be32::from_raw(old), Be32::from_raw(new));
            prop_assert_eq!(difference.apply(before), Sum::ZERO.add_octets(&octets).finish());
        }
    }
}
