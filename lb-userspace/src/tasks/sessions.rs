//! Starts and ends BGP sessions, and gives each the routes that it may announce
//! by now.
//!
//! Follows what is programmed, not what is desired: a router that learns an address sends packets for it
//! at once. While the maps refuse writes no route is added; withdrawals go out all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::{join_all, pending, select_all};
use ipnet::IpNet;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tracing::info;

use self::visitor::Visitor;
use super::bfd::{self, Bfd};
use super::bgp::listener::{Doors, Invitation, Stranger};
use super::bgp::tap::Tap;
use super::bgp::{Peer, Stop};
use super::datapath::Programmed;
use crate::model::bfd::BfdStatus;
use crate::model::intent::{RouteAttributes, SessionIntent};
use crate::model::session_status::{SessionState, SessionStatus};
use crate::model::status::{BfdSessionStatus, SessionReport};
use crate::net::clock;
use crate::proto::bgp::retention::Past;

mod visitor;

/// Strangers that wait to be taken in.
const STRANGERS: usize = 16;

/// Where to read what each session does, by BGPPeer; peers of a listen range follow it as `BGPPeer/address`.
pub type SessionBook = BTreeMap<String, Entry>;

/// Where to read what one session does.
#[derive(Clone, Debug)]
pub struct Entry {
    /// In short.
    pub status: watch::Receiver<SessionStatus>,
    /// Message by message.
    pub tap: Tap,
}

/// The sessions of this node.
#[derive(Debug)]
pub struct Sessions {
    running: BTreeMap<String, Running>,
    doors: Doors,
    strangers: mpsc::Receiver<Stranger>,
    /// Each ends when the visitor of that name has not been connected for long.
    absences: JoinSet<Option<String>>,
    past: Past,
    book: watch::Sender<SessionBook>,
    bfd: Bfd,
    /// What was followed last, if nothing stood in the way of its routes.
    followed: Option<Arc<BTreeMap<String, SessionIntent>>>,
}

#[derive(Debug)]
struct Running {
    intent: watch::Sender<SessionIntent>,
    peer: Peer,
    /// Of a listen range.
    visitor: Option<Visitor>,
}

