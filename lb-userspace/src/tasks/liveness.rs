//! Finds out which other nodes live.
//!
//! Sends probes to the programs of all other nodes and reads their answers; `proto::liveness` judges. It has a
//! thread of its own: tables of ten thousand Services may keep the other threads busy for longer than a node
//! may be silent.
//!
//! The router counts as heard when the compute port's gateways, or the BGP peers on its segment, answer ARP or
//! ND; they are asked only while other nodes are silent. An Established session says less: it outlives the
//! loss of a cable by its hold time. It counts only where there is no neighbour to ask.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_common::probe::FENCE_AGE_MS;
use lb_common::siphash::key_from_secret;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::sessions::SessionBook;
use super::source::Snapshot;
use crate::model::cluster::{Cluster, Family};
use crate::model::segment::Segment;
use crate::model::session_status::SessionState;
use crate::net::clock;
use crate::net::netlink::{Confirmation, Netlink, NetlinkError};
use crate::net::probe_socket::ProbeSocket;
use crate::plan::PUBLIC_PEER_KEY;
use crate::proto::liveness::{Heard, Liveness, State, Verdict};

/// How often what the report shows is brought up to date when no verdict changes.
const REFRESH: Duration = Duration::from_secs(1);

/// The verdicts, by node.
pub type States = BTreeMap<String, State>;

/// What is known of the other nodes, for reports.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Members {
    /// By name: the verdict, and how the node was heard last.
    pub nodes: BTreeMap<String, (State, Option<Heard>)>,
    /// Most others vanished while the router is silent: nothing changes.
    pub is_cut_off: bool,
    /// When the router was heard last; it is asked for only when that matters.
    pub router: Option<Instant>,
    /// The longest by which a probe went out late.
    pub lateness: Duration,
}

/// What the task reads.
#[derive(Debug)]
pub struct Inputs {
    /// The nodes and the key.
    pub snapshots: watch::Receiver<Snapshot>,
    /// The compute port.
    pub segment: watch::Receiver<Segment>,
    /// The BGP sessions.
    pub sessions: watch::Receiver<SessionBook>,
}

/// What it says.
#[derive(Debug)]
pub struct Outputs {
    /// Sent when a verdict changes.
    pub states: watch::Sender<States>,
    /// Sent every second as well.
    pub members: watch::Sender<Members>,
}

/// The task's own things.
#[derive(Debug)]
pub struct Prober {
    node: String,
    netlink: Netlink,
    liveness: Liveness,
    /// IPv4, IPv6.
    sockets: [Option<ProbeSocket>; 2],
    asking: JoinSet<Answer>,
    /// When each router was asked last whether it is there.
    asked: BTreeMap<IpAddr, Instant>,
    lateness: Duration,
    published: Instant,
    was_cut_off: bool,
    complaint: Option<String>,
}

impl Prober {
    /// Of this node.
    pub fn new(node: String, netlink: Netlink) -> Self {
        let now = clock::now();
        let nonce = RandomState::new().hash_one(0_u8);
        Self {
            node,
            netlink,
            liveness: Liveness::new(key_from_secret(&PUBLIC_PEER_KEY), nonce, now),
            sockets: [None, None],
            asking: JoinSet::new(),
            asked: BTreeMap::new(),
            lateness: Duration::ZERO,
            published: now,
            was_cut_off: false,
            complaint: None,
        }
    }

    /// Runs on the calling thread until an input ends.
    ///
    /// # Errors
    /// There is no event queue to be had.
    pub fn run_here(self, inputs: Inputs, outputs: &Outputs) -> std::io::Result<()> {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?
            .block_on(self.run(inputs, outputs));
        Ok(())
    }

