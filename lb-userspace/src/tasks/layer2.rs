//! Tells the segment which addresses this node answers for, and the other
//! agents too.
//!
//! What the maps hold is what counts: an address is announced when the programs answer for it, and claimed
//! towards other agents until they do not any more. `proto::announcement` says when neighbours are told,
//! `proto::claim` what agents say to each other; what they said goes to `control`, whose election waits for it.
//!
//! A node that hears neither other nodes nor its router gives up what it leads, but only where it has a router
//! to hear. Whatever was said before it came back is worth nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use lb_common::siphash::key_from_secret;
use tokio::sync::watch;
use tokio::time::sleep_until;
use tracing::{debug, info, warn};

use super::datapath::Programmed;
use super::liveness::{Members, States, source};
use super::source::Snapshot;
use crate::model::claim::{Claim, Neighborhood};
use crate::model::cluster::Family;
use crate::model::segment::Segment;
use crate::net::clock;
use crate::net::multicast::Groups;
use crate::net::packet_socket::{self, PacketSocket};
use crate::net::peer_socket::PeerSocket;
use crate::net::vlan::{self, Vlan};
use crate::plan::PUBLIC_PEER_KEY;
use crate::proto::announcement::{self, Announcer};
use crate::proto::claim::{self, Exchange};
use crate::proto::liveness::State;
use crate::telemetry::chain;

/// How long a node that lives may keep others waiting for its claim: agents of other versions make none.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often the link is looked at, and what failed is tried again.
const CHECK: Duration = Duration::from_secs(1);

/// What the task reads.
#[derive(Debug)]
pub struct Inputs {
    /// The nodes and the key.
    pub snapshots: watch::Receiver<Snapshot>,
    /// What the maps hold.
    pub programmed: watch::Receiver<Option<Programmed>>,
    /// The compute port.
    pub segment: watch::Receiver<Segment>,
    /// Which nodes live.
    pub states: watch::Receiver<States>,
    /// Whether this node is cut off.
    pub members: watch::Receiver<Members>,
}

/// The task's own things.
#[derive(Debug)]
pub struct Layer2 {
    node: String,
    exchange: Exchange,
    announcer: Announcer,
    /// What the programs answer for.
    own: claim::Claim,
    /// Since when nodes that live have been silent about their claims.
    awaited: BTreeMap<String, Instant>,
    /// Nodes that live and that nobody waits for any more, since they claim nothing.
    mute: BTreeSet<String>,
    /// Addresses of ours that others claim too.
    contested: BTreeSet<IpAddr>,
    /// IPv4, IPv6.
    sockets: [Option<PeerSocket>; 2],
    port: Port,
    is_isolated: bool,
    has_published: bool,
    checked: Option<Instant>,
    complaint: Option<String>,
}

/// What there is to look at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum News {
    /// A datagram, or that time has passed.
    None,
    /// Verdicts.
    States,
    /// The nodes, or this one's port.
    Nodes,
    /// What the maps hold.
    Maps,
}

/// The compute port, as announcements use it.
#[derive(Debug, Default)]
struct Port {
    segment: Segment,
    socket: Option<PacketSocket>,
    vlans: Vec<Vlan>,
    /// Multicast groups.
    wanted: BTreeSet<Ipv6Addr>,
    /// By interface index: the port's and those of its VLANs.
    groups: BTreeMap<u32, Groups>,
    is_running: bool,
}

impl Layer2 {
    /// Of this node, on an interface; `held` is what the programs answer for already.
    pub fn new(node: String, interface: String, held: BTreeSet<IpAddr>) -> Self {
        let own = claim::Claim {
            interface,
            is_ready: false,
            addresses: held,
        };
        let key = key_from_secret(&PUBLIC_PEER_KEY);
        // Memberships ended with the agent before: a switch that asks once more before it forgets hears of these.
        let port = Port {
            wanted: groups(&own.addresses),
            ..Port::default()
        };
        Self {
            node,
            exchange: Exchange::new(key, clock::since_epoch_nanos(), own.clone()),
            announcer: Announcer::new(RandomState::new().hash_one(0_u8)),
            own,
            awaited: BTreeMap::new(),
            mute: BTreeSet::new(),
            contested: BTreeSet::new(),
            sockets: [None, None],
            port,
            is_isolated: false,
            has_published: false,
            checked: None,
            complaint: None,
        }
    }

