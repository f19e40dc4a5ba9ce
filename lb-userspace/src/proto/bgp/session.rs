//! One configured peer: timers and queues around the state machine.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use self::acts::{Act, Acts};
use self::counters::Counters;
use super::adj_out::{AdjOut, Routes};
use super::error::DecodeError;
use super::fsm::{self, State};
use super::message::{Frame, Framer, MessageType};
use super::negotiation::{Config, Negotiated, Restart};
use super::nlri::Family;
use super::notification::{Cease, Code, Notification};
use super::open::Open;
use super::reason::Reason;
use super::refresh;
use super::retention::Past;
use super::update::Received;
use crate::proto::timers::{Jitter, Timers};

mod actions;
pub mod acts;
pub mod counters;

/// RFC 4271 §8.2.2 suggests four minutes for the peer's OPEN; one keeps a listener from parking us.
const OPEN_WAIT: Duration = Duration::from_secs(60);
/// Back-off ends here, or at the configured connect time if that is longer.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(30);
/// RFC 9687 §3.1, where no hold time is negotiated to take twice of.
const SEND_HOLD_WITHOUT_HOLD: Duration = Duration::from_secs(480);

/// Timers of a session.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// Time to connect, or to try again.
    ConnectRetry,
    /// Time to send OPEN, if the peer's has not come.
    DelayOpen,
    /// Time to leave Idle.
    IdleHold,
    /// The peer was silent for too long.
    Hold,
    /// Time to say that we are there.
    Keepalive,
    /// The peer took no byte for too long (RFC 9687).
    SendHold,
}

/// How to end a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Close without a word: a planned restart, in which a helping peer keeps our routes.
    Abandon,
    /// End in the way that keeps our routes at a peer that does so: another session follows at once.
    Reset,
    /// Another connection with the same peer stays.
    Collision,
    /// Withdraw everything, then Cease; as a hard reset where the peer would keep routes otherwise.
    Cease {
        /// Why.
        subcode: Cease,
        /// Text for the peer's operator.
        text: String,
    },
}

/// What the owner of a session must do or may want to know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Begin to connect; answer with `handle_connected` or `handle_disconnected`.
    Dial,
    /// Close the connection or give up connecting. If `graceful`, first write what `poll_transmit` still holds,
    /// half-close, and read until the peer closes, so that the NOTIFICATION is not lost to a reset.
    Close {
        /// There is a NOTIFICATION to deliver.
        graceful: bool,
    },
    /// The state changed.
    StateChanged(State),
    /// A session, or an attempt at one, failed.
    Failed(Reason),
}

/// Why a configured family is not announced.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Withheld {
    /// The peer did not offer it.
    NotOffered,
    /// We have no next hop for it.
    NoNextHop,
}

/// A session with one configured peer.
#[derive(Debug)]
pub struct Session {
    config: Config,
    state: State,
    timers: Timers<Timer>,
    jitter: Jitter,
    failures: u32,
    minimal: bool,
    framer: Framer,
    outbox: VecDeque<Bytes>,
    events: VecDeque<Event>,
    adj_out: AdjOut,
    open: Option<Open>,
    local: Option<IpAddr>,
    negotiated: Option<Negotiated>,
    cease: Option<Notification>,
    refusal: Option<Notification>,
    refresh: Option<Family>,
    past: Past,
    restart_window: Option<Instant>,
    is_dialed: bool,
    is_newcomer: bool,
    established_at: Option<Instant>,
    counters: Counters,
    acts: Acts,
}

