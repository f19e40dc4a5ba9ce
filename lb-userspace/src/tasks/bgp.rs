//! Drives one BGP session: dials, moves bytes, tells the time.
//!
//! ```text
//!   SessionIntent ──watch──▶ ┌────────────┐ ──watch──▶ SessionStatus
//!   connections ────mpsc───▶ │ one task   │ ◀──TCP──▶ peer
//!   Stop ─────────oneshot──▶ └────────────┘
//! ```
//!
//! Both watches hold only the latest value, so a slow peer or reader costs nothing. The task owns the session
//! and its connections, of which there are two only while a collision is undecided; nothing is shared.

use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tracing::{debug, info, warn};

use self::discovery::Discovery;
use self::leg::{Leg, timer};
use self::parameters::{
    dial_options, needs_new_session, peer_address, session_config, session_routes,
};
use self::path::Path;
use self::status::{explain, session_state};
use self::tap::Tap;
use crate::model::bfd::BfdReport;
use crate::model::intent::{SessionConfig, SessionIntent};
use crate::model::session_status::SessionStatus;
use crate::net::bgp_listener::ListenError;
use crate::net::bgp_socket::Connection;
use crate::proto::bgp::collision::{self, Outcome};
use crate::proto::bgp::fsm::State;
use crate::proto::bgp::notification::Cease;
use crate::proto::bgp::reason::Reason;
use crate::proto::bgp::retention::Past;
use crate::proto::bgp::session::{self, Event, Session};

mod discovery;
mod leg;
pub mod listener;
mod parameters;
mod path;
mod status;
pub mod tap;

/// Octets per read.
const READ_SIZE: usize = 64 * 1024;
/// Time between GRACEFUL_SHUTDOWN and withdrawal where the node is drained and nothing else is configured.
const DRAIN_WAIT: Duration = Duration::from_secs(5);
/// Connections that end at the same time; more are closed without waiting for the peer.
const FAREWELLS: usize = 4;

/// How a session is to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Close without a word: the agent is about to come back, and a helping peer keeps the routes.
    Restart,
    /// The same at a peer that keeps the routes, else a drain.
    RestartOrDrain(String),
    /// Withdraw everything, then Cease with a text for the peer's operator.
    Drain(String),
    /// The peer is no longer configured.
    Deconfigured,
}

/// A connection that the peer made, or why none can come.
pub type Incoming = Result<Connection, ListenError>;

/// A running session.
#[derive(Debug)]
pub struct Peer {
    /// What the session is doing.
    pub status: watch::Receiver<SessionStatus>,
    /// Where to say how BFD beside the session is.
    pub bfd: watch::Sender<BfdReport>,
    /// Where to hand in connections that the peer made.
    pub incoming: mpsc::Sender<Incoming>,
    /// What the session does, message by message.
    pub tap: Tap,
    stop: oneshot::Sender<Stop>,
    task: JoinHandle<()>,
}

impl Peer {
    /// Starts the session of a BGPPeer. It follows `intent`: routes change under a running session, parameters
    /// reset it only where they must. It ends when [`stopped`](Self::stop), or as [`Stop::Restart`] when this
    /// value or the sender of `intent` is dropped.
    pub fn spawn(name: String, intent: watch::Receiver<SessionIntent>) -> Self {
        Self::spawn_again(name, intent, Past::default())
    }

    /// The same, of an agent that was there before.
    pub fn spawn_again(name: String, intent: watch::Receiver<SessionIntent>, past: Past) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (incoming, accepted) = mpsc::channel(1);
        let (publish, status) = {
            let config = &intent.borrow().config;
            let mut status = SessionStatus::new(name, config.peer_address, clock());
            status.listen_range = config.options.listen_range.map(|range| range.network);
            watch::channel(status)
        };
        let (bfd, path) = watch::channel(BfdReport::default());
        let mut driver = Driver::new(intent, accepted, publish, past, path);
        let tap = Tap::default();
        driver.tap = tap.clone();
        let task = tokio::spawn(driver.run(stopped));
        Self {
            status,
            bfd,
            incoming,
            tap,
            stop,
            task,
        }
    }

    /// Ends the session; returns when the peer has been told, at the latest two seconds after the wait of a
    /// drain, if one is configured.
    pub async fn stop(self, stop: Stop) {
        // A task that is gone already has nothing left to say.
        let _ = self.stop.send(stop);
        if let Err(error) = self.task.await {
            warn!(%error, "a BGP session ended abnormally");
        }
    }
}

fn clock() -> Instant {
    tokio::time::Instant::now().into_std()
}

