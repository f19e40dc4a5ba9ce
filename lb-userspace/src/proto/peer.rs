//! What agents tell each other about flows: where they are, and what slots
//! remember.
//!
//! - **found**: a chain led here, a slot is about to forget a flow's pod (push), or somebody asked (locate):
//!   `c0`'s owner is told where the flow is and makes an exception. Push and locate are sent until they are
//!   acknowledged; a chain is reported again by the next packet.
//! - **ask**: the last hop of a list asks all living agents for a flow that nobody on the list knows. If one has
//!   it, the origin of the list is told; if none has it, it is told that too, and resets the connection.
//! - **history**: an agent that joins fetches what slots remember.
//! - **gossip**: what [`super::members`] says about who there is.
//!
//! `wire` and `message` are the octets, `seal` the envelope, `link` what is between two nodes, `locate` the
//! questions with their `budget`, `history` the collection of histories.
//!
//! Owned by one task, which feeds it datagrams, the programs' events and the time, sends what it polls, and does
//! what [`Action`]s say. Nothing here reads a clock or a map.
//!
//! Invariants
//! - A flow is called by its addresses and ports: numbers that are private to a node never cross the wire.
//! - Nobody is said to have a flow unless every agent that may have it answered that it has not.
//! - A datagram is acted upon once, and only if it was made for this life of this node.

mod budget;
mod flow;
mod history;
mod link;
mod locate;
mod message;
mod seal;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use lb_common::siphash::{Key, tag};

pub use self::flow::{FlowName, Frontend, Holder, Located, Reason};
pub use self::history::{Chunk, DEPTH, Fetch, History, Owners, Range};
pub use self::link::LINGER;
use self::link::{Admission, Link};
use self::locate::{Asked, Locator, Outcome, SELF, Verdict};
pub use self::locate::{DENIAL, Presence};
pub use self::message::{MAX_DATAGRAM, MAX_GOSSIP, Message};
use self::seal::{Envelope, Kind, Path};
pub use self::wire::Malformed;

/// UDP port of these messages.
pub const PORT: u16 = 17474;

/// Octets of flows in one message, so that it fits a datagram.
const FLOWS: usize = 1_100;

/// Another node.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Member {
    /// Its addresses; the first one that can be reached from here is spoken to.
    pub addresses: Vec<IpAddr>,
    /// Whether its agent can be asked.
    pub presence: Presence,
}

/// A datagram to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// The address of this node that it leaves from.
    pub from: IpAddr,
    /// To whom.
    pub to: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// What the owner of the maps is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Say by [`Peer::handle_look`] whether this node has a flow.
    Look {
        /// To be handed back.
        inquiry: Inquiry,
        /// The flow.
        flow: FlowName,
    },
    /// The flow is elsewhere: write an exception.
    Except(Located, Reason),
    /// No node has the flow: write that, unless an exception says better.
    Deny(FlowName),
    /// Forget that nobody has the flow.
    Doubt(FlowName),
    /// Somebody wants to know what slots remember: answer by [`Peer::remember`].
    Recall(String, Range),
    /// A peer said what slots remember.
    Remembered(String, Chunk),
    /// A peer said something about the member list.
    Gossip(String, Vec<u8>),
}

/// Who wants to know whether this node has a flow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inquiry {
    /// Empty for this node.
    node: String,
    question: u32,
}

/// How often something happened since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Chains that led here and were reported to their origin.
    pub reported: u64,
    /// Flows pushed to `c0`'s owner.
    pub pushed: u64,
    /// Pushed or located flows of which no acknowledgement came.
    pub unacknowledged: u64,
    /// Questions asked.
    pub asked: u64,
    /// Questions that somebody answered with a pod.
    pub found: u64,
    /// Questions that all answered with no.
    pub nobody: u64,
    /// Questions that somebody who may have the flow did not answer.
    pub uncertain: u64,
    /// Questions that were not asked again, as they were open or just settled.
    pub merged: u64,
    /// Questions that were not asked, as there were too many.
    pub over_budget: u64,
    /// Questions of others.
    pub answered: u64,
    /// Datagrams that were refused: forged, malformed, or from nobody known.
    pub refused: u64,
    /// Datagrams that were refused as they had been here before, or were meant for a former life.
    pub replayed: u64,
}

/// The conversation of this node's agent with all others.
#[derive(Debug)]
pub struct Peer {
    key: Key,
    seed: Key,
    epoch: u64,
    own: [Option<IpAddr>; 2],
    is_ready: bool,
    members: BTreeMap<String, (Member, Link)>,
    links: u64,
    number: u32,
    locator: Locator,
    /// Flows that nobody has, in the order in which that is to be forgotten.
    denials: VecDeque<(Instant, FlowName)>,
    actions: VecDeque<Action>,
    transmits: VecDeque<Transmit>,
    counts: Counts,
}

