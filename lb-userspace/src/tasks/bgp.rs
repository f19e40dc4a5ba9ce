//! Drives one BGP session: dials, moves bytes, tells the time.
//!
//! ```text
//!   SessionIntent ──watch──▶ ┌────────────┐ ──watch──▶ SessionStatus
//!   Stop ─────────oneshot──▶ │ one task   │ ◀──TCP──▶ peer
//!                            └────────────┘
//! ```
//!
//! Both watches hold only the latest value, so a slow peer or reader costs nothing. The task owns the session
//! and the connection; nothing is shared.

use std::future::{Future, pending};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::pin::Pin;
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep_until, timeout};
use tracing::{debug, info, warn};

use self::parameters::{dial_key, dial_options, peer_address, session_config, session_routes};
use self::path::Path;
use crate::model::bfd::BfdReport;
use crate::model::intent::{SessionConfig, SessionIntent};
use crate::model::session_status::{SessionState, SessionStatus};
use crate::net::bgp_socket::{Connection, DialError};
use crate::proto::bgp::fsm::State;
use crate::proto::bgp::notification::Cease;
use crate::proto::bgp::reason::Reason;
use crate::proto::bgp::session::{self, Event, Session, Withheld};

mod parameters;
mod path;

/// Time for the last messages of a session to leave, and for the peer to close.
const LINGER: Duration = Duration::from_secs(1);
/// Octets per read.
const READ_SIZE: usize = 64 * 1024;

/// How a session is to end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// Close without a word: the agent is about to come back, and a helping peer keeps the routes.
    Restart,
    /// Withdraw everything, then Cease with a text for the peer's operator.
    Drain(String),
    /// The peer is no longer configured.
    Deconfigured,
}

/// A running session.
#[derive(Debug)]
pub struct Peer {
    /// What the session is doing.
    pub status: watch::Receiver<SessionStatus>,
    /// Where to say how BFD beside the session is.
    pub bfd: watch::Sender<BfdReport>,
    stop: oneshot::Sender<Stop>,
    task: JoinHandle<()>,
}

impl Peer {
    /// Starts the session of a BGPPeer. It follows `intent`: routes change under a running session, parameters
    /// reset it only where they must. It ends when [`stopped`](Self::stop), or as [`Stop::Restart`] when this
    /// value or the sender of `intent` is dropped.
    pub fn spawn(name: String, intent: watch::Receiver<SessionIntent>) -> Self {
        let (stop, stopped) = oneshot::channel();
        let (publish, status) = {
            let address = intent.borrow().config.peer_address;
            watch::channel(SessionStatus::new(name, address, clock()))
        };
        let (bfd, path) = watch::channel(BfdReport::default());
        let task = tokio::spawn(Driver::new(intent, publish, path).run(stopped));
        Self {
            status,
            bfd,
            stop,
            task,
        }
    }

    /// Ends the session; returns when the peer has been told, or after two seconds at the latest.
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

type Dialing = Pin<Box<dyn Future<Output = Result<Connection, DialError>> + Send>>;

struct Driver {
    intent: watch::Receiver<SessionIntent>,
    publish: watch::Sender<SessionStatus>,
    path: Path,
    config: SessionConfig,
    session: Session,
    dialing: Option<Dialing>,
    connection: Option<Connection>,
    unsent: Bytes,
}

/// What woke the task.
enum Wake {
    Stopped(Stop),
    IntentChanged,
    IntentClosed,
    PathChanged,
    Dialed(Result<Connection, DialError>),
    Read(io::Result<usize>),
    Writable,
    Timeout,
}

impl Driver {
    fn new(
        mut intent: watch::Receiver<SessionIntent>,
        publish: watch::Sender<SessionStatus>,
        path: watch::Receiver<BfdReport>,
    ) -> Self {
        let SessionIntent { config, routes, .. } = intent.borrow_and_update().clone();
        let mut session = Session::new(session_config(&config), seed(), clock());
        session.handle_routes(session_routes(&routes));
        Self {
            intent,
            publish,
            path: Path::new(path),
            config,
            session,
            dialing: None,
            connection: None,
            unsent: Bytes::new(),
        }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<Stop>) {
        let mut buffer = vec![0; READ_SIZE];
        loop {
            self.settle().await;
            let wake = tokio::select! {
                stop = &mut stopped => Wake::Stopped(stop.unwrap_or(Stop::Restart)),
                changed = self.intent.changed() => match changed {
                    Ok(()) => Wake::IntentChanged,
                    Err(_) => Wake::IntentClosed,
                },
                () = self.path.changed() => Wake::PathChanged,
                dialed = ready(&mut self.dialing) => Wake::Dialed(dialed),
                read = read(self.connection.as_ref(), &mut buffer) => Wake::Read(read),
                () = writable(self.connection.as_ref(), &self.unsent) => Wake::Writable,
                () = timer(self.session.poll_timeout().map(|(at, _)| at)) => Wake::Timeout,
            };
            match wake {
                Wake::Stopped(stop) => return self.stop(stop).await,
                Wake::IntentClosed => return self.stop(Stop::Restart).await,
                Wake::IntentChanged => self.follow_intent().await,
                Wake::PathChanged => self.follow_path(),
                Wake::Dialed(result) => self.dialed(result),
                Wake::Read(Ok(length @ 1..)) => {
                    self.session
                        .handle_bytes(buffer.get(..length).unwrap_or_default(), clock());
                }
                Wake::Read(Ok(0) | Err(_)) => self.session.handle_disconnected(clock()),
                // What there is to write is written while settling.
                Wake::Writable => {}
                Wake::Timeout => self.session.handle_timeout(clock()),
            }
        }
    }