struct Driver {
    intent: watch::Receiver<SessionIntent>,
    accepted: mpsc::Receiver<Incoming>,
    publish: watch::Sender<SessionStatus>,
    tap: Tap,
    path: Path,
    /// Of the routes in the status.
    generation: u64,
    config: SessionConfig,
    /// Of an unnumbered session.
    discovery: Option<Discovery>,
    main: Leg,
    /// A connection that the peer made while there is another one.
    newcomer: Option<Leg>,
    /// When routes that carry GRACEFUL_SHUTDOWN are withdrawn.
    withdraw_at: Option<Instant>,
    is_withdrawn: bool,
    /// What to say when they are, if that is the end.
    last_words: Option<String>,
    farewells: JoinSet<()>,
}

/// What woke the task.
enum Wake {
    Stopped(Stop),
    IntentChanged,
    IntentClosed,
    PathChanged,
    Accepted(Incoming),
    Main(leg::Wake),
    Newcomer(leg::Wake),
    WithdrawalDue,
}

impl Driver {
    fn new(
        mut intent: watch::Receiver<SessionIntent>,
        accepted: mpsc::Receiver<Incoming>,
        publish: watch::Sender<SessionStatus>,
        past: Past,
        path: watch::Receiver<BfdReport>,
    ) -> Self {
        let (config, is_draining) = {
            let intent = intent.borrow_and_update();
            (intent.config.clone(), intent.is_draining)
        };
        let session = new_session(&config, past);
        let mut driver = Self {
            intent,
            accepted,
            publish,
            tap: Tap::default(),
            path: Path::new(path),
            generation: 0,
            discovery: discovery(&config),
            config,
            main: Leg::new(session, None),
            newcomer: None,
            // Who is told nothing yet need not be told that it goes away.
            withdraw_at: is_draining.then(clock),
            is_withdrawn: false,
            last_words: None,
            farewells: JoinSet::new(),
        };
        driver.set_routes();
        driver
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<Stop>) {
        let (mut buffer, mut second) = (vec![0; READ_SIZE], vec![0; READ_SIZE]);
        let mut is_stopped = false;
        loop {
            self.settle();
            let wake = tokio::select! {
                stop = &mut stopped, if !is_stopped => Wake::Stopped(stop.unwrap_or(Stop::Restart)),
                changed = self.intent.changed() => match changed {
                    Ok(()) => Wake::IntentChanged,
                    Err(_) => Wake::IntentClosed,
                },
                () = self.path.changed() => Wake::PathChanged,
                Some(incoming) = self.accepted.recv() => Wake::Accepted(incoming),
                wake = self.main.wake(&mut buffer) => Wake::Main(wake),
                wake = newcomer(self.newcomer.as_mut(), &mut second) => Wake::Newcomer(wake),
                () = timer(self.withdraw_at.filter(|_| !self.is_withdrawn)) => Wake::WithdrawalDue,
            };
            match wake {
                Wake::Stopped(stop) => match self.begin_stop(stop) {
                    Some(stop) => return self.finish(stop).await,
                    None => is_stopped = true,
                },
                Wake::IntentClosed => return self.finish(session::Stop::Abandon).await,
                Wake::IntentChanged => self.follow_intent().await,
                Wake::PathChanged => self.follow_path(),
                Wake::Accepted(incoming) => self.accept(incoming),
                Wake::Main(wake) => {
                    if let Err(error) = self.main.handle(wake, &buffer) {
                        self.fail(explain(&error));
                    }
                    self.publish_address();
                }
                Wake::Newcomer(wake) => {
                    if let Some(leg) = &mut self.newcomer
                        && let Err(error) = leg.handle(wake, &second)
                    {
                        debug!(peer = self.peer(), %error, "a connection of the peer is gone");
                    }
                }
                Wake::WithdrawalDue => {
                    if let Some(text) = self.last_words.take() {
                        return self.finish(drained(text)).await;
                    }
                    self.set_routes();
                }
            }
        }
    }

    /// Does what the sessions ask for until they ask for nothing more, then publishes the status.
    fn settle(&mut self) {
        while self.farewells.try_join_next().is_some() {}
        loop {
            while let Some(event) = self.main.session.poll_event() {
                self.handle_event(event);
            }
            self.settle_newcomer();
            let is_broken = self.main.write();
            self.take_down();
            if !is_broken && !self.has_events() {
                break;
            }
        }
        status::publish(&self.main.session, &mut self.generation, &self.publish);
    }

    /// Writes down what the sessions did since the last time.
    fn take_down(&mut self) {
        let (asn, peer) = (self.config.my_asn, self.publish.borrow().address);
        let ends = tap::ends(&self.main.session, asn, peer);
        self.tap.take_down(&mut self.main.session, ends, true);
        if let Some(leg) = &mut self.newcomer {
            let ends = tap::ends(&leg.session, asn, peer);
            self.tap.take_down(&mut leg.session, ends, false);
        }
    }

