//! What is between this node and one peer: who may speak, what waits to be
//! sent, what waits for an acknowledgement.
//!
//! A datagram is accepted once, and only in the life of the sender that this node admitted. To be admitted, an
//! epoch has to show the ticket that this node made for it; a ticket is made anew for every admission, so what
//! was recorded in a former life of either node is worth nothing. Whoever comes with another ticket is
//! told the right one, and sends again.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use lb_common::siphash::{Key, tag};

use super::message::{MAX_DATAGRAM, Message};
use super::seal::OVERHEAD;

/// How long messages wait for others to share their datagram.
pub const LINGER: Duration = Duration::from_millis(2);
/// How long a welcome may take.
const WELCOME: Duration = Duration::from_millis(50);
/// How long the first acknowledgement may take; each further one twice as long, up to [`SLOWEST`].
const ACKNOWLEDGE: Duration = Duration::from_millis(50);
const SLOWEST: Duration = Duration::from_secs(1);
/// How often a message is sent before it is given up: for about six seconds.
const TRIES: u32 = 10;
/// Messages that wait for their acknowledgement at a time.
const WINDOW: usize = 64;
/// Octets that may wait to be sent; more are discarded.
const OUTBOX: usize = 4 << 20;

/// Octets of messages in a datagram.
pub(super) const ROOM: usize = MAX_DATAGRAM - OVERHEAD;

/// What to do with a datagram.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Admission {
    /// Read it.
    Accept,
    /// Tell the sender this ticket.
    Welcome(u64),
    /// It was here before.
    Discard,
}

/// The life of the peer that may speak.
#[derive(Debug)]
struct Admitted {
    epoch: u64,
    ticket: u64,
    /// Highest sequence accepted.
    highest: u64,
    /// Bit n: whether `highest - n` was accepted.
    window: u64,
}

#[derive(Debug)]
struct Unacknowledged {
    message: Message,
    due: Instant,
    tries: u32,
}

/// What is between this node and a peer.
#[derive(Debug)]
pub(super) struct Link {
    secret: Key,
    admitted: Option<Admitted>,
    admissions: u64,
    /// The peer's ticket for this node; 0 before it gave one.
    ticket: u64,
    sequence: u64,
    outbox: VecDeque<Message>,
    outbox_length: usize,
    flush: Option<Instant>,
    backlog: VecDeque<(u32, Message)>,
    unacknowledged: BTreeMap<u32, Unacknowledged>,
}

impl Link {
    /// `secret` makes the tickets: never the same twice.
    pub(super) const fn new(secret: Key) -> Self {
        Self {
            secret,
            admitted: None,
            admissions: 0,
            ticket: 0,
            sequence: 0,
            outbox: VecDeque::new(),
            outbox_length: 0,
            flush: None,
            backlog: VecDeque::new(),
            unacknowledged: BTreeMap::new(),
        }
    }

    /// A datagram with a right tag came from the peer.
    pub(super) fn admit(&mut self, epoch: u64, ticket: u64, sequence: u64) -> Admission {
        if let Some(admitted) = &mut self.admitted
            && admitted.epoch == epoch
        {
            return match ticket == admitted.ticket {
                false => Admission::Welcome(admitted.ticket),
                true if admitted.is_new(sequence) => Admission::Accept,
                true => Admission::Discard,
            };
        }
        let wanted = tag(self.secret, [epoch, self.admissions]) | 1;
        if ticket != wanted {
            return Admission::Welcome(wanted);
        }
        self.admissions += 1;
        self.admitted = Some(Admitted {
            epoch,
            ticket,
            highest: sequence,
            window: 1,
        });
        Admission::Accept
    }

    /// The peer gave a ticket.
    pub(super) fn welcome(&mut self, ticket: u64, now: Instant) {
        if ticket == std::mem::replace(&mut self.ticket, ticket) {
            return;
        }
        if !self.outbox.is_empty() {
            self.flush = Some(now);
        }
        for waiting in self.unacknowledged.values_mut() {
            waiting.due = now;
        }
    }

    /// Sends a message soon; what does not fit is lost.
    pub(super) fn send(&mut self, message: Message, now: Instant) {
        let length = message.length();
        if self.outbox_length + length > OUTBOX {
            return;
        }
        self.outbox_length += length;
        self.outbox.push_back(message);
        if self.ticket == 0 && self.flush.is_some() {
            return;
        }
        let is_full = self.outbox_length >= ROOM && self.ticket != 0;
        let due = if is_full { now } else { now + LINGER };
        self.flush = Some(self.flush.map_or(due, |flush| flush.min(due)));
    }

