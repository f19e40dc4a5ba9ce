//! Reads back what steps write.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use lb_common::abi::map;
use lb_common::addr::{AddrWords, Be16, Be32, Mac};
use lb_common::maps::{Backend, Frontend, MacKey, Node, Slot};

use super::batch;
use super::handle::{KernelTables, TableError};
use super::pod::Pod;
use super::slots::SlotArray;
use crate::model::cluster::Protocol;
use crate::model::intent::FrontendName;
use crate::plan::layout::{Dump, address6};
use crate::plan::step::BackendName;

pub(super) fn of(tables: &KernelTables) -> Result<Dump, TableError> {
    let mut dump = Dump {
        config: tables.heart.config(),
        ..Dump::default()
    };
    batch::read_array(&tables.node_data, |number, node| {
        if node != Node::default() {
            dump.nodes.push((number as u16, node));
        }
    })
    .map_err(|error| TableError::Read(map::NODES, error))?;
    batch::read_array(&tables.backend_data, |index, backend| {
        if backend != Backend::default() {
            dump.backends.push((index, backend));
        }
    })
    .map_err(|error| TableError::Read(map::BACKENDS, error))?;
    for entry in tables.peer_macs.iter() {
        let (Pod(key), number) = entry?;
        dump.peer_macs.push((mac(key), number as u16));
    }
    for entry in tables.peer_addrs.iter() {
        let (Pod(addr), number) = entry?;
        dump.peer_addrs.push((addr, number as u16));
    }
    for entry in tables.backend_index4.iter() {
        let (Pod(key), index) = entry?;
        let name = BackendName {
            frontend: key.frontend,
            addr: v4(key.addr),
            port: key.port.host(),
        };
        dump.backend_indices.push((name, index));
    }
    for entry in tables.backend_index6.iter() {
        let (Pod(key), index) = entry?;
        let name = BackendName {
            frontend: key.frontend,
            addr: v6(key.addr),
            port: key.port.host(),
        };
        dump.backend_indices.push((name, index));
    }
    for entry in tables.frontends4.iter() {
        let (Pod(key), Pod(value)) = entry?;
        let name = name(v4(key.addr), key.port, key.protocol);
        dump.frontends
            .extend(name.map(|name| (name, value, region(&tables.slots, value))));
    }
    for entry in tables.frontends6.iter() {
        let (Pod(key), Pod(value)) = entry?;
        let name = name(v6(key.addr), key.port, key.protocol);
        dump.frontends
            .extend(name.map(|name| (name, value, region(&tables.slots, value))));
    }
    for entry in tables.vips4.iter() {
        let (Pod(addr), Pod(vip)) = entry?;
        dump.vips.push((v4(addr), vip));
    }
    for entry in tables.vips6.iter() {
        let (Pod(addr), Pod(vip)) = entry?;
        dump.vips.push((v6(addr), vip));
    }
    Ok(dump)
}

/// The slots that a frontend reaches; fewer if it points beyond the array.
fn region(slots: &SlotArray, frontend: Frontend) -> Arc<[Slot]> {
    let end = frontend.slots.saturating_add(frontend.mask);
    (frontend.slots..=end)
        .map_while(|index| slots.load(index))
        .collect()
}

/// The name of a frontend; nothing of a protocol that this agent does not write.
fn name(addr: IpAddr, port: Be16, protocol: u8) -> Option<FrontendName> {
    let protocol = [Protocol::Tcp, Protocol::Udp]
        .into_iter()
        .find(|known| known.number() == protocol)?;
    Some(FrontendName {
        addr,
        port: port.host(),
        protocol,
    })
}

fn v4(addr: Be32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(addr.host()))
}

fn v6(words: AddrWords) -> IpAddr {
    IpAddr::V6(address6(words))
}

fn mac(key: MacKey) -> Mac {
    let [a, b, c, d] = key.head.host().to_be_bytes();
    let [e, f] = key.tail.host().to_be_bytes();
    Mac([a, b, c, d, e, f])
}
