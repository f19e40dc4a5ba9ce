//! Packets that the first program could not settle: new flows, and those that
//! take a tunnel.
//!
//! A packet goes through these states, and no hop leads back to an earlier one, whatever the tables of the
//! nodes say; so it cannot loop:
//!
//! ```text
//!   led by a slot ─▶ sent on, final ─▶ chain of 3 … 0 owners ─▶ returned to its origin
//! ```

use crate::decide::service::Request;
use crate::decide::{
    Act, FamilyTables, Packet, ReplyKind, Tables, Verdict, arrive, authenticate_v4,
    authenticate_v6, choose_v4, choose_v6, complain_v4, complain_v6, depart_v4, depart_v6, outset,
    receive_v4, receive_v6, renumber_v4, renumber_v6,
};
use crate::drop::DropReason;
use crate::family::{Family, V4, V6, Version};
use crate::flow::UDP_ANSWERED_TIMEOUT;
use crate::frame::Frame;
use crate::maps::{MacKey, Tour, config_flags, exception_state, node_mode, tour_flags};
use crate::outcome::Outcome;
use crate::wire::tcp::{TcpHeader, flags};
use crate::wire::{ipv4, ipv6, protocol};

/// Decides what becomes of a frame for which [`crate::decide::ingress`] said [`Verdict::Resume`].
///
/// The kernel runs each of the parts as a function of its own, or else the BPF stack is too small.
pub fn resume<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    match arrive(frame, tables) {
        Some(Version::V4) if authenticate_v4(frame, tables) => {
            match receive_v4(frame, tables, &Judge).or(|| resume_v4(frame, tables)) {
                Verdict::Choose => {
                    let verdict = match choose_v4(frame, tables) {
                        Verdict::Renumber => renumber_v4(frame, tables),
                        verdict => verdict,
                    };
                    match verdict {
                        Verdict::Begin => begin_v4(frame, tables, &Judge),
                        verdict => verdict,
                    }
                }
                Verdict::Refuse => refuse_v4(frame, tables, &Judge),
                Verdict::Depart => match depart_v4(frame, tables, &Judge) {
                    Verdict::TooBig => complain_v4(frame, tables, &Judge),
                    verdict => verdict,
                },
                verdict => verdict,
            }
        }
        Some(Version::V6) if authenticate_v6(frame, tables) => {
            match receive_v6(frame, tables, &Judge).or(|| resume_v6(frame, tables)) {
                Verdict::Choose => {
                    let verdict = match choose_v6(frame, tables) {
                        Verdict::Renumber => renumber_v6(frame, tables),
                        verdict => verdict,
                    };
                    match verdict {
                        Verdict::Begin => begin_v6(frame, tables, &Judge),
                        verdict => verdict,
                    }
                }
                Verdict::Refuse => refuse_v6(frame, tables, &Judge),
                Verdict::Depart => match depart_v6(frame, tables, &Judge) {
                    Verdict::TooBig => complain_v6(frame, tables, &Judge),
                    verdict => verdict,
                },
                verdict => verdict,
            }
        }
        _ => Verdict::Pass,
    }
}

/// Gives the verdict to whoever asked for it.
struct Judge;

impl Act for Judge {
    type Result = Verdict;

    fn act(&self, verdict: Verdict) -> Verdict {
        verdict
    }
}

impl Verdict {
    fn or(self, resume: impl FnOnce() -> Self) -> Self {
        match self {
            Self::Resume => resume(),
            verdict => verdict,
        }
    }
}

/// Decides what becomes of an IPv4 packet that has arrived, be it through an IPv6 tunnel.
#[inline(always)]
pub fn resume_v4<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    with_v4(frame, tables, |packet, tour| packet.resume(tour)).unwrap_or(Verdict::Pass)
}

/// Decides what becomes of an IPv6 packet that has arrived, be it through an IPv4 tunnel.
#[inline(always)]
pub fn resume_v6<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    with_v6(frame, tables, |packet, tour| packet.resume(tour)).unwrap_or(Verdict::Pass)
}

