//! The maps that steps write, typed.

use std::io;
use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData, MapError, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use lb_common::abi::map;
use lb_common::addr::{AddrWords, Be16, Be32, Mac, words4, words6};
use lb_common::family::{Family, V4, V6};
use lb_common::maps::{
    Backend, BackendKey4, BackendKey6, Frontend, FrontendKey4, FrontendKey6, FrontendStats, MacKey,
    Node, Vip,
};

use super::apply::Tables;
use super::heart::Heart;
use super::pod::Pod;
use super::slots::SlotArray;
use crate::model::intent::FrontendName;
use crate::plan::layout::{Capacity, Dump};
use crate::plan::step::{BackendName, Step};

/// Why a map of the object cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// The object has no such map.
    #[error("the kernel programs have no map {0}; agent and programs are of different builds")]
    Missing(&'static str),
    /// The map has another kind, key or value.
    #[error(
        "map {name} is not what this agent expects; agent and programs are of different builds"
    )]
    Shape {
        /// Name of the map.
        name: &'static str,
        /// What differs.
        #[source]
        source: MapError,
    },
    /// The number of CPUs cannot be told.
    #[error("failed to tell the number of CPUs")]
    Cpus(#[source] io::Error),
    /// The slot array cannot be mapped.
    #[error("failed to map {}", map::SLOTS)]
    Slots(#[source] io::Error),
}

/// Why a map could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// The kernel refused it.
    #[error(transparent)]
    Map(#[from] MapError),
    /// There is no such slot.
    #[error("slot {0} is beyond the array")]
    NoSuchSlot(u32),
    /// The number of CPUs changed.
    #[error("failed to tell the number of CPUs")]
    Cpus(#[source] io::Error),
    /// An array cannot be read.
    #[error("failed to read {0}")]
    Read(&'static str, #[source] io::Error),
}

/// Every map that a [`Step`] writes.
pub struct KernelTables {
    pub(super) heart: Heart,
    pub(super) frontends4: HashMap<MapData, Pod<FrontendKey4>, Pod<Frontend>>,
    pub(super) frontends6: HashMap<MapData, Pod<FrontendKey6>, Pod<Frontend>>,
    pub(super) slots: SlotArray,
    /// Not needed for writing, but whoever inspects the maps finds it among the agent's.
    _slots: MapData,
    backends: Array<MapData, Pod<Backend>>,
    nodes: Array<MapData, Pod<Node>>,
    /// Handles to the same maps, for reading them whole.
    pub(super) backend_data: MapData,
    pub(super) node_data: MapData,
    pub(super) peer_macs: HashMap<MapData, Pod<MacKey>, u32>,
    pub(super) peer_addrs: HashMap<MapData, Pod<AddrWords>, u32>,
    pub(super) backend_index4: HashMap<MapData, Pod<BackendKey4>, u32>,
    pub(super) backend_index6: HashMap<MapData, Pod<BackendKey6>, u32>,
    pub(super) vips4: HashMap<MapData, Pod<Be32>, Pod<Vip>>,
    pub(super) vips6: HashMap<MapData, Pod<AddrWords>, Pod<Vip>>,
    counters: PerCpuArray<MapData, Pod<FrontendStats>>,
    cpus: usize,
}

impl KernelTables {
    /// Takes the maps out of a loaded object.
    ///
    /// # Errors
    /// The object is not of this build.
    pub fn take(object: &mut Ebpf) -> Result<Self, HandleError> {
        let (slots, slot_data) = map_slots(object)?;
        let (backend_data, node_data) = (
            second_handle(object, map::BACKENDS)?,
            second_handle(object, map::NODES)?,
        );
        let counters = second_handle(object, map::FRONTEND_STATS)?;
        Ok(Self {
            heart: Heart::take(object)?,
            frontends4: take(object, map::FRONTENDS4)?,
            frontends6: take(object, map::FRONTENDS6)?,
            slots,
            _slots: slot_data,
            backends: take(object, map::BACKENDS)?,
            nodes: take(object, map::NODES)?,
            peer_macs: take(object, map::PEER_MACS)?,
            peer_addrs: take(object, map::PEER_ADDRS)?,
            backend_index4: take(object, map::BACKEND_INDEX4)?,
            backend_index6: take(object, map::BACKEND_INDEX6)?,
            vips4: take(object, map::VIPS4)?,
            vips6: take(object, map::VIPS6)?,
            backend_data,
            node_data,
            counters: PerCpuArray::try_from(Map::PerCpuArray(counters)).map_err(|source| {
                HandleError::Shape {
                    name: map::FRONTEND_STATS,
                    source,
                }
            })?,
            cpus: nr_cpus().map_err(|(_, error)| HandleError::Cpus(error))?,
        })
    }

    /// A handle to the heartbeat.
    pub fn heart(&self) -> Heart {
        self.heart.clone()
    }
}

impl Tables for KernelTables {
    type Error = TableError;

    fn dump(&self) -> Result<Dump, TableError> {
        super::dump::of(self)
    }

    fn run(&mut self, step: &Step) -> Result<(), TableError> {
        match step {
            Step::SetConfig(config) => self.heart.set(**config)?,
            Step::SetNode { number, node, .. } => {
                self.nodes.set(u32::from(*number), Pod(*node), 0)?;
            }
            Step::SetPeerMac { mac, number } => {
                self.peer_macs
                    .insert(Pod(mac_key(*mac)), u32::from(*number), 0)?;
            }
            Step::RemovePeerMac { mac } => {
                absent_is_removed(self.peer_macs.remove(&Pod(mac_key(*mac))))?
            }
            Step::SetPeerAddr { addr, number } => {
                self.peer_addrs.insert(Pod(*addr), u32::from(*number), 0)?;
            }
            Step::RemovePeerAddr { addr } => {
                absent_is_removed(self.peer_addrs.remove(&Pod(*addr)))?
            }
            Step::SetBackendIndex { name, index } => match backend_key(name) {
                BackendKey::V4(key) => self.backend_index4.insert(Pod(key), *index, 0)?,
                BackendKey::V6(key) => self.backend_index6.insert(Pod(key), *index, 0)?,
            },
            Step::RemoveBackendIndex { name } => absent_is_removed(match backend_key(name) {
                BackendKey::V4(key) => self.backend_index4.remove(&Pod(key)),
                BackendKey::V6(key) => self.backend_index6.remove(&Pod(key)),
            })?,
            Step::SetBackend { index, backend } => self.backends.set(*index, Pod(*backend), 0)?,
            Step::SetSlot { index, slot } => {
                if !self.slots.store(*index, *slot) {
                    return Err(TableError::NoSuchSlot(*index));
                }
            }
            Step::SetSlots { index, slots } => {
                for (index, slot) in (*index..).zip(slots.iter()) {
                    if !self.slots.store(index, *slot) {
                        return Err(TableError::NoSuchSlot(index));
                    }
                }
            }
            Step::ClearCounters { id } => {
                let zeroes = vec![Pod(FrontendStats::default()); self.cpus];
                let zeroes = PerCpuValues::try_from(zeroes).map_err(TableError::Cpus)?;
                self.counters.set(*id, zeroes, 0)?;
            }
            Step::SetFrontend { name, frontend } => match frontend_key(name) {
                FrontendKey::V4(key) => self.frontends4.insert(Pod(key), Pod(*frontend), 0)?,
                FrontendKey::V6(key) => self.frontends6.insert(Pod(key), Pod(*frontend), 0)?,
            },
            Step::RemoveFrontend { name } => absent_is_removed(match frontend_key(name) {
                FrontendKey::V4(key) => self.frontends4.remove(&Pod(key)),
                FrontendKey::V6(key) => self.frontends6.remove(&Pod(key)),
            })?,
            Step::SetVip { addr, vip } => match addr {
                IpAddr::V4(addr) => {
                    self.vips4
                        .insert(Pod(Be32::new(addr.to_bits())), Pod(*vip), 0)?;
                }
                IpAddr::V6(addr) => self.vips6.insert(Pod(words6(*addr)), Pod(*vip), 0)?,
            },
            Step::RemoveVip { addr } => absent_is_removed(match addr {
                IpAddr::V4(addr) => self.vips4.remove(&Pod(Be32::new(addr.to_bits()))),
                IpAddr::V6(addr) => self.vips6.remove(&Pod(words6(*addr))),
            })?,
        }
        Ok(())
    }
}

fn map_slots(object: &mut Ebpf) -> Result<(SlotArray, MapData), HandleError> {
    let len = max_entries(object, map::SLOTS)?;
    let Some(Map::Array(array)) = object.take_map(map::SLOTS) else {
        return Err(HandleError::Missing(map::SLOTS));
    };
    let slots = SlotArray::map(array.fd(), len).map_err(HandleError::Slots)?;
    Ok((slots, array))
}

/// How many elements the maps of a loaded object have.
///
/// # Errors
/// The object is not of this build.
pub(super) fn capacity(object: &Ebpf) -> Result<Capacity, HandleError> {
    let len = |name| max_entries(object, name);
    Ok(Capacity {
        slots: len(map::SLOTS)?,
        backends: len(map::BACKENDS)?,
        frontends: len(map::FRONTENDS4)?
            .min(len(map::FRONTENDS6)?)
            .min(len(map::FRONTEND_STATS)?),
        vips: len(map::VIPS4)?.min(len(map::VIPS6)?),
        nodes: len(map::NODES)?,
    })
}

fn max_entries(object: &Ebpf, name: &'static str) -> Result<u32, HandleError> {
    let Some(Map::Array(data) | Map::HashMap(data) | Map::PerCpuArray(data)) = object.map(name)
    else {
        return Err(HandleError::Missing(name));
    };
    let info = data
        .info()
        .map_err(|source| HandleError::Shape { name, source })?;
    Ok(info.max_entries())
}

/// Takes one map out of the object and gives it its type.
pub(super) fn take<M>(object: &mut Ebpf, name: &'static str) -> Result<M, HandleError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).ok_or(HandleError::Missing(name))?;
    M::try_from(map).map_err(|source| HandleError::Shape { name, source })
}

/// One more handle to a map that somebody else takes.
pub(super) fn second_handle(object: &Ebpf, name: &'static str) -> Result<MapData, HandleError> {
    let shape = |source| HandleError::Shape { name, source };
    let Some(Map::Array(data) | Map::PerCpuArray(data)) = object.map(name) else {
        return Err(HandleError::Missing(name));
    };
    let id = data.info().map_err(shape)?.id();
    MapData::from_id(id).map_err(shape)
}

/// Takes one hash out of the object, not typed yet.
pub(super) fn take_data(object: &mut Ebpf, name: &'static str) -> Result<MapData, HandleError> {
    match object.take_map(name) {
        Some(Map::HashMap(data)) => Ok(data),
        _ => Err(HandleError::Missing(name)),
    }
}

enum FrontendKey {
    V4(FrontendKey4),
    V6(FrontendKey6),
}

fn frontend_key(name: &FrontendName) -> FrontendKey {
    let port = Be16::new(name.port);
    let protocol = name.protocol.number();
    match name.addr {
        IpAddr::V4(addr) => FrontendKey::V4(FrontendKey4 {
            addr: Be32::new(addr.to_bits()),
            port,
            protocol,
            zero: 0,
        }),
        IpAddr::V6(addr) => FrontendKey::V6(FrontendKey6 {
            addr: words6(addr),
            port,
            protocol,
            zero: 0,
        }),
    }
}

enum BackendKey {
    V4(BackendKey4),
    V6(BackendKey6),
}

fn backend_key(name: &BackendName) -> BackendKey {
    let (frontend, port) = (name.frontend, Be16::new(name.port));
    match name.addr {
        IpAddr::V4(addr) => BackendKey::V4(V4::backend_key(frontend, &words4(addr), port)),
        IpAddr::V6(addr) => BackendKey::V6(V6::backend_key(frontend, &words6(addr), port)),
    }
}

fn mac_key(Mac([a, b, c, d, e, f]): Mac) -> MacKey {
    MacKey {
        head: Be32::from_raw(u32::from_ne_bytes([a, b, c, d])),
        tail: Be16::from_raw(u16::from_ne_bytes([e, f])),
        zero: 0,
    }
}

/// A removal is about the key being gone, not about having been the one who did it.
pub(super) fn absent_is_removed(removal: Result<(), MapError>) -> Result<(), MapError> {
    match removal {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}
