//! Which nodes live: probes out, answers in, verdicts out.
//!
//! Purpose: a node lives while its XDP program answers. The program returns each probe with the age of
//! its agent's heartbeat, so a restart, an upgrade or a starved agent removes nobody, while a node whose
//! kernel is gone is out after [`SILENCE`].
//!
//! Owned by one task, which feeds it datagrams and the time and sends what it polls. Nothing here reads
//! a clock.
//!
//! The cut-off rule: a node that sees most of the others vanish within [`VANISH_WINDOW`] cannot tell
//! whether they died or it was cut off. It changes nothing, unless it heard its router within
//! [`ROUTER_SILENCE`]. With one other node, "most" is that node.
//!
//! Invariants
//! - A verdict is given only when it differs from the one before.
//! - A node that was never heard is not [`State::Gone`] before [`GRACE`] has passed since it was named.
//! - While [`Liveness::is_cut_off`], no node becomes [`State::Gone`].

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lb_common::probe::{FENCE_AGE_MS, Kind, LEN, Probe};
use lb_common::siphash::Key;

/// Time between two probes to a node.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Silence after which a node is gone.
pub const SILENCE: Duration = Duration::from_millis(500);
/// How long a node that was never heard counts as live.
pub const GRACE: Duration = Duration::from_secs(2);
/// Heartbeat age above which a node's agent counts as gone while its program answers.
pub const AGENT_SILENCE: Duration = Duration::from_secs(3);
/// Nodes lost within this time count as lost together.
pub const VANISH_WINDOW: Duration = Duration::from_secs(2);
/// How long after a sign of the router this node knows that it is not cut off.
pub const ROUTER_SILENCE: Duration = Duration::from_secs(1);

/// What is known of a node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Named, not heard yet, and still within the grace time: counts as live.
    Unheard,
    /// Program and agent answer.
    Live,
    /// The program answers, its agent is away: nothing changes for other nodes.
    AgentAway,
    /// Out of every table.
    Gone,
}

impl State {
    /// Whether packets may be sent to the node.
    pub const fn is_reachable(self) -> bool {
        !matches!(self, Self::Gone)
    }
}

/// A verdict that changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// Name of the node.
    pub node: String,
    /// What it is now.
    pub state: State,
}

/// A datagram to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// To whom.
    pub to: SocketAddr,
    /// UDP payload.
    pub payload: [u8; LEN],
}

#[derive(Debug)]
struct Member {
    addr: SocketAddr,
    named: Instant,
    /// The heartbeat age that the last answer told.
    age: Option<Duration>,
    /// When the first probe since the last answer went out.
    asked: Option<Instant>,
    /// Highest sequence answered.
    sequence: u64,
    state: State,
    /// When it became gone, and what it was before.
    lost: Option<(Instant, State)>,
}

impl Member {
    fn observed(&self, now: Instant) -> State {
        match self.age {
            None if now.duration_since(self.named) < GRACE => State::Unheard,
            None => State::Gone,
            Some(_)
                if self
                    .asked
                    .is_some_and(|at| now.duration_since(at) >= SILENCE) =>
            {
                State::Gone
            }
            Some(age) if age.as_millis() >= u128::from(FENCE_AGE_MS) => State::Gone,
            Some(age) if age >= AGENT_SILENCE => State::AgentAway,
            Some(_) => State::Live,
        }
    }

    fn lost_lately(&self, now: Instant) -> bool {
        self.lost.is_some_and(|(at, before)| {
            now.duration_since(at) < VANISH_WINDOW && before != State::Unheard
        })
    }
}

/// The liveness of all other nodes, as this node sees it.
#[derive(Debug)]
pub struct Liveness {
    key: Key,
    nonce: u64,
    sequence: u64,
    members: BTreeMap<String, Member>,
    next_probe: Instant,
    router: Option<Instant>,
    cut_off: bool,
    transmits: VecDeque<Transmit>,
    verdicts: VecDeque<Verdict>,
}

