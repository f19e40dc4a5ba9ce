//! One BFD session: state machine, intervals, poll sequences (RFC 5880 §6).
//!
//! ```text
//!                 peer Down                    peer Init, Up
//!        ┌──────┐ ─────────▶ ┌──────┐ ────────────────────▶ ┌────┐
//!        │ Down │            │ Init │                       │ Up │
//!        └──────┘ ◀───────── └──────┘                       └────┘
//!           │ ▲   silence, peer AdminDown                     │ ▲
//!           │ └── silence, peer Down, peer AdminDown ─────────┘ │
//!           └───────────────────── peer Init ───────────────────┘
//! ```
//!
//! AdminDown is entered from any state and is the end: whoever wants the session back makes another.

use std::collections::VecDeque;
use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use super::discard::Discard;
use super::packet::{ControlPacket, Diagnostic, Discriminator, LENGTH, State};
use crate::proto::timers::{Jitter, Timers};

/// RFC 5880 §6.8.3: while the session is not Up, packets are no closer together.
pub const SLOW: Duration = Duration::from_secs(1);

/// What a session is configured to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// The interval to send at, if the peer can receive that fast.
    pub desired_min_tx: Duration,
    /// The shortest interval to receive at.
    pub required_min_rx: Duration,
    /// Packets that may be lost before the peer counts us as gone.
    pub detect_multiplier: NonZeroU8,
    /// Say nothing before the peer does.
    pub is_passive: bool,
    /// The lowest TTL or hop limit to accept; 255 over a single hop.
    pub minimum_ttl: u8,
}

/// Timers of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// The peer was silent for the detection time.
    Detect,
    /// Time for the next packet.
    Transmit,
}

/// Why the state changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The three-way handshake went on.
    Handshake,
    /// The detection time passed without a packet.
    DetectionTimeExpired,
    /// The peer does not hear us, or began anew.
    NeighborSignaledDown,
    /// The peer holds the session down on purpose: no verdict on the path (RFC 5882 §3.2).
    NeighborAdminDown,
    /// We hold it down on purpose.
    AdminDown,
}

impl Cause {
    const fn diagnostic(self) -> Diagnostic {
        match self {
            Self::Handshake => Diagnostic::None,
            Self::DetectionTimeExpired => Diagnostic::DetectionTimeExpired,
            Self::NeighborSignaledDown | Self::NeighborAdminDown => {
                Diagnostic::NeighborSignaledDown
            }
            Self::AdminDown => Diagnostic::AdministrativelyDown,
        }
    }
}

/// A change of state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change {
    /// What it was.
    pub from: State,
    /// What it is.
    pub to: State,
    /// Why.
    pub cause: Cause,
}

impl Change {
    /// Whether the path to the peer was there and is lost. A session that somebody holds down on purpose
    /// says nothing about the path.
    pub fn is_loss(&self) -> bool {
        self.from == State::Up
            && matches!(
                self.cause,
                Cause::DetectionTimeExpired | Cause::NeighborSignaledDown
            )
    }
}

/// What the peer said last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Remote {
    /// Its discriminator; absent before it was heard, and after it fell silent.
    pub discriminator: Option<Discriminator>,
    /// Its state.
    pub state: State,
    /// Why it was Up last and is not any more.
    pub diagnostic: Diagnostic,
    /// The interval it would like to send at.
    pub desired_min_tx: Duration,
    /// The shortest interval it receives at; zero means that it wants nothing.
    pub required_min_rx: Duration,
    /// How many of its packets may be lost.
    pub detect_multiplier: u8,
    /// It wants no periodic packets while both are Up.
    pub wants_demand: bool,
}

impl Remote {
    /// RFC 5880 §6.8.1: what is assumed of a peer that has said nothing.
    const UNHEARD: Self = Self {
        discriminator: None,
        state: State::Down,
        diagnostic: Diagnostic::None,
        desired_min_tx: Duration::ZERO,
        required_min_rx: Duration::from_micros(1),
        detect_multiplier: 0,
        wants_demand: false,
    };

    const fn of(packet: &ControlPacket) -> Self {
        Self {
            discriminator: Some(packet.my_discriminator),
            state: packet.state,
            diagnostic: packet.diagnostic,
            desired_min_tx: packet.desired_min_tx,
            required_min_rx: packet.required_min_rx,
            detect_multiplier: packet.detect_multiplier.get(),
            wants_demand: packet.wants_demand,
        }
    }
}

/// How many packets of a session went each way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Sent.
    pub sent: u64,
    /// Received and not discarded.
    pub received: u64,
    /// How often the path was lost.
    pub losses: u64,
}

/// A poll sequence (RFC 5880 §6.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Poll {
    Idle,
    Asking,
    /// The intervals changed while asking: the answer may be to the former ones.
    AskingAgain,
}

