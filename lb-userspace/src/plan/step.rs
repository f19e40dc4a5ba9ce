//! The steps that bring the maps from what they hold to what they are to hold.
//!
//! `plan::layout` makes them, in an order in which no packet ever meets a backend that is not there;
//! `datapath` runs them one by one; `torline run --dry-run` prints them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use lb_common::addr::{AddrWords, Mac};
use lb_common::maps::{Backend, Config, Frontend, Node, Slot, Vip};

use super::layout::tunnel_end;
use crate::model::intent::FrontendName;

/// One write to one element of one map.
#[derive(Clone, PartialEq, Debug)]
pub enum Step {
    /// Writes the configuration; `heartbeat` is filled in by whoever runs the step.
    SetConfig(Box<Config>),
    /// Writes a node.
    SetNode {
        /// Name, for people.
        name: String,
        /// Node number.
        number: u16,
        /// Value.
        node: Node,
    },
    /// Says that a MAC is a peer's.
    SetPeerMac {
        /// The peer's MAC.
        mac: Mac,
        /// Node number.
        number: u16,
    },
    /// Says that a MAC is no longer a peer's.
    RemovePeerMac {
        /// The MAC.
        mac: Mac,
    },
    /// Says that tunnels from an address are a peer's.
    SetPeerAddr {
        /// The peer's address; IPv4 in the first word.
        addr: AddrWords,
        /// Node number.
        number: u16,
    },
    /// Says that tunnels from an address are no longer a peer's.
    RemovePeerAddr {
        /// The address; IPv4 in the first word.
        addr: AddrWords,
    },
    /// Writes a backend; the value with no flags empties the element.
    SetBackend {
        /// Index in `BACKENDS`.
        index: u32,
        /// Value.
        backend: Backend,
    },
    /// Says which backend other nodes mean.
    SetBackendIndex {
        /// What they call it.
        name: BackendName,
        /// Index in `BACKENDS`.
        index: u32,
    },
    /// Says that nothing is called that any more.
    RemoveBackendIndex {
        /// What it was called.
        name: BackendName,
    },
    /// Writes a slot, with one aligned 8-byte store.
    SetSlot {
        /// Index in `SLOTS`.
        index: u32,
        /// Value.
        slot: Slot,
    },
    /// Writes a whole region of slots that nothing points at yet.
    SetSlots {
        /// Index of the first one in `SLOTS`.
        index: u32,
        /// Values.
        slots: Arc<[Slot]>,
    },
    /// Sets the counters of a frontend id to zero: the id was another frontend's before.
    ClearCounters {
        /// Frontend id.
        id: u32,
    },
    /// Writes a frontend.
    SetFrontend {
        /// Key.
        name: FrontendName,
        /// Value.
        frontend: Frontend,
    },
    /// Removes a frontend.
    RemoveFrontend {
        /// Key.
        name: FrontendName,
    },
    /// Writes a VIP.
    SetVip {
        /// Address.
        addr: IpAddr,
        /// Value.
        vip: Vip,
    },
    /// Removes a VIP.
    RemoveVip {
        /// Address.
        addr: IpAddr,
    },
}

/// What other nodes call a backend of one of this node's frontends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BackendName {
    /// Frontend id.
    pub frontend: u32,
    /// Pod address.
    pub addr: IpAddr,
    /// Pod port.
    pub port: u16,
}

impl fmt::Display for BackendName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            frontend,
            addr,
            port,
        } = self;
        write!(
            f,
            "{} of frontend id {frontend}",
            SocketAddr::new(*addr, *port)
        )
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SetConfig(config) => write!(f, "config: flags {:#x}", config.flags),
            Self::SetNode { name, number, node } => {
                write!(f, "node {name} (number {number}): mode {}", node.mode)
            }
            Self::SetPeerMac { mac, number } => write!(f, "peer MAC {mac} is node number {number}"),
            Self::RemovePeerMac { mac } => write!(f, "peer MAC {mac} is no more"),
            Self::SetPeerAddr { addr, number } => {
                write!(
                    f,
                    "peer address {} is node number {number}",
                    tunnel_end(*addr)
                )
            }
            Self::RemovePeerAddr { addr } => {
                write!(f, "peer address {} is no more", tunnel_end(*addr))
            }
            Self::SetBackend { index, backend } if backend.flags == 0 => {
                write!(f, "backend {index}: empty")
            }
            Self::SetBackend { index, backend } => write!(
                f,
                "backend {index}: node number {}, port {}, generation {}",
                backend.node,
                backend.port.host(),
                backend.generation
            ),
            Self::SetBackendIndex { name, index } => write!(f, "{name} is backend {index}"),
            Self::RemoveBackendIndex { name } => write!(f, "{name} is no more"),
            Self::SetSlot { index, slot } => write!(f, "slot {index}: {:?}", slot.owners()),
            Self::SetSlots { index, slots } => {
                write!(f, "{} slots from {index}", slots.len())
            }
            Self::ClearCounters { id } => write!(f, "counters of frontend id {id}: zero"),
            Self::SetFrontend { name, frontend } => write!(
                f,
                "frontend {name}: id {}, {} slots from {}",
                frontend.id,
                u64::from(frontend.mask) + 1,
                frontend.slots
            ),
            Self::RemoveFrontend { name } => write!(f, "frontend {name} is no more"),
            Self::SetVip { addr, vip } => write!(f, "VIP {addr}: flags {:#x}", vip.flags),
            Self::RemoveVip { addr } => write!(f, "VIP {addr} is no more"),
        }
    }
}