    /// Does what the session asks for until it asks for nothing more, then publishes its status.
    async fn settle(&mut self) {
        loop {
            while let Some(event) = self.session.poll_event() {
                self.handle_event(event).await;
            }
            if !self.write() {
                break;
            }
        }
        self.publish_status();
    }

    async fn handle_event(&mut self, event: Event) {
        match event {
            Event::Dial => {
                let options = dial_options(&self.config);
                let proven = self.await_path();
                self.dialing = Some(Box::pin(async move {
                    proven.await;
                    Connection::dial(&options).await
                }));
            }
            Event::Close { graceful } => {
                self.dialing = None;
                let unsent = std::mem::take(&mut self.unsent);
                if let Some(connection) = self.connection.take().filter(|_| graceful) {
                    // The session is over for whoever asks, though its last words are still under way.
                    self.publish_status();
                    self.linger(connection, unsent).await;
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

    /// Delivers the last messages of a connection, within [`LINGER`].
    async fn linger(&mut self, connection: Connection, mut unsent: Bytes) {
        let session = &mut self.session;
        let deliver = async {
            loop {
                while !unsent.is_empty() {
                    let written = connection.try_write(&unsent)?;
                    unsent.advance(written);
                    if written == 0 {
                        connection.writable().await?;
                    }
                }
                match session.poll_transmit() {
                    Some(message) => unsent = message,
                    None => return connection.drain().await,
                }
            }
        };
        match timeout(LINGER, deliver).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, "the peer closed before it had read everything"),
            Err(_) => debug!("the peer did not close in time"),
        }
        // A peer that took nothing must not hear it on the next connection.
        while self.session.poll_transmit().is_some() {}
    }

    /// Writes until there is nothing to write or the connection is full; says whether the session may have
    /// something to say about it.
    fn write(&mut self) -> bool {
        let Some(connection) = &self.connection else {
            return false;
        };
        loop {
            if self.unsent.is_empty() {
                match self.session.poll_transmit() {
                    Some(message) => self.unsent = message,
                    None => return false,
                }
            }
            match connection.try_write(&self.unsent) {
                Ok(0) => {
                    self.session.handle_blocked(clock());
                    return false;
                }
                Ok(written) => {
                    self.unsent.advance(written);
                    self.session.handle_written();
                }
                Err(_) => {
                    self.session.handle_disconnected(clock());
                    return true;
                }
            }
        }
    }

    fn dialed(&mut self, result: Result<Connection, DialError>) {
        self.dialing = None;
        let connected = result.and_then(|connection| match connection.local_address() {
            Ok(local) => Ok((connection, local)),
            Err(source) => Err(DialError::Connect {
                peer: peer_address(&self.config),
                source,
            }),
        });
        match connected {
            Ok((connection, local)) => {
                self.connection = Some(connection);
                self.session.handle_connected(local, clock());
            }
            Err(error) => {
                self.fail(explain(&error));
                self.session.handle_disconnected(clock());
            }
        }
    }

    async fn follow_intent(&mut self) {
        let SessionIntent { config, routes, .. } = self.intent.borrow_and_update().clone();
        let parameters = session_config(&config);
        let before = session_config(&self.config);
        if before.needs_new_open(&parameters) || dial_key(&self.config) != dial_key(&config) {
            let is_same_peer = peer_address(&self.config) == peer_address(&config);
            let subcode = if is_same_peer {
                Cease::OtherConfigurationChange
            } else {
                Cease::PeerDeconfigured
            };
            info!(
                peer = self.peer(),
                "BGP session restarts with new parameters"
            );
            self.finish(session::Stop::Cease {
                subcode,
                text: String::new(),
            })
            .await;
            self.session = Session::new(parameters, seed(), clock());
            self.publish
                .send_modify(|status| status.address = config.peer_address);
        } else {
            self.session.handle_config(parameters);
        }
        self.config = config;
        self.session.handle_routes(session_routes(&routes));
    }

    async fn stop(mut self, stop: Stop) {
        self.finish(match stop {
            Stop::Restart => session::Stop::Abandon,
            Stop::Drain(text) => session::Stop::Cease {
                subcode: Cease::AdministrativeShutdown,
                text,
            },
            Stop::Deconfigured => session::Stop::Cease {
                subcode: Cease::PeerDeconfigured,
                text: String::new(),
            },
        })
        .await;
    }

    async fn finish(&mut self, stop: session::Stop) {
        self.session.handle_stop(stop, clock());
        while let Some(event) = self.session.poll_event() {
            self.handle_event(event).await;
        }
        self.publish_status();
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

    fn publish_status(&self) {
        let negotiated = self.session.negotiated();
        let adj_out = self.session.adj_out();
        let (notifications_sent, notifications_received) = self.session.notifications();
        let families = negotiated
            .iter()
            .flat_map(|n| &n.families)
            .map(ToString::to_string)
            .collect();
        self.publish.send_if_modified(|status| {
            let mut changed = set(
                &mut status.hold_time,
                negotiated.map(|n| n.hold_time.as_secs()),
            );
            changed |= set(&mut status.peer_asn, negotiated.map(|n| n.peer_asn));
            changed |= set(
                &mut status.peer_router_id,
                negotiated.map(|n| n.peer_router_id),
            );
            changed |= set(&mut status.families, families);
            changed |= set(&mut status.not_announced, not_announced(&self.session));
            changed |= set(
                &mut status.received_refused,
                self.session.received_refused(),
            );
            changed |= set(&mut status.notifications_sent, notifications_sent);
            changed |= set(&mut status.notifications_received, notifications_received);
            if !status.routes.iter().eq(adj_out.sent().keys()) {
                status.routes = adj_out.sent().keys().copied().collect();
                changed = true;
            }
            changed
        });
    }
}

fn set<T: PartialEq>(field: &mut T, value: T) -> bool {
    let changed = *field != value;
    *field = value;
    changed
}

fn not_announced(session: &Session) -> Vec<String> {
    let withheld = session.withheld().map(|(family, why)| match why {
        Withheld::NotOffered => format!("{family}: the peer does not offer it on this session"),
        Withheld::NoNextHop => {
            format!("{family}: this node has no address of that family as next hop")
        }
    });
    let oversized = session.adj_out().oversized().iter();
    let oversized =
        oversized.map(|prefix| format!("{prefix}: its communities do not fit into a message"));
    withheld.chain(oversized).collect()
}

async fn ready(dialing: &mut Option<Dialing>) -> Result<Connection, DialError> {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}

async fn read(connection: Option<&Connection>, buffer: &mut [u8]) -> io::Result<usize> {
    match connection {
        Some(connection) => connection.read(buffer).await,
        None => pending().await,
    }
}

/// Waits for room only if there is something to write. A broken connection is for the reader to report.
async fn writable(connection: Option<&Connection>, unsent: &Bytes) {
    match connection.filter(|_| !unsent.is_empty()) {
        Some(connection) if connection.writable().await.is_ok() => {}
        _ => pending().await,
    }
}

async fn timer(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

fn seed() -> u64 {
    RandomState::new().hash_one(0_u8)
}

const fn session_state(state: State) -> SessionState {
    match state {
        State::Idle => SessionState::Idle,
        State::Connect => SessionState::Connect,
        State::Active => SessionState::Active,
        State::OpenSent => SessionState::OpenSent,
        State::OpenConfirm => SessionState::OpenConfirm,
        State::Established => SessionState::Established,
    }
}

/// A failed dial, its cause, and what to do about it.
fn explain(error: &DialError) -> String {
    let (source, hint) = match error {
        DialError::Option { source, .. } => (source, ""),
        DialError::Source { source, .. } => {
            (source, "; sourceAddress must be an address of this node")
        }
        DialError::Connect { source, .. } => (
            source,
            match source.kind() {
                io::ErrorKind::ConnectionRefused => {
                    "; is BGP running there and is this node configured as neighbour?"
                }
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                    "; is there a route to it? A peer more than one hop away needs ebgpMultiHop"
                }
                io::ErrorKind::TimedOut => "; is it reachable, with the same password?",
                io::ErrorKind::AddrNotAvailable => "; this node has no address to reach it from",
                _ => "",
            },
        ),
    };
    // The kernel's words without Rust's "(os error 111)".
    let text = source.to_string();
    let cause = text
        .split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase();
    format!("{error}: {cause}{hint}")
}

#[cfg(test)]
mod tests;