    async fn run(mut self, mut inputs: Inputs, outputs: &Outputs) {
        loop {
            let due = self.liveness.poll_timeout();
            let [v4, v6] = &self.sockets;
            tokio::select! {
                () = sleep_until(due.into()) => {}
                () = readable(v4.as_ref()) => {}
                () = readable(v6.as_ref()) => {}
                Some(Ok(answer)) = self.asking.join_next() => {
                    if let Some(at) = answer.heard {
                        self.liveness.handle_router(at);
                    }
                    self.asked = answer.asked;
                }
                changed = inputs.snapshots.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow(&inputs.snapshots.borrow_and_update().cluster);
                }
                changed = inputs.segment.changed() => if changed.is_err() { return },
            }
            // Before anybody is judged, what has come is heard.
            self.receive();
            let now = clock::now();
            if now >= due {
                self.lateness = self.lateness.max(now - due);
                self.open_sockets(&inputs).await;
                self.liveness.handle_timeout(now);
                self.send();
                self.ask_router(&inputs, now);
            }
            self.publish(outputs, now);
        }
    }

    fn follow(&mut self, cluster: &Cluster) {
        let now = clock::now();
        let key = cluster
            .keys
            .as_ref()
            .map_or(PUBLIC_PEER_KEY, |keys| keys.peer_key);
        self.liveness.set_key(key_from_secret(&key), now);
        let others = cluster.nodes.iter().filter(|(name, _)| **name != self.node);
        let addresses = others.map(|(name, node)| (name.clone(), node.addresses.clone()));
        self.liveness.set_members(&addresses.collect(), now);
    }

    fn receive(&mut self) {
        let now = clock::now();
        let liveness = &mut self.liveness;
        for socket in self.sockets.iter().flatten() {
            socket.try_receive(|from, payload| liveness.handle_datagram(from, payload, now));
        }
    }

    fn send(&mut self) {
        while let Some(transmit) = self.liveness.poll_transmit() {
            let to = transmit.to;
            let mut sockets = self.sockets.iter().flatten();
            let of_family = |socket: &&ProbeSocket| socket.address().is_ipv4() == to.is_ipv4();
            let Some(socket) = sockets.find(of_family) else {
                continue;
            };
            if let Err(error) = socket.try_send(&transmit.payload, to) {
                debug!(%to, "probe: {error}");
            }
        }
    }

    /// Sees to it that there is a socket at this node's address of each family.
    async fn open_sockets(&mut self, inputs: &Inputs) {
        let wanted = {
            let snapshot = inputs.snapshots.borrow();
            let node = snapshot.cluster.nodes.get(&self.node);
            let own = node.map_or(&[][..], |node| &node.addresses);
            let segment = inputs.segment.borrow();
            [Family::V4, Family::V6].map(|family| source(own, &segment, family))
        };
        for (socket, wanted) in self.sockets.iter_mut().zip(wanted) {
            if socket.as_ref().map(ProbeSocket::address) == wanted {
                continue;
            }
            *socket = None;
            let Some(address) = wanted else { continue };
            match ProbeSocket::open(address).await {
                Ok(open) => {
                    debug!(%address, "probing from");
                    *socket = Some(open);
                    self.complaint = None;
                }
                Err(error) => {
                    let text = format!("{error}: {}", error.source);
                    if self.complaint.as_ref() != Some(&text) {
                        warn!("{text}; trying on");
                    }
                    self.complaint = Some(text);
                }
            }
        }
    }

    fn ask_router(&mut self, inputs: &Inputs, now: Instant) {
        if !self.liveness.wants_router(now) || !self.asking.is_empty() {
            return;
        }
        let book = inputs.sessions.borrow();
        let statuses: Vec<_> = book
            .values()
            .map(|entry| entry.status.borrow().clone())
            .collect();
        let segment = inputs.segment.borrow();
        let is_on_link = |addr: &IpAddr| segment.addresses.iter().any(|net| net.contains(addr));
        let question = Question {
            netlink: self.netlink.clone(),
            ifindex: segment.ifindex,
            routers: statuses
                .iter()
                .map(|status| status.address)
                .filter(is_on_link)
                .collect(),
            has_session: statuses
                .iter()
                .any(|status| status.state == SessionState::Established),
            asked: std::mem::take(&mut self.asked),
        };
        self.asking.spawn(async move {
            question.ask().await.unwrap_or_else(|error| {
                debug!("the router was not asked: {error}");
                Answer::default()
            })
        });
    }

    fn publish(&mut self, outputs: &Outputs, now: Instant) {
        let mut changed = false;
        while let Some(verdict) = self.liveness.poll_verdict() {
            log(&verdict);
            changed = true;
        }
        let is_cut_off = self.liveness.is_cut_off();
        if is_cut_off != self.was_cut_off {
            self.was_cut_off = is_cut_off;
            changed = true;
            if is_cut_off {
                warn!(
                    "most other nodes and the router are silent: this node seems cut off and changes nothing"
                );
            } else {
                info!("this node is not cut off any more");
            }
        }
        let members = || self.liveness.members();
        let states = members().map(|(name, state, _)| (name.to_owned(), state));
        if changed || outputs.states.borrow().len() != members().count() {
            outputs.states.send_replace(states.collect());
        }
        if changed || now.duration_since(self.published) >= REFRESH {
            self.published = now;
            outputs.members.send_replace(Members {
                nodes: members()
                    .map(|(name, state, heard)| (name.to_owned(), (state, heard)))
                    .collect(),
                is_cut_off,
                router: self.liveness.router(),
                lateness: self.lateness,
            });
        }
    }
}

