//! When this node tells its neighbours that an address is here, and in which
//! words.
//!
//! Gratuitous ARP in both its forms, since some hosts heed requests only and some replies only (RFC 5227 §3,
//! RFC 5944 §4.6), and unsolicited neighbour advertisements with the Override flag (RFC 4861 §7.2.6).
//!
//! An address that is new here is announced at once and a few times more within five seconds: the first words
//! may come before a switch has learnt the way. Then seldom and for ever, for neighbours that restarted. Nothing
//! is said of an address that goes: its next holder speaks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::timers::Jitter;

/// Times between the announcements of an address that is new here.
pub const BURST: [Duration; 5] = [
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_millis(1_100),
    Duration::from_millis(1_100),
    Duration::from_millis(1_100),
];

/// Time between announcements afterwards, at most; at least three quarters of it.
pub const REFRESH: Duration = Duration::from_secs(60);

/// The addresses that are here, and when each is announced next.
#[derive(Debug)]
pub struct Announcer {
    addresses: BTreeMap<IpAddr, Turn>,
    /// The same, in the order of time.
    turns: BTreeSet<(Instant, IpAddr)>,
    jitter: Jitter,
    due: VecDeque<IpAddr>,
}

#[derive(Clone, Copy, Debug)]
struct Turn {
    at: Instant,
    /// Announcements made of [`BURST`].
    made: usize,
}

impl Announcer {
    /// Knows no address; announcements of different seeds drift apart.
    pub const fn new(seed: u64) -> Self {
        Self {
            addresses: BTreeMap::new(),
            turns: BTreeSet::new(),
            jitter: Jitter::new(seed),
            due: VecDeque::new(),
        }
    }

    /// These are here, and no others: those that were not before are announced at once.
    pub fn set_addresses(&mut self, addresses: &BTreeSet<IpAddr>, now: Instant) {
        self.addresses.retain(|addr, _| addresses.contains(addr));
        self.turns.retain(|(_, addr)| addresses.contains(addr));
        self.due.retain(|addr| addresses.contains(addr));
        for addr in addresses {
            if !self.addresses.contains_key(addr) {
                self.announce(*addr, now);
            }
        }
    }

    /// The link was away, or somebody else claimed the address: it is announced as if it were new here. Nothing
    /// happens if it is not here.
    pub fn repeat(&mut self, addr: IpAddr, now: Instant) {
        if self.addresses.contains_key(&addr) {
            self.announce(addr, now);
        }
    }

    /// [`Self::repeat`] for all of them.
    pub fn repeat_all(&mut self, now: Instant) {
        let all: Vec<_> = self.addresses.keys().copied().collect();
        for addr in all {
            self.announce(addr, now);
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(&(at, addr)) = self.turns.first()
            && at <= now
        {
            let made = self.addresses.get(&addr).map_or(0, |turn| turn.made);
            let wait = BURST.get(made).copied();
            let wait = wait.unwrap_or_else(|| self.jitter.apply(REFRESH));
            self.set(addr, now + wait, made.saturating_add(1));
            self.due.push_back(addr);
        }
    }

    /// The next address to announce.
    pub fn poll_transmit(&mut self) -> Option<IpAddr> {
        self.due.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.turns.first().map(|(at, _)| *at)
    }

    fn announce(&mut self, addr: IpAddr, now: Instant) {
        self.set(addr, now, 0);
    }

    fn set(&mut self, addr: IpAddr, at: Instant, made: usize) {
        if let Some(before) = self.addresses.insert(addr, Turn { at, made }) {
            self.turns.remove(&(before.at, addr));
        }
        self.turns.insert((at, addr));
    }
}

/// The frames that say on an Ethernet link, or in a VLAN of it, that `addr` is at `mac`.
pub fn frames(addr: IpAddr, mac: [u8; 6], vlan: Option<u16>) -> Vec<Vec<u8>> {
    let mut frames = match addr {
        IpAddr::V4(addr) => [REQUEST, REPLY].map(|form| arp(form, addr, mac)).into(),
        IpAddr::V6(addr) => vec![advertisement(addr, mac)],
    };
    if let Some(id) = vlan {
        let [high, low] = id.to_be_bytes();
        for frame in &mut frames {
            // IEEE 802.1Q: behind the two MACs.
            frame.splice(12..12, [0x81, 0x00, high & 0x0f, low]);
        }
    }
    frames
}

/// The group that neighbour solicitations for `addr` are sent to (RFC 4291 §2.7.1).
pub const fn solicited_node(addr: Ipv6Addr) -> Ipv6Addr {
    let [.., high, low] = addr.segments();
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | (high & 0xff), low)
}

const BROADCAST: [u8; 6] = [0xff; 6];
/// The group of `ff02::1` (RFC 2464 §7).
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const REQUEST: u8 = 1;
const REPLY: u8 = 2;
/// Octets of an advertisement with one option.
const ADVERTISEMENT_LENGTH: u8 = 32;
const ICMPV6: u8 = 58;

fn arp(form: u8, addr: Ipv4Addr, mac: [u8; 6]) -> Vec<u8> {
    // What the target has for a MAC is no question in a request; in a reply it is everybody's.
    let target = if form == REQUEST { [0; 6] } else { BROADCAST };
    [
        &BROADCAST[..],
        &mac,
        &ETHERTYPE_ARP,
        // Ethernet, IPv4, their lengths.
        &[0, 1, 8, 0, 6, 4, 0, form],
        &mac,
        &addr.octets(),
        &target,
        &addr.octets(),
    ]
    .concat()
}

fn advertisement(addr: Ipv6Addr, mac: [u8; 6]) -> Vec<u8> {
    let (source, group) = (addr.octets(), ALL_NODES.octets());
    let message = |checksum: [u8; 2]| {
        [
            &[136, 0][..],
            &checksum,
            // RFC 4861 §7.2.6: Override set, Solicited not; no router by this.
            &[0x20, 0, 0, 0],
            &source,
            // Target link-layer address, of one unit of eight octets.
            &[2, 1],
            &mac,
        ]
        .concat()
    };
    let pseudo = [&[0, 0, 0, ADVERTISEMENT_LENGTH][..], &[0, 0, 0, ICMPV6]].concat();
    let summed = [&source[..], &group, &pseudo, &message([0; 2])].concat();
    [
        &ALL_NODES_MAC[..],
        &mac,
        &ETHERTYPE_IPV6,
        // Version 6; hop limit 255, or nobody believes it (RFC 4861 §7.1.2).
        &[0x60, 0, 0, 0, 0, ADVERTISEMENT_LENGTH, ICMPV6, 255],
        &source,
        &group,
        &message(checksum(&summed).to_be_bytes()),
    ]
    .concat()
}

/// RFC 1071, over an even number of octets.
fn checksum(octets: &[u8]) -> u16 {
    let (words, _) = octets.as_chunks::<2>();
    let sum: u32 = words
        .iter()
        .map(|word| u32::from(u16::from_be_bytes(*word)))
        .sum();
    let folded = (sum >> 16) + (sum & 0xffff);
    !u16::try_from((folded >> 16) + (folded & 0xffff)).unwrap_or(0)
}

#[cfg(test)]
mod tests;
