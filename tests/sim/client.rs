//! Clients: each holds one conversation, says something now and then, and
//! repeats what got no answer.

use harness::frame::{ACK, FIN, FrameBuilder, RST, SYN};
use lb_userspace::model::cluster::Protocol;

use crate::node::FlowName;
use crate::pod::{PIECE, PodId, owner_of};
use crate::random::Random;
use crate::router;

/// Milliseconds after which a segment without an answer is repeated, doubled each time up to the most.
const FIRST_REPEAT: u64 = 200;
const MOST_REPEAT: u64 = 3_200;

/// Repetitions after which a connection is given up: 20 s.
const PATIENCE: u32 = 10;

/// How far a conversation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Phase {
    /// A SYN is to be sent, or was.
    Opening,
    /// The SYN-ACK came; its acknowledgment is to be sent.
    Answered,
    /// Requests and answers.
    Open,
    /// Ended as it should.
    Closed,
    /// Ended otherwise.
    Ended(End),
}

/// How a connection ended that nobody closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum End {
    /// By a reset.
    Reset,
    /// Nobody answered.
    Silence,
}

/// What a packet was to the client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Heard {
    /// What it waited for.
    Answer,
    /// A datagram from another pod than the last one.
    OtherPod(PodId),
    /// Nothing it can use.
    Noise,
}

/// One end of a conversation.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: FlowName,
    pub(crate) phase: Phase,
    /// The pod's initial sequence number.
    pub(crate) pod_sequence: u32,
    /// The pod that answered the last datagram.
    pub(crate) last_pod: Option<PodId>,
    /// When it acts next.
    due: u64,
    sequence: u32,
    pieces: u32,
    awaits: bool,
    repeats: u32,
    /// Milliseconds between requests, on average.
    gap: u64,
    /// Requests after which it closes.
    lifetime: u32,
}

impl Client {
    pub(crate) fn new(name: FlowName, start: u64, gap: u64, lifetime: u32) -> Self {
        Self {
            name,
            phase: Phase::Opening,
            pod_sequence: 0,
            last_pod: None,
            due: start,
            sequence: 0,
            pieces: 0,
            awaits: false,
            repeats: 0,
            gap,
            lifetime,
        }
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.name.frontend.protocol == Protocol::Tcp
    }

    /// The pod that has the connection, if it is open.
    pub(crate) fn pod(&self) -> Option<PodId> {
        let is_open = self.is_tcp() && matches!(self.phase, Phase::Open | Phase::Answered);
        is_open.then(|| owner_of(self.pod_sequence))
    }

    /// The pod that had the connection when it ended.
    pub(crate) fn former_pod(&self) -> PodId {
        owner_of(self.pod_sequence)
    }

    /// Forgets a datagram without an answer; whether there was one.
    pub(crate) fn lapse(&mut self) -> bool {
        !self.is_tcp() && std::mem::take(&mut self.awaits)
    }

    /// A packet by which the router picks the same next hop as by any other of this client.
    pub(crate) fn sample(&self) -> FrameBuilder {
        self.packet(None, 0)
    }

    /// Begins anew, from the same port.
    pub(crate) fn reopen(&mut self, start: u64) {
        self.phase = Phase::Opening;
        self.due = start;
        self.awaits = false;
        self.repeats = 0;
        self.pieces = 0;
    }

    /// What is sent at this time, if anything.
    pub(crate) fn act(&mut self, now: u64, random: &mut Random) -> Option<FrameBuilder> {
        if now < self.due {
            return None;
        }
        if !self.is_tcp() {
            self.due = now + self.gap / 2 + random.below(self.gap);
            self.awaits = true;
            self.pieces += 1;
            return Some(self.packet(None, self.pieces));
        }
        if self.awaits {
            self.repeats += 1;
            if self.repeats > PATIENCE && self.phase == Phase::Opening {
                self.repeats = PATIENCE;
            } else if self.repeats > PATIENCE {
                self.phase = Phase::Ended(End::Silence);
                return None;
            }
        }
        self.due = now + (FIRST_REPEAT << self.repeats.min(8)).min(MOST_REPEAT);
        match self.phase {
            Phase::Opening => {
                if !self.awaits {
                    self.sequence = random.next() as u32;
                }
                self.awaits = true;
                Some(self.packet(Some((self.sequence, 0, SYN)), 0))
            }
            Phase::Answered => {
                self.phase = Phase::Open;
                self.awaits = false;
                self.due = now + random.below(self.gap);
                Some(self.packet(Some((self.next(), self.heard(), ACK)), 0))
            }
            Phase::Open => {
                self.awaits = true;
                let piece = if self.pieces < self.lifetime { 1 } else { 0 };
                let flags = if piece == 0 { FIN | ACK } else { ACK };
                Some(self.packet(Some((self.next(), self.heard(), flags)), piece))
            }
            Phase::Closed | Phase::Ended(_) => {
                self.due = u64::MAX;
                None
            }
        }
    }

