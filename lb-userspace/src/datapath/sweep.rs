//! Removes flows that ended, both directions together, a bounded number at a
//! time.
//!
//! A flow ended when it was idle for too long, or when its backend is no more: to the programs it is none then.
//! Established and UDP flows are swept; half-open ones live in LRU tables, which need no help. A pass
//! looks at every entry once, in pieces: [`Pass::step`] looks at a given number and remembers where it
//! was. Entries that come while a pass runs may be met by the next pass only.

use aya::Ebpf;
use aya::maps::hash_map::HashMap;
use aya::maps::{Array, Map, MapData, MapError, MapKeys};
use lb_common::abi::map;
use lb_common::flow::expired;
use lb_common::maps::{Backend, Flow, FlowKey4, FlowKey6, backend_flags, flow_direction};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::handle::{HandleError, absent_is_removed, second_handle, take_data};
use super::pod::Pod;

/// A flow key whose other direction can be told.
pub trait FlowKey: Copy + Eq + FromBytes + IntoBytes + Immutable + Send + Sync + 'static {
    /// Key of the entry for packets of the other direction, given what this one translates to.
    #[must_use]
    fn opposite(&self, flow: &Flow) -> Self;

    /// Whether packets of this entry come from the client.
    fn is_forward(&self) -> bool;

    /// IP protocol number.
    fn protocol(&self) -> u8;
}

macro_rules! flow_key {
    ($key:ty, $addr:expr) => {
        impl FlowKey for $key {
            fn opposite(&self, flow: &Flow) -> Self {
                if self.is_forward() {
                    // Client to VIP becomes pod to client.
                    Self {
                        source: $addr(flow),
                        source_port: flow.port,
                        destination: self.source,
                        destination_port: flow.client_port,
                        direction: flow_direction::REVERSE,
                        ..*self
                    }
                } else {
                    // Pod to client becomes client to VIP.
                    Self {
                        source: self.destination,
                        source_port: flow.client_port,
                        destination: $addr(flow),
                        destination_port: flow.port,
                        direction: flow_direction::FORWARD,
                        ..*self
                    }
                }
            }

            fn is_forward(&self) -> bool {
                self.direction == flow_direction::FORWARD
            }

            fn protocol(&self) -> u8 {
                self.protocol
            }
        }
    };
}

flow_key!(FlowKey4, |flow: &Flow| {
    let [addr, ..] = flow.addr;
    addr
});
flow_key!(FlowKey6, |flow: &Flow| flow.addr);

/// The tables that are swept.
pub struct FlowTables {
    /// Established TCP and UDP over IPv4.
    pub v4: [FlowTable<FlowKey4>; 2],
    /// The same over IPv6.
    pub v6: [FlowTable<FlowKey6>; 2],
    /// Where their packets go.
    pub backends: Backends,
}

/// The backends, to be looked up.
pub struct Backends(Array<MapData, Pod<Backend>>);

impl Backends {
    /// Whether the backend of a flow is still the one that it began with.
    fn has(&self, flow: &Flow) -> Result<bool, MapError> {
        match self.0.get(&flow.backend, 0) {
            Ok(Pod(backend)) => Ok(is_of(flow, &backend)),
            Err(MapError::OutOfBounds { .. }) => Ok(false),
            Err(other) => Err(other),
        }
    }
}

const fn is_of(flow: &Flow, backend: &Backend) -> bool {
    backend.generation == flow.generation && backend.flags & backend_flags::IN_USE != 0
}

impl FlowTables {
    /// The backends are left to whoever writes them, and must not be taken yet.
    pub(super) fn take(object: &mut Ebpf) -> Result<Self, HandleError> {
        let name = map::BACKENDS;
        let backends = Map::Array(second_handle(object, name)?);
        let backends =
            Array::try_from(backends).map_err(|source| HandleError::Shape { name, source })?;
        Ok(Self {
            backends: Backends(backends),
            v4: [
                FlowTable::take(object, map::ESTABLISHED4)?,
                FlowTable::take(object, map::UDP4)?,
            ],
            v6: [
                FlowTable::take(object, map::ESTABLISHED6)?,
                FlowTable::take(object, map::UDP6)?,
            ],
        })
    }
}

