//! The owner: flows of the pods of this node.

use crate::addr::{Be16, Be32};
use crate::decide::service::Request;
use crate::decide::tables::{FamilyTables, Tables};
use crate::decide::{Act, Delivery, Verdict};
use crate::drop::DropReason;
use crate::family::{Endpoints, Family};
use crate::flow::{CLOSING, FlowTable, HALF_OPEN_TIMEOUT, expired, is_closed};
use crate::frame::Frame;
use crate::maps::{Backend, Flow, Tour, backend_flags, flow_direction, flow_state};
use crate::outcome::Outcome;
use crate::wire::protocol;
use crate::wire::tcp::{TcpHeader, flags};

/// A flow entry whose backend still is who it was.
#[inline(always)]
pub(super) fn live_flow<T: Tables + FamilyTables<A>, A: Family>(
    tables: &T,
    table: FlowTable,
    key: &A::FlowKey,
) -> Option<Flow> {
    live_flow_with::<T, A>(tables, table, key, |_| ())
}

/// The same, changed before it is judged.
#[inline(always)]
pub(super) fn live_flow_with<T: Tables + FamilyTables<A>, A: Family>(
    tables: &T,
    table: FlowTable,
    key: &A::FlowKey,
    change: impl FnOnce(&mut Flow),
) -> Option<Flow> {
    let flow = FamilyTables::<A>::with_flow(tables, table, key, |flow| {
        change(flow);
        *flow
    })?;
    // Nobody sweeps that table.
    if table == FlowTable::Unanswered && expired(&flow, protocol::UDP, tables.now_seconds()) {
        return None;
    }
    let backend = tables.backend(flow.backend)?;
    let same = backend.generation == flow.generation && backend.flags & backend_flags::IN_USE != 0;
    same.then_some(flow)
}

