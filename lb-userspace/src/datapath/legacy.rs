//! Flows that the kernel had before the programs came.
//!
//! From the first frontend on the programs leave every packet to the kernel and note its flow, until
//! [`LegacyTables::settle`] says that all connections of the kernel have been noted. From then on only
//! noted flows are left to it, until [`LegacyTables::sweep`] finds none any more. The same goes for a frontend
//! that comes later, and bears a flag of its own meanwhile.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};

use aya::Ebpf;
use aya::maps::hash_map::HashMap;
use aya::maps::{MapData, MapError};
use lb_common::abi::map;
use lb_common::addr::{Be16, Be32, words6};
use lb_common::maps::{FlowKey4, FlowKey6, Legacy, config_flags, flow_direction};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::handle::{HandleError, TableError, absent_is_removed, take};
use super::heart::Heart;
use super::pod::Pod;

/// Seconds for which a flow is left to the kernel at most.
pub const LIMIT: u32 = 15 * 60;

/// `BPF_NOEXIST`.
const NO_EXIST: u64 = 1;

/// Flows, each as its client's packets have it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Flows {
    v4: HashSet<FlowKey4>,
    v6: HashSet<FlowKey6>,
}

impl Flows {
    /// Adds a flow from client to VIP.
    pub fn insert(&mut self, source: SocketAddr, destination: SocketAddr, protocol: u8) {
        match key(source, destination, protocol) {
            Some(Key::V4(key)) => drop(self.v4.insert(key)),
            Some(Key::V6(key)) => drop(self.v6.insert(key)),
            None => {}
        }
    }

    /// Whether a flow is among them.
    pub fn contains(&self, source: SocketAddr, destination: SocketAddr, protocol: u8) -> bool {
        match key(source, destination, protocol) {
            Some(Key::V4(key)) => self.v4.contains(&key),
            Some(Key::V6(key)) => self.v6.contains(&key),
            None => false,
        }
    }

    /// Adds those of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.v4.extend(&other.v4);
        self.v6.extend(&other.v6);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

enum Key {
    V4(FlowKey4),
    V6(FlowKey6),
}

fn key(source: SocketAddr, destination: SocketAddr, protocol: u8) -> Option<Key> {
    let (source_port, destination_port) = (Be16::new(source.port()), Be16::new(destination.port()));
    let direction = flow_direction::FORWARD;
    match (source.ip(), destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => Some(Key::V4(FlowKey4 {
            source: Be32::new(source.to_bits()),
            destination: Be32::new(destination.to_bits()),
            source_port,
            destination_port,
            protocol,
            direction,
            zero: 0,
        })),
        (IpAddr::V6(source), IpAddr::V6(destination)) => Some(Key::V6(FlowKey6 {
            source: words6(source),
            destination: words6(destination),
            source_port,
            destination_port,
            protocol,
            direction,
            zero: 0,
        })),
        _ => None,
    }
}

/// What a sweep did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Flows that the kernel has no more.
    pub ended: usize,
    /// Flows that it has, and had for [`LIMIT`].
    pub cut_off: usize,
    /// Flows that are left to it still.
    pub left: usize,
}

/// The maps that say which flows are left to the kernel.
pub struct LegacyTables {
    v4: Table<FlowKey4>,
    v6: Table<FlowKey6>,
    heart: Heart,
}

impl LegacyTables {
    pub(super) fn take(object: &mut Ebpf, heart: Heart) -> Result<Self, HandleError> {
        Ok(Self {
            v4: Table::take(object, map::LEGACY4)?,
            v6: Table::take(object, map::LEGACY6)?,
            heart,
        })
    }

    /// Lets the programs leave everything to the kernel until [`Self::settle`].
    ///
    /// # Errors
    /// The programs go on as before.
    pub fn adopt(&self) -> Result<(), TableError> {
        let progress = config_flags::LEGACY | config_flags::ADOPT;
        Ok(self.heart.set_progress(progress)?)
    }

    /// Lets the programs heed the flags of frontends until [`Self::settle`], whatever else is left to the kernel.
    ///
    /// # Errors
    /// The programs go on as before.
    pub fn adopt_flagged(&self) -> Result<(), TableError> {
        let progress = self.heart.progress();
        Ok(self.heart.set_progress(progress | config_flags::LEGACY)?)
    }

    /// Whether everything is left to the kernel, and [`Self::settle`] to be called.
    pub fn is_adopting(&self) -> bool {
        self.heart.progress() & config_flags::ADOPT != 0
    }

    /// Whether the programs were told that the kernel serves the VIPs too.
    pub fn kernel_knows_vips(&self) -> bool {
        self.heart.kernel_knows_vips()
    }

    /// Whether some flow may be left to the kernel.
    pub fn is_active(&self) -> bool {
        self.heart.progress() & config_flags::LEGACY != 0
    }

