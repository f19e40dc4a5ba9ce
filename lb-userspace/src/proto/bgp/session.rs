//! One configured peer: timers and queues around the state machine.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::adj_out::{AdjOut, Format, Routes};
use super::error::DecodeError;
use super::fsm::{self, Action, Notice, State};
use super::message::{self, Frame, Framer, MessageType};
use super::negotiation::{Config, Negotiated};
use super::nlri::Family;
use super::notification::{Cease, Code, Notification};
use super::open::Open;
use super::reason::Reason;
use super::refresh;
use super::update::Received;
use crate::proto::timers::{Jitter, Timers};

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
    /// Withdraw everything, then Cease.
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
    received_refused: u64,
    notifications_sent: u64,
    notifications_received: u64,
}

impl Session {
    /// A session that begins to connect at once.
    pub fn new(config: Config, seed: u64, now: Instant) -> Self {
        let mut session = Self {
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
            received_refused: 0,
            notifications_sent: 0,
            notifications_received: 0,
        };
        session.run(fsm::Event::Started, now);
        session
    }

    /// The TCP connection is up, from this local address.
    pub fn handle_connected(&mut self, local: IpAddr, now: Instant) {
        self.local = Some(local);
        self.run(fsm::Event::TcpConnected, now);
    }

    /// The TCP connection could not be made, or is gone.
    pub fn handle_disconnected(&mut self, now: Instant) {
        self.fail(Reason::Disconnected(self.state));
        self.run(fsm::Event::TcpFailed, now);
    }

