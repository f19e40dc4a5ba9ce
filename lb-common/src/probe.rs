//! The probe by which nodes tell whether each other's program still answers.
//!
//! An agent sends a request in a UDP datagram; the peer's *program* turns it into an answer and sends it
//! back with the age of its agent's heartbeat. Forty octets, as five 64-bit words, each big-endian:
//!
//! ```text
//! 0  magic (32 bits), kind (8), zero (24)
//! 1  sequence, counted up by the sender
//! 2  nonce, chosen by the sender at its start
//! 3  age of the agent's heartbeat in milliseconds; zero in a request
//! 4  SipHash-2-4 tag over words 0 to 3, with the peer key
//! ```

use crate::siphash::{self, Key};

/// Octets of a probe.
pub const LEN: usize = 40;

/// UDP port of probes.
pub const PORT: u16 = 17473;

/// Age of the heartbeat above which a program answers nothing any more, in milliseconds.
pub const FENCE_AGE_MS: u64 = 30_000;

const MAGIC: u64 = 0x544c_5052 << 32;

/// Request or answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// From an agent.
    Request,
    /// From a program.
    Answer,
}

impl Kind {
    #[inline(always)]
    const fn word(self) -> u64 {
        match self {
            Self::Request => MAGIC | 1 << 24,
            Self::Answer => MAGIC | 2 << 24,
        }
    }
}

/// A probe whose tag is right.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// Request or answer.
    pub kind: Kind,
    /// Counted up by the sender of the request.
    pub sequence: u64,
    /// Chosen by the sender of the request at its start.
    pub nonce: u64,
    /// Age of the answering node's heartbeat in milliseconds.
    pub age_ms: u64,
}

impl Probe {
    /// The words of the probe, in host order, tag last.
    #[inline(always)]
    pub fn to_words(self, key: Key) -> [u64; 5] {
        let body = [self.kind.word(), self.sequence, self.nonce, self.age_ms];
        let [a, b, c, d] = body;
        [a, b, c, d, siphash::tag(key, body)]
    }

    /// Reads the words of a probe; `None` if it is none or its tag is wrong.
    #[inline(always)]
    pub fn from_words(key: Key, words: [u64; 5]) -> Option<Self> {
        let [first, sequence, nonce, age_ms, tag] = words;
        let kind = if first == Kind::Request.word() {
            Kind::Request
        } else if first == Kind::Answer.word() {
            Kind::Answer
        } else {
            return None;
        };
        if siphash::tag(key, [first, sequence, nonce, age_ms]) != tag {
            return None;
        }
        Some(Self {
            kind,
            sequence,
            nonce,
            age_ms,
        })
    }

    /// The octets of the probe.
    pub fn to_bytes(self, key: Key) -> [u8; LEN] {
        let mut bytes = [0; LEN];
        for (octets, word) in bytes
            .as_chunks_mut::<8>()
            .0
            .iter_mut()
            .zip(self.to_words(key))
        {
            *octets = word.to_be_bytes();
        }
        bytes
    }

    /// Reads a datagram's payload; `None` if it is no probe or its tag is wrong.
    pub fn from_bytes(key: Key, bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; LEN] = bytes.try_into().ok()?;
        let mut words = [0; 5];
        for (word, octets) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_be_bytes(*octets);
        }
        Self::from_words(key, words)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = [1, 2];

    fn probe() -> Probe {
        Probe {
            kind: Kind::Answer,
            sequence: 9,
            nonce: 77,
            age_ms: 1500,
        }
    }

    #[test]
    fn a_probe_survives_the_wire() {
        assert_eq!(
            Probe::from_bytes(KEY, &probe().to_bytes(KEY)),
            Some(probe())
        );
    }

    #[test]
    fn another_key_does_not_read_it() {
        assert_eq!(Probe::from_bytes([1, 3], &probe().to_bytes(KEY)), None);
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_noticed(bit in 0..LEN * 8) {
            let mut bytes = probe().to_bytes(KEY);
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Probe::from_bytes(KEY, &bytes), None);
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(Probe::from_bytes(KEY, &bytes), None);
        }
    }
}
