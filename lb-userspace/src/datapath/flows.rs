//! The flows of this node by the addresses of their ends, and the exceptions
//! that say which of the flows that lead here are elsewhere.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use aya::Ebpf;
use aya::maps::hash_map::HashMap;
use aya::maps::{Map, MapData, MapError};
use lb_common::abi::map;
use lb_common::addr::{AddrWords, Be16, words4, words6};
use lb_common::family::{Endpoints, Family, V4, V6};
use lb_common::hash::Ports;
use lb_common::maps::{
    Exception, Flow, FlowKey4, FlowKey6, exception_state, flow_direction, flow_state,
};
use lb_common::wire::protocol;
use zerocopy::{FromBytes, Immutable, IntoBytes};

use super::handle::{HandleError, absent_is_removed, take};
use super::pod::Pod;
use crate::model::cluster::Protocol;
use crate::model::intent::FrontendName;
use crate::plan::layout::address6;

/// `BPF_NOEXIST`: what is there stays.
const NO_EXIST: u64 = 1;

const BOTH_FIN: u16 = flow_state::CLIENT_FIN | flow_state::POD_FIN;

/// The tables of flows or exceptions cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("failed to read or write the tables of flows")]
pub struct FlowError(#[from] MapError);

/// A flow by its ends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FlowName {
    /// Client's address and port.
    pub client: SocketAddr,
    /// What it talks to.
    pub frontend: FrontendName,
}

impl FlowName {
    /// The hash by which the flow's slot is picked.
    pub fn hash(&self, key: &[u64; 4], has_client_affinity: bool) -> u32 {
        let source = if has_client_affinity {
            0
        } else {
            self.client.port()
        };
        let ports = Ports {
            source: Be16::new(source),
            destination: Be16::new(self.frontend.port),
            protocol: self.frontend.protocol.number(),
        };
        match self::key(self) {
            Some(ForwardKey::V4(ends)) => V4::hash(key, ends.source, ends.destination, ports),
            Some(ForwardKey::V6(ends)) => V6::hash(key, ends.source, ends.destination, ports),
            None => 0,
        }
    }
}

/// A flow of this node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OwnFlow {
    /// The pod's address and port.
    pub pod: SocketAddr,
    /// Index of its backend in `BACKENDS`.
    pub backend: u32,
    /// The backend's generation when the flow began.
    pub generation: u32,
    /// Its handshake is not over.
    pub is_half_open: bool,
}

type Table<K, V> = HashMap<MapData, Pod<K>, Pod<V>>;

/// The tables of one family.
struct Tables<K: Key> {
    established: Table<K, Flow>,
    half_open: Table<K, Flow>,
    exceptions: Table<K, Exception>,
}

/// Looks flows up, and says where others are.
pub struct Flows {
    v4: Tables<FlowKey4>,
    v6: Tables<FlowKey6>,
}

/// Goes through all TCP flows of this node.
pub struct FlowWalk {
    v4: [Table<FlowKey4, Flow>; 2],
    v6: [Table<FlowKey6, Flow>; 2],
}

/// The key of a forward entry.
enum ForwardKey {
    V4(FlowKey4),
    V6(FlowKey6),
}

trait Key: FromBytes + IntoBytes + Immutable + Copy + 'static {
    /// The flow of a forward entry.
    fn name(&self) -> Option<FlowName>;
}

impl Flows {
    /// Leaves the established flows to whoever sweeps them.
    pub(super) fn take(object: &mut Ebpf) -> Result<(Self, FlowWalk), HandleError> {
        let walk = FlowWalk {
            v4: [
                borrow(object, map::ESTABLISHED4)?,
                borrow(object, map::HALF_OPEN4)?,
            ],
            v6: [
                borrow(object, map::ESTABLISHED6)?,
                borrow(object, map::HALF_OPEN6)?,
            ],
        };
        let flows = Self {
            v4: Tables {
                established: borrow(object, map::ESTABLISHED4)?,
                half_open: take(object, map::HALF_OPEN4)?,
                exceptions: take(object, map::EXCEPTIONS4)?,
            },
            v6: Tables {
                established: borrow(object, map::ESTABLISHED6)?,
                half_open: take(object, map::HALF_OPEN6)?,
                exceptions: take(object, map::EXCEPTIONS6)?,
            },
        };
        Ok((flows, walk))
    }

    /// A flow of this node, be its handshake over or not.
    ///
    /// # Errors
    /// The tables cannot be read.
    pub fn find(&self, name: &FlowName) -> Result<Option<OwnFlow>, FlowError> {
        let flow = match key(name) {
            Some(ForwardKey::V4(key)) => self.v4.find(key)?,
            Some(ForwardKey::V6(key)) => self.v6.find(key)?,
            None => None,
        };
        Ok(flow.map(|(flow, is_half_open)| own_flow(&flow, name, is_half_open)))
    }

