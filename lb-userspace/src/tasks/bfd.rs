//! Drives BFD on a thread of its own, with precedence over all ordinary ones.
//!
//! ```text
//!                                         ┌────────────┐
//!   sessions ──Requests, by BGPPeer─────▶ │ one thread │ ◀──UDP──▶ peers
//!   bgp, per peer ◀──BfdReport─────────── └────────────┘
//! ```
//!
//! A busy agent, or a busy node, must not look like a broken path: at 50 ms × 3 a peer gives up after 150 ms
//! of silence. So nothing else runs here, nothing is waited for but sockets and time, and where the kernel
//! allows it the thread goes before ordinary ones.
//!
//! BGP knows BFD by the reports alone, and their count of losses grows only: a loss that was made good before
//! anybody looked still ends the session.

use std::collections::BTreeMap;
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::time::{Duration, Instant};
use std::{io, thread};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use crate::model::bfd::{BfdIntent, BfdReach, BfdReport, BfdState, BfdStatus};
use crate::net::bfd_socket::{self, OpenError, ReceiveSocket, SendSocket};
use crate::net::clock;
use crate::net::realtime::{Precedence, take_precedence};
use crate::proto::bfd::packet::State;
use crate::proto::bfd::session::{Change, Config, Session};
use crate::proto::bfd::speaker::{Arrival, Endpoint, Hops, Speaker};

/// Time between attempts to open a socket.
const RETRY: Duration = Duration::from_secs(1);
/// Peers that do not answer the last word are waited for no longer.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often the counters of discarded packets are shown.
const REFRESH: Duration = Duration::from_secs(1);

/// BFD beside one BGP session.
#[derive(Clone, Debug)]
pub struct Request {
    /// The peer.
    pub peer: IpAddr,
    /// Index of the interface that a link-local peer is behind; else 0.
    pub interface: u32,
    /// Address to send from.
    pub source: Option<IpAddr>,
    /// What is to be done.
    pub intent: BfdIntent,
    /// Where to say how it is.
    pub report: watch::Sender<BfdReport>,
}

/// What is wanted, by BGPPeer.
pub type Requests = BTreeMap<String, Request>;

/// Packets that were discarded, by reason.
pub type Discards = BTreeMap<&'static str, u64>;

/// The running thread.
#[derive(Debug)]
pub struct Bfd {
    /// Packets that were discarded.
    pub discards: watch::Receiver<Discards>,
    requests: watch::Sender<Requests>,
    ended: oneshot::Receiver<()>,
}

impl Bfd {
    /// Starts the thread; it has nothing to do yet.
    ///
    /// # Errors
    /// The kernel gives no thread, or no event queue.
    pub fn start() -> io::Result<Self> {
        let (requests, wanted) = watch::channel(Requests::new());
        let (discarded, discards) = watch::channel(Discards::new());
        let (end, ended) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        thread::Builder::new()
            .name("bfd".to_owned())
            .spawn(move || {
                let _ends_with_the_thread: oneshot::Sender<()> = end;
                match take_precedence() {
                    Ok(Precedence::Realtime) => debug!("BFD runs in real time"),
                    Ok(Precedence::Nice) => info!("BFD runs with a larger share of time, not in real time"),
                    Err(error) => info!(
                        "BFD runs like any other thread, and short intervals may fail on a busy node: {error}"
                    ),
                }
                runtime.block_on(Driver::new(wanted, discarded).run());
            })?;
        Ok(Self {
            discards,
            requests,
            ended,
        })
    }

    /// Says what is wanted, all of it.
    pub fn request(&self, requests: Requests) {
        self.requests.send_replace(requests);
    }

    /// Tells all peers that BFD is down on purpose, which is no verdict on the path; returns when they know,
    /// after a second at the latest.
    pub async fn stop(self) {
        drop(self.requests);
        // It ends by being dropped.
        let _ = self.ended.await;
    }
}

/// All packets of a family and kind of session come to one socket.
type Port = (bool, Hops);

struct Driver {
    wanted: watch::Receiver<Requests>,
    discarded: watch::Sender<Discards>,
    speaker: Speaker,
    random: RandomState,
    requests: Requests,
    endpoints: BTreeMap<String, Endpoint>,
    receivers: BTreeMap<Port, Result<ReceiveSocket, String>>,
    senders: BTreeMap<Endpoint, Result<SendSocket, String>>,
    /// When to try again what failed.
    retry: Option<Instant>,
    /// When everybody has been waited for.
    end: Option<Instant>,
    shown: Instant,
}

impl Driver {
    fn new(wanted: watch::Receiver<Requests>, discarded: watch::Sender<Discards>) -> Self {
        let random = RandomState::new();
        Self {
            wanted,
            discarded,
            speaker: Speaker::new(random.hash_one(0_u8)),
            random,
            requests: Requests::new(),
            endpoints: BTreeMap::new(),
            receivers: BTreeMap::new(),
            senders: BTreeMap::new(),
            retry: None,
            end: None,
            shown: clock::now(),
        }
    }