    /// Runs until an input ends.
    pub async fn run(mut self, mut inputs: Inputs, output: watch::Sender<Neighborhood>) {
        loop {
            let due = self.due();
            let [v4, v6] = &self.sockets;
            let news = tokio::select! {
                () = sleep_until(due.into()) => Ok(News::None),
                () = readable(v4.as_ref()) => Ok(News::None),
                () = readable(v6.as_ref()) => Ok(News::None),
                changed = inputs.snapshots.changed() => changed.map(|()| News::Nodes),
                changed = inputs.segment.changed() => changed.map(|()| News::Nodes),
                changed = inputs.programmed.changed() => changed.map(|()| News::Maps),
                changed = inputs.states.changed() => changed.map(|()| News::States),
                changed = inputs.members.changed() => changed.map(|()| News::States),
            };
            let Ok(news) = news else { return };
            let now = clock::now();
            let is_time = self.checked.is_none_or(|at| now >= at + CHECK);
            if is_time || news == News::Nodes {
                self.checked = Some(now);
                self.follow_nodes(&inputs, now);
            }
            if news == News::Maps
                && let Some(programmed) = &*inputs.programmed.borrow()
            {
                self.follow_maps(programmed, now);
            }
            self.follow_states(&inputs, now);
            let heard = self.receive(now);
            // Before the nodes are known there is nobody to wait for.
            let has_source = inputs.snapshots.borrow().revision > 0;
            if has_source && (heard || is_time || news != News::None) {
                self.publish(&inputs.states.borrow(), &output, now);
            }
            self.exchange.handle_timeout(now);
            self.send();
            self.announce(now);
        }
    }

    fn due(&self) -> Instant {
        let check = self.checked.map_or_else(clock::now, |at| at + CHECK);
        let timeouts = [self.exchange.poll_timeout(), self.announcer.poll_timeout()];
        timeouts.into_iter().flatten().fold(check, Instant::min)
    }

    fn follow_nodes(&mut self, inputs: &Inputs, now: Instant) {
        let snapshot = inputs.snapshots.borrow();
        let cluster = &snapshot.cluster;
        if self.port.follow(inputs.segment.borrow().clone()) {
            self.announcer.repeat_all(now);
        }
        if let Err(error) = self.port.join() {
            let text = format!("a multicast group was not joined: {error}");
            complain(&mut self.complaint, text);
        }
        let keys = cluster.keys.as_ref();
        let key = keys.map_or(PUBLIC_PEER_KEY, |keys| keys.peer_key);
        self.exchange.set_key(key_from_secret(&key));
        let others = cluster
            .nodes
            .iter()
            .filter(|(name, node)| **name != self.node && !node.addresses.is_empty());
        let others = others.map(|(name, node)| (name.clone(), node.addresses.clone()));
        self.exchange.set_members(&others.collect(), now);
        let own = cluster.nodes.get(&self.node);
        let own = own.map_or(&[][..], |node| &node.addresses);
        let wanted = [Family::V4, Family::V6].map(|family| source(own, &self.port.segment, family));
        for (socket, wanted) in self.sockets.iter_mut().zip(wanted) {
            if socket.as_ref().map(PeerSocket::address) == wanted {
                continue;
            }
            *socket = None;
            let Some(address) = wanted else { continue };
            match PeerSocket::open(SocketAddr::new(address, claim::PORT)) {
                Ok(open) => *socket = Some(open),
                Err(error) => complain(&mut self.complaint, chain(&error)),
            }
        }
        let [v4, v6] = &self.sockets;
        let local = [v4, v6].map(|socket| socket.as_ref().map(PeerSocket::address));
        self.exchange.set_local(local);
    }

