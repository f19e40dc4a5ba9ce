//! The member list: which agents there are, of which version, and whom each of
//! them takes for gone.
//!
//! SWIM by `foca`, spoken in messages of [`super::peer`], which sees to keys and replays. It informs people; nothing
//! else follows from it. Who lives is decided by [`super::liveness`] alone: whatever is suspected here
//! changes no table and no election.
//!
//! `wire` is the octets of an agent and of foca's messages, `word` what an agent says of those it takes for gone.
//!
//! Owned by one task, which feeds it datagrams and the time, and sends what it polls. Nothing here reads a clock.

mod wire;
mod word;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use foca::{Config, Foca, Notification, PeriodicParams, Runtime, Timer};
use rand::SeedableRng;
use rand::rngs::SmallRng;

use self::wire::Octets;
use self::word::{LAPSE, Listener, Word, Words};

/// How often agents that should be there, and are not, are called.
const CALL: Duration = Duration::from_secs(1);
/// How many of them at a time.
const CALLS: usize = 3;
/// How often the verdicts are told again while somebody is gone.
const REPEAT: Duration = Duration::from_secs(LAPSE.as_secs() / 3);
/// How long a member that is down is remembered.
const REMEMBER: Duration = Duration::from_secs(3_600);
/// Addresses that an agent tells of itself.
const ADDRESSES: usize = 4;
/// By how much an agent that was taken for down steps ahead, in milliseconds of epoch: past any former life of
/// its own whose clock ran ahead by less, and past the others after a few turns.
const STEP: u64 = 3_600_000;

/// An agent in one of its lives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Name of its node.
    pub name: String,
    /// Orders its lives: the later one wins.
    pub epoch: u64,
    /// Where it may be spoken to.
    pub addresses: Vec<IpAddr>,
    /// Its version.
    pub version: String,
}

impl foca::Identity for Identity {
    type Addr = String;

    fn renew(&self) -> Option<Self> {
        Some(self.at(self.epoch.saturating_add(STEP)))
    }

    fn addr(&self) -> String {
        self.name.clone()
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        self.epoch > adversary.epoch
    }
}

impl Identity {
    fn at(&self, epoch: u64) -> Self {
        Self {
            epoch,
            ..self.clone()
        }
    }
}

/// How gossip sees an agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Seen {
    /// It answers, or somebody says so.
    Alive,
    /// It did not answer, and may object still.
    Suspect,
    /// It did not object in time.
    Down,
    /// Never met.
    #[default]
    Unknown,
}

/// What is known of an agent.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Listed {
    /// How gossip sees it.
    pub seen: Seen,
    /// Its version; empty if it was never met.
    pub version: String,
    /// Where it says it may be spoken to.
    pub addresses: Vec<IpAddr>,
    /// Nodes whose agents take this node for gone.
    pub taken_for_gone_by: BTreeSet<String>,
}

/// All agents this one knows of.
pub struct MemberList {
    foca: Foca<Identity, Octets, SmallRng, Listener>,
    outbox: Outbox,
    words: Words,
    seeds: Vec<String>,
    /// The seed to call next.
    turn: usize,
    gone: BTreeSet<String>,
    number: u32,
    call: Instant,
    repeat: Instant,
}

/// What foca wants done.
struct Outbox {
    now: Instant,
    /// By deadline, then in order.
    timers: BTreeMap<(Instant, u64), Timer<Identity>>,
    started: u64,
    transmits: VecDeque<(String, Vec<u8>)>,
    /// Somebody answers to the identity of this agent.
    is_joined: bool,
    has_newcomer: bool,
}

