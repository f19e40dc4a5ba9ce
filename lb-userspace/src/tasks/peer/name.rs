//! What is called one way on the wire and another way in the maps.

use std::net::{IpAddr, SocketAddr};

use crate::datapath::flows::FlowName;
use crate::model::cluster::Protocol;
use crate::model::intent::FrontendName;
use crate::plan::layout::{Heritage, Layout, Table};
use crate::proto::peer::{self, Chunk, History, Range};

pub(super) const fn frontend_on_wire(name: &FrontendName) -> peer::Frontend {
    peer::Frontend {
        vip: SocketAddr::new(name.addr, name.port),
        protocol: name.protocol.number(),
    }
}

/// Nothing if this version knows no such protocol.
pub(super) fn frontend(name: &peer::Frontend) -> Option<FrontendName> {
    let protocols = [Protocol::Tcp, Protocol::Udp].into_iter();
    Some(FrontendName {
        addr: name.vip.ip(),
        port: name.vip.port(),
        protocol: { protocols }.find(|protocol| protocol.number() == name.protocol)?,
    })
}

pub(super) const fn flow_on_wire(flow: &FlowName) -> peer::FlowName {
    peer::FlowName {
        client: flow.client,
        frontend: frontend_on_wire(&flow.frontend),
    }
}

pub(super) fn flow(flow: &peer::FlowName) -> Option<FlowName> {
    Some(FlowName {
        client: flow.client,
        frontend: frontend(&flow.frontend)?,
    })
}

pub(super) fn heritage(history: History) -> Option<Heritage> {
    let pod = |pod: SocketAddr| (pod.ip(), pod.port());
    let slots = history.slots.into_iter();
    Some(Heritage {
        name: frontend(&history.frontend)?,
        slots: slots
            .map(|owners| owners.map(|owner| owner.map(pod)))
            .collect(),
    })
}

/// A table's digest, in short.
pub(super) fn digest(table: &Table) -> u64 {
    u64::from_str_radix(table.digest(), 16).unwrap_or(0)
}

/// What is answered to somebody who wants to know what slots remember.
pub(super) fn remembered(layout: Option<&Layout>, range: &Range) -> Vec<Chunk> {
    let table = frontend(&range.frontend).and_then(|name| layout?.frontend(&name));
    let Some(table) = table else {
        return vec![range.unknown()];
    };
    let length = table.slots().len() as u32;
    if table.remembers_nobody() && digest(table) == range.digest {
        return vec![range.nothing(length)];
    }
    let end = |(addr, port): (IpAddr, u16)| SocketAddr::new(addr, port);
    range.chunks(length, |slot| {
        table.owners(slot).map(|owner| owner.map(end))
    })
}