/// A session with one peer.
#[derive(Debug)]
pub struct Session {
    config: Config,
    local: Discriminator,
    state: State,
    since: Instant,
    diagnostic: Diagnostic,
    /// What binds us: the configured intervals, once the peer has taken note of them.
    tx_in_force: Duration,
    rx_in_force: Duration,
    poll: Poll,
    remote: Remote,
    timers: Timers<Timer>,
    /// The interval that the transmit timer was set by.
    pace: Option<Duration>,
    jitter: Jitter,
    owes_packet: bool,
    owes_final: bool,
    changes: VecDeque<Change>,
    count: Count,
}

impl Session {
    /// A session that is Down, and says so at once unless it is passive.
    pub fn new(config: Config, local: Discriminator, seed: u64, now: Instant) -> Self {
        let mut session = Self {
            local,
            state: State::Down,
            since: now,
            diagnostic: Diagnostic::None,
            tx_in_force: config.desired_min_tx.max(SLOW),
            rx_in_force: config.required_min_rx,
            poll: Poll::Idle,
            remote: Remote::UNHEARD,
            timers: Timers::default(),
            pace: None,
            jitter: Jitter::new(seed),
            owes_packet: true,
            owes_final: false,
            changes: VecDeque::new(),
            count: Count::default(),
            config,
        };
        session.keep_pace(now);
        session
    }

    /// New parameters. While Up they bind once the peer has confirmed them.
    pub fn handle_config(&mut self, config: Config, now: Instant) {
        let before = (self.config.desired_min_tx, self.config.required_min_rx);
        let after = (config.desired_min_tx, config.required_min_rx);
        self.config = config;
        if before != after {
            if self.state == State::Up {
                // RFC 5880 §6.8.3: a slower pace, and a shorter wait, only with the peer's consent.
                self.tx_in_force = self.tx_in_force.min(self.config.desired_min_tx);
                self.rx_in_force = self.rx_in_force.max(self.config.required_min_rx);
                self.begin_poll();
                self.extend_detection(now);
            } else {
                self.take_intervals();
            }
        }
        self.keep_pace(now);
    }

    /// A packet that was found to be for this session.
    ///
    /// # Errors
    /// The session is administratively down.
    pub fn handle_packet(&mut self, packet: &ControlPacket, now: Instant) -> Result<(), Discard> {
        self.remote = Remote::of(packet);
        if packet.is_final {
            self.conclude_poll();
        }
        if self.state == State::AdminDown {
            self.keep_pace(now);
            return Err(Discard::AdminDown);
        }
        self.count.received += 1;
        match (self.state, packet.state) {
            (State::Init | State::Up, State::AdminDown) => {
                self.enter(State::Down, Cause::NeighborAdminDown, now);
            }
            (State::Down, State::Down) => self.enter(State::Init, Cause::Handshake, now),
            (State::Down, State::Init) | (State::Init, State::Init | State::Up) => {
                self.enter(State::Up, Cause::Handshake, now);
            }
            (State::Up, State::Down) => self.enter(State::Down, Cause::NeighborSignaledDown, now),
            (State::Down, State::AdminDown | State::Up)
            | (State::Init, State::Down)
            | (State::Up, State::Init | State::Up)
            | (State::AdminDown, _) => {}
        }
        // RFC 5880 §6.8.7: at once, whatever the pace.
        self.owes_final |= packet.is_poll;
        self.timers.set(Timer::Detect, now + self.detection_time());
        self.keep_pace(now);
        Ok(())
    }

    /// Holds the session down for good.
    pub fn handle_admin_down(&mut self, now: Instant) {
        if self.state != State::AdminDown {
            self.enter(State::AdminDown, Cause::AdminDown, now);
            self.keep_pace(now);
        }
    }

