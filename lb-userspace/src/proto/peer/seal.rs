//! The envelope of a datagram: who sent it, in which of its lives, as the how
//! manieth, and the tag over all of that.
//!
//! ```text
//! 0   magic (32 bits), kind (8), zero (24)
//! 8   epoch of the sender, drawn at random at its start
//! 16  ticket that the receiver gave out to that epoch
//! 24  sequence, counted up by the sender
//! 32  messages
//! n   SipHash-2-4 tag over the addresses of sender and receiver and everything before it
//! ```

use std::net::IpAddr;

use lb_common::siphash::{Key, tag_octets};

use super::wire::{Malformed, Reader};

const MAGIC: u32 = 0x544c_5045;

/// Octets before the messages.
const HEADER: usize = 32;

/// Octets behind the messages.
const TAG: usize = 8;

/// Octets that the envelope adds to the messages.
pub(super) const OVERHEAD: usize = HEADER + TAG;

/// What a datagram is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Carries messages; without any it asks for a ticket.
    Messages,
    /// Gives a ticket. Its `sequence` is the epoch that the ticket is for.
    Welcome,
}

/// What the envelope says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Envelope {
    pub(super) kind: Kind,
    pub(super) epoch: u64,
    pub(super) ticket: u64,
    pub(super) sequence: u64,
}

/// Sender and receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Path {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
}

impl Envelope {
    pub(super) fn seal(&self, key: Key, path: Path, messages: &[u8]) -> Vec<u8> {
        let mut out = path.octets();
        let begin = out.len();
        out.extend(MAGIC.to_be_bytes());
        out.extend([self.kind.number(), 0, 0, 0]);
        for word in [self.epoch, self.ticket, self.sequence] {
            out.extend(word.to_be_bytes());
        }
        out.extend(messages);
        let tag = tag_octets(key, &out);
        out.extend(tag.to_be_bytes());
        out.split_off(begin)
    }

    /// Reads a datagram whose tag is right, and gives the octets of its messages.
    ///
    /// # Errors
    /// It is not ours, or was forged.
    pub(super) fn open(key: Key, path: Path, datagram: &[u8]) -> Result<(Self, &[u8]), Malformed> {
        let (sealed, tag) = datagram.split_last_chunk::<TAG>().ok_or(Malformed)?;
        let mut reader = Reader::new(sealed);
        if reader.u32()? != MAGIC {
            return Err(Malformed);
        }
        let [kind, zeroes @ ..] = reader.array::<4>()?;
        let envelope = Self {
            kind: Kind::from_number(kind)?,
            epoch: reader.u64()?,
            ticket: reader.u64()?,
            sequence: reader.u64()?,
        };
        let mut whole = path.octets();
        whole.extend(sealed);
        if zeroes != [0; 3] || tag_octets(key, &whole) != u64::from_be_bytes(*tag) {
            return Err(Malformed);
        }
        Ok((envelope, sealed.get(HEADER..).unwrap_or_default()))
    }
}

impl Kind {
    const fn number(self) -> u8 {
        match self {
            Self::Messages => 1,
            Self::Welcome => 2,
        }
    }

    const fn from_number(number: u8) -> Result<Self, Malformed> {
        match number {
            1 => Ok(Self::Messages),
            2 => Ok(Self::Welcome),
            _ => Err(Malformed),
        }
    }
}

impl Path {
    /// Both addresses as IPv6 has them (RFC 4291 §2.5.5.2).
    fn octets(self) -> Vec<u8> {
        let octets = |addr| match addr {
            IpAddr::V4(addr) => addr.to_ipv6_mapped().octets(),
            IpAddr::V6(addr) => addr.octets(),
        };
        [octets(self.from), octets(self.to)].concat()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: Key = [1, 2];

    fn path() -> Path {
        Path {
            from: [192, 0, 2, 1].into(),
            to: [192, 0, 2, 2].into(),
        }
    }

    const ENVELOPE: Envelope = Envelope {
        kind: Kind::Messages,
        epoch: 7,
        ticket: 8,
        sequence: 9,
    };

    #[test]
    fn what_was_sealed_is_opened_by_whom_it_is_for() {
        let datagram = ENVELOPE.seal(KEY, path(), b"hello");
        let opened = Envelope::open(KEY, path(), &datagram);
        assert_eq!(opened, Ok((ENVELOPE, &b"hello"[..])));
        let elsewhere = Path {
            to: [192, 0, 2, 3].into(),
            ..path()
        };
        assert_eq!(Envelope::open(KEY, elsewhere, &datagram), Err(Malformed));
        assert_eq!(Envelope::open([1, 3], path(), &datagram), Err(Malformed));
    }

    proptest! {
        #[test]
        fn any_changed_bit_is_noticed(bit in 0..(OVERHEAD + 5) * 8) {
            let mut datagram = ENVELOPE.seal(KEY, path(), b"hello");
            datagram[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(Envelope::open(KEY, path(), &datagram), Err(Malformed));
        }

        #[test]
        fn any_octets_are_read_without_panic(octets in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(Envelope::open(KEY, path(), &octets), Err(Malformed));
        }
    }
}