/// Begins the flow of an IPv4 packet that goes with what [`choose_v4`] chose.
#[inline(always)]
pub fn begin_v4<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v4(frame, tables, |packet, tour| packet.begin(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

/// Begins the flow of an IPv6 packet that goes with what [`choose_v6`] chose.
#[inline(always)]
pub fn begin_v6<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v6(frame, tables, |packet, tour| packet.begin(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

/// Answers an IPv4 packet of which [`resume_v4`] said [`Verdict::Refuse`].
#[inline(always)]
pub fn refuse_v4<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v4(frame, tables, |packet, tour| packet.turn_away(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

/// Answers an IPv6 packet of which [`resume_v6`] said [`Verdict::Refuse`].
#[inline(always)]
pub fn refuse_v6<F: Frame + ?Sized, T: Tables, C: Act>(
    frame: &F,
    tables: &T,
    actor: &C,
) -> C::Result {
    with_v6(frame, tables, |packet, tour| packet.turn_away(tour, actor))
        .unwrap_or_else(|| actor.act(Verdict::Pass))
}

/// Reads the IPv4 packet to which the tour leads.
#[inline(always)]
pub(super) fn with_v4<F: Frame + ?Sized, T: Tables, R>(
    frame: &F,
    tables: &T,
    access: impl FnOnce(Packet<'_, F, T, V4>, &mut Tour) -> R,
) -> Option<R> {
    let (ethernet, config) = outset(frame, tables)?;
    tables.with_tour(|tour| {
        let header = ipv4::read(frame, network(tour))?;
        let packet = Packet {
            frame,
            tables,
            config,
            ethernet,
            header,
        };
        Some(access(packet, tour))
    })?
}

/// Reads the IPv6 packet to which the tour leads.
#[inline(always)]
pub(super) fn with_v6<F: Frame + ?Sized, T: Tables, R>(
    frame: &F,
    tables: &T,
    access: impl FnOnce(Packet<'_, F, T, V6>, &mut Tour) -> R,
) -> Option<R> {
    let (ethernet, config) = outset(frame, tables)?;
    tables.with_tour(|tour| {
        let header = ipv6::read(frame, network(tour))?;
        let packet = Packet {
            frame,
            tables,
            config,
            ethernet,
            header,
        };
        Some(access(packet, tour))
    })?
}

/// Where the packet's IP header begins. The verifier wants to see that it is not far into the frame.
#[inline(always)]
const fn network(tour: &Tour) -> usize {
    (tour.network & 0x3ff) as usize
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Packet<'_, F, T, A> {
    #[inline(always)]
    fn resume(self, tour: &mut Tour) -> Verdict {
        let is_led = tour.strip == 0 && !self.is_from_peer();
        let Some(request) = self.request() else {
            return Verdict::Pass;
        };
        request.resume(tour, is_led)
    }

    #[inline(always)]
    fn begin<C: Act>(&self, tour: &Tour, actor: &C) -> C::Result {
        match self.request() {
            Some(request) => request.open(tour, actor),
            None => actor.act(Verdict::Pass),
        }
    }

    /// A SYN that nobody serves is refused as configured; any other segment is of a flow that is no more, or
    /// that is half-open here and nowhere else.
    #[inline(always)]
    fn turn_away<C: Act>(self, tour: &Tour, actor: &C) -> C::Result {
        let Some(segment) = TcpHeader::read(self.frame, self.header.payload) else {
            return actor.act(Verdict::Drop(DropReason::Malformed));
        };
        let is_silent = self.config.flags & config_flags::REJECT_UNSERVED == 0;
        if segment.is_opening() && is_silent {
            return actor.act(Verdict::Drop(DropReason::NoBackend));
        }
        if !segment.is_opening()
            && let Some(request) = self.request()
            && let Some(flow) = request.last_resort()
        {
            return actor.act(request.deliver(&flow, 0));
        }
        if segment.has(flags::RST) {
            return actor.act(Verdict::Drop(DropReason::UnknownFlow));
        }
        if !self.tables.admit_reply() {
            return actor.act(Verdict::Drop(DropReason::ReplyLimited));
        }
        let segment = segment.reset(self.header.payload_length);
        actor.act(self.reply_by(self.way_back(tour), ReplyKind::Reset, segment, 0))
    }

    /// The MAC to which an answer goes. A packet by way of a peer is answered by way of the router, if that
    /// is known: the peer has no route back but its own.
    #[inline(always)]
    pub(super) fn way_back(&self, tour: &Tour) -> MacKey {
        let mut mac = self.ethernet.source;
        if (tour.strip != 0 || self.is_from_peer())
            && let Some(node) = self.tables.node(0)
            && node.mode == node_mode::L2
        {
            let [head, middle, _] = node.ethernet;
            mac.head = head;
            mac.tail = middle.leading();
        }
        mac
    }
}

impl<F: Frame + ?Sized, T: Tables + FamilyTables<A>, A: Family> Request<'_, F, T, A> {
    #[inline(always)]
    fn resume(&self, tour: &mut Tour, is_led: bool) -> Verdict {
        let tables = self.packet.tables;
        let slot = tables.slot(self.slot()).unwrap_or_default();
        // 0 is this node.
        let current = self
            .candidate(slot.current())
            .map(|(_, backend)| backend.node);
        if is_led && let Some(node @ 1..) = current {
            tables.count(Outcome::Tunnelled);
            tour.next = u32::from(node);
            return Verdict::Depart;
        }
        let is_tcp = self.packet.header.protocol == protocol::TCP;
        let segment = if is_tcp {
            match self.packet.segment() {
                Some(segment) => segment,
                None => return self.packet.too_hard(DropReason::Malformed),
            }
        } else {
            TcpHeader::default()
        };
        let begins = !is_tcp || segment.is_opening();
        if tour.flags & tour_flags::CHAIN != 0 {
            return self.pass_on(tour, begins);
        }
        let has_returned = tour.flags & tour_flags::RETURNED != 0;
        match self.exception(&segment) {
            Some(_) if has_returned => self.forget_exception(),
            Some(Where::Nobody) if begins => self.forget_exception(),
            Some(Where::Nobody) => return Verdict::Refuse,
            Some(Where::Node(node)) => {
                tables.count(Outcome::Excepted);
                tour.count = 0;
                return self.follow(tour, node, tour_flags::CHAIN | tour_flags::KNOWN);
            }
            None => {}
        }
        match current {
            Some(node @ 1..) if tour.flags & (tour_flags::FINAL | tour_flags::RETURNED) == 0 => {
                tables.count(Outcome::SentOn);
                tour.flags = tour_flags::FINAL;
                tour.next = u32::from(node);
                return Verdict::Depart;
            }
            _ => {}
        }
        if !has_returned
            && (!begins || (!is_tcp && self.has_changed()))
            && let Some(node) = self.list(tour, slot)
        {
            tables.count(Outcome::ChainBegun);
            let flags = if is_tcp && self.is_half_open() {
                tour_flags::CHAIN | tour_flags::HALF_OPEN
            } else {
                tour_flags::CHAIN
            };
            return self.follow(tour, node, flags);
        }
        if !begins {
            return self.unknown(tour);
        }
        match current {
            Some(0) => Verdict::Choose,
            Some(_) => Verdict::Drop(DropReason::NotOwner),
            None if is_tcp => Verdict::Refuse,
            None => self.packet.refuse_datagram(DropReason::NoBackend),
        }
    }

    /// Whether a slot of the frontend changed its owner so lately that a UDP flow may be elsewhere.
    #[inline(always)]
    fn has_changed(&self) -> bool {
        let changed_at = self.frontend.changed_at;
        let now = self.packet.tables.now_seconds();
        changed_at != 0 && now.saturating_sub(changed_at) <= UDP_ANSWERED_TIMEOUT
    }

    /// Where an exception says that the flow is.
    #[inline(always)]
    fn exception(&self, segment: &TcpHeader) -> Option<Where> {
        let tables = self.packet.tables;
        let ends_here = segment.flags & (flags::FIN | flags::RST) != 0;
        let exception =
            FamilyTables::<A>::with_exception(tables, &self.forward_key(), |exception| {
                if ends_here {
                    exception.state |= exception_state::CLOSING;
                }
                *exception
            })?;
        if exception.state & exception_state::NOBODY != 0 {
            return Some(Where::Nobody);
        }
        // A SYN after the client's FIN or RST is a new flow.
        if segment.is_opening() && exception.state & exception_state::CLOSING != 0 {
            return None;
        }
        let backend = tables.backend(exception.backend)?;
        let node = u32::from(backend.node);
        let is_there = backend.generation == exception.generation && self.is_usable(node);
        is_there.then_some(Where::Node(node))
    }

    #[inline(always)]
    fn forget_exception(&self) {
        FamilyTables::<A>::remove_exception(self.packet.tables, &self.forward_key());
    }
}

/// What an exception says.
enum Where {
    /// The node has the flow.
    Node(u32),
    /// No node has it.
    Nobody,
}
