//! Speaks with the agents of all other nodes about flows: where they are, and
//! what slots remember. `gossip` keeps the list of those agents.
//!
//! `proto::peer` says what is said; this joins it to the programs' events, the maps and the sockets. What the
//! programs tell, and what peers say, becomes exceptions. Before the maps change, [`Council`] has the flows
//! pushed that their slots are about to forget (`stray` finds them), and the history fetched of frontends that are
//! new here while others serve them.

mod council;
mod gossip;
mod name;
mod stray;

use std::collections::{BTreeMap, HashMap};
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::siphash::key_from_secret;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until};
use tracing::{debug, info, warn};

pub use self::council::{Change, Council, channel};
pub use self::gossip::{Called, Gossip, Roster};
use self::stray::Stray;
use super::control::Desired;
use super::datapath::Programmed;
use super::liveness::{self, Members};
use crate::datapath::events::{Events, Told};
use crate::datapath::flows::{FlowName, FlowWalk, Flows};
use crate::model::cluster::Family;
use crate::model::segment::Segment;
use crate::model::status::PeerStatus;
use crate::net::clock;
use crate::net::peer_socket::PeerSocket;
use crate::plan::PUBLIC_PEER_KEY;
use crate::plan::layout::{Forgotten, Heritage, Layout, Scope};
use crate::proto::liveness::State;
use crate::proto::peer::{Action, Fetch, Holder, Located, Member, PORT, Peer, Presence, Reason};
use crate::telemetry::chain;

/// How often sockets that could not be opened are tried again.
const RETRY: Duration = Duration::from_secs(1);
/// Events that are read in a row, so that other work has its turn.
const TURN: usize = 512;
/// Longer than a question is open.
const QUESTION: Duration = Duration::from_secs(1);

/// What the task reads.
#[derive(Debug)]
pub struct Inputs {
    /// Who the other nodes are, and the key.
    pub desired: watch::Receiver<Arc<Desired>>,
    /// What the maps hold.
    pub programmed: watch::Receiver<Option<Programmed>>,
    /// The compute port.
    pub segment: watch::Receiver<Segment>,
    /// Which other nodes live.
    pub members: watch::Receiver<Members>,
    /// What the maps are about to hold.
    pub changes: mpsc::Receiver<Change>,
}

/// The task's own things.
pub struct Speaker {
    node: String,
    flows: Flows,
    walk: Arc<FlowWalk>,
    peer: Peer,
    gossip: Gossip,
    known: BTreeMap<String, Member>,
    /// IPv4, IPv6.
    sockets: [Option<PeerSocket>; 2],
    forgotten: Forgotten,
    /// A change was announced before.
    has_begun: bool,
    walks: JoinSet<Option<Walked>>,
    waiting: Option<Waiting>,
    /// Flows of which an exception was made lately, and when.
    excepted: HashMap<FlowName, Instant>,
    status: PeerStatus,
    /// What was logged last, and when.
    logged: (Instant, PeerStatus),
    complaint: Option<String>,
}

/// A change that is not to be made yet.
struct Waiting {
    answer: oneshot::Sender<Vec<Heritage>>,
    /// Until when pushed flows are waited for.
    push: Instant,
    fetch: Option<(Fetch, Instant)>,
}

impl Speaker {
    /// Of this node.
    pub fn new(node: String, flows: Flows, walk: FlowWalk, gossip: Gossip) -> Self {
        let random = RandomState::new();
        let seed = [random.hash_one(0_u8), random.hash_one(1_u8)];
        Self {
            node,
            flows,
            walk: Arc::new(walk),
            peer: Peer::new(key_from_secret(&PUBLIC_PEER_KEY), seed),
            gossip,
            known: BTreeMap::new(),
            sockets: [None, None],
            forgotten: Forgotten::default(),
            has_begun: false,
            walks: JoinSet::new(),
            waiting: None,
            excepted: HashMap::new(),
            status: PeerStatus::default(),
            logged: (clock::now(), PeerStatus::default()),
            complaint: None,
        }
    }