    /// What the client makes of a packet that came, and what it answers at once.
    pub(crate) fn receive(
        &mut self,
        packet: &FrameBuilder,
        now: u64,
        random: &mut Random,
    ) -> (Heard, Option<FrameBuilder>) {
        match packet.tcp {
            Some(tcp) => self.receive_segment(tcp, packet.payload.len(), now, random),
            None => {
                self.awaits = false;
                let pod = packet
                    .payload
                    .last_chunk()
                    .map(|id| u16::from_be_bytes(*id));
                let before = std::mem::replace(&mut self.last_pod, pod);
                match before {
                    Some(before) if Some(before) != pod => (Heard::OtherPod(before), None),
                    _ => (Heard::Answer, None),
                }
            }
        }
    }

    fn receive_segment(
        &mut self,
        (sequence, acknowledgment, flags): (u32, u32, u8),
        length: usize,
        now: u64,
        random: &mut Random,
    ) -> (Heard, Option<FrameBuilder>) {
        match self.phase {
            Phase::Opening if flags & (SYN | ACK | RST) == SYN | ACK => {
                if acknowledgment != self.sequence.wrapping_add(1) {
                    return (Heard::Noise, None);
                }
                self.pod_sequence = sequence;
                self.phase = Phase::Answered;
                self.awaits = false;
                self.repeats = 0;
                self.due = now + random.below(400);
                (Heard::Answer, None)
            }
            Phase::Open | Phase::Answered if flags & RST != 0 => {
                // RFC 5961 §3.2: only a reset that is exactly in sequence is believed.
                if sequence == self.heard() {
                    self.phase = Phase::Ended(End::Reset);
                    return (Heard::Answer, None);
                }
                (Heard::Noise, None)
            }
            Phase::Open | Phase::Answered if flags & SYN != 0 => {
                // RFC 5961 §4.2: the challenge.
                let challenge = self.packet(Some((self.next(), self.heard(), ACK)), 0);
                (Heard::Noise, Some(challenge))
            }
            Phase::Open if flags & FIN != 0 && acknowledgment == self.next().wrapping_add(1) => {
                let last = (acknowledgment, sequence.wrapping_add(1), ACK);
                self.phase = Phase::Closed;
                (Heard::Answer, Some(self.packet(Some(last), 0)))
            }
            Phase::Open if self.awaits && length == PIECE as usize && sequence == self.heard() => {
                self.awaits = false;
                self.repeats = 0;
                self.pieces += 1;
                self.due = now + self.gap / 2 + random.below(self.gap);
                (Heard::Answer, None)
            }
            _ => (Heard::Noise, None),
        }
    }

    /// Sequence number of the next piece.
    fn next(&self) -> u32 {
        self.sequence.wrapping_add(1 + self.pieces * PIECE)
    }

    /// The pod's next sequence number.
    fn heard(&self) -> u32 {
        self.pod_sequence.wrapping_add(1 + self.pieces * PIECE)
    }

    fn packet(&self, tcp: Option<(u32, u32, u8)>, pieces: u32) -> FrameBuilder {
        let payload = match (tcp, pieces) {
            (Some(_), 0) => Vec::new(),
            _ => vec![0; PIECE as usize],
        };
        FrameBuilder {
            to: router::MAC,
            from: router::MAC,
            tags: Vec::new(),
            source: self.name.client.0,
            destination: self.name.frontend.addr,
            source_port: self.name.client.1,
            destination_port: self.name.frontend.port,
            ttl: 60,
            options: Vec::new(),
            identification: 0,
            fragment: 0,
            window: 0x2000,
            payload,
            tcp,
        }
    }
}