/// A table of flows.
pub struct FlowTable<K: FlowKey> {
    reader: HashMap<MapData, Pod<K>, Pod<Flow>>,
    /// A second handle to the same map, so that entries can go while the first walks it.
    writer: HashMap<MapData, Pod<K>, Pod<Flow>>,
}

impl<K: FlowKey> FlowTable<K> {
    fn take(object: &mut Ebpf, name: &'static str) -> Result<Self, HandleError> {
        let shape = |source| HandleError::Shape { name, source };
        let reader = take_data(object, name)?;
        let id = reader.info().map_err(shape)?.id();
        let writer = MapData::from_id(id).map_err(shape)?;
        let typed = |data| HashMap::try_from(Map::HashMap(data)).map_err(shape);
        Ok(Self {
            reader: typed(reader)?,
            writer: typed(writer)?,
        })
    }

    /// Begins to look at every entry.
    pub fn pass<'a>(&'a mut self, backends: &'a Backends) -> Pass<'a, K> {
        Pass {
            backends,
            keys: self.reader.keys(),
            reader: &self.reader,
            writer: &mut self.writer,
            held: None,
        }
    }
}

/// A walk through a table.
pub struct Pass<'a, K: FlowKey> {
    backends: &'a Backends,
    keys: MapKeys<'a, Pod<K>>,
    reader: &'a HashMap<MapData, Pod<K>, Pod<Flow>>,
    writer: &'a mut HashMap<MapData, Pod<K>, Pod<Flow>>,
    /// The walk goes on from the key it saw last; were that removed, it would begin anew.
    held: Option<K>,
}

/// What a step of a pass did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Swept {
    /// Flows removed.
    pub removed: u32,
    /// Every entry was looked at.
    pub is_done: bool,
}

impl<K: FlowKey> Pass<'_, K> {
    /// Looks at up to `limit` entries. `now` is in seconds of `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// The table cannot be read or written.
    pub fn step(&mut self, limit: usize, now: u32) -> Result<Swept, MapError> {
        let mut swept = Swept::default();
        for _ in 0..limit {
            let next = match self.keys.next() {
                Some(key) => Some(key?.0),
                None => None,
            };
            if let Some(ended) = std::mem::replace(&mut self.held, next) {
                swept.removed += u32::from(self.settle(ended, next, now)?);
            }
            if next.is_none() {
                swept.is_done = true;
                break;
            }
        }
        Ok(swept)
    }

    /// Removes a flow if it ended; whether it did. An entry that vanished meanwhile is no error.
    fn settle(&mut self, key: K, cursor: Option<K>, now: u32) -> Result<bool, MapError> {
        let Some(flow) = self.get(key)? else {
            return Ok(false);
        };
        let opposite_key = key.opposite(&flow);
        // A flow that ends may have lost its reverse entry to a younger one.
        let is_own = |other: &Flow| opposite_key.opposite(other) == key;
        let opposite = self.get(opposite_key)?.filter(is_own);
        if !has_ended(key, &flow, opposite.as_ref(), now) && self.backends.has(&flow)? {
            return Ok(false);
        }
        absent_is_removed(self.writer.remove(&Pod(key)))?;
        // The other half under the cursor is met next, alone, and goes then.
        if opposite.is_some() && cursor != Some(opposite_key) {
            absent_is_removed(self.writer.remove(&Pod(opposite_key)))?;
        }
        Ok(true)
    }

    fn get(&self, key: K) -> Result<Option<Flow>, MapError> {
        match self.reader.get(&Pod(key), 0) {
            Ok(Pod(flow)) => Ok(Some(flow)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(other) => Err(other),
        }
    }
}

/// Whether a flow is to go: neither direction saw a packet for as long as both together may be idle.
fn has_ended<K: FlowKey>(key: K, flow: &Flow, opposite: Option<&Flow>, now: u32) -> bool {
    let whole = match opposite {
        Some(other) => Flow {
            state: flow.state | other.state,
            seen: flow.seen.max(other.seen),
            ..*flow
        },
        None => *flow,
    };
    expired(&whole, key.protocol(), now)
}

