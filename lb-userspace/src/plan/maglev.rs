//! Maglev tables (NSDI '16): which backend owns which slot.
//!
//! The table length is a power of two and each backend's skip is odd, so that a backend's preference
//! list is a permutation of the slots without a prime modulus. A backend of weight w takes w turns
//! where one of weight 1 takes one. Everything follows from the backends' addresses, ports and weights
//! and from the length, so all nodes fill equal tables, whatever order they learned the backends in.

use std::net::IpAddr;

use sha2::Digest as _;
use sha2::Sha256;

/// Most slots a table may have.
pub const MAX_LENGTH: u32 = 65_536;

/// Slots per backend a table is born with, at least.
const BIRTH_SHARE: u64 = 100;

/// Least length of a table that is born with two backends or more.
const BIRTH_LENGTH: u32 = 1_024;

/// Slots per backend below which a table grows.
const LEAST_SHARE: u64 = 25;

/// Slots per backend above which a table shrinks.
const MOST_SHARE: u64 = 1_600;

/// What the table is filled with.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Candidate {
    /// Pod address.
    pub addr: IpAddr,
    /// Pod port.
    pub port: u16,
    /// Turns relative to the others; 0 gets no slot.
    pub weight: u32,
}

/// The length a table is to have.
///
/// `published` is the length it has had so far, if any. It is kept as long as it is legal and leaves
/// each of `backends` 25 to 1,600 slots, because a table of another length is another permutation:
/// changing the length moves about half of the slots.
pub fn table_length(published: Option<u32>, backends: usize) -> u32 {
    let backends = backends as u64;
    let published = published.filter(|length| length.is_power_of_two() && *length <= MAX_LENGTH);
    let Some(length) = published else {
        return birth_length(backends);
    };
    let slots = u64::from(length);
    let too_short = slots < LEAST_SHARE * backends && length < MAX_LENGTH;
    let too_long = backends > 0 && slots > MOST_SHARE * backends;
    if too_short || too_long {
        birth_length(backends)
    } else {
        length
    }
}

/// Fills a table of `length` slots, a power of two. Each slot holds an index into `candidates`, which
/// must be sorted; `None` only where no candidate has a weight.
pub fn fill(length: u32, candidates: &[Candidate]) -> Vec<Option<usize>> {
    debug_assert!(length.is_power_of_two());
    debug_assert!(candidates.is_sorted());
    let mut table = vec![None; length as usize];
    let mask = length - 1;
    let most = candidates.iter().map(|c| c.weight).max().unwrap_or(0);
    let mut players: Vec<Player> = candidates
        .iter()
        .enumerate()
        .filter(|(_, candidate)| candidate.weight > 0)
        .map(|(index, candidate)| Player::new(index, candidate, mask))
        .collect();
    if let [only] = players.as_slice() {
        table.fill(Some(only.index));
        return table;
    }
    let mut empty = if players.is_empty() { 0 } else { length };
    while empty > 0 {
        for player in &mut players {
            player.credit += u64::from(player.weight);
            if player.credit < u64::from(most) {
                continue;
            }
            player.credit -= u64::from(most);
            loop {
                let slot = &mut table[player.next as usize];
                player.next = player.next.wrapping_add(player.skip) & mask;
                if slot.is_none() {
                    *slot = Some(player.index);
                    break;
                }
            }
            empty -= 1;
            if empty == 0 {
                break;
            }
        }
    }
    table
}

/// A digest over a table's owners by address, to be compared between nodes: the length, the owners in
/// ascending order, and per slot the owner's place among them (65,535 for none).
pub fn digest(owners: &[(IpAddr, u16)], slots: &[Option<u16>]) -> String {
    let mut hash = Sha256::new();
    hash.update((slots.len() as u32).to_be_bytes());
    hash.update((owners.len() as u32).to_be_bytes());
    for (addr, port) in owners {
        hash.update(identity(*addr, *port));
    }
    let places: Vec<u8> = slots
        .iter()
        .flat_map(|slot| slot.unwrap_or(u16::MAX).to_be_bytes())
        .collect();
    hash.update(places);
    shortened(hash)
}

/// A digest over what different nodes choose among, from which all their tables follow: the length, then
/// each group's candidates and their weights.
pub fn digest_of_groups(length: u32, groups: &[Vec<Candidate>]) -> String {
    let mut hash = Sha256::new();
    hash.update(length.to_be_bytes());
    for group in groups {
        hash.update((group.len() as u32).to_be_bytes());
        for candidate in group {
            hash.update(identity(candidate.addr, candidate.port));
            hash.update(candidate.weight.to_be_bytes());
        }
    }
    shortened(hash)
}

fn shortened(hash: Sha256) -> String {
    let bytes = hash.finalize();
    let bytes = bytes.iter().take(8);
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

struct Player {
    index: usize,
    weight: u32,
    credit: u64,
    next: u32,
    skip: u32,
}

impl Player {
    fn new(index: usize, candidate: &Candidate, mask: u32) -> Self {
        let hash = Sha256::digest(identity(candidate.addr, candidate.port));
        let word = |at: usize| {
            let bytes = hash.iter().skip(at).take(4);
            bytes.fold(0u32, |word, byte| word << 8 | u32::from(*byte))
        };
        Self {
            index,
            weight: candidate.weight,
            credit: 0,
            next: word(0) & mask,
            skip: (word(4) | 1) & mask.max(1),
        }
    }
}

/// The bytes a backend is hashed by: its address (IPv4 as RFC 4291 §2.5.5.2 maps it) and its port, both
/// in network byte order.
fn identity(addr: IpAddr, port: u16) -> [u8; 18] {
    let addr = match addr {
        IpAddr::V4(addr) => addr.to_ipv6_mapped(),
        IpAddr::V6(addr) => addr,
    };
    let mut bytes = [0; 18];
    bytes[..16].copy_from_slice(&addr.octets());
    bytes[16..].copy_from_slice(&port.to_be_bytes());
    bytes
}

fn birth_length(backends: u64) -> u32 {
    let least = match backends {
        0 => return 1,
        1 => 1,
        _ => BIRTH_LENGTH,
    };
    let wanted = (BIRTH_SHARE * backends).next_power_of_two();
    u32::try_from(wanted)
        .unwrap_or(MAX_LENGTH)
        .clamp(least, MAX_LENGTH)
}

#[cfg(test)]
mod tests;