    /// Notes the connections that the kernel has and lets the programs serve everything else, but for frontends
    /// that bear the flag. `now` is in seconds of `CLOCK_MONOTONIC`. Returns how many found no room.
    ///
    /// # Errors
    /// The programs go on leaving everything to the kernel.
    pub fn settle(&mut self, flows: &Flows, now: u32) -> Result<usize, TableError> {
        let refused = self.v4.note(&flows.v4, now) + self.v6.note(&flows.v6, now);
        self.heart.set_progress(config_flags::LEGACY)?;
        Ok(refused)
    }

    /// The flows that are left to the kernel.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn flows(&self) -> Result<Flows, TableError> {
        Ok(Flows {
            v4: self.v4.keys()?,
            v6: self.v6.keys()?,
        })
    }

    /// Takes away the flows that the kernel has no more: those of `held` that are not in `live`. And those that
    /// it had for too long. `now` as in [`Self::settle`].
    ///
    /// # Errors
    /// A map cannot be read or written.
    pub fn sweep(&mut self, held: &Flows, live: &Flows, now: u32) -> Result<Swept, TableError> {
        let mut swept = Swept::default();
        let has_ended = |key: &FlowKey4| held.v4.contains(key) && !live.v4.contains(key);
        self.v4.sweep(now, has_ended, &mut swept)?;
        let has_ended = |key: &FlowKey6| held.v6.contains(key) && !live.v6.contains(key);
        self.v6.sweep(now, has_ended, &mut swept)?;
        Ok(swept)
    }

    /// Lets the programs serve everything, and look for no flow of the kernel any more.
    ///
    /// # Errors
    /// The programs go on as before.
    pub fn end(&mut self) -> Result<(), TableError> {
        Ok(self.heart.set_progress(0)?)
    }
}

struct Table<K>(HashMap<MapData, Pod<K>, Pod<Legacy>>)
where
    K: FromBytes + IntoBytes + Immutable + Copy + 'static;

impl<K> Table<K>
where
    K: FromBytes + IntoBytes + Immutable + Copy + Eq + Hash + 'static,
{
    fn take(object: &mut Ebpf, name: &'static str) -> Result<Self, HandleError> {
        take(object, name).map(Self)
    }

    /// Notes flows that are not noted yet; how many found no room.
    fn note(&mut self, flows: &HashSet<K>, now: u32) -> usize {
        let legacy = Legacy {
            since: now,
            state: 0,
        };
        let mut refused = 0;
        for flow in flows {
            let is_noted = self.0.insert(Pod(*flow), Pod(legacy), NO_EXIST).is_ok()
                || self.0.get(&Pod(*flow), 0).is_ok();
            refused += usize::from(!is_noted);
        }
        refused
    }

    fn keys(&self) -> Result<HashSet<K>, MapError> {
        self.0.keys().map(|key| key.map(|Pod(key)| key)).collect()
    }

    fn sweep(
        &mut self,
        now: u32,
        has_ended: impl Fn(&K) -> bool,
        swept: &mut Swept,
    ) -> Result<(), MapError> {
        // Read whole first: a walk begins anew where the element under it is removed.
        let entries: Vec<_> = self.0.iter().collect::<Result<_, _>>()?;
        for (Pod(key), Pod(legacy)) in entries {
            match verdict(legacy, has_ended(&key), now) {
                Verdict::Stays => {
                    swept.left += 1;
                    continue;
                }
                Verdict::Ended => swept.ended += 1,
                Verdict::CutOff => swept.cut_off += 1,
            }
            absent_is_removed(self.0.remove(&Pod(key)))?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Verdict {
    Stays,
    Ended,
    CutOff,
}

const fn verdict(legacy: Legacy, has_ended: bool, now: u32) -> Verdict {
    if has_ended {
        Verdict::Ended
    } else if now.saturating_sub(legacy.since) > LIMIT {
        Verdict::CutOff
    } else {
        Verdict::Stays
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_is_found_by_both_its_ends_and_its_protocol() {
        let mut flows = Flows::default();
        let ends = |text: [&str; 2]| text.map(|end| end.parse::<SocketAddr>().unwrap());
        let pairs = [
            ends(["198.51.100.7:41000", "203.0.113.10:80"]),
            ends(["[2001:db8::7]:41000", "[2001:db8::10]:80"]),
        ];
        for [source, destination] in pairs {
            flows.insert(source, destination, 6);
            assert!(flows.contains(source, destination, 6));
            assert!(!flows.contains(source, destination, 17));
            assert!(!flows.contains(destination, source, 6));
        }
        let [[source, _], [_, destination]] = pairs;
        flows.insert(source, destination, 6);
        assert_eq!(flows.len(), 2, "no flow has ends of two families");
    }

    #[test]
    fn a_flow_stays_until_it_ends_or_for_fifteen_minutes() {
        let legacy = Legacy {
            since: 1_000,
            state: 0,
        };
        assert_eq!(verdict(legacy, false, 1_900), Verdict::Stays);
        assert_eq!(verdict(legacy, false, 1_901), Verdict::CutOff);
        assert_eq!(verdict(legacy, true, 1_001), Verdict::Ended);
        // The clock was read before the packet that made the program note it.
        assert_eq!(verdict(legacy, false, 999), Verdict::Stays);
    }
}