impl MemberList {
    /// Knows this agent alone. Its epoch is to be higher than in any life before: the time of day in
    /// milliseconds. `seed` is random.
    pub fn new(name: String, version: String, epoch: u64, seed: u64, now: Instant) -> Self {
        let identity = Identity {
            name,
            epoch,
            addresses: Vec::new(),
            version,
        };
        let words = Words::new(now);
        Self {
            foca: Foca::with_custom_broadcast(
                identity,
                config(),
                SmallRng::seed_from_u64(seed),
                Octets,
                words.listener(),
            ),
            outbox: Outbox {
                now,
                timers: BTreeMap::new(),
                started: 0,
                transmits: VecDeque::new(),
                is_joined: false,
                has_newcomer: false,
            },
            words,
            seeds: Vec::new(),
            turn: usize::try_from(seed >> 32).unwrap_or(0),
            gone: BTreeSet::new(),
            number: 0,
            call: now,
            repeat: now,
        }
    }

    /// Gives the addresses at which this agent may be spoken to; a few of them are told.
    pub fn set_addresses(&mut self, addresses: &[IpAddr], now: Instant) {
        let addresses: Vec<IpAddr> = addresses.iter().copied().take(ADDRESSES).collect();
        let own = self.foca.identity();
        if own.addresses == addresses {
            return;
        }
        let identity = Identity {
            addresses,
            ..own.at(own.epoch.saturating_add(1))
        };
        self.outbox.now = now;
        // Fails for the same identity only, and where a message cannot be written.
        let _ = self.foca.change_identity(identity, &mut self.outbox);
        self.outbox.is_joined = false;
    }

    /// Names the other nodes whose agents should be there; they are called until they answer.
    pub fn set_seeds(&mut self, seeds: impl IntoIterator<Item = String>) {
        self.seeds = seeds.into_iter().collect();
    }

    /// Gives the nodes that this one takes for gone.
    pub fn set_gone(&mut self, gone: BTreeSet<String>, now: Instant) {
        if self.gone != gone {
            self.gone = gone;
            self.tell(now);
        }
    }

    /// Tells the verdicts of this node.
    fn tell(&mut self, now: Instant) {
        self.repeat = now + REPEAT;
        self.number = self.number.wrapping_add(1);
        let own = self.foca.identity();
        let word = Word {
            teller: own.name.clone(),
            epoch: own.epoch,
            number: self.number,
            gone: self.gone.clone(),
        };
        self.words.set_now(now);
        // What cannot be written is told to nobody; this node knows it.
        let _ = self.foca.add_broadcast(&word.written());
    }

    /// A datagram of a peer came: authentic, and not seen before.
    ///
    /// # Errors
    /// It is not as this version writes it.
    pub fn handle_datagram(&mut self, octets: &[u8], now: Instant) -> Result<(), foca::Error> {
        self.outbox.now = now;
        self.words.set_now(now);
        self.foca.handle_data(octets, &mut self.outbox)
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.outbox.now = now;
        while let Some(timer) = self.outbox.take_expired() {
            // It goes on with the next period by itself.
            let _ = self.foca.handle_timer(timer, &mut self.outbox);
        }
        let has_newcomer = std::mem::take(&mut self.outbox.has_newcomer);
        if !self.gone.is_empty() && (has_newcomer || self.repeat <= now) {
            self.tell(now);
        }
        if self.call <= now {
            self.call = now + CALL;
            self.words.forget_lapsed(now);
            self.call_missing();
        }
    }

    /// Calls some of those that should be there and are not, in turn.
    fn call_missing(&mut self) {
        let active = self.foca.iter_members().map(|member| &member.id().name);
        let active: BTreeSet<&String> = active.collect();
        let is_missing = |name: &&String| !self.outbox.is_joined || !active.contains(name);
        let missing: Vec<String> = self.seeds.iter().filter(is_missing).cloned().collect();
        let some = missing
            .iter()
            .cycle()
            .skip(self.turn % missing.len().max(1));
        for name in some.take(CALLS.min(missing.len())) {
            // Whoever has the name answers, in whichever life.
            let somebody = Identity {
                name: name.clone(),
                epoch: 0,
                addresses: Vec::new(),
                version: String::new(),
            };
            let _ = self.foca.announce(somebody, &mut self.outbox);
        }
        self.turn = self.turn.wrapping_add(CALLS);
    }