impl Sessions {
    /// None yet; `book` says where to read about those to come, `past` whether there were some before, `bfd`
    /// watches the paths to their peers.
    pub fn new(book: watch::Sender<SessionBook>, past: Past, bfd: Bfd) -> Self {
        let (door, strangers) = mpsc::channel(STRANGERS);
        Self {
            running: BTreeMap::new(),
            doors: Doors::new(door),
            strangers,
            absences: JoinSet::new(),
            past,
            book,
            bfd,
            followed: None,
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
                Some(stranger) = self.strangers.recv() => {
                    let now = programmed.borrow().clone();
                    if let Some(programmed) = now {
                        self.take_in(stranger, &programmed);
                    }
                }
                Some(absent) = self.absences.join_next() => {
                    let now = programmed.borrow().clone();
                    if let (Ok(Some(name)), Some(programmed)) = (absent, now) {
                        self.forget(&name, &programmed).await;
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
        let is_free = programmed.failure.is_none() && programmed.refused.is_empty();
        let is_same = |followed: &Arc<_>| Arc::ptr_eq(followed, wanted);
        if is_free && self.followed.as_ref().is_some_and(is_same) {
            return;
        }
        self.followed = is_free.then(|| Arc::clone(wanted));
        let unserved = unserved(programmed);
        let gone = self
            .running
            .extract_if(.., |name, running| !running.is_in(name, wanted));
        let gone: Vec<_> = gone.map(|(_, running)| running).collect();
        for (name, running) in &self.running {
            let Some(session) = wanted.get(running.object(name)) else {
                continue;
            };
            running.intent.send_if_modified(|current| {
                let mut next = released(session, programmed, &unserved, &current.routes);
                if let Some(visitor) = &running.visitor {
                    visitor.narrow(&mut next.config);
                }
                let changed = *current != next;
                *current = next;
                changed
            });
        }
        for (name, session) in &**wanted {
            if !self.running.contains_key(name) {
                let first = released(session, programmed, &unserved, &BTreeMap::new());
                self.start(name.clone(), first, None);
            }
        }
        self.tell(wanted);
        end(gone.into_iter(), &Stop::Deconfigured).await;
    }

    fn start(&mut self, name: String, first: SessionIntent, visitor: Option<Visitor>) {
        let (intent, follower) = watch::channel(first);
        let peer = Peer::spawn_again(name.clone(), follower, self.past);
        let running = Running {
            intent,
            peer,
            visitor,
        };
        self.running.insert(name, running);
    }

    /// Tells everybody else which sessions there are.
    fn tell(&mut self, wanted: &BTreeMap<String, SessionIntent>) {
        self.book.send_replace(
            self.running
                .iter()
                .map(|(name, running)| {
                    let entry = Entry {
                        status: running.peer.status.clone(),
                        tap: running.peer.tap.clone(),
                    };
                    (name.clone(), entry)
                })
                .collect(),
        );
        self.bfd.request(self.requests());
        let configs = self.running.iter().filter_map(|(name, running)| {
            let mut config = wanted.get(running.object(name))?.config.clone();
            if let Some(visitor) = &running.visitor {
                visitor.narrow(&mut config);
            }
            Some((name, config, &running.peer.incoming))
        });
        let configs: Vec<_> = configs.collect();
        let invitations = configs.iter().map(|(name, config, incoming)| Invitation {
            name,
            config,
            incoming,
        });
        self.doors.follow(invitations);
    }

    fn requests(&self) -> bfd::Requests {
        let request = |running: &Running| {
            let intent = running.intent.borrow();
            // The address of an unnumbered peer is not known here, and a listen range has none.
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
    let one = async |running: Running| {
        // A session whose intent is gone before it is told how to end ends without a word.
        let Running { intent, peer, .. } = running;
        peer.stop(stop.clone()).await;
        drop(intent);
    };
    join_all(sessions.map(one)).await;
}

/// A session's intent with the routes that may be announced: all of them, but none for an address that
/// the programs refuse to serve, and no additional one while the maps refuse writes.
fn released(
    session: &SessionIntent,
    programmed: &Programmed,
    unserved: &BTreeSet<IpAddr>,
    announced: &BTreeMap<IpNet, RouteAttributes>,
) -> SessionIntent {
    let mut released = session.clone();
    released.is_partial |= programmed.failure.is_some();
    released.routes.retain(|prefix, _| {
        let is_waiting = programmed.failure.is_some() && !announced.contains_key(prefix);
        !is_waiting && !is_refused(*prefix, unserved)
    });
    released
}

/// Addresses some of whose frontends are refused and none served.
fn unserved(programmed: &Programmed) -> BTreeSet<IpAddr> {
    let refused = programmed.refused.iter();
    let mut unserved: BTreeSet<IpAddr> = refused.map(|(name, _)| name.addr).collect();
    if !unserved.is_empty() {
        for (name, _) in programmed.layout.frontends() {
            unserved.remove(&name.addr);
        }
    }
    unserved
}

/// Whether the route leads to one address, and that is not served.
fn is_refused(prefix: IpNet, unserved: &BTreeSet<IpAddr>) -> bool {
    prefix.prefix_len() == prefix.max_prefix_len() && unserved.contains(&prefix.addr())
}

/// Waits until a session is up.
pub(super) async fn any_established(mut book: watch::Receiver<SessionBook>) {
    loop {
        let mut all: Vec<_> = book.borrow_and_update().values().cloned().collect();
        let up = all.iter_mut().map(|entry| {
            Box::pin(
                entry
                    .status
                    .wait_for(|status| status.state == SessionState::Established),
            )
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
        .map(|entry| one(&entry.status.borrow(), now))
        .collect()
}

fn one(status: &SessionStatus, now: Instant) -> SessionReport {
    SessionReport {
        peer: status.peer.clone(),
        address: status.place(),
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

#[cfg(test)]
mod tests;