    /// Runs until an input ends.
    ///
    /// # Errors
    /// The programs' events cannot be waited for.
    pub async fn run(
        mut self,
        events: Events,
        mut inputs: Inputs,
        output: watch::Sender<PeerStatus>,
    ) -> io::Result<()> {
        if let Err(error) = self.flows.doubt_all() {
            warn!("exceptions: {}", chain(&error));
        }
        #[expect(
            deprecated,
            reason = "the descriptor is the map's own and stays; the other way takes unsafe code"
        )]
        let mut events = AsyncFd::new(events)?;
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_stale = true;
        loop {
            let due = self.poll_timeout();
            let [v4, v6] = &self.sockets;
            tokio::select! {
                () = wait_until(due) => {}
                () = readable(v4.as_ref()) => {}
                () = readable(v6.as_ref()) => {}
                Some(walked) = self.walks.join_next() => self.push(walked.ok().flatten()),
                ready = events.readable_mut() => {
                    let mut ready = ready?;
                    if self.read_events(ready.get_inner_mut(), &inputs) {
                        ready.clear_ready();
                    }
                }
                change = inputs.changes.recv() => match change {
                    Some(change) => self.await_change(change, &inputs),
                    None => return Ok(()),
                },
                changed = inputs.desired.changed() => match changed {
                    Ok(()) => is_stale = true,
                    Err(_) => return Ok(()),
                },
                changed = inputs.members.changed() => match changed {
                    Ok(()) => is_stale = true,
                    Err(_) => return Ok(()),
                },
                _ = retry.tick() => {
                    is_stale = true;
                    let now = clock::now();
                    self.excepted.retain(|_, at| now.duration_since(*at) < QUESTION);
                }
            }
            let now = clock::now();
            if std::mem::take(&mut is_stale) {
                self.follow(&mut inputs, now);
            }
            if inputs.programmed.borrow().is_some() {
                self.peer.set_ready();
            }
            self.receive(now);
            self.settle(now);
            if self.peer.poll_timeout().is_some_and(|due| due <= now) {
                self.peer.handle_timeout(now);
            }
            self.act(&inputs, now);
            self.gossip.proceed(&mut self.peer, now);
            self.send();
            self.publish(&output, now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let waiting = self.waiting.iter().flat_map(|waiting| {
            let fetch = waiting.fetch.iter();
            let fetch =
                fetch.flat_map(|(fetch, until)| fetch.poll_timeout().into_iter().chain([*until]));
            fetch.chain((waiting.push > clock::now()).then_some(waiting.push))
        });
        let gossip = self.gossip.poll_timeout();
        waiting
            .chain(self.peer.poll_timeout())
            .chain([gossip])
            .min()
    }

    /// Takes over who the others are, whether they live, and this node's addresses.
    fn follow(&mut self, inputs: &mut Inputs, now: Instant) {
        let desired = Arc::clone(&inputs.desired.borrow_and_update());
        let intent = &desired.intent.dataplane;
        if desired.revision == 0 {
            return;
        }
        self.peer.set_key(key_from_secret(&intent.peer_key));
        let members = inputs.members.borrow_and_update();
        let others = intent.nodes.iter().filter(|(name, _)| **name != self.node);
        let known = others.map(|(name, node)| {
            let (state, heard) = match members.nodes.get(name) {
                Some((state, heard)) => (*state, *heard),
                // Without an address it cannot be asked.
                None if node.addresses.is_empty() => (State::AgentAway, None),
                None => (State::Unheard, None),
            };
            let mut addresses = node.addresses.clone();
            // Where it was heard last, it is likely to hear.
            addresses.sort_by_key(|addr| heard.is_none_or(|heard| heard.from != *addr));
            let presence = match state {
                State::Live | State::Unheard => Presence::Live,
                State::AgentAway => Presence::Away,
                State::Gone => Presence::Gone,
            };
            (
                name.clone(),
                Member {
                    addresses,
                    presence,
                },
            )
        });
        let mut known: BTreeMap<String, Member> = known.collect();
        self.gossip.follow(&mut known, &members, now);
        if known != self.known {
            if let Some((fetch, _)) = self
                .waiting
                .as_mut()
                .and_then(|waiting| waiting.fetch.as_mut())
            {
                for name in known.keys() {
                    if known
                        .get(name)
                        .is_some_and(|member| member.presence != Presence::Live)
                    {
                        fetch.handle_loss(name);
                    }
                }
            }
            self.known.clone_from(&known);
            self.peer.set_members(known, now);
        }
        drop(members);
        let segment = inputs.segment.borrow();
        let wanted = [Family::V4, Family::V6]
            .map(|family| liveness::source(&intent.addresses, &segment, family));
        self.open_sockets(wanted);
        let addresses: Vec<IpAddr> = wanted.into_iter().flatten().collect();
        self.gossip.set_addresses(&addresses, now);
    }

    fn open_sockets(&mut self, wanted: [Option<IpAddr>; 2]) {
        for (socket, wanted) in self.sockets.iter_mut().zip(wanted) {
            if socket.as_ref().map(PeerSocket::address) == wanted {
                continue;
            }
            *socket = None;
            let Some(address) = wanted else { continue };
            match PeerSocket::open(SocketAddr::new(address, PORT)) {
                Ok(open) => {
                    debug!(%address, "speaking from");
                    *socket = Some(open);
                    self.complaint = None;
                }
                Err(error) => {
                    let text = chain(&error);
                    if self.complaint.as_ref() != Some(&text) {
                        warn!("{text}; trying on");
                    }
                    self.complaint = Some(text);
                }
            }
        }
        let [v4, v6] = &self.sockets;
        let address = |socket: &Option<PeerSocket>| socket.as_ref().map(PeerSocket::address);
        self.peer.set_own([address(v4), address(v6)]);
    }

    fn receive(&mut self, now: Instant) {
        let peer = &mut self.peer;
        for socket in self.sockets.iter().flatten() {
            let to = socket.address();
            socket.try_receive(|from, payload| peer.handle_datagram(from.ip(), to, payload, now));
        }
    }

    fn send(&mut self) {
        while let Some(transmit) = self.peer.poll_transmit() {
            let mut sockets = self.sockets.iter().flatten();
            let socket = sockets.find(|socket| socket.address() == transmit.from);
            let sent = socket.map(|socket| socket.try_send(&transmit.payload, transmit.to));
            if let Some(Err(error)) = sent {
                debug!(to = %transmit.to, "peer: {error}");
            }
        }
    }

    /// Reads what the programs say; whether that was all.
    fn read_events(&mut self, events: &mut Events, inputs: &Inputs) -> bool {
        let now = clock::now();
        let layout = layout(inputs);
        for _ in 0..TURN {
            match events.next_told() {
                None => return true,
                Some(Told::Unknown { flow, origin }) => {
                    self.peer
                        .handle_unknown(name::flow_on_wire(&flow), origin, now);
                }
                Some(Told::Chain {
                    flow,
                    backend,
                    origin,
                }) => {
                    let table = layout
                        .as_ref()
                        .and_then(|layout| layout.frontend(&flow.frontend));
                    let Some((_, member)) = table.and_then(|table| table.member_at(backend)) else {
                        continue;
                    };
                    let located = Located {
                        flow: name::flow_on_wire(&flow),
                        pod: SocketAddr::new(member.addr, member.port),
                    };
                    self.peer.handle_chain(located, origin, now);
                }
            }
        }
        false
    }

    /// Does what the conversation asks for.
    fn act(&mut self, inputs: &Inputs, now: Instant) {
        let layout = layout(inputs);
        while let Some(action) = self.peer.poll_action() {
            match action {
                Action::Look { inquiry, flow } => {
                    // Whoever cannot tell says nothing: then nobody's word is complete.
                    if let Some(layout) = &layout
                        && let Some(found) = self.look(layout, name::flow(&flow))
                    {
                        self.peer.handle_look(&inquiry, flow, found, now);
                    }
                }
                Action::Except(located, reason) => {
                    if let (Some(layout), Some(flow)) = (&layout, name::flow(&located.flow)) {
                        self.except(layout, &flow, located.pod, reason);
                    }
                }
                Action::Deny(flow) => {
                    if let Some(flow) = name::flow(&flow) {
                        self.deny(&flow, now);
                    }
                }
                Action::Doubt(flow) => {
                    if let Some(Err(error)) = name::flow(&flow).map(|flow| self.flows.doubt(&flow))
                    {
                        warn!("exceptions: {}", chain(&error));
                    }
                }
                Action::Recall(node, range) => {
                    let chunks = name::remembered(layout.as_deref(), &range);
                    self.peer.remember(&node, chunks, now);
                }
                Action::Gossip(node, octets) => self.gossip.handle(&node, &octets, now),
                Action::Remembered(node, chunk) => {
                    let fetch = self
                        .waiting
                        .as_mut()
                        .and_then(|waiting| waiting.fetch.as_mut());
                    if let Some((fetch, _)) = fetch {
                        fetch.handle_chunk(&node, &chunk);
                    }
                }
            }
        }
        // What was heard may be all that a change waits for.
        self.settle(now);
    }

    /// The pod of this node that has a flow; nothing if that cannot be told.
    fn look(&self, layout: &Layout, flow: Option<FlowName>) -> Option<Option<Holder>> {
        let Some(flow) = flow else { return Some(None) };
        let found = match self.flows.find(&flow) {
            Ok(found) => found,
            Err(error) => {
                warn!("flows: {}", chain(&error));
                return None;
            }
        };
        let table = layout.frontend(&flow.frontend);
        Some(found.and_then(|own| {
            let (_, member) = table?.member_at(own.backend)?;
            let holder = Holder {
                pod: own.pod,
                is_half_open: own.is_half_open,
            };
            (member.generation() == own.generation).then_some(holder)
        }))
    }

    /// Nobody has a flow: not those either to whom an exception leads, unless it was made meanwhile.
    fn deny(&mut self, flow: &FlowName, now: Instant) {
        let is_new = self
            .excepted
            .get(flow)
            .is_some_and(|at| now.duration_since(*at) < QUESTION);
        match self.flows.deny(flow, is_new) {
            Ok(true) => self.status.denials += 1,
            Ok(false) => {}
            Err(error) => warn!("exceptions: {}", chain(&error)),
        }
    }

    fn except(&mut self, layout: &Layout, flow: &FlowName, pod: SocketAddr, reason: Reason) {
        let table = layout.frontend(&flow.frontend);
        let Some((index, member)) =
            table.and_then(|table| table.member_called(pod.ip(), pod.port()))
        else {
            self.status.unknown_pods += 1;
            return;
        };
        if member.is_local() {
            return;
        }
        match self.flows.except(flow, index, member.generation()) {
            Ok(()) => {
                self.excepted.insert(*flow, clock::now());
                let count = match reason {
                    Reason::Chain => &mut self.status.exceptions_chain,
                    Reason::Push => &mut self.status.exceptions_push,
                    Reason::Locate => &mut self.status.exceptions_locate,
                };
                *count += 1;
            }
            Err(error) => warn!("exceptions: {}", chain(&error)),
        }
    }

    /// The maps are about to change: says what is to be done before.
    fn await_change(&mut self, change: Change, inputs: &Inputs) {
        let now = clock::now();
        let Change {
            before,
            after,
            answer,
        } = change;
        let scope = if self.has_begun {
            self.forgotten.changed(&before, &after)
        } else if before.frontends().next().is_some() {
            // The agent before did not say which slots have stray flows.
            Scope::All
        } else {
            Scope::default()
        };
        self.has_begun = true;
        let mut push = now;
        if !scope.is_empty() {
            push += council::PUSH;
            let (walk, after) = (Arc::clone(&self.walk), Arc::clone(&after));
            self.walks
                .spawn_blocking(move || match stray::find(&walk, &after, &scope) {
                    Ok(strays) => Some((strays, clock::now().duration_since(now))),
                    Err(error) => {
                        warn!("flows: {}", chain(&error));
                        None
                    }
                });
        }
        let changes = after.changes(&before);
        let new = changes.iter().filter(|change| change.before.is_none());
        let new: Vec<_> = new
            .filter_map(|change| Some((change.key, change.after?)))
            .map(|(name, table)| (name::frontend_on_wire(name), name::digest(table)))
            .collect();
        let members = inputs.members.borrow();
        let live = members
            .nodes
            .iter()
            .filter(|(_, (state, _))| *state == State::Live);
        let peers: Vec<String> = live.map(|(name, _)| name.clone()).collect();
        let fetch = (!new.is_empty() && !peers.is_empty())
            .then(|| (Fetch::new(new, peers), now + council::FETCH));
        self.waiting = Some(Waiting {
            answer,
            push,
            fetch,
        });
    }

    /// Pushes stray flows to whom they will be asked of.
    fn push(&mut self, walked: Option<Walked>) {
        let now = clock::now();
        let (strays, took) = walked.unwrap_or_default();
        if took > council::PUSH {
            self.status.slow_walks += 1;
            warn!(
                milliseconds = took.as_millis(),
                "reading all flows took longer than a change waits: some that moved are located"
            );
        }
        let mut by_owner: BTreeMap<String, Vec<Located>> = BTreeMap::new();
        for Stray {
            flow,
            pod,
            slot,
            owner,
        } in strays
        {
            self.forgotten.note(flow.frontend, slot);
            if let Some(owner) = owner {
                let flow = name::flow_on_wire(&flow);
                by_owner
                    .entry(owner)
                    .or_default()
                    .push(Located { flow, pod });
            }
        }
        for (owner, flows) in by_owner {
            debug!(
                owner,
                flows = flows.len(),
                "pushing flows that their slots forget"
            );
            self.peer.push(&owner, flows, now);
        }
    }

    /// Lets the change be made if nothing is to be waited for any more.
    fn settle(&mut self, now: Instant) {
        let Some(waiting) = &mut self.waiting else {
            return;
        };
        if let Some((fetch, until)) = &mut waiting.fetch {
            for (node, range) in fetch.poll(now) {
                self.peer.recall(&node, range, now);
            }
            if !fetch.is_done() && now < *until {
                return;
            }
        }
        let is_pushed = self.walks.is_empty() && self.peer.outstanding() == 0;
        if !is_pushed && now < waiting.push {
            return;
        }
        let Some(Waiting { answer, fetch, .. }) = self.waiting.take() else {
            return;
        };
        let mut heritage = Vec::new();
        if let Some((fetch, _)) = fetch {
            let is_done = fetch.is_done();
            let (histories, unknown) = fetch.finish();
            if !is_done {
                warn!(
                    frontends = unknown,
                    "other nodes did not say in time what their slots remember: going on without"
                );
            } else if !histories.is_empty() {
                info!(frontends = histories.len(), "took over what slots remember");
            }
            self.status.histories += histories.len() as u64;
            heritage.extend(histories.into_iter().filter_map(name::heritage));
        }
        // If nobody waits any more, the change was made.
        let _ = answer.send(heritage);
    }

    /// Says what is new.
    fn publish(&mut self, output: &watch::Sender<PeerStatus>, now: Instant) {
        let counts = self.peer.counts();
        let status = PeerStatus {
            reported: counts.reported,
            pushed: counts.pushed,
            unacknowledged: counts.unacknowledged,
            asked: counts.asked,
            found: counts.found,
            nobody: counts.nobody,
            uncertain: counts.uncertain,
            merged: counts.merged,
            over_budget: counts.over_budget,
            answered: counts.answered,
            refused: counts.refused,
            replayed: counts.replayed,
            ..self.status
        };
        let is_new = *output.borrow() != status;
        if is_new {
            output.send_replace(status);
        }
        if self.logged.1 != status && now.duration_since(self.logged.0) >= RETRY {
            self.logged = (now, status);
            debug!(?status, "about flows");
        }
        self.status = status;
    }
}

/// The flows that are to be pushed, and how long it took to find them.
type Walked = (Vec<Stray>, Duration);

/// What the maps hold, once that is known.
fn layout(inputs: &Inputs) -> Option<Arc<Layout>> {
    let programmed = inputs.programmed.borrow();
    programmed
        .as_ref()
        .map(|programmed| Arc::clone(&programmed.layout))
}

async fn readable(socket: Option<&PeerSocket>) {
    match socket {
        Some(socket) => socket.readable().await,
        None => pending().await,
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
