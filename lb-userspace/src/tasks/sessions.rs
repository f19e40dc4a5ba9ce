//! Starts and ends BGP sessions, and gives each the routes that it may announce
//! by now.
//!
//! Follows what is programmed, not what is desired: a router that learns an address sends packets for it
//! at once. While the maps refuse writes no route is added; withdrawals go out all the same.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::future::{join_all, pending, select_all};
use ipnet::IpNet;
use tokio::sync::{oneshot, watch};
use tracing::info;

use super::bfd::{self, Bfd};
use super::bgp::listener::Doors;
use super::bgp::{Peer, Stop};
use super::datapath::Programmed;
use crate::model::bfd::BfdStatus;
use crate::model::intent::{RouteAttributes, SessionIntent};
use crate::model::session_status::{SessionState, SessionStatus};
use crate::model::status::{BfdSessionStatus, SessionReport};
use crate::net::clock;
use crate::proto::bgp::retention::Past;

/// Where to read what each session does, by BGPPeer.
pub type SessionBook = BTreeMap<String, watch::Receiver<SessionStatus>>;

/// The sessions of this node.
#[derive(Debug)]
pub struct Sessions {
    running: BTreeMap<String, Running>,
    doors: Doors,
    past: Past,
    book: watch::Sender<SessionBook>,
    bfd: Bfd,
}

#[derive(Debug)]
struct Running {
    intent: watch::Sender<SessionIntent>,
    peer: Peer,
}

impl Sessions {
    /// None yet; `book` says where to read about those to come, `past` whether there were some before, `bfd`
    /// watches the paths to their peers.
    pub fn new(book: watch::Sender<SessionBook>, past: Past, bfd: Bfd) -> Self {
        Self {
            running: BTreeMap::new(),
            doors: Doors::default(),
            past,
            book,
            bfd,
        }
    }

    /// Runs until told to stop, or until nothing more is programmed; then ends the sessions, and returns when
    /// the peers have been told.
    pub async fn run(
        mut self,
        mut programmed: watch::Receiver<Option<Programmed>>,
        mut stop: oneshot::Receiver<Stop>,
    ) {
        let stop = loop {
            tokio::select! {
                changed = programmed.changed() => {
                    if changed.is_err() {
                        break Stop::RestartOrDrain(LAST_WORDS.to_owned());
                    }
                    let now = programmed.borrow_and_update().clone();
                    if let Some(programmed) = now {
                        self.follow(&programmed).await;
                    }
                }
                told = &mut stop => {
                    break told.unwrap_or_else(|_| Stop::RestartOrDrain(LAST_WORDS.to_owned()));
                }
            }
        };
        self.doors.follow(std::iter::empty());
        let sessions = std::mem::take(&mut self.running);
        if !sessions.is_empty() {
            info!(sessions = sessions.len(), ?stop, "ending BGP sessions");
        }
        end(sessions.into_values(), &stop).await;
        self.bfd.stop().await;
    }

    async fn follow(&mut self, programmed: &Programmed) {
        let wanted = &programmed.desired.intent.sessions;
        let gone = self
            .running
            .extract_if(.., |name, _| !wanted.contains_key(name));
        let gone: Vec<_> = gone.map(|(_, running)| running).collect();
        for (name, session) in wanted {
            match self.running.get(name) {
                Some(running) => {
                    running.intent.send_if_modified(|current| {
                        let next = released(session, programmed, &current.routes);
                        let changed = *current != next;
                        *current = next;
                        changed
                    });
                }
                None => {
                    let first = released(session, programmed, &BTreeMap::new());
                    let (intent, follower) = watch::channel(first);
                    let peer = Peer::spawn_again(name.clone(), follower, self.past);
                    self.running.insert(name.clone(), Running { intent, peer });
                }
            }
        }
        self.book.send_replace(
            self.running
                .iter()
                .map(|(name, running)| (name.clone(), running.peer.status.clone()))
                .collect(),
        );
        self.bfd.request(self.requests());
        let guests = self.running.iter().filter_map(|(name, running)| {
            let session = wanted.get(name)?;
            Some((&session.config, &running.peer.incoming))
        });
        self.doors.follow(guests);
        end(gone.into_iter(), &Stop::Deconfigured).await;
    }