    /// Bytes from the peer.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        if self.open.is_none() {
            return;
        }
        self.framer.extend(bytes);
        while self.open.is_some() {
            match self.framer.take() {
                Ok(Some(frame)) => self.handle_frame(&frame, now),
                Ok(None) => break,
                Err(error) => self.refuse(error, now),
            }
        }
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
        if self.open.is_some() {
            self.refusal = Some(Notification::cease(Cease::BfdDown, ""));
            self.fail(Reason::BfdDown);
            self.run(fsm::Event::MessageRefused, now);
        }
    }

    /// The routes that the peer should hold.
    pub fn handle_routes(&mut self, routes: Routes) {
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
            Stop::Cease { subcode, text } => {
                self.cease = Some(Notification::cease(subcode, &text));
                self.run(fsm::Event::Stopped, now);
            }
        }
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
        control.or_else(|| self.adj_out.poll())
    }

    /// The next thing that happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call `handle_timeout`, and for which timer.
    pub fn poll_timeout(&self) -> Option<(Instant, Timer)> {
        self.timers.next()
    }

    /// The state.
    pub const fn state(&self) -> State {
        self.state
    }

    /// What was agreed with the peer, from OpenConfirm on.
    pub const fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref()
    }

    /// The routes that the peer was sent, and those whose attributes do not fit into a message.
    pub const fn adj_out(&self) -> &AdjOut {
        &self.adj_out
    }

    /// Prefixes that peers announced to us since the start, all of them refused.
    pub const fn received_refused(&self) -> u64 {
        self.received_refused
    }

    /// NOTIFICATIONs sent and received since the start.
    pub const fn notifications(&self) -> (u64, u64) {
        (self.notifications_sent, self.notifications_received)
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
        let event = match frame.kind {
            MessageType::Open if self.state == State::OpenSent => match self.negotiate(&frame.body)
            {
                Ok(negotiated) => {
                    self.negotiated = Some(negotiated);
                    fsm::Event::OpenReceived
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
                    Some(Ok(update)) => {
                        let count = u64::try_from(update.announced.len()).unwrap_or(u64::MAX);
                        self.received_refused = self.received_refused.saturating_add(count);
                    }
                    Some(Err(error)) => return self.refuse(error, now),
                    None => {}
                }
                fsm::Event::UpdateReceived
            }
            MessageType::Notification => {
                self.notifications_received += 1;
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
                self.refresh = refresh::decode(&frame.body);
                fsm::Event::RefreshReceived
            }
        };
        self.run(event, now);
    }

    fn negotiate(&self, body: &[u8]) -> Result<Negotiated, DecodeError> {
        let theirs = Open::decode(body)?;
        let ours = self.open.as_ref().ok_or(DecodeError::MalformedOpen)?;
        Negotiated::new(&self.config, ours, &theirs)
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
        }
        for action in actions {
            self.perform(*action, now);
        }
        self.state = next;
    }

    fn perform(&mut self, action: Action, now: Instant) {
        match action {
            Action::Dial => {
                let limit = self.back_off();
                self.timers.set(Timer::ConnectRetry, now + limit);
                self.events.push_back(Event::Dial);
            }
            Action::AwaitRetry => {
                let delay = self.back_off();
                self.failures += 1;
                self.timers.set(Timer::ConnectRetry, now + delay);
            }
            Action::AwaitStart => {
                let delay = self.back_off();
                self.failures += 1;
                self.timers.set(Timer::IdleHold, now + delay);
            }
            Action::SendOpen => {
                let open = self.config.open(self.minimal);
                self.outbox.clear();
                self.outbox.push_back(open.encode());
                self.open = Some(open);
                self.timers.stop_all();
                self.timers.set(Timer::Hold, now + OPEN_WAIT);
            }
            Action::SendKeepalive => {
                self.outbox.push_back(message::keepalive());
                let interval = self
                    .negotiated
                    .as_ref()
                    .map_or(Duration::ZERO, |n| n.keepalive_time);
                if !interval.is_zero() {
                    let delay = self.jitter.apply(interval);
                    self.timers.set(Timer::Keepalive, now + delay);
                }
            }
            Action::RestartHold => {
                let hold_time = self
                    .negotiated
                    .as_ref()
                    .map_or(Duration::ZERO, |n| n.hold_time);
                if hold_time.is_zero() {
                    self.timers.stop(Timer::Hold);
                } else {
                    self.timers.set(Timer::Hold, now + hold_time);
                }
            }
            Action::Announce => self.announce(),
            Action::Resend => {
                if let Some(family) = self.refresh.take() {
                    self.adj_out.resend(family);
                }
            }
            Action::Notify(notice) => self.notify(notice),
            Action::Drop => {
                self.outbox.clear();
                self.reset_connection();
                self.events.push_back(Event::Close { graceful: false });
            }
        }
    }

    fn announce(&mut self) {
        self.failures = 0;
        self.minimal = false;
        let next_hops = self.next_hops().into_iter().collect();
        if let Some(negotiated) = &self.negotiated {
            self.adj_out.begin(Format {
                my_asn: self.config.my_asn,
                internal: negotiated.internal,
                four_octet_as: negotiated.four_octet_as,
                next_hops,
            });
        }
    }

    fn notify(&mut self, notice: Notice) {
        let notification = match notice {
            Notice::Cease => {
                self.adj_out.set_desired(Routes::new());
                while let Some(message) = self.adj_out.poll() {
                    self.outbox.push_back(message);
                }
                self.cease.take()
            }
            Notice::Refusal => self.refusal.take(),
            Notice::HoldTimerExpired => Some(Notification::hold_timer_expired()),
            Notice::SendHoldTimerExpired => Some(Notification::send_hold_timer_expired()),
            Notice::Unexpected => {
                self.fail(Reason::Unexpected(self.state));
                // RFC 6608 §3.
                let subcode = match self.state {
                    State::OpenSent => 1,
                    State::OpenConfirm => 2,
                    State::Established => 3,
                    State::Idle | State::Connect | State::Active => 0,
                };
                Some(Notification::new(
                    Code::FiniteStateMachine as u8,
                    subcode,
                    Vec::new(),
                ))
            }
        };
        if let Some(notification) = notification {
            self.outbox.push_back(notification.encode());
            self.notifications_sent += 1;
        }
        self.reset_connection();
        self.events.push_back(Event::Close { graceful: true });
    }

    fn reset_connection(&mut self) {
        self.timers.stop_all();
        self.framer.clear();
        self.adj_out.end();
        self.open = None;
        self.local = None;
        self.negotiated = None;
        self.refresh = None;
    }

    fn back_off(&mut self) -> Duration {
        let base = self.config.connect_time.max(Duration::from_secs(1));
        let doubled = base.saturating_mul(1 << self.failures.min(16));
        self.jitter.apply(doubled.min(LONGEST_BACK_OFF.max(base)))
    }

    // RFC 4760 §3, RFC 2545 §3: our end of the connection where it is of the family and global.
    fn next_hops(&self) -> Vec<(Family, Option<IpAddr>)> {
        let families = self
            .negotiated
            .iter()
            .flat_map(|negotiated| &negotiated.families);
        let is_global = |addr: &IpAddr| match addr {
            IpAddr::V4(_) => true,
            IpAddr::V6(addr) => !addr.is_unicast_link_local(),
        };
        let next_hop = |family: Family| {
            let transport = self
                .local
                .filter(|addr| Family::of(*addr) == family && is_global(addr));
            let configured = self.config.next_hops.get(&family).copied();
            transport.or_else(|| configured.filter(|addr| Family::of(*addr) == family))
        };
        families.map(|&family| (family, next_hop(family))).collect()
    }
}

#[cfg(test)]
mod tests;