    fn has_events(&self) -> bool {
        self.main.session.has_events()
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Dial => {
                let options = dial_options(&self.config);
                let found = self.discovery.as_ref();
                let found = found.map(|discovery| discovery.peer(options.peer.port()));
                self.main.dial(options, self.await_path(), found);
            }
            Event::Close { graceful: false } => self.main.close(),
            Event::Close { graceful: true } => {
                if let Some(farewell) = self.main.take_farewell() {
                    self.farewells.spawn(farewell.say());
                }
            }
            Event::StateChanged(state) => {
                info!(peer = self.peer(), ?state, "BGP session");
                self.publish.send_modify(|status| {
                    status.state = session_state(state);
                    status.since = clock();
                });
            }
            // Why a dial failed is known better here than in the session.
            Event::Failed(Reason::Disconnected(State::Connect)) => {}
            Event::Failed(Reason::ConnectTimeout) if self.waits_for_path() => {
                self.fail("waiting for BFD: the peer does not answer it".to_owned());
            }
            Event::Failed(Reason::ConnectTimeout) => {
                let peer = peer_address(&self.config);
                if let Some(interface) = &self.config.options.interface {
                    self.fail(format!(
                        "no router on {interface} sends advertisements and takes connections: does it peer by \
                         interface there?"
                    ));
                    return;
                }
                let key = if self.config.password.is_some() {
                    ", with the same password"
                } else {
                    ""
                };
                self.fail(format!(
                    "cannot connect to {peer}: no answer; is it reachable, and is this node configured there \
                     as neighbour{key}?"
                ));
            }
            Event::Failed(reason) => self.fail(reason.to_string()),
        }
    }

    /// A connection from the peer: the session's if it waits for one, else a newcomer.
    fn accept(&mut self, incoming: Incoming) {
        let connection = match incoming {
            Ok(connection) => connection,
            Err(error) => return self.fail(error.to_string()),
        };
        let Ok(local) = connection.local_address() else {
            return;
        };
        if self.waits_for_path() {
            debug!(
                peer = self.peer(),
                "a connection of the peer is refused until BFD is up"
            );
            return;
        }
        match self.main.session.state() {
            // RFC 4271 §8.2.2: Idle refuses connections; this also slows down a peer that fails over and over.
            State::Idle => debug!(peer = self.peer(), "a connection of the peer is refused"),
            State::Active if !self.main.session.has_connection() => {
                self.main.attach(connection, local);
            }
            State::Active
            | State::Connect
            | State::OpenSent
            | State::OpenConfirm
            | State::Established => {
                let session = Session::accepted(
                    session_config(&self.config),
                    self.main.session.past(clock()),
                    seed(),
                    local,
                    clock(),
                );
                // The newest counts: there are never more than two, however many a peer opens.
                self.newcomer = Some(Leg::new(session, Some(connection)));
            }
        }
    }

    fn settle_newcomer(&mut self) {
        let Some(mut leg) = self.newcomer.take() else {
            return;
        };
        while let Some(event) = leg.session.poll_event() {
            match event {
                Event::Close { graceful: false } => leg.close(),
                Event::Close { graceful: true } => self.say_farewell(&mut leg),
                Event::Failed(reason) => debug!(peer = self.peer(), %reason, "newer connection"),
                Event::Dial | Event::StateChanged(_) => {}
            }
        }
        leg.write();
        if leg.session.state() == State::Idle {
            return;
        }
        match collision::resolve(&self.main.session, &leg.session, clock()) {
            None => self.newcomer = Some(leg),
            Some(Outcome::KeepPresent) => {
                leg.session.handle_stop(session::Stop::Collision, clock());
                self.say_farewell(&mut leg);
            }
            Some(outcome) => {
                let stop = match outcome {
                    Outcome::KeepNewcomer => session::Stop::Collision,
                    Outcome::KeepPresent | Outcome::Replace => session::Stop::Abandon,
                };
                self.main.session.handle_stop(stop, clock());
                while let Some(event) = self.main.session.poll_event() {
                    self.handle_event(event);
                }
                self.main.take_over(leg);
            }
        }
    }

    fn say_farewell(&mut self, leg: &mut Leg) {
        if let Some(farewell) = leg.take_farewell()
            && self.farewells.len() < FAREWELLS
        {
            self.farewells.spawn(farewell.say());
        }
    }

    async fn follow_intent(&mut self) {
        let config = self.intent.borrow_and_update().config.clone();
        if needs_new_session(&self.config, &config) {
            let is_same_peer = peer_address(&self.config) == peer_address(&config);
            info!(
                peer = self.peer(),
                "BGP session restarts with new parameters"
            );
            self.newcomer = None;
            self.end(if is_same_peer {
                session::Stop::Reset
            } else {
                session::Stop::Cease {
                    subcode: Cease::PeerDeconfigured,
                    text: String::new(),
                }
            })
            .await;
            let counters = *self.main.session.counters();
            let past = self.main.session.past(clock());
            self.main = Leg::new(new_session(&config, past), None);
            self.main.session.set_counters(counters);
            self.publish
                .send_modify(|status| status.address = config.peer_address);
        } else {
            self.main.session.handle_config(session_config(&config));
        }
        if self.config.options.interface != config.options.interface {
            self.discovery = discovery(&config);
        }
        self.config = config;
        let range = self.config.options.listen_range.map(|range| range.network);
        self.publish
            .send_modify(|status| status.listen_range = range);
        self.set_routes();
    }

    /// Gives the session its routes: as they are, with GRACEFUL_SHUTDOWN (RFC 8326 §4), or none.
    fn set_routes(&mut self) {
        let intent = self.intent.borrow();
        let now = clock();
        if intent.is_draining || self.last_words.is_some() {
            let wait = self.config.options.drain_wait.unwrap_or(DRAIN_WAIT);
            self.withdraw_at.get_or_insert(now + wait);
        } else {
            self.withdraw_at = None;
        }
        self.is_withdrawn = self.withdraw_at.is_some_and(|at| at <= now);
        let routes = if self.is_withdrawn {
            Default::default()
        } else {
            session_routes(&intent.routes, self.withdraw_at.is_some())
        };
        let is_partial = intent.is_partial && !self.is_withdrawn;
        self.main.session.handle_routes(routes, is_partial);
    }

    /// How the session ends; none if its routes are to be said farewell first.
    fn begin_stop(&mut self, stop: Stop) -> Option<session::Stop> {
        let negotiated = self.main.session.negotiated();
        let is_kept = negotiated.is_some_and(|negotiated| negotiated.restart.keeps);
        match stop {
            Stop::Restart => Some(session::Stop::Abandon),
            Stop::RestartOrDrain(_) if is_kept => Some(session::Stop::Abandon),
            Stop::RestartOrDrain(text) | Stop::Drain(text) => {
                let is_up = self.main.session.state() == State::Established;
                // The programs go on after the agent: there is no hurry, but nothing to wait for either, unless
                // the peer is known to need the time.
                if is_up && self.config.options.drain_wait.is_some() && !self.is_withdrawn {
                    self.last_words = Some(text);
                    self.set_routes();
                    None
                } else {
                    Some(drained(text))
                }
            }
            Stop::Deconfigured => Some(session::Stop::Cease {
                subcode: Cease::PeerDeconfigured,
                text: String::new(),
            }),
        }
    }

    async fn finish(mut self, stop: session::Stop) {
        self.newcomer = None;
        self.end(stop).await;
        status::publish(&self.main.session, &mut self.generation, &self.publish);
    }

    /// Ends the session, and returns when the peer has been told.
    async fn end(&mut self, stop: session::Stop) {
        self.main.session.handle_stop(stop, clock());
        while let Some(event) = self.main.session.poll_event() {
            self.handle_event(event);
        }
        self.take_down();
        while self.farewells.join_next().await.is_some() {}
    }

    /// Tells where the peer of an unnumbered session is, once it is found.
    fn publish_address(&self) {
        let found = self.discovery.as_ref();
        if let Some(address) = found.and_then(|_| self.main.peer_address()) {
            self.publish.send_if_modified(|status| {
                std::mem::replace(&mut status.address, address) != address
            });
        }
    }

    fn fail(&self, error: String) {
        let is_news = self.publish.borrow().last_error.as_ref() != Some(&error);
        if is_news {
            warn!(peer = self.peer(), error, "BGP session failed");
        } else {
            debug!(peer = self.peer(), error, "BGP session failed again");
        }
        self.publish
            .send_modify(|status| status.last_error = Some(error));
    }

    fn peer(&self) -> String {
        self.publish.borrow().peer.clone()
    }
}

async fn newcomer(leg: Option<&mut Leg>, buffer: &mut [u8]) -> leg::Wake {
    match leg {
        Some(leg) => leg.wake(buffer).await,
        None => pending().await,
    }
}

fn discovery(config: &SessionConfig) -> Option<Discovery> {
    config.options.interface.clone().map(Discovery::start)
}

fn new_session(config: &SessionConfig, past: Past) -> Session {
    let mut session = Session::new(session_config(config), seed(), clock());
    let profile = config.options.restart_profile;
    let window = profile.map_or(Duration::ZERO, |profile| {
        profile.restart_time() + profile.stale_time()
    });
    session.handle_restart(past, clock() + window);
    session
}

const fn drained(text: String) -> session::Stop {
    session::Stop::Cease {
        subcode: Cease::AdministrativeShutdown,
        text,
    }
}

fn seed() -> u64 {
    RandomState::new().hash_one(0_u8)
}

#[cfg(test)]
pub(super) mod tests;