    async fn run(mut self) {
        loop {
            let timers = [self.speaker.poll_timeout(), self.retry, self.end];
            let due = timers.into_iter().flatten().min();
            tokio::select! {
                () = readable(&self.receivers) => {}
                () = timer(due) => {}
                changed = self.wanted.changed(), if self.end.is_none() => {
                    let requests = match changed {
                        Ok(()) => self.wanted.borrow_and_update().clone(),
                        Err(_) => {
                            self.end = Some(clock::now() + FAREWELL);
                            Requests::new()
                        }
                    };
                    self.follow(requests);
                }
            }
            // Before a silence is judged, what has come is heard.
            self.receive();
            let now = clock::now();
            self.speaker.handle_timeout(now);
            if self.speaker.endpoints().count() < self.senders.len() {
                // A farewell is over, and so are its sockets.
                self.retry = Some(now);
            }
            self.open_sockets(now);
            self.send();
            self.publish(now);
            let is_idle = self.speaker.endpoints().next().is_none();
            if self.end.is_some_and(|end| is_idle || now >= end) {
                return;
            }
        }
    }

    fn follow(&mut self, requests: Requests) {
        let mut endpoints = BTreeMap::new();
        let mut sessions = BTreeMap::new();
        for (name, request) in &requests {
            let endpoint = self.endpoint(name, request);
            endpoints.insert(name.clone(), endpoint);
            // Of two BGPPeers with one address, the first counts: the path is one.
            let config = config(&request.intent, endpoint.hops);
            sessions.entry(endpoint).or_insert(config);
        }
        for (name, request) in std::mem::replace(&mut self.requests, requests) {
            if !self.requests.contains_key(&name) {
                request.report.send_modify(|report| report.status = None);
            }
        }
        self.endpoints = endpoints;
        self.speaker.handle_sessions(&sessions, clock::now());
        self.retry = Some(clock::now());
    }

    fn endpoint(&self, name: &str, request: &Request) -> Endpoint {
        let with = |hops| Endpoint {
            remote: request.peer,
            interface: request.interface,
            local: request.source,
            hops,
        };
        match request.intent.reach {
            BfdReach::SingleHop => with(Hops::Single),
            BfdReach::MultiHop => with(Hops::Multiple),
            BfdReach::AsConnected => {
                // A session that is up has proved that both ends see it alike.
                let known = self.endpoints.get(name).filter(|known| {
                    let session = self.speaker.session(known);
                    let is_up = session.is_some_and(|session| session.state().0 == State::Up);
                    is_up && **known == with(known.hops)
                });
                known.copied().unwrap_or_else(|| {
                    with(if bfd_socket::is_on_link(request.peer) {
                        Hops::Single
                    } else {
                        Hops::Multiple
                    })
                })
            }
        }
    }

    /// Sees to it that every endpoint has its sockets, and that nobody else has any.
    fn open_sockets(&mut self, now: Instant) {
        if self.retry.is_none_or(|retry| now < retry) {
            return;
        }
        let endpoints: Vec<_> = self.speaker.endpoints().copied().collect();
        self.receivers
            .retain(|port, socket| socket.is_ok() && endpoints.iter().any(|e| port_of(e) == *port));
        self.senders
            .retain(|endpoint, socket| socket.is_ok() && endpoints.contains(endpoint));
        for endpoint in &endpoints {
            let (is_v4, hops) = port_of(endpoint);
            self.receivers.entry((is_v4, hops)).or_insert_with(|| {
                ReceiveSocket::open(is_v4, hops.port()).map_err(|error| complain(&error))
            });
            self.senders.entry(*endpoint).or_insert_with(|| {
                let number = (self.random.hash_one(endpoint) & 0xffff) as u16;
                let port = endpoint.hops.port();
                let peer = match endpoint.remote {
                    IpAddr::V4(addr) => SocketAddr::from((addr, port)),
                    IpAddr::V6(addr) => SocketAddrV6::new(addr, port, 0, endpoint.interface).into(),
                };
                SendSocket::open(peer, endpoint.local, number).map_err(|error| complain(&error))
            });
        }
        let failed = self.receivers.values().any(Result::is_err)
            || self.senders.values().any(Result::is_err);
        self.retry = failed.then(|| now + RETRY);
    }

    fn receive(&mut self) {
        let now = clock::now();
        for ((_, hops), socket) in &self.receivers {
            let Ok(socket) = socket else { continue };
            socket.try_receive(|path, payload| {
                let arrival = Arrival {
                    from: path.from,
                    to: path.to,
                    interface: path.interface,
                    hops: *hops,
                    ttl: path.ttl,
                };
                self.speaker.handle_datagram(&arrival, payload, now);
            });
        }
    }