    /// Acts on every timer whose deadline has come. What has come by then is to be handled before.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_expired(now) {
            match timer {
                Timer::Transmit => {
                    self.owes_packet = true;
                    self.pace = None;
                }
                Timer::Detect => {
                    self.remote = Remote::UNHEARD;
                    if matches!(self.state, State::Init | State::Up) {
                        self.enter(State::Down, Cause::DetectionTimeExpired, now);
                    }
                }
            }
            self.keep_pace(now);
        }
    }

    /// The next packet to send.
    pub fn poll_transmit(&mut self) -> Option<[u8; LENGTH]> {
        let is_final = std::mem::take(&mut self.owes_final);
        let is_due = std::mem::take(&mut self.owes_packet) && self.may_speak();
        if !is_final && !is_due {
            return None;
        }
        self.count.sent += 1;
        let packet = ControlPacket {
            diagnostic: self.diagnostic,
            state: self.state,
            // RFC 5880 §6.8.7: never both.
            is_poll: !is_final && self.poll != Poll::Idle,
            is_final,
            is_control_plane_independent: false,
            wants_demand: false,
            detect_multiplier: self.config.detect_multiplier,
            my_discriminator: self.local,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.desired_min_tx(),
            required_min_rx: self.config.required_min_rx,
            required_min_echo_rx: Duration::ZERO,
        };
        Some(packet.encode())
    }

    /// The next change of state.
    pub fn poll_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// When to call [`Self::handle_timeout`], and for which timer.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }

    /// The parameters.
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// Our discriminator.
    pub const fn discriminator(&self) -> Discriminator {
        self.local
    }

    /// The state, and when it was entered.
    pub const fn state(&self) -> (State, Instant) {
        (self.state, self.since)
    }

    /// Why the state changed last, as the peer is told.
    pub const fn diagnostic(&self) -> Diagnostic {
        self.diagnostic
    }

    /// What the peer said last.
    pub const fn remote(&self) -> &Remote {
        &self.remote
    }

    /// What went each way.
    pub const fn count(&self) -> Count {
        self.count
    }

    /// The longest time between two of our packets; absent while none are sent by the clock.
    pub fn transmit_interval(&self) -> Option<Duration> {
        // RFC 5880 §6.8.7.
        let is_demanded = self.remote.wants_demand
            && self.state == State::Up
            && self.remote.state == State::Up
            && self.poll == Poll::Idle;
        let is_silent = self.remote.required_min_rx.is_zero() || is_demanded;
        (self.may_speak() && !is_silent).then(|| self.tx_in_force.max(self.remote.required_min_rx))
    }

    /// How long the peer may be silent; zero before it was heard (RFC 5880 §6.8.4).
    pub fn detection_time(&self) -> Duration {
        let interval = self.rx_in_force.max(self.remote.desired_min_tx);
        interval * u32::from(self.remote.detect_multiplier)
    }

    /// RFC 5880 §6.8.7: the passive side waits to be spoken to.
    const fn may_speak(&self) -> bool {
        !self.config.is_passive || self.remote.discriminator.is_some()
    }

    fn desired_min_tx(&self) -> Duration {
        if self.state == State::Up {
            self.config.desired_min_tx
        } else {
            self.config.desired_min_tx.max(SLOW)
        }
    }

    fn enter(&mut self, state: State, cause: Cause, now: Instant) {
        let change = Change {
            from: self.state,
            to: state,
            cause,
        };
        self.count.losses += u64::from(change.is_loss());
        self.changes.push_back(change);
        self.state = state;
        self.since = now;
        self.diagnostic = cause.diagnostic();
        self.poll = Poll::Idle;
        self.take_intervals();
        if state == State::Up && self.config.desired_min_tx < SLOW {
            // The pace that was announced while Down was slower.
            self.begin_poll();
        }
        // RFC 5880 §6.8.7: the peer is told at once.
        self.owes_packet = true;
    }

    fn take_intervals(&mut self) {
        self.tx_in_force = self.desired_min_tx();
        self.rx_in_force = self.config.required_min_rx;
    }

    fn begin_poll(&mut self) {
        self.poll = match self.poll {
            Poll::Idle => Poll::Asking,
            Poll::Asking | Poll::AskingAgain => Poll::AskingAgain,
        };
        self.owes_packet = true;
    }

    fn conclude_poll(&mut self) {
        match self.poll {
            Poll::Idle => {}
            Poll::Asking => {
                self.poll = Poll::Idle;
                self.take_intervals();
            }
            Poll::AskingAgain => {
                self.poll = Poll::Asking;
                self.owes_packet = true;
            }
        }
    }

    /// A peer that is asked to send less often may do so from now on.
    fn extend_detection(&mut self, now: Instant) {
        if self.timers.is_running(Timer::Detect) {
            self.timers.set(Timer::Detect, now + self.detection_time());
        }
    }

    /// Sees to it that the transmit timer runs, and that a shorter interval holds at once.
    fn keep_pace(&mut self, now: Instant) {
        let wanted = self.transmit_interval();
        let is_slower = matches!((self.pace, wanted), (Some(pace), Some(wanted)) if pace <= wanted);
        match wanted {
            None => self.timers.stop(Timer::Transmit),
            Some(_) if is_slower => return,
            Some(interval) => {
                let delay = self.jittered(interval);
                self.timers.set(Timer::Transmit, now + delay);
            }
        }
        self.pace = wanted;
    }

    /// RFC 5880 §6.8.7: 75 to 100 % of the interval; at most 90 % where one lost packet counts.
    fn jittered(&mut self, interval: Duration) -> Duration {
        let spread = if self.config.detect_multiplier == NonZeroU8::MIN {
            interval * 15 / 100
        } else {
            interval / 4
        };
        interval * 3 / 4 + self.jitter.part(spread)
    }
}

#[cfg(test)]
mod tests;
