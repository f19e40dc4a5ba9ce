//! Replies: the flow whose pod a packet comes from.

use crate::addr::{AddrWords, Be32};
use crate::decide::owner::{live_flow, live_flow_with, touch};
use crate::decide::{FamilyTables, Tables};
use crate::drop::DropReason;
use crate::family::{Endpoints, Family, Version};
use crate::flow::FlowTable;
use crate::frame::Frame;
use crate::maps::{Flow, flow_direction, flow_state};
use crate::outcome::Outcome;
use crate::wire::eth::{EthHeader, ether_type};
use crate::wire::tcp::{MssClamp, TcpHeader, flags};
use crate::wire::{IpHeader, ipv4, ipv6, protocol, udp};

/// What becomes of a packet that is about to leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EgressVerdict {
    /// It leaves untouched.
    Pass,
    /// It leaves as if from the VIP.
    Translate(SourceTranslation),
}

/// A translation of the source, and back of the client's port where that was translated.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourceTranslation {
    /// IP version.
    pub version: Version,
    /// Where the IP header begins.
    pub network: usize,
    /// Where the TCP or UDP header begins.
    pub transport: usize,
    /// IP protocol number.
    pub protocol: u8,
    /// Address of the pod.
    pub old_address: AddrWords,
    /// Source and destination port as the pod sees them.
    pub old_ports: Be32,
    /// The VIP.
    pub address: AddrWords,
    /// Those of the frontend and of the client.
    pub ports: Be32,
    /// How to lower the MSS of a SYN-ACK.
    pub mss: MssClamp,
}

/// Decides what becomes of a frame that is about to leave.
///
/// Its lengths are not judged: what leaves may be a train of segments that the driver is to cut.
#[inline(always)]
pub fn egress<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> EgressVerdict {
    let Some(ethernet) = EthHeader::read(frame) else {
        return EgressVerdict::Pass;
    };
    let translation =
        match ethernet.ether_type {
            ether_type::IPV4 => ipv4::read(frame, ethernet.payload)
                .and_then(|header| translate(frame, tables, &header)),
            ether_type::IPV6 => ipv6::read(frame, ethernet.payload)
                .and_then(|header| translate(frame, tables, &header)),
            _ => None,
        };
    translation.map_or(EgressVerdict::Pass, EgressVerdict::Translate)
}

#[inline(always)]
fn translate<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family>(
    frame: &F,
    tables: &T,
    header: &IpHeader<A>,
) -> Option<SourceTranslation> {
    let is_tcp = header.protocol == protocol::TCP;
    if header.fragment || !(is_tcp || header.protocol == protocol::UDP) {
        return None;
    }
    let (source_port, destination_port) = udp::ports(frame, header.payload)?;
    let ends = Endpoints {
        source: header.source,
        destination: header.destination,
        source_port,
        destination_port,
    };
    let key = A::flow_key(&ends, header.protocol, flow_direction::REVERSE);
    let mut mss = MssClamp::default();
    let flow = if is_tcp {
        let segment = TcpHeader::read(frame, header.payload)?;
        let note = |flow: &mut Flow| {
            if segment.has(flags::ACK) {
                flow.sequence = segment.acknowledgment;
            }
        };
        match live_flow_with::<T, A>(tables, FlowTable::Established, &key, note) {
            Some(flow) => {
                follow::<T, A>(tables, FlowTable::Established, &ends, &flow, &segment);
                flow
            }
            None => {
                let flow = live_flow_with::<T, A>(tables, FlowTable::HalfOpen, &key, note)?;
                follow::<T, A>(tables, FlowTable::HalfOpen, &ends, &flow, &segment);
                if segment.has(flags::SYN) {
                    mss = clamp::<F, T, A>(frame, tables, header, &segment);
                }
                flow
            }
        }
    } else {
        answered::<T, A>(tables, &ends, &key)?
    };
    Some(SourceTranslation {
        version: A::VERSION,
        network: header.offset,
        transport: header.payload,
        protocol: header.protocol,
        old_address: A::to_words(header.source),
        old_ports: Be32::join(source_port, destination_port),
        address: flow.addr,
        ports: Be32::join(flow.port, flow.client_port),
        mss,
    })
}

/// How to lower the MSS of a SYN-ACK, which says what the client is to send: that may take a tunnel.
#[inline(always)]
fn clamp<F: Frame + ?Sized, T: Tables, A: Family>(
    frame: &F,
    tables: &T,
    header: &IpHeader<A>,
    segment: &TcpHeader,
) -> MssClamp {
    let largest = tables.config().map_or(0, A::mss);
    let clamp = MssClamp::find(frame, header.payload, segment.header_length, largest);
    if clamp.offset != 0 {
        tables.count(Outcome::MssClamped);
    }
    clamp
}