    fn send(&mut self) {
        while let Some(transmit) = self.speaker.poll_transmit() {
            let Some(Ok(socket)) = self.senders.get(&transmit.endpoint) else {
                continue;
            };
            if let Err(error) = socket.send(&transmit.payload) {
                debug!(to = %transmit.endpoint.remote, "BFD: {error}");
            }
        }
    }

    fn publish(&mut self, now: Instant) {
        while let Some((endpoint, change)) = self.speaker.poll_change() {
            let of_endpoint = |name: &&String| self.endpoints.get(*name) == Some(&endpoint);
            for name in self.requests.keys().filter(of_endpoint) {
                log(name, change);
            }
            if change.is_loss() {
                let names = self.endpoints.iter().filter(|(_, of)| **of == endpoint);
                for request in names.filter_map(|(name, _)| self.requests.get(name)) {
                    request.report.send_modify(|report| report.losses += 1);
                }
            }
        }
        for (name, endpoint) in &self.endpoints {
            let session = self.speaker.session(endpoint);
            if let Some((request, session)) = self.requests.get(name).zip(session) {
                let status = self.status(endpoint, session);
                request.report.send_if_modified(|report| {
                    let losses = report.losses;
                    let status = Some(BfdStatus { losses, ..status });
                    let is_news = report.status != status;
                    report.status = status;
                    is_news
                });
            }
        }
        if now.duration_since(self.shown) >= REFRESH {
            self.shown = now;
            let counts = self.speaker.discards().occurred();
            let counts = counts.map(|(reason, count)| (reason.name(), count));
            self.discarded.send_replace(counts.collect());
        }
    }

    fn too_far(&self, endpoint: &Endpoint, session: &Session) -> Option<String> {
        let ttl = self.speaker.low_ttl(endpoint)?;
        let minimum = session.config().minimum_ttl;
        Some(match endpoint.hops {
            Hops::Single => format!(
                "BFD packets of the peer come with TTL {ttl}, not {minimum}: is it on the same link?"
            ),
            Hops::Multiple => format!(
                "BFD packets of the peer come with TTL {ttl}, and minimumTtl is {minimum}: some routers send \
                 with 64"
            ),
        })
    }

    fn status(&self, endpoint: &Endpoint, session: &Session) -> BfdStatus {
        let (state, since) = session.state();
        let remote = session.remote();
        let detection_time = session.detection_time();
        let receiver = self.receivers.get(&port_of(endpoint));
        let sender = self.senders.get(endpoint);
        BfdStatus {
            state: word(state),
            since,
            remote_state: word(remote.state),
            local_diagnostic: session.diagnostic().name(),
            remote_diagnostic: remote.diagnostic.name(),
            transmit_interval: session.transmit_interval(),
            detection_time: (!detection_time.is_zero()).then_some(detection_time),
            is_multihop: endpoint.hops == Hops::Multiple,
            losses: 0,
            failure: receiver
                .and_then(|socket| socket.as_ref().err())
                .or_else(|| sender.and_then(|socket| socket.as_ref().err()))
                .cloned()
                .or_else(|| self.too_far(endpoint, session)),
        }
    }
}

fn config(intent: &BfdIntent, hops: Hops) -> Config {
    let profile = &intent.profile;
    Config {
        desired_min_tx: profile.transmit_interval,
        required_min_rx: profile.receive_interval,
        detect_multiplier: profile.detect_multiplier,
        is_passive: profile.is_passive,
        minimum_ttl: match hops {
            // RFC 5881 §5.
            Hops::Single => u8::MAX,
            Hops::Multiple => profile.minimum_ttl,
        },
    }
}

const fn port_of(endpoint: &Endpoint) -> Port {
    (endpoint.remote.is_ipv4(), endpoint.hops)
}

const fn word(state: State) -> BfdState {
    match state {
        State::AdminDown => BfdState::AdminDown,
        State::Down => BfdState::Down,
        State::Init => BfdState::Init,
        State::Up => BfdState::Up,
    }
}

fn complain(error: &OpenError) -> String {
    let source = match error {
        OpenError::Receive { source, .. } | OpenError::Send { source, .. } => source,
    };
    let text = format!("{error}: {source}");
    warn!("BFD: {text}; trying on");
    text
}

fn log(peer: &str, change: Change) {
    let (from, to) = (change.from.name(), change.to.name());
    let cause = change.cause;
    if change.is_loss() {
        warn!(peer, ?cause, "BFD: the path to the peer is lost");
    } else {
        info!(peer, ?cause, "BFD session was {from}, is {to}");
    }
}

async fn readable(receivers: &BTreeMap<Port, Result<ReceiveSocket, String>>) {
    let sockets = receivers.values().filter_map(|socket| socket.as_ref().ok());
    let mut waiting: FuturesUnordered<_> = sockets.map(ReceiveSocket::readable).collect();
    if waiting.next().await.is_none() {
        pending().await
    }
}

async fn timer(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}