impl Session {
    /// A session that begins to connect at once, or to wait for the peer to do so.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let mut session = Self::idle(config, seed);
        session.start(now);
        session
    }

    /// A session on a connection that the peer made while another one is there. It goes no further than
    /// OpenConfirm until [`take_over`](Self::take_over).
    pub fn accepted(config: Config, past: Past, seed: u64, local: IpAddr, now: Instant) -> Self {
        let mut session = Self::idle(config, seed);
        session.past = past;
        session.is_newcomer = true;
        session.run(fsm::Event::StartedPassively, now);
        session.handle_connected(local, now);
        session
    }

    fn idle(config: Config, seed: u64) -> Self {
        Self {
            config,
            state: State::Idle,
            timers: Timers::default(),
            jitter: Jitter::new(seed),
            failures: 0,
            minimal: false,
            framer: Framer::default(),
            outbox: VecDeque::new(),
            events: VecDeque::new(),
            adj_out: AdjOut::default(),
            open: None,
            local: None,
            negotiated: None,
            cease: None,
            refusal: None,
            refresh: None,
            past: Past::default(),
            restart_window: None,
            is_dialed: false,
            is_newcomer: false,
            established_at: None,
            counters: Counters::default(),
            acts: Acts::default(),
        }
    }

    fn start(&mut self, now: Instant) {
        self.run(
            if self.config.options.passive {
                fsm::Event::StartedPassively
            } else {
                fsm::Event::Started
            },
            now,
        );
    }

    /// The speaker was there before and comes back. Until all routes are told on the first session, or until
    /// the end of the time in which it wanted to be back, its OPENs say so (RFC 4724 §4.1).
    pub fn handle_restart(&mut self, past: Past, until: Instant) {
        self.past = past;
        self.restart_window = past.restarted.then_some(until);
    }

    /// What an OPEN says about the speaker's past.
    pub fn past(&self, now: Instant) -> Past {
        Past {
            restarted: self.restart_window.is_some_and(|until| now < until),
            ..self.past
        }
    }

    /// Goes on with the connection of `newcomer`, which reached OpenConfirm.
    pub fn take_over(&mut self, newcomer: Self, now: Instant) {
        self.reset_connection();
        self.outbox = newcomer.outbox;
        self.timers = newcomer.timers;
        self.framer = newcomer.framer;
        self.open = newcomer.open;
        self.local = newcomer.local;
        self.negotiated = newcomer.negotiated;
        self.minimal = newcomer.minimal;
        self.is_dialed = false;
        if self.state != newcomer.state {
            self.acts.push(Act::State {
                from: self.state,
                to: newcomer.state,
            });
            self.state = newcomer.state;
            self.events.push_back(Event::StateChanged(self.state));
        }
        self.handle_bytes(&[], now);
    }

    /// The TCP connection is up, from this local address.
    pub fn handle_connected(&mut self, local: IpAddr, now: Instant) {
        self.local = Some(local);
        // A newcomer is there to have its OPEN heard.
        let delays = self.config.options.delay_open.is_some() && !self.is_newcomer;
        let event = if delays {
            fsm::Event::TcpConnectedDelayed
        } else {
            fsm::Event::TcpConnected
        };
        self.run(event, now);
    }

    /// The TCP connection could not be made, or is gone.
    pub fn handle_disconnected(&mut self, now: Instant) {
        self.fail(Reason::Disconnected(self.state));
        self.run(fsm::Event::TcpFailed, now);
    }

    /// Bytes from the peer.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        if !self.has_connection() {
            return;
        }
        self.framer.extend(bytes);
        while self.has_connection() && !self.is_held_back() {
            match self.framer.take() {
                Ok(Some(frame)) => {
                    self.acts.push(Act::Received(frame.encode()));
                    self.handle_frame(&frame, now);
                }
                Ok(None) => break,
                Err(error) => {
                    self.acts.push(Act::Received(self.framer.unreadable()));
                    self.refuse(error, now);
                }
            }
        }
    }

    /// Whether there is a connection.
    pub fn has_connection(&self) -> bool {
        self.open.is_some() || self.timers.is_running(Timer::DelayOpen)
    }

    /// A newcomer's further fate is decided first.
    fn is_held_back(&self) -> bool {
        self.is_newcomer && self.state == State::OpenConfirm
    }

    /// The connection takes no more bytes for now.
    pub fn handle_blocked(&mut self, now: Instant) {
        if self.open.is_some() && !self.timers.is_running(Timer::SendHold) {
            let hold_time = self
                .negotiated
                .as_ref()
                .map_or(self.config.hold_time, |n| n.hold_time);
            let limit = if hold_time.is_zero() {
                SEND_HOLD_WITHOUT_HOLD
            } else {
                hold_time * 2
            };
            self.timers.set(Timer::SendHold, now + limit);
        }
    }

    /// The connection took bytes again.
    pub fn handle_written(&mut self) {
        self.timers.stop(Timer::SendHold);
    }

    /// The path to the peer is lost (RFC 9384): ends the session at once, and tries again.
    pub fn handle_bfd_down(&mut self, now: Instant) {
        if self.has_connection() {
            self.refusal = Some(Notification::cease(Cease::BfdDown, ""));
            self.fail(Reason::BfdDown);
            self.run(fsm::Event::MessageRefused, now);
        }
    }

    /// The routes that the peer should hold, and whether some may be missing yet.
    pub fn handle_routes(&mut self, routes: Routes, is_partial: bool) {
        self.adj_out.set_partial(is_partial);
        self.adj_out.set_desired(routes);
    }

    /// New parameters of which none [needs another OPEN](Config::needs_new_open). Times count from the next
    /// connection; next hops at once.
    pub fn handle_config(&mut self, config: Config) {
        self.config = config;
        for (family, next_hop) in self.next_hops() {
            self.adj_out.set_next_hop(family, next_hop);
        }
    }

    /// Ends the session for good.
    pub fn handle_stop(&mut self, stop: Stop, now: Instant) {
        match stop {
            Stop::Abandon => self.run(fsm::Event::Abandoned, now),
            // Where a NOTIFICATION would make the peer drop what it keeps otherwise, silence says more.
            Stop::Reset if self.restart().keeps && !self.restart().keeps_on_notification => {
                self.run(fsm::Event::Abandoned, now);
            }
            Stop::Reset => self.cease(Cease::OtherConfigurationChange, "", now),
            // RFC 4271 §6.8, RFC 4486 §4.
            Stop::Collision => self.cease(Cease::ConnectionCollision, "", now),
            Stop::Cease { subcode, text } => {
                self.adj_out.set_desired(Routes::new());
                while let Some(message) = self.adj_out.poll() {
                    self.outbox.push_back(message);
                }
                self.cease(subcode, &text, now);
            }
        }
    }

    fn cease(&mut self, subcode: Cease, text: &str, now: Instant) {
        let is_final = matches!(
            subcode,
            Cease::AdministrativeShutdown | Cease::PeerDeconfigured
        );
        let notification = Notification::cease(subcode, text);
        // RFC 8538 §4: without the hard reset the peer would go on sending packets to who is gone.
        self.cease = Some(if is_final && self.restart().keeps_on_notification {
            notification.into_hard_reset()
        } else {
            notification
        });
        self.run(fsm::Event::Stopped, now);
    }

    fn restart(&self) -> Restart {
        let negotiated = self.negotiated.as_ref();
        negotiated.map_or_else(Restart::default, |negotiated| negotiated.restart)
    }

    /// Acts on every timer whose deadline has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.take_expired(now) {
            let event = match timer {
                Timer::ConnectRetry => {
                    if self.state == State::Connect {
                        self.fail(Reason::ConnectTimeout);
                        self.failures += 1;
                    }
                    fsm::Event::ConnectRetryTimerExpired
                }
                Timer::DelayOpen => fsm::Event::DelayOpenTimerExpired,
                Timer::IdleHold if self.config.options.passive => fsm::Event::StartedPassively,
                Timer::IdleHold => fsm::Event::IdleHoldTimerExpired,
                Timer::Hold => {
                    self.fail(Reason::HoldTimerExpired(self.state));
                    fsm::Event::HoldTimerExpired
                }
                Timer::Keepalive => fsm::Event::KeepaliveTimerExpired,
                Timer::SendHold => {
                    self.fail(Reason::SendHoldTimerExpired);
                    fsm::Event::SendHoldTimerExpired
                }
            };
            self.run(event, now);
        }
    }

    /// The next message for the peer; control messages go before routes.
    pub fn poll_transmit(&mut self) -> Option<Bytes> {
        let control = self.outbox.pop_front();
        let message = control.or_else(|| self.adj_out.poll())?;
        self.counters.messages_sent += 1;
        self.acts.push(Act::Sent(message.clone()));
        if self.restart_window.is_some() && self.adj_out.is_complete() {
            self.restart_window = None;
        }
        Some(message)
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next thing that it did, for a capture; the oldest are lost if nobody takes them.
    pub fn poll_act(&mut self) -> Option<Act> {
        self.acts.pop()
    }

    /// When to call `handle_timeout`, and for which timer.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }

    /// The state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// Our end of the connection, if there is one.
    pub const fn local_address(&self) -> Option<IpAddr> {
        self.local
    }

    /// What was agreed with the peer, from OpenConfirm on.
    pub const fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// The routes that the peer was sent, and those whose attributes do not fit into a message.
    pub const fn adj_out(&self) -> &AdjOut {
        &self.adj_out
    }

    /// Goes on counting from there.
    pub const fn set_counters(&mut self, counters: Counters) {
        self.counters = counters;
    }

    /// Whether something happened that its owner has not taken yet.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What was counted since the start.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Whether we made the connection, or try to.
    pub const fn is_dialed(&self) -> bool {
        self.is_dialed
    }

    /// When the session came up last.
    pub const fn established_at(&self) -> Option<Instant> {
        self.established_at
    }

    /// Who is who, for collisions: BGP identifier and AS, ours and the peer's.
    pub fn identifiers(&self) -> Option<((Ipv4Addr, u32), (Ipv4Addr, u32))> {
        let theirs = self.negotiated.as_ref()?;
        Some((
            (self.config.router_id, self.config.my_asn),
            (theirs.peer_router_id, theirs.peer_asn),
        ))
    }

    /// Configured families that an established session does not announce, and why.
    pub fn withheld(&self) -> impl Iterator<Item = (Family, Withheld)> {
        let next_hops = self.next_hops();
        let is_up = self.state == State::Established;
        let configured = self.config.families.iter().filter(move |_| is_up).copied();
        configured.filter_map(move |family| {
            match next_hops
                .iter()
                .find(|(negotiated, _)| *negotiated == family)
            {
                None => Some((family, Withheld::NotOffered)),
                Some((_, None)) => Some((family, Withheld::NoNextHop)),
                Some((_, Some(_))) => None,
            }
        })
    }

    fn handle_frame(&mut self, frame: &Frame, now: Instant) {
        self.counters.messages_received += 1;
        let event = match frame.kind {
            MessageType::Open if self.awaits_open() => match self.negotiate(&frame.body, now) {
                Ok(negotiated) => {
                    if negotiated.extended_message {
                        self.framer.extend_messages();
                    }
                    self.negotiated = Some(negotiated);
                    if self.open.is_some() {
                        fsm::Event::OpenReceived
                    } else {
                        fsm::Event::OpenReceivedEarly
                    }
                }
                Err(error) => return self.refuse(error, now),
            },
            MessageType::Open => fsm::Event::OpenReceived,
            MessageType::Update => {
                let received = self
                    .negotiated
                    .as_ref()
                    .map(|n| Received::decode(&frame.body, n));
                match received.filter(|_| self.state == State::Established) {
                    Some(Ok(update)) => self.counters.update(&update),
                    Some(Err(error)) => return self.refuse(error, now),
                    None => {}
                }
                fsm::Event::UpdateReceived
            }
            MessageType::Notification => {
                self.counters.notifications_received += 1;
                if let Some(notification) = Notification::decode(&frame.body) {
                    // RFC 5492 §3: a peer that rejects capabilities is asked once more without them.
                    let rejects = notification.code == Code::Open as u8;
                    self.minimal =
                        rejects && matches!(notification.subcode, 4 | 7) && !self.minimal;
                    self.fail(Reason::Notified(notification));
                }
                fsm::Event::NotificationReceived
            }
            MessageType::Keepalive => fsm::Event::KeepaliveReceived,
            MessageType::RouteRefresh => {
                let enhanced = self.negotiated.as_ref().is_some_and(|n| n.enhanced_refresh);
                match refresh::decode(&frame.body, enhanced) {
                    Ok(family) => self.refresh = family,
                    Err(error) => return self.refuse(error, now),
                }
                fsm::Event::RefreshReceived
            }
        };
        self.run(event, now);
    }

    fn awaits_open(&self) -> bool {
        self.state == State::OpenSent || self.timers.is_running(Timer::DelayOpen)
    }

    fn negotiate(&self, body: &[u8], now: Instant) -> Result<Negotiated, DecodeError> {
        let theirs = Open::decode(body)?;
        match &self.open {
            Some(ours) => Negotiated::new(&self.config, ours, &theirs),
            None => Negotiated::new(&self.config, &self.next_open(now), &theirs),
        }
    }

    /// RFC 4724 §4.1: R says that we restarted, and only until the routes are told again.
    fn next_open(&self, now: Instant) -> Open {
        self.config.open(self.minimal, self.past(now))
    }

    fn refuse(&mut self, error: DecodeError, now: Instant) {
        self.refusal = Some(Notification::from(&error));
        self.fail(Reason::Refused(error));
        self.run(fsm::Event::MessageRefused, now);
    }

    fn fail(&mut self, reason: Reason) {
        self.events.push_back(Event::Failed(reason));
    }

    fn run(&mut self, event: fsm::Event, now: Instant) {
        let (next, actions) = fsm::next(self.state, event);
        if next != self.state {
            self.events.push_back(Event::StateChanged(next));
            self.acts.push(Act::State {
                from: self.state,
                to: next,
            });
        }
        for action in actions {
            self.perform(*action, now);
        }
        self.state = next;
    }
}

#[cfg(test)]
mod tests;