    /// The next message to send, and the name of the node it is for.
    pub fn poll_transmit(&mut self) -> Option<(String, Vec<u8>)> {
        self.outbox.transmits.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Instant {
        let timer = self.outbox.timers.keys().next().map(|(due, _)| *due);
        timer.map_or(self.call, |due| due.min(self.call))
    }

    /// Everybody by name, this agent too, and those that nobody but a verdict names.
    pub fn list(&self) -> BTreeMap<String, Listed> {
        let own = self.foca.identity();
        let mut list = BTreeMap::new();
        for member in self.foca.iter_membership_state() {
            list.insert(
                member.id().name.clone(),
                Listed::of(member.id(), member.state().into()),
            );
        }
        // Its former lives may be on the list.
        list.insert(own.name.clone(), Listed::of(own, Seen::Alive));
        let tells = |teller: &String| {
            let listed = list.get(teller);
            listed.is_some_and(|listed| matches!(listed.seen, Seen::Alive | Seen::Suspect))
        };
        let told = self.words.told().into_iter();
        let told = told.filter(|(teller, _)| *teller != own.name && tells(teller));
        let told: Vec<_> = told
            .chain([(own.name.clone(), self.gone.clone())])
            .collect();
        for (teller, gone) in told {
            for name in gone {
                let listed: &mut Listed = list.entry(name).or_default();
                listed.taken_for_gone_by.insert(teller.clone());
            }
        }
        list
    }
}

impl Listed {
    fn of(identity: &Identity, seen: Seen) -> Self {
        Self {
            seen,
            version: identity.version.clone(),
            addresses: identity.addresses.clone(),
            taken_for_gone_by: BTreeSet::new(),
        }
    }
}

impl From<foca::State> for Seen {
    fn from(state: foca::State) -> Self {
        match state {
            foca::State::Alive => Self::Alive,
            foca::State::Suspect => Self::Suspect,
            foca::State::Down => Self::Down,
        }
    }
}

impl Outbox {
    fn take_expired(&mut self) -> Option<Timer<Identity>> {
        let first = self.timers.first_entry()?;
        (first.key().0 <= self.now).then(|| first.remove())
    }
}

impl Runtime<Identity> for Outbox {
    fn notify(&mut self, notification: Notification<'_, Identity>) {
        match notification {
            Notification::Active => self.is_joined = true,
            Notification::Idle | Notification::Defunct | Notification::Rejoin(_) => {
                self.is_joined = false;
            }
            Notification::MemberUp(_) => self.has_newcomer = true,
            Notification::MemberDown(_) | Notification::Rename(..) => {}
        }
    }

    fn send_to(&mut self, to: Identity, data: &[u8]) {
        self.transmits.push_back((to.name, data.to_vec()));
    }

    fn submit_after(&mut self, event: Timer<Identity>, after: Duration) {
        self.started += 1;
        self.timers.insert((self.now + after, self.started), event);
    }
}

/// Calm rather than quick: nothing waits for it.
fn config() -> Config {
    let every = |seconds, members| PeriodicParams {
        frequency: Duration::from_secs(seconds),
        num_members: members,
    };
    let simple = Config::simple();
    let some = simple.num_indirect_probes;
    Config {
        probe_period: Duration::from_secs(1),
        probe_rtt: Duration::from_millis(300),
        suspect_to_down_after: Duration::from_secs(4),
        remove_down_after: Some(REMEMBER),
        max_packet_size: NonZeroUsize::MIN.saturating_add(super::peer::MAX_GOSSIP - 1),
        notify_down_members: true,
        periodic_announce: Some(every(30, NonZeroUsize::MIN)),
        periodic_announce_to_down_members: Some(every(15, NonZeroUsize::MIN)),
        periodic_gossip: Some(every(1, some)),
        ..simple
    }
}

#[cfg(test)]
mod tests;