/// Whether the router is there, to be asked of the kernel.
struct Question {
    netlink: Netlink,
    ifindex: u32,
    routers: BTreeSet<IpAddr>,
    has_session: bool,
    asked: BTreeMap<IpAddr, Instant>,
}

/// What is known of the router once it was asked.
#[derive(Debug, Default)]
struct Answer {
    /// It was there at that time, at least.
    heard: Option<Instant>,
    /// When each router was asked last.
    asked: BTreeMap<IpAddr, Instant>,
}

impl Question {
    /// Whether the router answered since it was asked last; asks it again.
    async fn ask(mut self) -> Result<Answer, NetlinkError> {
        let index = self.ifindex;
        self.routers.extend(self.netlink.gateways(index).await?);
        let known = self.netlink.confirmations(index, &self.routers).await?;
        let mut answer = Answer::default();
        let mut is_anybody_asked = false;
        for router in &self.routers {
            // Before the kernel is asked to, so that no answer seems later than it was.
            let now = clock::now();
            let asked = match known.get(router) {
                Some(Confirmation::Unknown) => continue,
                Some(confirmation) => {
                    if *confirmation == Confirmation::Answered {
                        answer.heard = answer.heard.max(self.asked.get(router).copied());
                    }
                    self.netlink.confirm(index, *router).await
                }
                None => self.netlink.resolve(index, *router).await,
            };
            is_anybody_asked = true;
            match asked {
                Ok(()) if known.contains_key(router) => {
                    answer.asked.insert(*router, now);
                }
                Ok(()) => {}
                Err(error) => debug!(%router, "{error}"),
            }
        }
        if !is_anybody_asked && self.has_session {
            answer.heard = Some(clock::now());
        }
        Ok(answer)
    }
}

async fn readable(socket: Option<&ProbeSocket>) {
    match socket {
        Some(socket) => socket.readable().await,
        None => pending().await,
    }
}

/// The address of a family to send from: that of the Node on the compute port, else its first, else the
/// compute port's.
pub(super) fn source(own: &[IpAddr], segment: &Segment, family: Family) -> Option<IpAddr> {
    let own = || {
        own.iter()
            .copied()
            .filter(|addr| Family::of(*addr) == family)
    };
    let on_port = || {
        let addresses = segment.addresses.iter().map(ipnet::IpNet::addr);
        addresses.filter(|addr| Family::of(*addr) == family && !is_link_local(*addr))
    };
    own()
        .find(|addr| on_port().any(|port| port == *addr))
        .or_else(|| own().next())
        .or_else(|| on_port().next())
}

fn is_link_local(addr: IpAddr) -> bool {
    match addr {
        IpAddr::V4(addr) => addr.is_link_local(),
        IpAddr::V6(addr) => addr.is_unicast_link_local(),
    }
}

fn log(Verdict { node, state }: &Verdict) {
    match state {
        State::Live => info!(node, "the node lives"),
        State::AgentAway => warn!(
            node,
            "its agent is away, its program answers: nothing changes for {} s",
            FENCE_AGE_MS / 1_000
        ),
        State::Gone => warn!(node, "the node is gone: it is out of all tables"),
        State::Unheard => info!(node, "the node has to be heard anew"),
    }
}

/// The nodes that are out of all tables.
pub fn gone(states: &States) -> BTreeSet<String> {
    let gone = states.iter().filter(|(_, state)| !state.is_reachable());
    gone.map(|(name, _)| name.clone()).collect()
}

/// The word for a verdict in reports.
pub const fn word(state: State) -> &'static str {
    match state {
        State::Live => "live",
        State::AgentAway => "agent_away",
        State::Gone => "gone",
        State::Unheard => "unheard",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_leave_from_the_address_on_the_compute_port() {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let segment = Segment {
            addresses: ["fe80::1/64", "192.0.2.11/24", "2001:db8::11/64"]
                .map(|net| net.parse().unwrap())
                .into(),
            ..Segment::default()
        };
        let both = [addr("198.51.100.11"), addr("192.0.2.11")];
        assert_eq!(source(&both, &segment, Family::V4), Some(both[1]));
        assert_eq!(source(&both[..1], &segment, Family::V4), Some(both[0]));
        assert_eq!(
            source(&both, &segment, Family::V6),
            Some(addr("2001:db8::11"))
        );
        assert_eq!(source(&[], &Segment::default(), Family::V6), None);
    }
}