    /// Says that a flow is with that backend.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn except(
        &mut self,
        name: &FlowName,
        backend: u32,
        generation: u32,
    ) -> Result<(), FlowError> {
        let exception = Exception {
            backend,
            generation,
            ..Exception::default()
        };
        Ok(self.write(name, exception, 0)?)
    }

    /// Says that nobody has a flow; whether it was written. An exception that stands gives way unless it `stays`.
    ///
    /// # Errors
    /// The table cannot be written.
    pub fn deny(&mut self, name: &FlowName, stays: bool) -> Result<bool, FlowError> {
        let nobody = Exception {
            state: exception_state::NOBODY,
            ..Exception::default()
        };
        match self.write(name, nobody, if stays { NO_EXIST } else { 0 }) {
            Ok(()) => Ok(true),
            Err(MapError::SyscallError(error))
                if error.io_error.kind() == io::ErrorKind::AlreadyExists =>
            {
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn write(&mut self, name: &FlowName, exception: Exception, flags: u64) -> Result<(), MapError> {
        match key(name) {
            Some(ForwardKey::V4(key)) => {
                let exceptions = &mut self.v4.exceptions;
                exceptions.insert(Pod(key), Pod(exception), flags)
            }
            Some(ForwardKey::V6(key)) => {
                let exceptions = &mut self.v6.exceptions;
                exceptions.insert(Pod(key), Pod(exception), flags)
            }
            None => Ok(()),
        }
    }

    /// Forgets that nobody has a flow.
    ///
    /// # Errors
    /// The table cannot be read or written.
    pub fn doubt(&mut self, name: &FlowName) -> Result<(), FlowError> {
        match key(name) {
            Some(ForwardKey::V4(key)) => self.v4.doubt(key)?,
            Some(ForwardKey::V6(key)) => self.v6.doubt(key)?,
            None => {}
        }
        Ok(())
    }

    /// Forgets all flows that nobody had: an agent that was killed left them behind.
    ///
    /// # Errors
    /// A table cannot be read or written.
    pub fn doubt_all(&mut self) -> Result<(), FlowError> {
        self.v4.doubt_all()?;
        self.v6.doubt_all()?;
        Ok(())
    }
}

impl<K: Key> Tables<K> {
    /// The flow, and whether its handshake is not over.
    fn find(&self, key: K) -> Result<Option<(Flow, bool)>, MapError> {
        if let Some(flow) = get(&self.established, key)? {
            return Ok(Some((flow, false)));
        }
        let flow = get(&self.half_open, key)?;
        Ok(flow.map(|flow| (flow, flow.state & flow_state::CONFIRMED == 0)))
    }

    fn doubt(&mut self, key: K) -> Result<(), MapError> {
        let exception = get(&self.exceptions, key)?;
        if exception.is_some_and(|exception| is_denial(&exception)) {
            absent_is_removed(self.exceptions.remove(&Pod(key)))?;
        }
        Ok(())
    }

    fn doubt_all(&mut self) -> Result<(), MapError> {
        let mut denied = Vec::new();
        for entry in self.exceptions.iter() {
            let (key, Pod(exception)) = entry?;
            if is_denial(&exception) {
                denied.push(key);
            }
        }
        for key in denied {
            absent_is_removed(self.exceptions.remove(&key))?;
        }
        Ok(())
    }
}

impl FlowWalk {
    /// Calls `each` with every TCP flow that has not ended and whose handshake is over, while they come and go:
    /// one that came meanwhile may be missed, one may be met twice.
    ///
    /// # Errors
    /// A table cannot be read.
    pub fn run(&self, mut each: impl FnMut(FlowName, OwnFlow)) -> Result<(), FlowError> {
        walk(&self.v4, &mut each)?;
        walk(&self.v6, &mut each)?;
        Ok(())
    }
}

fn walk<K: Key>(
    [established, half_open]: &[Table<K, Flow>; 2],
    each: &mut impl FnMut(FlowName, OwnFlow),
) -> Result<(), MapError> {
    for (table, required) in [(established, 0), (half_open, flow_state::CONFIRMED)] {
        for entry in table.iter() {
            let (Pod(key), Pod(flow)) = entry?;
            let goes_on = flow.state & required == required
                && flow.state & flow_state::RESET == 0
                && flow.state & BOTH_FIN != BOTH_FIN;
            if let Some(name) = key.name().filter(|_| goes_on) {
                each(name, own_flow(&flow, &name, false));
            }
        }
    }
    Ok(())
}

impl Key for FlowKey4 {
    fn name(&self) -> Option<FlowName> {
        let end = |addr| address(&V4::to_words(addr), false);
        is_forward(self.direction)?;
        flow_name(
            self.protocol,
            (end(self.source), self.source_port),
            (end(self.destination), self.destination_port),
        )
    }
}

impl Key for FlowKey6 {
    fn name(&self) -> Option<FlowName> {
        is_forward(self.direction)?;
        flow_name(
            self.protocol,
            (address(&self.source, true), self.source_port),
            (address(&self.destination, true), self.destination_port),
        )
    }
}

fn is_forward(direction: u8) -> Option<()> {
    (direction == flow_direction::FORWARD).then_some(())
}

const fn is_denial(exception: &Exception) -> bool {
    exception.state & exception_state::NOBODY != 0
}

/// The address that a map key or value holds.
pub(super) fn address(words: &AddrWords, is_v6: bool) -> IpAddr {
    let [first, ..] = words;
    if is_v6 {
        address6(*words).into()
    } else {
        Ipv4Addr::from_bits(first.host()).into()
    }
}

/// What the ends of a flow make; nothing if the protocol has no frontends.
pub(super) fn flow_name(
    ip_protocol: u8,
    client: (IpAddr, Be16),
    vip: (IpAddr, Be16),
) -> Option<FlowName> {
    let protocol = match ip_protocol {
        protocol::TCP => Protocol::Tcp,
        protocol::UDP => Protocol::Udp,
        _ => return None,
    };
    Some(FlowName {
        client: SocketAddr::new(client.0, client.1.host()),
        frontend: FrontendName {
            addr: vip.0,
            port: vip.1.host(),
            protocol,
        },
    })
}

fn own_flow(flow: &Flow, name: &FlowName, is_half_open: bool) -> OwnFlow {
    let pod = address(&flow.addr, name.client.is_ipv6());
    OwnFlow {
        pod: SocketAddr::new(pod, flow.port.host()),
        backend: flow.backend,
        generation: flow.generation,
        is_half_open,
    }
}

/// The key of a flow's forward entry; none if its ends are of two families.
fn key(name: &FlowName) -> Option<ForwardKey> {
    let protocol = name.frontend.protocol.number();
    match (name.client.ip(), name.frontend.addr) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => {
            let ends = ends(
                V4::from_words(&words4(client)),
                V4::from_words(&words4(vip)),
                name,
            );
            let key = V4::flow_key(&ends, protocol, flow_direction::FORWARD);
            Some(ForwardKey::V4(key))
        }
        (IpAddr::V6(client), IpAddr::V6(vip)) => {
            let ends = ends(words6(client), words6(vip), name);
            let key = V6::flow_key(&ends, protocol, flow_direction::FORWARD);
            Some(ForwardKey::V6(key))
        }
        _ => None,
    }
}

fn ends<A>(source: A, destination: A, name: &FlowName) -> Endpoints<A> {
    Endpoints {
        source,
        destination,
        source_port: Be16::new(name.client.port()),
        destination_port: Be16::new(name.frontend.port),
    }
}

fn get<K, V>(table: &Table<K, V>, key: K) -> Result<Option<V>, MapError>
where
    Pod<K>: aya::Pod,
    Pod<V>: aya::Pod,
{
    match table.get(&Pod(key), 0) {
        Ok(Pod(value)) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(other) => Err(other),
    }
}

/// A typed handle to a table that somebody else takes.
fn borrow<K: Key>(object: &Ebpf, name: &'static str) -> Result<Table<K, Flow>, HandleError> {
    let shape = |source| HandleError::Shape { name, source };
    let Some(Map::HashMap(data) | Map::LruHashMap(data)) = object.map(name) else {
        return Err(HandleError::Missing(name));
    };
    let id = data.info().map_err(shape)?.id();
    let data = MapData::from_id(id).map_err(shape)?;
    HashMap::try_from(Map::HashMap(data)).map_err(shape)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_flow_names_it_again() {
        for (client, vip) in [
            ("198.51.100.7:41000", "203.0.113.10"),
            ("[2001:db8::7]:41000", "2001:db8:10::1"),
        ] {
            let name = FlowName {
                client: client.parse().unwrap(),
                frontend: FrontendName {
                    addr: vip.parse().unwrap(),
                    port: 443,
                    protocol: Protocol::Tcp,
                },
            };
            let again = match key(&name).unwrap() {
                ForwardKey::V4(key) => key.name(),
                ForwardKey::V6(key) => key.name(),
            };
            assert_eq!(again, Some(name));
        }
    }

    #[test]
    fn an_entry_of_the_other_direction_names_nothing() {
        let key = FlowKey4 {
            protocol: protocol::TCP,
            direction: flow_direction::REVERSE,
            ..FlowKey4::default()
        };
        assert_eq!(key.name(), None);
    }

    #[test]
    fn ends_of_two_families_make_no_flow() {
        let name = FlowName {
            client: "198.51.100.7:1".parse().unwrap(),
            frontend: FrontendName {
                addr: "2001:db8::1".parse().unwrap(),
                port: 80,
                protocol: Protocol::Tcp,
            },
        };
        assert!(key(&name).is_none());
    }
}