    fn requests(&self) -> bfd::Requests {
        let request = |running: &Running| {
            let intent = running.intent.borrow();
            // The address of an unnumbered peer is not known here.
            if intent.config.peer_address.is_unspecified() {
                return None;
            }
            Some(bfd::Request {
                peer: intent.config.peer_address,
                interface: 0,
                source: intent.config.source_address,
                intent: intent.bfd.clone()?,
                report: running.peer.bfd.clone(),
            })
        };
        let wanted = self.running.iter();
        wanted
            .filter_map(|(name, running)| Some((name.clone(), request(running)?)))
            .collect()
    }
}

/// What peers are told by an agent that ends for a reason of its own.
const LAST_WORDS: &str = "torline stops";

/// Ends sessions side by side.
async fn end(sessions: impl Iterator<Item = Running>, stop: &Stop) {
    let ends = sessions.map(|Running { intent, peer }| async move {
        peer.stop(stop.clone()).await;
        // Not before: a session whose intent is closed ends without a word.
        drop(intent);
    });
    join_all(ends).await;
}

/// A session's intent with the routes that may be announced: all of them, but none for an address that
/// the programs refuse to serve, and no additional one while the maps refuse writes.
fn released(
    session: &SessionIntent,
    programmed: &Programmed,
    announced: &BTreeMap<IpNet, RouteAttributes>,
) -> SessionIntent {
    let mut released = session.clone();
    released.is_partial |= programmed.failure.is_some();
    released.routes.retain(|prefix, _| {
        let is_waiting = programmed.failure.is_some() && !announced.contains_key(prefix);
        !is_waiting && !is_refused(*prefix, programmed)
    });
    released
}

/// Whether the route leads to one address, some of whose frontends are refused and none served.
fn is_refused(prefix: IpNet, programmed: &Programmed) -> bool {
    let addr: IpAddr = prefix.addr();
    prefix.prefix_len() == prefix.max_prefix_len()
        && programmed.refused.iter().any(|(name, _)| name.addr == addr)
        && !programmed
            .layout
            .frontends()
            .any(|(name, _)| name.addr == addr)
}

/// Waits until a session is up.
pub(super) async fn any_established(mut book: watch::Receiver<SessionBook>) {
    loop {
        let mut all: Vec<_> = book.borrow_and_update().values().cloned().collect();
        let up = all.iter_mut().map(|status| {
            Box::pin(status.wait_for(|status| status.state == SessionState::Established))
        });
        let first_up = async {
            let mut waiting: Vec<_> = up.collect();
            while !waiting.is_empty() {
                let (found, _, rest) = select_all(waiting).await;
                if found.is_ok() {
                    return;
                }
                waiting = rest;
            }
            // All have ended: there will be others.
            pending().await
        };
        tokio::select! {
            () = first_up => return,
            changed = book.changed() => if changed.is_err() { pending::<()>().await },
        }
    }
}

/// What the sessions do now.
pub(super) fn report(book: &SessionBook) -> Vec<SessionReport> {
    let now = clock::now();
    book.values()
        .map(|status| one(&status.borrow(), now))
        .collect()
}

fn one(status: &SessionStatus, now: Instant) -> SessionReport {
    SessionReport {
        peer: status.peer.clone(),
        address: status.address.to_string(),
        state: state(status.state).to_owned(),
        uptime_seconds: status.uptime(now).map(|uptime| uptime.as_secs()),
        hold_time_seconds: status.hold_time,
        routes: status.routes.iter().map(ToString::to_string).collect(),
        not_announced: status.not_announced.clone(),
        received_refused: status.received_refused,
        last_error: status.last_error.clone(),
        bfd: status.bfd.as_ref().map(|bfd| beside(bfd, now)),
    }
}

fn beside(bfd: &BfdStatus, now: Instant) -> BfdSessionStatus {
    let milliseconds = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    BfdSessionStatus {
        state: bfd.state.name().to_owned(),
        since_seconds: now.saturating_duration_since(bfd.since).as_secs(),
        remote_state: bfd.remote_state.name().to_owned(),
        local_diag: bfd.local_diagnostic.to_owned(),
        remote_diag: bfd.remote_diagnostic.to_owned(),
        transmit_interval_ms: bfd.transmit_interval.map(milliseconds),
        detect_ms: bfd.detection_time.map(milliseconds),
        multihop: bfd.is_multihop,
        losses: bfd.losses,
        failure: bfd.failure.clone(),
    }
}

pub(super) const fn state(state: SessionState) -> &'static str {
    match state {
        SessionState::Idle => "idle",
        SessionState::Connect => "connect",
        SessionState::Active => "active",
        SessionState::OpenSent => "open_sent",
        SessionState::OpenConfirm => "open_confirm",
        SessionState::Established => "established",
    }
}
