//! The owner: flows of the pods of this node.

use crate::decide::service::{Choice, Request};
use crate::decide::tables::{FamilyTables, Tables};
use crate::decide::{Delivery, Verdict};
use crate::drop::DropReason;
use crate::family::{Endpoints, Family};
use crate::flow::{CLOSING, FlowTable, HALF_OPEN_TIMEOUT};
use crate::frame::Frame;
use crate::maps::{Flow, backend_flags, flow_direction, flow_state};
use crate::wire::protocol;
use crate::wire::tcp::{TcpHeader, flags};

/// A flow entry whose backend still is who it was.
#[inline(always)]
pub(super) fn live_flow<T: Tables + FamilyTables<A>, A: Family>(
    tables: &T,
    table: FlowTable,
    key: &A::FlowKey,
) -> Option<Flow> {
    let flow = FamilyTables::<A>::with_flow(tables, table, key, |flow| *flow)?;
    let backend = tables.backend(flow.backend)?;
    let same = backend.generation == flow.generation && backend.flags & backend_flags::IN_USE != 0;
    same.then_some(flow)
}

/// Adds state to an entry and notes the time.
#[inline(always)]
pub(super) fn touch<T: FamilyTables<A>, A: Family>(
    tables: &T,
    table: FlowTable,
    key: &A::FlowKey,
    state: u16,
    now: u32,
) {
    tables.with_flow(table, key, |flow| {
        flow.state |= state;
        flow.seen = now;
    });
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Request<'_, F, T, A> {
    /// Decides as the owner of the flow, or as who might be.
    #[inline(always)]
    pub(super) fn own(&self, choice: Choice) -> Verdict {
        if self.packet.header.protocol == protocol::UDP {
            self.own_udp(choice)
        } else {
            self.own_tcp(choice)
        }
    }

    #[inline(always)]
    fn own_udp(&self, choice: Choice) -> Verdict {
        let Some(flow) = self.live(FlowTable::Udp) else {
            return match choice {
                Choice::Here(index) => self.open(FlowTable::Udp, index),
                Choice::Elsewhere => Verdict::Drop(DropReason::NotOwner),
                Choice::Nobody => self.packet.refuse_datagram(DropReason::NoBackend),
            };
        };
        self.refresh(FlowTable::Udp, &flow, 0);
        self.deliver(&flow, 0)
    }

    #[inline(always)]
    fn own_tcp(&self, choice: Choice) -> Verdict {
        let packet = self.packet;
        let Some(segment) = packet.segment() else {
            return packet.too_hard(DropReason::Malformed);
        };
        if let Some(flow) = self.live(FlowTable::Established) {
            if !(segment.is_opening() && flow.state & CLOSING != 0) {
                self.refresh(FlowTable::Established, &flow, closing(&segment));
                return self.deliver(&flow, 0);
            }
            self.remove_both(FlowTable::Established, &flow);
        } else if let Some(flow) = self.live(FlowTable::HalfOpen) {
            if !(segment.is_opening() && flow.state & CLOSING != 0) {
                self.progress(&flow, &segment);
                return self.deliver(&flow, 0);
            }
            self.remove_both(FlowTable::HalfOpen, &flow);
        }
        match choice {
            Choice::Elsewhere => Verdict::Drop(DropReason::NotOwner),
            Choice::Here(index) if segment.is_opening() => self.open(FlowTable::HalfOpen, index),
            Choice::Here(_) => packet.reset(&segment, DropReason::UnknownFlow),
            Choice::Nobody => packet.refuse(&segment, DropReason::NoBackend),
        }
    }

    /// What a segment from the client does to a half-open flow.
    #[inline(always)]
    fn progress(&self, flow: &Flow, segment: &TcpHeader) {
        let tables = self.packet.tables;
        let acknowledges = segment.flags & (flags::ACK | flags::SYN | flags::RST) == flags::ACK;
        let answers = flow.state & flow_state::SYN_ACK_SEEN != 0
            && segment.acknowledgment == flow.sequence.wrapping_add(1);
        let confirmed = flow.state & flow_state::CONFIRMED != 0;
        if !(acknowledges && (answers || confirmed)) {
            return self.refresh(FlowTable::HalfOpen, flow, closing(segment));
        }
        let now = tables.now_seconds();
        // A flow that found no room tries again, but not with each of its packets.
        if confirmed && flow.seen == now {
            return;
        }
        let state = flow.state | flow_state::CONFIRMED | closing(segment);
        let established = Flow {
            state,
            seen: now,
            ..*flow
        };
        if self.insert_both(FlowTable::Established, established) {
            self.remove_both(FlowTable::HalfOpen, flow);
        } else {
            tables.count_drop(DropReason::EstablishedFull);
            self.touch_both(FlowTable::HalfOpen, flow, state, now);
        }
    }

    /// Begins a flow to a backend of this node.
    #[inline(always)]
    fn open(&self, table: FlowTable, index: u32) -> Verdict {
        let tables = self.packet.tables;
        let Some(backend) = tables.backend(index) else {
            return Verdict::Drop(DropReason::NoBackend);
        };
        let now = tables.now_seconds();
        let flow = Flow {
            addr: backend.addr,
            port: backend.port,
            state: 0,
            generation: backend.generation,
            backend: index,
            frontend: self.frontend.id,
            seen: now,
            sequence: 0,
        };
        if table == FlowTable::HalfOpen {
            // Egress looks for established flows first, so what is over there must not hide this one.
            if self.is_reverse_taken(FlowTable::Established, &flow) {
                return Verdict::Drop(DropReason::ReverseTaken);
            }
            let key = self.reverse_key(&flow);
            FamilyTables::<A>::remove_flow(tables, FlowTable::Established, &key);
        }
        if self.is_reverse_taken(table, &flow) {
            return Verdict::Drop(DropReason::ReverseTaken);
        }
        if !self.insert_both(table, flow) {
            return Verdict::Drop(DropReason::TableFull);
        }
        self.deliver(&flow, 1)
    }

    /// Whether a flow to another frontend holds the reverse entry that this one needs.
    #[inline(always)]
    fn is_reverse_taken(&self, table: FlowTable, flow: &Flow) -> bool {
        let key = self.reverse_key(flow);
        let Some(other) = live_flow::<T, A>(self.packet.tables, table, &key) else {
            return false;
        };
        let idle = flow.seen.saturating_sub(other.seen);
        let over = other.state & CLOSING != 0
            || (table == FlowTable::HalfOpen && idle > HALF_OPEN_TIMEOUT);
        let ours = A::from_words(&other.addr) == self.ends.destination
            && other.port == self.ends.destination_port;
        !over && !ours
    }

    /// Adds state to both entries and notes the time, at most once a second if the state is old.
    #[inline(always)]
    fn refresh(&self, table: FlowTable, flow: &Flow, state: u16) {
        let now = self.packet.tables.now_seconds();
        if flow.seen != now || state & !flow.state != 0 {
            self.touch_both(table, flow, state, now);
        }
    }

    // Keys are made anew for each call and not kept: two of IPv6 are a sixth of the BPF stack.

    #[inline(always)]
    fn live(&self, table: FlowTable) -> Option<Flow> {
        live_flow::<T, A>(self.packet.tables, table, &self.forward_key())
    }

    #[inline(always)]
    fn touch_both(&self, table: FlowTable, flow: &Flow, state: u16, now: u32) {
        touch::<T, A>(self.packet.tables, table, &self.forward_key(), state, now);
        touch::<T, A>(
            self.packet.tables,
            table,
            &self.reverse_key(flow),
            state,
            now,
        );
    }

    /// Writes both entries or none.
    #[inline(always)]
    fn insert_both(&self, table: FlowTable, mut flow: Flow) -> bool {
        let tables = self.packet.tables;
        if !FamilyTables::<A>::insert_flow(tables, table, &self.forward_key(), &flow) {
            return false;
        }
        let key = self.reverse_key(&flow);
        flow.addr = A::to_words(self.ends.destination);
        flow.port = self.ends.destination_port;
        if FamilyTables::<A>::insert_flow(tables, table, &key, &flow) {
            return true;
        }
        FamilyTables::<A>::remove_flow(tables, table, &self.forward_key());
        false
    }

    #[inline(always)]
    fn remove_both(&self, table: FlowTable, flow: &Flow) {
        let tables = self.packet.tables;
        FamilyTables::<A>::remove_flow(tables, table, &self.forward_key());
        FamilyTables::<A>::remove_flow(tables, table, &self.reverse_key(flow));
    }

    #[inline(always)]
    fn deliver(&self, flow: &Flow, flows: u64) -> Verdict {
        self.count(flows, 1);
        let header = &self.packet.header;
        Verdict::Deliver(Delivery {
            version: A::VERSION,
            network: header.offset,
            transport: header.payload,
            protocol: header.protocol,
            address: flow.addr,
            port: flow.port,
        })
    }

    #[inline(always)]
    fn forward_key(&self) -> A::FlowKey {
        A::flow_key(
            &self.ends,
            self.packet.header.protocol,
            flow_direction::FORWARD,
        )
    }

    /// Key of the entry that the pod's replies find.
    #[inline(always)]
    fn reverse_key(&self, flow: &Flow) -> A::FlowKey {
        let ends = Endpoints {
            source: A::from_words(&flow.addr),
            destination: self.ends.source,
            source_port: flow.port,
            destination_port: self.ends.source_port,
        };
        A::flow_key(&ends, self.packet.header.protocol, flow_direction::REVERSE)
    }
}

/// State that the client's segment adds.
#[inline(always)]
const fn closing(segment: &TcpHeader) -> u16 {
    let fin = if segment.has(flags::FIN) {
        flow_state::CLIENT_FIN
    } else {
        0
    };
    let reset = if segment.has(flags::RST) {
        flow_state::RESET
    } else {
        0
    };
    fin | reset
}