    fn follow_states(&mut self, inputs: &Inputs, now: Instant) {
        let has_sessions = |p: &Programmed| !p.desired.intent.sessions.is_empty();
        let has_router = !self.port.segment.gateways.is_empty()
            || inputs
                .programmed
                .borrow()
                .as_ref()
                .is_some_and(has_sessions);
        let is_isolated = has_router && inputs.members.borrow().is_cut_off;
        if is_isolated != self.is_isolated {
            self.is_isolated = is_isolated;
            self.exchange.forget(now);
            // Whoever was silent meanwhile is given all the time again.
            self.awaited.clear();
        }
        for (name, state) in inputs.states.borrow().iter() {
            if *state == State::Gone {
                self.exchange.forget_node(name);
            }
        }
    }

    /// What the programs do by now is announced and claimed. While maps refuse writes, nothing more is announced,
    /// and what may still be answered is claimed.
    fn follow_maps(&mut self, programmed: &Programmed, now: Instant) {
        let mut answered: BTreeSet<_> = programmed.layout.answered().collect();
        let before = &self.own.addresses;
        let announced = if programmed.failure.is_some() {
            let certain = answered.intersection(before).copied().collect();
            answered.extend(before);
            certain
        } else {
            answered.clone()
        };
        if answered != *before {
            log(before, &answered);
        }
        self.announcer.set_addresses(&announced, now);
        self.own = claim::Claim {
            interface: self.own.interface.clone(),
            is_ready: self.own.is_ready || !programmed.desired.intent.dataplane.is_partial,
            addresses: answered,
        };
        self.exchange.set_own(self.own.clone(), now);
        self.port.wanted = groups(&announced);
        // What fails is tried again when the link is looked at.
        let _ = self.port.join();
    }

    /// Says whether another node claims something else than before.
    fn receive(&mut self, now: Instant) -> bool {
        let exchange = &mut self.exchange;
        for socket in self.sockets.iter().flatten() {
            let to = socket.address();
            socket.try_receive(|from, payload| exchange.handle_datagram(from, to, payload, now));
        }
        let mut heard = false;
        while let Some(node) = self.exchange.poll_event() {
            debug!(node, "claims other addresses");
            heard = true;
        }
        heard
    }

    fn send(&mut self) {
        while let Some(transmit) = self.exchange.poll_transmit() {
            let mut sockets = self.sockets.iter().flatten();
            let Some(socket) = sockets.find(|socket| socket.address() == transmit.from) else {
                continue;
            };
            if let Err(error) = socket.try_send(&transmit.payload, transmit.to) {
                debug!(to = %transmit.to, "claim: {error}");
            }
        }
    }

    /// What is known of others goes to the election; an address that another node claimed too, and does not any
    /// more, is announced again, since neighbours may have believed the other.
    fn publish(&mut self, states: &States, output: &watch::Sender<Neighborhood>, now: Instant) {
        let mut claims = BTreeMap::new();
        let mut silent = BTreeSet::new();
        let mut gone = BTreeSet::new();
        for (name, claim) in self.exchange.claims() {
            let state = states.get(name).copied().unwrap_or(State::Unheard);
            let name = name.to_owned();
            match claim {
                _ if state == State::Gone => drop(gone.insert(name)),
                Some(claim) => drop(claims.insert(name, to_model(claim))),
                None => drop(silent.insert(name)),
            }
        }
        self.awaited.retain(|name, _| silent.contains(name));
        for name in silent {
            self.awaited.entry(name).or_insert(now);
        }
        let is_awaited = |name: &String, since: Instant| {
            // Its program may answer for what its agent cannot say now.
            states.get(name) == Some(&State::AgentAway) || now < since + PATIENCE
        };
        let awaited = self.awaited.iter();
        let next = Neighborhood {
            awaited: awaited
                .filter(|(name, since)| is_awaited(name, **since))
                .map(|(name, _)| name.clone())
                .chain(gone)
                .collect(),
            claims,
            is_isolated: self.is_isolated,
        };
        let is_mute =
            |name: &String| states.get(name) == Some(&State::Live) && !next.awaited.contains(name);
        let mute: BTreeSet<_> = self
            .awaited
            .keys()
            .filter(|name| is_mute(name))
            .cloned()
            .collect();
        for node in mute.difference(&self.mute) {
            warn!(
                node,
                "it does not say what it answers ARP and NDP for: is UDP port {} open?",
                claim::PORT
            );
        }
        self.mute = mute;
        let others = next.claims.values().flat_map(|claim| &claim.addresses);
        let contested = others.filter(|addr| self.own.addresses.contains(addr));
        let contested: BTreeSet<_> = contested.copied().collect();
        for addr in self.contested.difference(&contested) {
            self.announcer.repeat(*addr, now);
        }
        self.contested = contested;
        let is_first = !std::mem::replace(&mut self.has_published, true);
        output.send_if_modified(|current| {
            let changed = is_first || *current != next;
            *current = next;
            changed
        });
    }

