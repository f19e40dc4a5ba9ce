//! The datagram of a claim.
//!
//! ```text
//! 0   magic (32 bits), zero (32)
//! 8   epoch and generation of the sender's claim
//! 24  epoch and generation of the receiver's claim that the sender knows
//! 40  number of parts (16), number of this one (16); both zero where there is no claim in it
//! 44  flags (8), octets of the interface's name (8), the name
//! n   addresses: 4 or 6, and its octets
//! m   SipHash-2-4 tag over the addresses of sender and receiver and everything before it
//! ```

use std::net::IpAddr;

use lb_common::siphash::{Key, tag_octets};

use super::{Claim, Version};

const MAGIC: u32 = 0x544c_434c;
/// Octets of addresses in a datagram: with everything else less than 1,200.
const ROOM: usize = 1_088;
const READY: u8 = 1;
/// `IFNAMSIZ` without the zero.
const NAME: usize = 15;

/// Sender and receiver.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Path {
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
}

/// What a datagram says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Datagram {
    pub(super) version: Version,
    pub(super) acknowledged: Version,
    pub(super) part: Option<Part>,
}

/// A part of a claim.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// How many there are, at least one.
    pub(super) count: u16,
    /// Which one this is, from 0.
    pub(super) number: u16,
    pub(super) is_ready: bool,
    pub(super) interface: String,
    pub(super) addresses: Vec<IpAddr>,
}

/// Cuts a claim into parts.
pub(super) fn parts(claim: &Claim) -> Vec<Part> {
    let mut lists = vec![Vec::new()];
    let mut room = ROOM;
    for addr in &claim.addresses {
        let octets = if addr.is_ipv4() { 5 } else { 17 };
        if room < octets {
            lists.push(Vec::new());
            room = ROOM;
        }
        room -= octets;
        if let Some(list) = lists.last_mut() {
            list.push(*addr);
        }
    }
    let count = u16::try_from(lists.len()).unwrap_or(u16::MAX);
    (0..count)
        .zip(lists)
        .map(|(number, addresses)| Part {
            count,
            number,
            is_ready: claim.is_ready,
            interface: claim.interface.clone(),
            addresses,
        })
        .collect()
}

impl Datagram {
    pub(super) fn seal(&self, key: Key, path: Path) -> Vec<u8> {
        let mut out = path.octets();
        let begin = out.len();
        out.extend(MAGIC.to_be_bytes());
        out.extend([0; 4]);
        for Version { epoch, generation } in [self.version, self.acknowledged] {
            out.extend(epoch.to_be_bytes());
            out.extend(generation.to_be_bytes());
        }
        let part = self.part.as_ref();
        for number in [
            part.map_or(0, |part| part.count),
            part.map_or(0, |part| part.number),
        ] {
            out.extend(number.to_be_bytes());
        }
        if let Some(part) = part {
            let name = part.interface.as_bytes();
            let name = name.get(..NAME).unwrap_or(name);
            out.push(if part.is_ready { READY } else { 0 });
            out.push(u8::try_from(name.len()).unwrap_or(0));
            out.extend(name);
            for addr in &part.addresses {
                match addr {
                    IpAddr::V4(addr) => {
                        out.push(4);
                        out.extend(addr.octets());
                    }
                    IpAddr::V6(addr) => {
                        out.push(6);
                        out.extend(addr.octets());
                    }
                }
            }
        }
        let tag = tag_octets(key, &out);
        out.extend(tag.to_be_bytes());
        out.split_off(begin)
    }

    /// Reads a datagram whose tag is right; none if it is not ours.
    pub(super) fn open(key: Key, path: Path, payload: &[u8]) -> Option<Self> {
        let (sealed, tag) = payload.split_last_chunk::<8>()?;
        let whole = [&path.octets(), sealed].concat();
        if tag_octets(key, &whole) != u64::from_be_bytes(*tag) {
            return None;
        }
        let mut reader = Reader(sealed);
        if u32::from_be_bytes(reader.array()?) != MAGIC || reader.array()? != [0; 4] {
            return None;
        }
        let mut version = || {
            Some(Version {
                epoch: u64::from_be_bytes(reader.array()?),
                generation: u64::from_be_bytes(reader.array()?),
            })
        };
        Some(Self {
            version: version()?,
            acknowledged: version()?,
            part: reader.part()?,
        })
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

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    /// `None` where it is malformed, `Some(None)` where there is no part.
    fn part(&mut self) -> Option<Option<Part>> {
        let count = u16::from_be_bytes(self.array()?);
        let number = u16::from_be_bytes(self.array()?);
        if count == 0 {
            return (number == 0 && self.0.is_empty()).then_some(None);
        }
        let [flags, length] = self.array()?;
        let (name, rest) = self.0.split_at_checked(usize::from(length))?;
        self.0 = rest;
        let interface = str::from_utf8(name).ok()?.to_owned();
        let mut addresses = Vec::new();
        while !self.0.is_empty() {
            addresses.push(match self.array()? {
                [4] => IpAddr::from(self.array::<4>()?),
                [6] => IpAddr::from(self.array::<16>()?),
                _ => return None,
            });
        }
        (number < count && flags & !READY == 0).then_some(Some(Part {
            count,
            number,
            is_ready: flags & READY != 0,
            interface,
            addresses,
        }))
    }
}