    /// Sends a message if the peer gave a ticket; otherwise it is lost, and a ticket asked for once.
    pub(super) fn send_or_lose(&mut self, message: Message, now: Instant) {
        if self.ticket != 0 {
            self.send(message, now);
        } else if self.flush.is_none() {
            self.flush = Some(now);
        }
    }

    /// Sends a message until it is acknowledged by that number.
    pub(super) fn send_surely(&mut self, number: u32, message: Message, now: Instant) {
        self.backlog.push_back((number, message));
        self.advance(now);
    }

    /// The peer has a message.
    pub(super) fn acknowledge(&mut self, number: u32, now: Instant) -> Option<Message> {
        let settled = self.unacknowledged.remove(&number)?;
        self.advance(now);
        Some(settled.message)
    }

    /// Messages not acknowledged yet.
    pub(super) fn outstanding(&self) -> usize {
        self.unacknowledged.len() + self.backlog.len()
    }

    /// Forgets all that waits; of how many flows the peer was to acknowledge it.
    pub(super) fn abandon(&mut self) -> u64 {
        self.outbox.clear();
        self.outbox_length = 0;
        self.flush = None;
        let sent = std::mem::take(&mut self.unacknowledged).into_values();
        let backlog = std::mem::take(&mut self.backlog).into_iter();
        sent.map(|waiting| waiting.message)
            .chain(backlog.map(|(_, message)| message))
            .map(|message| message.flows())
            .sum()
    }

    fn advance(&mut self, now: Instant) {
        while self.unacknowledged.len() < WINDOW
            && let Some((number, message)) = self.backlog.pop_front()
        {
            self.send(message.clone(), now);
            let waiting = Unacknowledged {
                message,
                due: now + LINGER + ACKNOWLEDGE,
                tries: 1,
            };
            self.unacknowledged.insert(number, waiting);
        }
    }

    /// Sends again what was not acknowledged in time; of how many flows nobody will acknowledge it.
    pub(super) fn resend(&mut self, now: Instant) -> u64 {
        let mut again = Vec::new();
        let mut lost = 0;
        self.unacknowledged.retain(|_, waiting| {
            if waiting.due > now {
                return true;
            }
            if waiting.tries >= TRIES {
                lost += waiting.message.flows();
                return false;
            }
            let patience = ACKNOWLEDGE.saturating_mul(1 << waiting.tries);
            waiting.due = now + patience.min(SLOWEST);
            // Without a ticket the first copy still waits in the outbox.
            if self.ticket != 0 {
                again.push(waiting.message.clone());
            }
            waiting.tries += 1;
            true
        });
        for message in again {
            self.send(message, now);
        }
        if lost > 0 {
            self.advance(now);
        }
        lost
    }

    /// The messages of the next datagram, its ticket and its sequence; without a ticket there are no messages.
    pub(super) fn poll(&mut self, now: Instant) -> Option<(Vec<u8>, u64, u64)> {
        if self.flush.is_none_or(|flush| flush > now) {
            return None;
        }
        self.sequence += 1;
        let mut out = Vec::new();
        if self.ticket == 0 {
            self.flush = (!self.outbox.is_empty()).then_some(now + WELCOME);
            return Some((out, 0, self.sequence));
        }
        while let Some(message) = self.outbox.front()
            && (out.is_empty() || out.len() + message.length() <= ROOM)
        {
            message.write(&mut out);
            self.outbox_length = self.outbox_length.saturating_sub(message.length());
            self.outbox.pop_front();
        }
        self.flush = (!self.outbox.is_empty()).then_some(now);
        Some((out, self.ticket, self.sequence))
    }

    /// When to [`Self::resend`] and [`Self::poll`].
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let dues = self.unacknowledged.values().map(|waiting| waiting.due);
        dues.chain(self.flush).min()
    }
}

impl Admitted {
    /// Whether a sequence was not seen before, as far as that can be told (RFC 4303 §3.4.3).
    fn is_new(&mut self, sequence: u64) -> bool {
        if sequence > self.highest {
            let shift = sequence - self.highest;
            self.window = self.window.checked_shl(shift.min(64) as u32).unwrap_or(0) | 1;
            self.highest = sequence;
            return true;
        }
        let bit = self.highest - sequence;
        if bit >= 64 || self.window & 1 << bit != 0 {
            return false;
        }
        self.window |= 1 << bit;
        true
    }
}