impl Peer {
    /// Knows nobody. `seed` is random, new at every start.
    pub fn new(key: Key, seed: Key) -> Self {
        Self {
            key,
            seed,
            epoch: tag(seed, [0]),
            own: [None; 2],
            is_ready: false,
            members: BTreeMap::new(),
            links: 0,
            number: 0,
            locator: Locator::default(),
            denials: VecDeque::new(),
            actions: VecDeque::new(),
            transmits: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    /// Gives the cluster's key.
    pub fn set_key(&mut self, key: Key) {
        self.key = key;
    }

    /// Gives the addresses of this node where datagrams can leave and come: IPv4, IPv6.
    pub fn set_own(&mut self, own: [Option<IpAddr>; 2]) {
        self.own = own;
    }

    /// Says that exceptions can be made from now on. Before, others are not told that what they say has arrived.
    pub const fn set_ready(&mut self) {
        self.is_ready = true;
    }

    /// Names the other nodes. What is between this node and those that stay is kept.
    pub fn set_members(&mut self, members: BTreeMap<String, Member>, now: Instant) {
        let mut former = std::mem::take(&mut self.members);
        let mut verdicts = Vec::new();
        for (name, member) in members {
            let link = former.remove(&name).map(|(_, link)| link);
            let mut link = link.unwrap_or_else(|| {
                self.links += 1;
                Link::new([
                    tag(self.seed, [1, self.links]),
                    tag(self.seed, [2, self.links]),
                ])
            });
            if member.presence == Presence::Gone {
                self.counts.unacknowledged += link.abandon();
            }
            let presence = member.presence;
            verdicts.extend(self.locator.follow(&name, presence, now));
            self.members.insert(name, (member, link));
        }
        for (name, (_, mut link)) in former {
            self.counts.unacknowledged += link.abandon();
            verdicts.extend(self.locator.follow(&name, Presence::Gone, now));
        }
        // Once all are there: the origin of a question may be any of them.
        self.conclude(verdicts, now);
    }

    /// A datagram came to one of this node's addresses.
    pub fn handle_datagram(&mut self, from: IpAddr, to: IpAddr, payload: &[u8], now: Instant) {
        let path = Path { from, to };
        let Some((name, link)) = named(&mut self.members, from) else {
            self.counts.refused += 1;
            return;
        };
        let Ok((envelope, messages)) = Envelope::open(self.key, path, payload) else {
            self.counts.refused += 1;
            return;
        };
        if envelope.kind == Kind::Welcome {
            if envelope.sequence == self.epoch && messages.is_empty() {
                link.welcome(envelope.ticket, now);
            }
            return;
        }
        match link.admit(envelope.epoch, envelope.ticket, envelope.sequence) {
            Admission::Accept => {}
            Admission::Discard => {
                self.counts.replayed += 1;
                return;
            }
            Admission::Welcome(ticket) => {
                self.counts.replayed += u64::from(envelope.ticket != 0);
                let welcome = Envelope {
                    kind: Kind::Welcome,
                    epoch: self.epoch,
                    ticket,
                    sequence: envelope.epoch,
                };
                let back = Path { from: to, to: from };
                self.transmits.push_back(Transmit {
                    from: to,
                    to: SocketAddr::new(from, PORT),
                    payload: welcome.seal(self.key, back, &[]),
                });
                return;
            }
        }
        let name = name.to_owned();
        match Message::read_all(messages) {
            Ok(messages) => {
                for message in messages {
                    self.handle_message(&name, message, now);
                }
            }
            Err(Malformed) => self.counts.refused += 1,
        }
    }

    fn handle_message(&mut self, name: &str, message: Message, now: Instant) {
        match message {
            Message::Found { .. } if !self.is_ready => {}
            Message::Found {
                number,
                reason,
                flows,
            } => {
                let excepted = flows
                    .into_iter()
                    .map(|located| Action::Except(located, reason));
                self.actions.extend(excepted);
                if number != 0 {
                    self.send(name, Message::Acknowledge(number), now);
                }
            }
            Message::Acknowledge(number) => {
                if let Some((_, link)) = self.members.get_mut(name) {
                    link.acknowledge(number, now);
                }
            }
            Message::Ask { question, flow } => {
                let node = name.to_owned();
                let inquiry = Inquiry { node, question };
                self.actions.push_back(Action::Look { inquiry, flow });
            }
            Message::Answer {
                question,
                flow,
                holder,
            } => {
                let addresses = self
                    .members
                    .get(name)
                    .map_or(&[][..], |(member, _)| &member.addresses);
                let who = (name, addresses);
                let verdict = self.locator.answer(question, &flow, who, holder, now);
                self.conclude(verdict, now);
            }
            Message::Nobody(flow) => self.deny(flow, now),
            Message::Recall(range) => {
                self.actions
                    .push_back(Action::Recall(name.to_owned(), range));
            }
            Message::Remember(chunk) => {
                let remembered = Action::Remembered(name.to_owned(), chunk);
                self.actions.push_back(remembered);
            }
            Message::Gossip(octets) => {
                let gossip = Action::Gossip(name.to_owned(), octets);
                self.actions.push_back(gossip);
            }
        }
    }

    /// The program says that a list of `origin` led to a flow here.
    pub fn handle_chain(&mut self, located: Located, origin: IpAddr, now: Instant) {
        if let Some((_, link)) = named(&mut self.members, origin) {
            self.counts.reported += 1;
            let found = Message::Found {
                number: 0,
                reason: Reason::Chain,
                flows: vec![located],
            };
            link.send(found, now);
        }
    }

    /// The program says that nobody on a list of `origin` (`None` for this node) has a flow.
    pub fn handle_unknown(&mut self, flow: FlowName, origin: Option<IpAddr>, now: Instant) {
        let origin = origin.filter(|origin| !self.own.contains(&Some(*origin)));
        let members = self.members.iter();
        let others = members.map(|(name, (member, _))| (name.as_str(), member.presence));
        match self.locator.ask(flow, origin, others, now) {
            Asked::Merged => self.counts.merged += 1,
            Asked::OverBudget => self.counts.over_budget += 1,
            Asked::Open(question) => {
                self.counts.asked += 1;
                self.put(question, flow, now);
            }
        }
    }

    /// Sends a question to those who have not answered.
    fn put(&mut self, question: u32, flow: FlowName, now: Instant) {
        let waiting: Vec<String> = self.locator.waiting(question).map(str::to_owned).collect();
        for node in waiting {
            if node == SELF {
                let inquiry = Inquiry { node, question };
                self.actions.push_back(Action::Look { inquiry, flow });
            } else {
                self.send(&node, Message::Ask { question, flow }, now);
            }
        }
    }

    /// Answers [`Action::Look`]: the pod of this node that has the flow, if one has.
    pub fn handle_look(
        &mut self,
        inquiry: &Inquiry,
        flow: FlowName,
        holder: Option<Holder>,
        now: Instant,
    ) {
        let question = inquiry.question;
        if inquiry.node == SELF {
            let verdict = self
                .locator
                .answer(question, &flow, (SELF, &[]), holder, now);
            self.conclude(verdict, now);
        } else {
            self.counts.answered += 1;
            let answer = Message::Answer {
                question,
                flow,
                holder,
            };
            self.send(&inquiry.node, answer, now);
        }
    }

    fn conclude(&mut self, verdicts: impl IntoIterator<Item = Verdict>, now: Instant) {
        for Verdict {
            flow,
            origin,
            outcome,
        } in verdicts
        {
            let origin = match origin {
                None => None,
                Some(addr) => match named(&mut self.members, addr) {
                    Some((name, _)) => Some(name.to_owned()),
                    // Gone meanwhile: there is nobody to tell.
                    None => continue,
                },
            };
            match (outcome, origin) {
                (Outcome::Uncertain, _) => self.counts.uncertain += 1,
                (Outcome::Found(pod), origin) => {
                    self.counts.found += 1;
                    let located = Located { flow, pod };
                    match origin {
                        Some(name) => self.tell(&name, Reason::Locate, [located], now),
                        None => {
                            let except = Action::Except(located, Reason::Locate);
                            self.actions.push_back(except);
                        }
                    }
                }
                (Outcome::Nobody, origin) => {
                    self.counts.nobody += 1;
                    match origin {
                        Some(name) => self.send(&name, Message::Nobody(flow), now),
                        None => self.deny(flow, now),
                    }
                }
            }
        }
    }

    fn deny(&mut self, flow: FlowName, now: Instant) {
        self.actions.push_back(Action::Deny(flow));
        self.denials.push_back((now + DENIAL, flow));
    }

    /// Tells a node where flows are that it will be asked for, until it acknowledges that.
    pub fn push(&mut self, node: &str, flows: impl IntoIterator<Item = Located>, now: Instant) {
        self.tell(node, Reason::Push, flows, now);
    }

    fn tell(
        &mut self,
        node: &str,
        reason: Reason,
        flows: impl IntoIterator<Item = Located>,
        now: Instant,
    ) {
        let mut flows = flows.into_iter().peekable();
        while flows.peek().is_some() {
            let mut length = 0;
            let mut some = Vec::new();
            while let Some(located) = flows.next_if(|next| length + next.length() <= FLOWS) {
                length += located.length();
                some.push(located);
            }
            let Some((member, link)) = self.members.get_mut(node) else {
                return;
            };
            if member.presence == Presence::Gone {
                return;
            }
            if reason == Reason::Push {
                self.counts.pushed += some.len() as u64;
            }
            // 0 wants no acknowledgement.
            self.number = self.number.checked_add(1).unwrap_or(1);
            let found = Message::Found {
                number: self.number,
                reason,
                flows: some,
            };
            link.send_surely(self.number, found, now);
        }
    }

    /// Messages that are not acknowledged yet.
    pub fn outstanding(&self) -> usize {
        let links = self.members.values();
        links.map(|(_, link)| link.outstanding()).sum()
    }

    /// Asks a node what slots remember.
    pub fn recall(&mut self, node: &str, range: Range, now: Instant) {
        self.send(node, Message::Recall(range), now);
    }

    /// Answers [`Action::Recall`].
    pub fn remember(&mut self, node: &str, chunks: Vec<Chunk>, now: Instant) {
        for chunk in chunks {
            self.send(node, Message::Remember(chunk), now);
        }
    }

    /// Tells a node something about the member list; lost before the node gave this one a ticket, and if it is
    /// longer than [`MAX_GOSSIP`].
    pub fn gossip(&mut self, node: &str, octets: Vec<u8>, now: Instant) {
        if let Some((_, link)) = self.members.get_mut(node)
            && octets.len() <= MAX_GOSSIP
        {
            link.send_or_lose(Message::Gossip(octets), now);
        }
    }

    /// Whoever asks is answered: a node that joins speaks before its program answers probes.
    fn send(&mut self, node: &str, message: Message, now: Instant) {
        if let Some((_, link)) = self.members.get_mut(node) {
            link.send(message, now);
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while self.denials.front().is_some_and(|(until, _)| *until <= now) {
            let denial = self.denials.pop_front();
            self.actions
                .extend(denial.map(|(_, flow)| Action::Doubt(flow)));
        }
        let (again, verdicts) = self.locator.handle_timeout(now);
        for (question, flow) in again {
            self.put(question, flow, now);
        }
        self.conclude(verdicts, now);
        for (_, link) in self.members.values_mut() {
            self.counts.unacknowledged += link.resend(now);
        }
        self.flush(now);
    }

    /// Puts messages whose time has come into datagrams.
    fn flush(&mut self, now: Instant) {
        for (member, link) in self.members.values_mut() {
            let own = |peer: IpAddr| {
                let mut own = self.own.iter().flatten();
                own.find(|own| own.is_ipv4() == peer.is_ipv4()).copied()
            };
            let mut addresses = member.addresses.iter();
            let path = addresses.find_map(|to| {
                Some(Path {
                    from: own(*to)?,
                    to: *to,
                })
            });
            while let Some((messages, ticket, sequence)) = link.poll(now) {
                let Some(path) = path else { continue };
                let envelope = Envelope {
                    kind: Kind::Messages,
                    epoch: self.epoch,
                    ticket,
                    sequence,
                };
                self.transmits.push_back(Transmit {
                    from: path.from,
                    to: SocketAddr::new(path.to, PORT),
                    payload: envelope.seal(self.key, path, &messages),
                });
            }
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let links = self.members.values();
        let links = links.filter_map(|(_, link)| link.poll_timeout());
        let denial = self.denials.front().map(|(until, _)| *until);
        links.chain(denial).chain(self.locator.poll_timeout()).min()
    }

    /// The names of nodes whose agents can be asked.
    pub fn live(&self) -> impl Iterator<Item = &str> {
        let members = self.members.iter();
        members
            .filter(|(_, (member, _))| member.presence == Presence::Live)
            .map(|(name, _)| name.as_str())
    }

    /// What happened since the start.
    pub const fn counts(&self) -> Counts {
        self.counts
    }
}

/// The node that has an address.
fn named(
    members: &mut BTreeMap<String, (Member, Link)>,
    addr: IpAddr,
) -> Option<(&str, &mut Link)> {
    members
        .iter_mut()
        .find(|(_, (member, _))| member.addresses.contains(&addr))
        .map(|(name, (_, link))| (name.as_str(), link))
}

#[cfg(test)]
mod tests;
