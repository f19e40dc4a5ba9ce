//! Which nodes live: probes out, answers in, verdicts out.
//!
//! Purpose: a node lives while its XDP program answers. The program returns each probe with the age of
//! its agent's heartbeat, so a restart, an upgrade or a starved agent removes nobody, while a node whose
//! kernel is gone is out after [`SILENCE`].
//!
//! Owned by one task, which feeds it datagrams and the time and sends what it polls. Nothing here reads
//! a clock.
//!
//! The cut-off rule: a node that sees most of the others vanish within [`VANISH_WINDOW`], or hears nobody
//! at all, cannot tell whether they died or it was cut off. It changes nothing, unless it heard its router
//! within [`ROUTER_SILENCE`], and since it began to suspect them. With one other node, "most" is that node. Whoever
//! comes back from being cut off gives all others a whole [`SILENCE`] again.
//!
//! Silence is counted in unanswered probes as well as in time, so that an agent which was stopped or starved,
//! and deaf for as long, blames nobody for it.
//!
//! Invariants
//! - A verdict is given only when it differs from the one before.
//! - A node that was never heard is not [`State::Gone`] before [`GRACE`] has passed since it was named.
//! - While [`Liveness::is_cut_off`], no node becomes [`State::Gone`].

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lb_common::probe::{FENCE_AGE_MS, Kind, LEN, PORT, Probe};
use lb_common::siphash::Key;

/// Time between two probes to a node.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// Silence after which a node is gone.
pub const SILENCE: Duration = Duration::from_millis(500);
/// Probes that must have gone unanswered in that time.
pub const SILENT_PROBES: u32 = 5;
/// Unanswered probes after which all addresses of a node are tried and the router is asked for.
pub const SUSPECT_PROBES: u32 = 2;
/// How long a node that was never heard counts as live.
pub const GRACE: Duration = Duration::from_secs(1);
/// Heartbeat age above which a node's agent counts as gone while its program answers.
pub const AGENT_SILENCE: Duration = Duration::from_secs(3);
/// Nodes lost within this time count as lost together.
pub const VANISH_WINDOW: Duration = Duration::from_secs(2);
/// How long a node that was cut off waits for others before it calls them silent: the kernel, which has to find
/// them on the segment again, asks once a second (RFC 4861 §10, and the same for ARP).
pub const RETURN: Duration = Duration::from_millis(2_500);
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

/// A node as it was heard last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Heard {
    /// When.
    pub at: Instant,
    /// From which of its addresses.
    pub from: IpAddr,
    /// The age of its agent's heartbeat at that time.
    pub heartbeat_age: Duration,
}

#[derive(Debug)]
struct Member {
    /// Where its program may answer; never empty.
    addresses: Vec<IpAddr>,
    named: Instant,
    heard: Option<Heard>,
    /// When the first probe since the last answer went out.
    asked: Option<Instant>,
    /// Probes that went out since the last answer.
    unanswered: u32,
    /// It is not called silent before.
    spared: Option<Instant>,
    /// Highest sequence answered.
    sequence: u64,
    state: State,
    /// When it became gone, and what it was before.
    lost: Option<(Instant, State)>,
}

impl Member {
    fn new(named: Instant) -> Self {
        Self {
            addresses: Vec::new(),
            named,
            heard: None,
            asked: None,
            unanswered: 0,
            spared: None,
            sequence: 0,
            state: State::Unheard,
            lost: None,
        }
    }

    fn observed(&self, now: Instant) -> State {
        match self.heard {
            None if now.duration_since(self.named) < GRACE => State::Unheard,
            None => State::Gone,
            Some(_) if self.is_silent(now) => State::Gone,
            Some(heard) if heard.heartbeat_age.as_millis() >= u128::from(FENCE_AGE_MS) => {
                State::Gone
            }
            Some(heard) if heard.heartbeat_age >= AGENT_SILENCE => State::AgentAway,
            Some(_) => State::Live,
        }
    }

    fn is_silent(&self, now: Instant) -> bool {
        self.spared.is_none_or(|until| now >= until)
            && self.unanswered >= SILENT_PROBES
            && self
                .asked
                .is_some_and(|at| now.duration_since(at) >= SILENCE)
    }

    fn is_suspect(&self) -> bool {
        self.unanswered >= SUSPECT_PROBES
    }

    fn lost_lately(&self, now: Instant) -> bool {
        self.lost.is_some_and(|(at, before)| {
            now.duration_since(at) < VANISH_WINDOW && before != State::Unheard
        })
    }

    /// Where to send the next probe: where the last answer came from, or everywhere if there is none.
    fn targets(&self) -> impl Iterator<Item = SocketAddr> {
        let only = self
            .heard
            .map(|heard| heard.from)
            .filter(|_| !self.is_suspect());
        self.addresses
            .iter()
            .filter(move |addr| only.is_none_or(|only| only == **addr))
            .map(|addr| SocketAddr::new(*addr, PORT))
    }