/// What a segment from the pod does to its flow.
#[inline(always)]
fn follow<T: Tables + FamilyTables<A>, A: Family>(
    tables: &T,
    table: FlowTable,
    ends: &Endpoints<A::Address>,
    flow: &Flow,
    segment: &TcpHeader,
) {
    if table == FlowTable::HalfOpen && segment.has(flags::SYN | flags::ACK) {
        let key = forward_key::<A>(ends, flow, protocol::TCP);
        FamilyTables::<A>::with_flow(tables, table, &key, |forward| {
            forward.sequence = segment.sequence;
            forward.state |= flow_state::SYN_ACK_SEEN;
        });
    }
    // A pod that goes on talking did not heed the reset.
    if table == FlowTable::Established
        && flow.state & flow_state::RESET != 0
        && !segment.has(flags::RST)
    {
        let revive = |flow: &mut Flow| flow.state &= !flow_state::RESET;
        let reverse_key = A::flow_key(ends, protocol::TCP, flow_direction::REVERSE);
        FamilyTables::<A>::with_flow(tables, table, &reverse_key, revive);
        let forward_key = forward_key::<A>(ends, flow, protocol::TCP);
        FamilyTables::<A>::with_flow(tables, table, &forward_key, revive);
    }
    let fin = if segment.has(flags::FIN) {
        flow_state::POD_FIN
    } else {
        0
    };
    let reset = if segment.has(flags::RST) {
        flow_state::RESET
    } else {
        0
    };
    refresh::<T, A>(tables, table, ends, flow, fin | reset, protocol::TCP);
}

/// The UDP flow that a datagram from a pod answers. The first answer promotes it; without room it stays where
/// it is until a later one.
#[inline(always)]
fn answered<T: Tables + FamilyTables<A>, A: Family>(
    tables: &T,
    ends: &Endpoints<A::Address>,
    key: &A::FlowKey,
) -> Option<Flow> {
    let state = flow_state::ANSWERED;
    if let Some(flow) = live_flow::<T, A>(tables, FlowTable::Udp, key) {
        refresh::<T, A>(tables, FlowTable::Udp, ends, &flow, state, protocol::UDP);
        return Some(flow);
    }
    let table = FlowTable::Unanswered;
    let flow = live_flow::<T, A>(tables, table, key)?;
    if promote::<T, A>(tables, ends, key, &flow) {
        tables.count(Outcome::Promoted);
        let forward_key = forward_key::<A>(ends, &flow, protocol::UDP);
        FamilyTables::<A>::remove_flow(tables, table, &forward_key);
        FamilyTables::<A>::remove_flow(tables, table, key);
    } else {
        tables.count_drop(DropReason::UdpFull);
        refresh::<T, A>(tables, table, ends, &flow, state, protocol::UDP);
    }
    Some(flow)
}

/// Writes both entries of a UDP flow that was answered, or none.
#[inline(always)]
fn promote<T: Tables + FamilyTables<A>, A: Family>(
    tables: &T,
    ends: &Endpoints<A::Address>,
    key: &A::FlowKey,
    reverse: &Flow,
) -> bool {
    let mut flow = Flow {
        state: reverse.state | flow_state::ANSWERED,
        seen: tables.now_seconds(),
        ..*reverse
    };
    if !FamilyTables::<A>::insert_flow(tables, FlowTable::Udp, key, &flow) {
        return false;
    }
    flow.addr = A::to_words(ends.source);
    flow.port = ends.source_port;
    flow.client_port = ends.destination_port;
    let forward_key = forward_key::<A>(ends, reverse, protocol::UDP);
    if FamilyTables::<A>::insert_flow(tables, FlowTable::Udp, &forward_key, &flow) {
        return true;
    }
    FamilyTables::<A>::remove_flow(tables, FlowTable::Udp, key);
    false
}

#[inline(always)]
fn refresh<T: Tables + FamilyTables<A>, A: Family>(
    tables: &T,
    table: FlowTable,
    ends: &Endpoints<A::Address>,
    flow: &Flow,
    state: u16,
    ip_protocol: u8,
) {
    let now = tables.now_seconds();
    if flow.seen != now || state & !flow.state != 0 {
        let reverse_key = A::flow_key(ends, ip_protocol, flow_direction::REVERSE);
        touch::<T, A>(tables, table, &reverse_key, state, now);
        touch::<T, A>(
            tables,
            table,
            &forward_key::<A>(ends, flow, ip_protocol),
            state,
            now,
        );
    }
}

/// Key of the entry that the client's packets find, told from the pod's.
#[inline(always)]
fn forward_key<A: Family>(
    ends: &Endpoints<A::Address>,
    reverse: &Flow,
    ip_protocol: u8,
) -> A::FlowKey {
    let ends = Endpoints {
        source: ends.destination,
        destination: A::from_words(&reverse.addr),
        source_port: reverse.client_port,
        destination_port: reverse.port,
    };
    A::flow_key(&ends, ip_protocol, flow_direction::FORWARD)
}