#[cfg(test)]
mod tests {
    use lb_common::addr::{Be16, Be32, words4, words6};
    use lb_common::flow::{CLOSED_TIMEOUT, ESTABLISHED_TIMEOUT};
    use lb_common::maps::flow_state;

    use super::*;

    fn forward() -> (FlowKey4, Flow) {
        let key = FlowKey4 {
            source: Be32::new(0xc633_6407),
            destination: Be32::new(0xcb00_710a),
            source_port: Be16::new(41000),
            destination_port: Be16::new(80),
            protocol: 6,
            direction: flow_direction::FORWARD,
            zero: 0,
        };
        let flow = Flow {
            addr: words4([10, 0, 0, 1].into()),
            port: Be16::new(8080),
            client_port: Be16::new(50_000),
            seen: 1_000_000,
            ..Flow::default()
        };
        (key, flow)
    }

    /// The reverse entry translates the pod back to the VIP.
    fn reverse_of(key: &FlowKey4, flow: &Flow) -> Flow {
        Flow {
            addr: [
                key.destination,
                Be32::default(),
                Be32::default(),
                Be32::default(),
            ],
            port: key.destination_port,
            client_port: key.source_port,
            ..*flow
        }
    }

    #[test]
    fn the_opposite_of_the_opposite_is_the_flow_itself() {
        let (key, flow) = forward();
        let opposite = key.opposite(&flow);
        assert_eq!(opposite.source, Be32::new(0x0a00_0001));
        assert_eq!(opposite.destination_port, Be16::new(50_000));
        assert_eq!(opposite.direction, flow_direction::REVERSE);
        assert_eq!(opposite.opposite(&reverse_of(&key, &flow)), key);
    }

    #[test]
    fn the_reverse_entry_of_a_younger_flow_leads_elsewhere() {
        let (key, flow) = forward();
        let mut younger = reverse_of(&key, &flow);
        younger.port = Be16::new(443);
        assert_ne!(key.opposite(&flow).opposite(&younger), key);
    }

    #[test]
    fn the_opposite_of_an_ipv6_flow_has_the_whole_address() {
        let pod = words6("fd00::1".parse().unwrap());
        let key = FlowKey6 {
            direction: flow_direction::FORWARD,
            ..FlowKey6::default()
        };
        let flow = Flow {
            addr: pod,
            ..Flow::default()
        };
        assert_eq!(key.opposite(&flow).source, pod);
    }

    #[test]
    fn a_packet_in_either_direction_keeps_both_entries() {
        let (key, flow) = forward();
        let mut other = reverse_of(&key, &flow);
        let late = flow.seen + ESTABLISHED_TIMEOUT + 2;
        assert!(has_ended(key, &flow, Some(&other), late));
        other.seen = late - 1;
        assert!(!has_ended(key, &flow, Some(&other), late));
    }

    #[test]
    fn a_flow_of_another_backend_or_of_none_is_no_flow() {
        let (_, mut flow) = forward();
        flow.generation = 7;
        let backend = Backend {
            generation: 7,
            flags: backend_flags::IN_USE | backend_flags::DRAINING,
            ..Backend::default()
        };
        assert!(is_of(&flow, &backend));
        let another = Backend {
            generation: 8,
            ..backend
        };
        assert!(!is_of(&flow, &another));
        assert!(!is_of(
            &flow,
            &Backend {
                flags: 0,
                ..backend
            }
        ));
    }

    #[test]
    fn a_fin_of_each_side_counts_wherever_it_was_noted() {
        let (key, mut flow) = forward();
        let mut other = reverse_of(&key, &flow);
        flow.state = flow_state::CLIENT_FIN;
        other.state = flow_state::POD_FIN;
        let late = flow.seen + CLOSED_TIMEOUT + 2;
        assert!(has_ended(key, &flow, Some(&other), late));
        assert!(!has_ended(key, &flow, None, late));
    }
}