    /// Starts the silence anew.
    fn forgive(&mut self, now: Instant) {
        self.asked = None;
        self.unanswered = 0;
        if self.heard.is_none() {
            self.named = now;
        }
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

    /// Names the other nodes and the addresses where their programs may answer; a node without any is left
    /// out. Known ones keep what is known of them.
    pub fn set_members(&mut self, nodes: &BTreeMap<String, Vec<IpAddr>>, now: Instant) {
        self.members
            .retain(|name, _| nodes.get(name).is_some_and(|addrs| !addrs.is_empty()));
        for (name, addresses) in nodes.iter().filter(|(_, addrs)| !addrs.is_empty()) {
            let member = self
                .members
                .entry(name.clone())
                .or_insert_with(|| Member::new(now));
            member.addresses.clone_from(addresses);
        }
        self.judge(now);
    }

    /// Gives the cluster's key. With another one, nodes that were not gone have [`GRACE`] to take it too.
    pub fn set_key(&mut self, key: Key, now: Instant) {
        if self.key == key {
            return;
        }
        self.key = key;
        for member in self.members.values_mut() {
            if member.state.is_reachable() {
                member.heard = None;
                member.forgive(now);
            }
        }
    }

    /// A datagram came to the probe socket.
    pub fn handle_datagram(&mut self, from: SocketAddr, payload: &[u8], now: Instant) {
        let Some(probe) = Probe::from_bytes(self.key, payload) else {
            return;
        };
        let is_ours = probe.kind == Kind::Answer
            && probe.nonce == self.nonce
            && probe.sequence <= self.sequence
            && from.port() == PORT;
        if !is_ours {
            return;
        }
        let from = from.ip();
        let member = self
            .members
            .values_mut()
            .find(|member| member.sequence < probe.sequence && member.addresses.contains(&from));
        if let Some(member) = member {
            member.sequence = probe.sequence;
            member.heard = Some(Heard {
                at: now,
                from,
                heartbeat_age: Duration::from_millis(probe.age_ms),
            });
            member.asked = None;
            member.unanswered = 0;
            self.judge(now);
        }
    }

    /// The router was heard at that time, which may have passed.
    pub fn handle_router(&mut self, at: Instant) {
        self.router = self.router.max(Some(at));
    }

    /// The time of [`Self::poll_timeout`] has come. What has come by then is to be handled before.
    pub fn handle_timeout(&mut self, now: Instant) {
        // First, of what went out before: nobody could answer what goes out here.
        self.judge(now);
        if now < self.next_probe {
            return;
        }
        self.next_probe = now + INTERVAL;
        self.sequence += 1;
        let request = Probe {
            kind: Kind::Request,
            sequence: self.sequence,
            nonce: self.nonce,
            age_ms: 0,
        };
        let payload = request.to_bytes(self.key);
        for member in self.members.values_mut() {
            let targets = member.targets().map(|to| Transmit { to, payload });
            self.transmits.extend(targets);
            member.asked.get_or_insert(now);
            member.unanswered = member.unanswered.saturating_add(1);
        }
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

    /// What is known of each node: its verdict, and how it was heard last.
    pub fn members(&self) -> impl Iterator<Item = (&str, State, Option<Heard>)> {
        self.members
            .iter()
            .map(|(name, member)| (name.as_str(), member.state, member.heard))
    }

    /// Whether most others vanished together, or nobody is heard, while the router is silent.
    pub fn is_cut_off(&self) -> bool {
        self.cut_off
    }

    /// When the router was heard last.
    pub fn router(&self) -> Option<Instant> {
        self.router
    }

    /// Whether it matters by now if the router is heard.
    pub fn wants_router(&self, now: Instant) -> bool {
        let doubts = |member: &Member| {
            member.is_suspect() && (member.state.is_reachable() || member.lost_lately(now))
        };
        self.cut_off || self.members.values().any(doubts)
    }

    fn seems_cut_off(&self, now: Instant) -> bool {
        let (mut known, mut lost) = (0, 0);
        let (mut heard, mut pending) = (0, 0);
        // When those were suspected first whose silence is to be explained: a router that answered before may
        // have been lost together with them.
        let mut since = None;
        for member in self.members.values() {
            let is_lost = member.observed(now) == State::Gone;
            let is_known = matches!(member.state, State::Live | State::AgentAway);
            if is_known || member.lost_lately(now) {
                known += 1;
                lost += usize::from(is_lost);
            }
            heard += usize::from(member.heard.is_some() && !is_lost);
            pending += usize::from(is_lost && member.state.is_reachable());
            if is_lost && (member.state.is_reachable() || member.lost_lately(now)) {
                let suspected = member.asked.map(|at| at + INTERVAL * SUSPECT_PROBES);
                since = [since, suspected].into_iter().flatten().min();
            }
        }
        let hears_router = self.router.is_some_and(|at| {
            now.saturating_duration_since(at) < ROUTER_SILENCE
                && since.is_none_or(|since| at >= since)
        });
        !hears_router && (lost * 2 > known || (heard == 0 && pending > 0))
    }

    fn judge(&mut self, now: Instant) {
        let was_cut_off = self.cut_off;
        self.cut_off = self.seems_cut_off(now);
        if was_cut_off && !self.cut_off {
            for member in self.members.values_mut() {
                if member.observed(now) == State::Gone && member.state.is_reachable() {
                    member.forgive(now);
                    member.spared = Some(now + RETURN);
                }
            }
        }
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