    fn announce(&mut self, now: Instant) {
        self.announcer.handle_timeout(now);
        while let Some(addr) = self.announcer.poll_transmit() {
            if let Err(error) = self.port.announce(addr) {
                debug!(%addr, "announcement: {error}");
            }
        }
    }
}

impl Port {
    /// Takes what is known of the port; says whether it is another one, or its link has come back.
    fn follow(&mut self, segment: Segment) -> bool {
        let before = &self.segment;
        let is_other = (before.ifindex, before.mac) != (segment.ifindex, segment.mac);
        let vlans = vlan::on(&segment.interface);
        let was_running = self.is_running;
        self.is_running = packet_socket::is_running(&segment.interface);
        let is_back = self.is_running && !was_running;
        if is_other || (self.socket.is_none() && segment.ifindex != 0) {
            self.socket = PacketSocket::open(&segment.interface)
                .inspect_err(|error| debug!("{}", chain(error)))
                .ok();
        }
        let is_new = is_other || is_back || vlans != self.vlans;
        self.vlans = vlans;
        self.segment = segment;
        is_new
    }

    /// # Errors
    /// Of what could not be sent; the rest was.
    fn announce(&self, addr: IpAddr) -> std::io::Result<()> {
        let Some(socket) = &self.socket else {
            return Ok(());
        };
        let tags = self.vlans.iter().map(|vlan| Some(vlan.id));
        let mut outcome = Ok(());
        for tag in std::iter::once(None).chain(tags) {
            for frame in announcement::frames(addr, self.segment.mac.0, tag) {
                outcome = outcome.and(socket.try_send(&frame));
            }
        }
        outcome
    }

    /// # Errors
    /// Of a group that could not be joined; the others were.
    fn join(&mut self) -> std::io::Result<()> {
        let indices = || {
            let vlans = self.vlans.iter().map(|vlan| vlan.index);
            std::iter::once(self.segment.ifindex).chain(vlans)
        };
        self.groups
            .retain(|index, _| indices().any(|known| known == *index));
        let mut outcome = Ok(());
        for index in indices().filter(|index| *index != 0) {
            let groups = self.groups.entry(index).or_default();
            outcome = outcome.and(groups.follow(index, &self.wanted));
        }
        outcome
    }
}

/// The groups that solicitations for these go to.
fn groups(addresses: &BTreeSet<IpAddr>) -> BTreeSet<Ipv6Addr> {
    let groups = addresses.iter().filter_map(|addr| match addr {
        IpAddr::V4(_) => None,
        IpAddr::V6(addr) => Some(announcement::solicited_node(*addr)),
    });
    groups.collect()
}

fn to_model(claim: &claim::Claim) -> Claim {
    Claim {
        interface: claim.interface.clone(),
        is_ready: claim.is_ready,
        addresses: claim.addresses.clone(),
    }
}

fn complain(complaint: &mut Option<String>, text: String) {
    if complaint.as_ref() != Some(&text) {
        warn!("{text}; trying on");
    }
    *complaint = Some(text);
}

fn log(before: &BTreeSet<IpAddr>, after: &BTreeSet<IpAddr>) {
    for addr in after.difference(before) {
        info!(%addr, "answering ARP and NDP");
    }
    for addr in before.difference(after) {
        info!(%addr, "not answering ARP and NDP any more");
    }
}

async fn readable(socket: Option<&PeerSocket>) {
    match socket {
        Some(socket) => socket.readable().await,
        None => pending().await,
    }
}