/// Adds state to an entry and notes the time; whether there is one.
#[inline(always)]
pub(super) fn touch<T: FamilyTables<A>, A: Family>(
    tables: &T,
    table: FlowTable,
    key: &A::FlowKey,
    state: u16,
    now: u32,
) -> bool {
    let touch = |flow: &mut Flow| {
        flow.state |= state;
        flow.seen = now;
    };
    tables.with_flow(table, key, touch).is_some()
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Request<'_, F, T, A> {
    /// The flow of this node to which the packet belongs, and what the packet does to it; `None` if there is
    /// none, or a SYN is to begin a new one.
    ///
    /// A half-open flow may be the work of a late copy of a SYN, or of a forged one, while the connection
    /// lives elsewhere: what does not fit it is of another flow, unless a peer has found (`is_found`) that
    /// there is no other.
    #[inline(always)]
    pub(super) fn known(&self, is_found: bool) -> Option<Flow> {
        if self.packet.header.protocol == protocol::UDP {
            return self.known_datagram();
        }
        let segment = self.packet.segment()?;
        if let Some(flow) = self.established(&segment) {
            if !(segment.is_opening() && flow.state & CLOSING != 0) {
                if is_closed(flow.state) && !is_late(&flow, &segment) {
                    return None;
                }
                let state = self.closing(&flow, &segment);
                self.refresh(FlowTable::Established, &flow, state);
                return Some(flow);
            }
            self.remove_forward(FlowTable::Established);
        } else if let Some(flow) = self.live(FlowTable::HalfOpen) {
            if !(segment.is_opening() && flow.state & CLOSING != 0) {
                return self.progress(&flow, &segment, is_found).then_some(flow);
            }
            self.remove_forward(FlowTable::HalfOpen);
        }
        None
    }

    /// The established flow; where its client closes, that is noted.
    #[inline(always)]
    fn established(&self, segment: &TcpHeader) -> Option<Flow> {
        let note = |flow: &mut Flow| {
            if segment.has(flags::FIN) && flow.state & flow_state::CLIENT_FIN == 0 {
                flow.sequence = segment.sequence;
            }
        };
        let (tables, key) = (self.packet.tables, self.forward_key());
        live_flow_with::<T, A>(tables, FlowTable::Established, &key, note)
    }

    /// The same of UDP.
    #[inline(always)]
    fn known_datagram(&self) -> Option<Flow> {
        if let Some(flow) = self.live(FlowTable::Udp) {
            self.refresh(FlowTable::Udp, &flow, 0);
            return Some(flow);
        }
        let flow = self.live(FlowTable::Unanswered)?;
        let now = self.packet.tables.now_seconds();
        // Of two entries one may be evicted: then the pod's answer would leave as it is.
        let is_whole = self.touch_both(FlowTable::Unanswered, &flow, 0, now);
        is_whole.then_some(flow)
    }

    /// Whether a flow of the packet is half-open here, be it a dead one.
    #[inline(always)]
    pub(super) fn is_half_open(&self) -> bool {
        let (tables, key) = (self.packet.tables, self.forward_key());
        FamilyTables::<A>::with_flow(tables, FlowTable::HalfOpen, &key, |_| ()).is_some()
    }

    /// The half-open flow that a segment which no other node knows is left to: its pod is to judge.
    #[inline(always)]
    pub(super) fn last_resort(&self) -> Option<Flow> {
        self.live(FlowTable::HalfOpen)
    }

    /// State that the client's segment adds to an established flow.
    ///
    /// A reset counts only where the pod would heed it (RFC 5961 §3.2), at what it acknowledged last or
    /// just behind, since it may have received more than that: a spoofed one must not shorten the flow.
    #[inline(always)]
    fn closing(&self, flow: &Flow, segment: &TcpHeader) -> u16 {
        let state = closing(segment);
        if state & flow_state::RESET == 0 {
            return state;
        }
        let (tables, key) = (self.packet.tables, self.reverse_key(flow));
        let is_expected =
            FamilyTables::<A>::with_flow(tables, FlowTable::Established, &key, |reverse| {
                segment.sequence.wrapping_sub(reverse.sequence) < RESET_WINDOW
            });
        if is_expected == Some(false) {
            tables.count(Outcome::ResetDoubted);
            return state & !flow_state::RESET;
        }
        state
    }

    /// What a segment from the client does to a half-open flow; whether it belongs to it.
    #[inline(always)]
    fn progress(&self, flow: &Flow, segment: &TcpHeader, is_found: bool) -> bool {
        let tables = self.packet.tables;
        let acknowledges = segment.flags & (flags::ACK | flags::SYN | flags::RST) == flags::ACK;
        let answers = flow.state & flow_state::SYN_ACK_SEEN != 0
            && segment.has(flags::ACK)
            && segment.acknowledgment == flow.sequence.wrapping_add(1);
        let confirmed = flow.state & flow_state::CONFIRMED != 0;
        if !(acknowledges && (answers || confirmed)) {
            if segment.is_opening() {
                // Of two entries one may be evicted: then the pod's answer would leave as it is.
                return self.touch_both(FlowTable::HalfOpen, flow, 0, tables.now_seconds());
            }
            let belongs = answers || confirmed || is_found || self.rejects(flow, segment);
            if belongs {
                self.refresh(FlowTable::HalfOpen, flow, closing(segment));
            }
            return belongs;
        }
        let now = tables.now_seconds();
        // A flow that found no room tries again, but not with each of its packets.
        if confirmed && flow.seen == now {
            return true;
        }
        let state = flow.state | flow_state::CONFIRMED | closing(segment);
        let established = Flow {
            state,
            seen: now,
            sequence: segment.sequence,
            ..*flow
        };
        if self.insert_both(FlowTable::Established, established) {
            tables.count(Outcome::Promoted);
            self.remove_both(FlowTable::HalfOpen, flow);
        } else {
            tables.count_drop(DropReason::EstablishedFull);
            self.touch_both(FlowTable::HalfOpen, flow, state, now);
        }
        true
    }

    /// Whether a client that knows of no connection answers the SYN-ACK so (RFC 9293 §3.10.7.1).
    #[inline(always)]
    fn rejects(&self, flow: &Flow, segment: &TcpHeader) -> bool {
        if !segment.has(flags::RST) || flow.state & flow_state::SYN_ACK_SEEN == 0 {
            return false;
        }
        let (tables, key) = (self.packet.tables, self.reverse_key(flow));
        FamilyTables::<A>::with_flow(tables, FlowTable::HalfOpen, &key, |reverse| {
            reverse.sequence == segment.sequence
        }) == Some(true)
    }

    /// Begins the flow that was chosen.
    #[inline(always)]
    pub(super) fn open<C: Act>(&self, tour: &Tour, actor: &C) -> C::Result {
        let Some(backend) = self.packet.tables.backend(tour.backend) else {
            return actor.act(Verdict::Drop(DropReason::NoBackend));
        };
        let flow = self.first(tour.backend, backend, tour.client_port);
        let table = FlowTable::of_new(self.packet.header.protocol);
        if !self.insert_both(table, flow) {
            return actor.act(Verdict::Drop(DropReason::TableFull));
        }
        actor.act(self.deliver(&flow, 1))
    }

    /// What a flow to a backend begins with.
    #[inline(always)]
    pub(super) fn first(&self, index: u32, backend: &Backend, client_port: Be16) -> Flow {
        Flow {
            addr: backend.addr,
            port: backend.port,
            state: 0,
            generation: backend.generation,
            backend: index,
            client_port,
            zero: 0,
            seen: self.packet.tables.now_seconds(),
            sequence: 0,
        }
    }

    /// Whether the reverse entry that a new flow needs is another's, be that promoted or not.
    #[inline(always)]
    pub(super) fn is_taken(&self, table: FlowTable, flow: &Flow) -> bool {
        let lasting = FlowTable::of_lasting(self.packet.header.protocol);
        if self.is_reverse_taken(lasting, flow) {
            return true;
        }
        // Egress looks there first, so what is over there must not hide this one.
        let key = self.reverse_key(flow);
        FamilyTables::<A>::remove_flow(self.packet.tables, lasting, &key);
        self.is_reverse_taken(table, flow)
    }

    /// Whether a flow to another frontend holds the reverse entry that this one needs.
    #[inline(always)]
    fn is_reverse_taken(&self, table: FlowTable, flow: &Flow) -> bool {
        let key = self.reverse_key(flow);
        let Some(other) = live_flow::<T, A>(self.packet.tables, table, &key) else {
            return false;
        };
        let idle = flow.seen.saturating_sub(other.seen);
        let over =
            is_closed(other.state) || (table == FlowTable::HalfOpen && idle > HALF_OPEN_TIMEOUT);
        !over && !self.is_answer_to(&other)
    }

    /// Whether packets of that reverse entry go to where this one comes from.
    #[inline(always)]
    fn is_answer_to(&self, reverse: &Flow) -> bool {
        A::from_words(&reverse.addr) == self.ends.destination
            && reverse.port == self.ends.destination_port
            && reverse.client_port == self.ends.source_port
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

    /// Whether there are both.
    #[inline(always)]
    fn touch_both(&self, table: FlowTable, flow: &Flow, state: u16, now: u32) -> bool {
        let tables = self.packet.tables;
        let has_forward = touch::<T, A>(tables, table, &self.forward_key(), state, now);
        let has_reverse = touch::<T, A>(tables, table, &self.reverse_key(flow), state, now);
        has_forward && has_reverse
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
        flow.client_port = self.ends.source_port;
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

    /// Leaves the reverse entry, which may be a younger flow's by now, to the flow that begins or to the sweep.
    #[inline(always)]
    fn remove_forward(&self, table: FlowTable) {
        FamilyTables::<A>::remove_flow(self.packet.tables, table, &self.forward_key());
    }

    #[inline(always)]
    pub(super) fn deliver(&self, flow: &Flow, flows: u64) -> Verdict {
        self.count(flows, 1);
        let header = &self.packet.header;
        Verdict::Deliver(Delivery {
            version: A::VERSION,
            network: header.offset,
            transport: header.payload,
            protocol: header.protocol,
            address: flow.addr,
            ports: Be32::join(flow.client_port, flow.port),
        })
    }

    #[inline(always)]
    pub(super) fn forward_key(&self) -> A::FlowKey {
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
            destination_port: flow.client_port,
        };
        A::flow_key(&ends, self.packet.header.protocol, flow_direction::REVERSE)
    }
}

/// How far behind the pod's last acknowledgment a reset is believed: what one train of segments carries.
const RESET_WINDOW: u32 = 1 << 16;

/// How far from the client's FIN a segment of a closed flow may be: as far as windows are wide.
const LATE_WINDOW: u32 = 1 << 24;

/// Whether a segment can be a late one of a closed flow. What is far from the client's FIN is of another connection
/// by the same ports, which has its entry elsewhere.
#[inline(always)]
const fn is_late(flow: &Flow, segment: &TcpHeader) -> bool {
    let ahead = segment.sequence.wrapping_sub(flow.sequence);
    ahead.wrapping_add(LATE_WINDOW) < 2 * LATE_WINDOW
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