impl Liveness {
    /// Knows nobody. `nonce` is random, new at every start.
    pub fn new(key: Key, nonce: u64, now: Instant) -> Self {
        Self {
            key,
            nonce,
            sequence: 0,
            members: BTreeMap::new(),
            next_probe: now,
            router: None,
            cut_off: false,
            transmits: VecDeque::new(),
            verdicts: VecDeque::new(),
        }
    }

    /// Names the other nodes and where their programs answer. Known ones keep what is known of them.
    pub fn set_members(&mut self, nodes: &BTreeMap<String, SocketAddr>, now: Instant) {
        self.members.retain(|name, _| nodes.contains_key(name));
        for (name, addr) in nodes {
            let member = self.members.entry(name.clone()).or_insert_with(|| Member {
                addr: *addr,
                named: now,
                age: None,
                asked: None,
                sequence: 0,
                state: State::Unheard,
                lost: None,
            });
            member.addr = *addr;
        }
    }

    /// A datagram came to the probe socket.
    pub fn handle_datagram(&mut self, from: SocketAddr, payload: &[u8], now: Instant) {
        let Some(probe) = Probe::from_bytes(self.key, payload) else {
            return;
        };
        let is_ours = probe.kind == Kind::Answer
            && probe.nonce == self.nonce
            && probe.sequence <= self.sequence;
        if !is_ours {
            return;
        }
        let member = self
            .members
            .values_mut()
            .find(|m| m.addr == from && m.sequence < probe.sequence);
        if let Some(member) = member {
            member.sequence = probe.sequence;
            member.age = Some(Duration::from_millis(probe.age_ms));
            member.asked = None;
            self.judge(now);
        }
    }

    /// The router was heard: its BGP session is Established, or the gateway answered ARP or ND.
    pub fn handle_router(&mut self, now: Instant) {
        self.router = Some(now);
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.next_probe {
            // A process that was stopped was deaf as well: it blames nobody for that time.
            let was_stopped = now >= self.next_probe + INTERVAL;
            self.next_probe = now + INTERVAL;
            for member in self.members.values_mut() {
                let asked = member.asked.filter(|_| !was_stopped);
                member.asked = asked.or(Some(now));
            }
            self.sequence += 1;
            let request = Probe {
                kind: Kind::Request,
                sequence: self.sequence,
                nonce: self.nonce,
                age_ms: 0,
            };
            let payload = request.to_bytes(self.key);
            self.transmits
                .extend(self.members.values().map(|m| Transmit {
                    to: m.addr,
                    payload,
                }));
        }
        self.judge(now);
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next verdict that changed.
    pub fn poll_verdict(&mut self) -> Option<Verdict> {
        self.verdicts.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Instant {
        self.next_probe
    }

    /// What is known of each node.
    pub fn states(&self) -> impl Iterator<Item = (&str, State)> {
        self.members
            .iter()
            .map(|(name, member)| (name.as_str(), member.state))
    }

    /// Whether most others vanished together while the router is silent.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    fn judge(&mut self, now: Instant) {
        let counted =
            |m: &&Member| m.lost_lately(now) || matches!(m.state, State::Live | State::AgentAway);
        let known = self.members.values().filter(counted).count();
        let lost = self
            .members
            .values()
            .filter(counted)
            .filter(|m| m.observed(now) == State::Gone)
            .count();
        let hears_router = self
            .router
            .is_some_and(|heard| now.duration_since(heard) < ROUTER_SILENCE);
        self.cut_off = lost * 2 > known && !hears_router;

        for (name, member) in &mut self.members {
            let mut state = member.observed(now);
            if state == State::Gone && self.cut_off {
                state = match member.lost {
                    Some((_, before)) if member.lost_lately(now) => before,
                    _ => member.state,
                };
            }
            if state == member.state {
                continue;
            }
            member.lost = (state == State::Gone).then_some((now, member.state));
            member.state = state;
            self.verdicts.push_back(Verdict {
                node: name.clone(),
                state,
            });
        }
    }
}

#[cfg(test)]
mod tests;
