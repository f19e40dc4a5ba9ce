//! Who answers ARP and NDP for which address: what agents tell each other, so
//! that a new leader begins when the old one has ended.
//!
//! Each agent tells every other one, whole, what it claims: at once when that changes, again after
//! [`RETRY`] and ever longer until the other has said that it knows, and every [`REFRESH`] which generation is
//! in force. `wire`
//! has the datagrams. What one says of an earlier life of itself, or of an earlier generation, is ignored, so a
//! datagram that is sent again by somebody else says nothing new.
//!
//! Owned by `tasks::layer2`. Nothing here decides who leads: `plan::announce::layer2` does, from this among
//! other things.

mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use lb_common::siphash::Key;

use self::wire::{Datagram, Part, Path};

/// UDP port of every agent.
pub const PORT: u16 = 17475;
/// Time after which what was not acknowledged is sent again; twice that the next time, up to [`REFRESH`].
pub const RETRY: Duration = Duration::from_millis(100);
/// Time between two datagrams to a node that knows everything.
pub const REFRESH: Duration = Duration::from_secs(1);

/// What a node claims.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Claim {
    /// Name of its compute port, at most 15 octets.
    pub interface: String,
    /// Its tables hold what its source says.
    pub is_ready: bool,
    /// The addresses it answers for.
    pub addresses: BTreeSet<IpAddr>,
}

/// A datagram to send.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// From which of this node's addresses.
    pub from: IpAddr,
    /// To whom.
    pub to: SocketAddr,
    /// UDP payload.
    pub payload: Vec<u8>,
}

/// One version of a claim: a node's life, and how many it had in it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
struct Version {
    epoch: u64,
    generation: u64,
}

#[derive(Debug, Default)]
struct Member {
    addresses: Vec<IpAddr>,
    /// What it said, unless that was forgotten.
    claim: Option<Claim>,
    /// The newest version that came whole.
    known: Version,
    /// The version of which parts have come.
    coming: Version,
    parts: BTreeMap<u16, Part>,
    /// What it knows of us.
    acknowledged: Version,
    next: Option<Instant>,
    /// Datagrams since it was heard last, or there was something new to say.
    unanswered: u32,
}

/// All that is claimed, as this node has heard it.
#[derive(Debug)]
pub struct Exchange {
    key: Key,
    version: Version,
    own: Claim,
    /// IPv4, IPv6.
    local: [Option<IpAddr>; 2],
    members: BTreeMap<String, Member>,
    transmits: VecDeque<Transmit>,
    changed: VecDeque<String>,
}

impl Exchange {
    /// Knows nobody. `epoch` is larger with every start of the agent, as the time of day is.
    pub fn new(key: Key, epoch: u64, own: Claim) -> Self {
        Self {
            key,
            version: Version {
                epoch,
                generation: 1,
            },
            own,
            local: [None; 2],
            members: BTreeMap::new(),
            transmits: VecDeque::new(),
            changed: VecDeque::new(),
        }
    }

    /// Gives the cluster's key.
    pub fn set_key(&mut self, key: Key) {
        self.key = key;
    }

    /// Gives this node's addresses of either family: those that datagrams leave from.
    pub fn set_local(&mut self, local: [Option<IpAddr>; 2]) {
        self.local = local;
    }

    /// Names the other nodes and where their agents are. Known ones keep what is known of them.
    pub fn set_members(&mut self, nodes: &BTreeMap<String, Vec<IpAddr>>, now: Instant) {
        self.members.retain(|name, _| nodes.contains_key(name));
        for (name, addresses) in nodes {
            let member = self.members.entry(name.clone()).or_default();
            member.addresses.clone_from(addresses);
            member.next.get_or_insert(now);
        }
    }

    /// Says what this node claims from now on.
    pub fn set_own(&mut self, own: Claim, now: Instant) {
        if self.own != own {
            self.own = own;
            self.version.generation += 1;
            for member in self.members.values_mut() {
                member.speak(now);
            }
        }
    }

    /// Holds nothing that was said for true any more, until it is said again.
    pub fn forget(&mut self, now: Instant) {
        for member in self.members.values_mut() {
            member.forget();
            member.speak(now);
        }
    }

    /// The same of one node, which is said to be gone; it will say what it claims when it is back.
    pub fn forget_node(&mut self, name: &str) {
        if let Some(member) = self.members.get_mut(name) {
            member.forget();
        }
    }

    /// A datagram came to one of this node's addresses.
    pub fn handle_datagram(&mut self, from: SocketAddr, to: IpAddr, payload: &[u8], now: Instant) {
        let path = Path {
            from: from.ip(),
            to,
        };
        let Some(datagram) = Datagram::open(self.key, path, payload) else {
            return;
        };
        let mut members = self.members.iter_mut();
        let Some((name, member)) =
            members.find(|(_, member)| member.addresses.contains(&path.from))
        else {
            return;
        };
        // A clock that was set back makes a life look earlier than the one before.
        if datagram.acknowledged.epoch > self.version.epoch {
            self.version.epoch = datagram.acknowledged.epoch + 1;
        }
        member.acknowledged = datagram.acknowledged;
        let brought = datagram.part.is_some();
        if let Some(part) = datagram.part
            && member.take(datagram.version, part)
        {
            self.changed.push_back(name.clone());
        }
        if brought || member.acknowledged != self.version {
            member.speak(now);
        }
    }

    /// The time of [`Self::poll_timeout`] has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let parts = wire::parts(&self.own);
        for member in self.members.values_mut() {
            if member.next.is_none_or(|at| at > now) {
                continue;
            }
            let is_known = member.acknowledged == self.version;
            let is_settled = is_known && member.claim.is_some();
            let patience = RETRY * (1 << member.unanswered.min(4));
            member.next = Some(
                now + if is_settled {
                    REFRESH
                } else {
                    REFRESH.min(patience)
                },
            );
            member.unanswered = member.unanswered.saturating_add(1);
            let local = self.local.iter().flatten();
            let paths: Vec<_> = local
                .flat_map(|from| member.addresses.iter().map(|to| (*from, *to)))
                .filter(|(from, to)| from.is_ipv4() == to.is_ipv4())
                .collect();
            // One way is enough while it is answered.
            let ways = if is_known { 1 } else { paths.len() };
            let contents = if is_known {
                vec![None]
            } else {
                parts.iter().cloned().map(Some).collect()
            };
            for (from, to) in paths.into_iter().take(ways) {
                for part in &contents {
                    let datagram = Datagram {
                        version: self.version,
                        acknowledged: member.acknowledgement(),
                        part: part.clone(),
                    };
                    self.transmits.push_back(Transmit {
                        from,
                        to: SocketAddr::new(to, PORT),
                        payload: datagram.seal(self.key, Path { from, to }),
                    });
                }
            }
        }
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next node that said something new.
    pub fn poll_event(&mut self) -> Option<String> {
        self.changed.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.members.values().filter_map(|member| member.next).min()
    }

    /// What each other node claims; nothing while it has not been heard.
    pub fn claims(&self) -> impl Iterator<Item = (&str, Option<&Claim>)> {
        let members = self.members.iter();
        members.map(|(name, member)| (name.as_str(), member.claim.as_ref()))
    }
}

impl Member {
    /// What is not acknowledged any more is sent again.
    fn forget(&mut self) {
        self.claim = None;
        self.coming = Version::default();
        self.parts.clear();
    }

    /// Has something said to it at once.
    fn speak(&mut self, now: Instant) {
        self.next = Some(now);
        self.unanswered = 0;
    }

    /// Takes a part of a version; says whether there is something new to know.
    fn take(&mut self, version: Version, part: Part) -> bool {
        let is_news = version > self.known || (version == self.known && self.claim.is_none());
        if !is_news || version < self.coming {
            return false;
        }
        if version > self.coming {
            self.coming = version;
            self.parts.clear();
        }
        let count = part.count;
        self.parts.insert(part.number, part);
        if self.parts.len() < usize::from(count) {
            return false;
        }
        let mut claim = Claim::default();
        for part in std::mem::take(&mut self.parts).into_values() {
            claim.interface = part.interface;
            claim.is_ready = part.is_ready;
            claim.addresses.extend(part.addresses);
        }
        self.known = version;
        self.coming = Version::default();
        let is_new = self.claim.as_ref() != Some(&claim);
        self.claim = Some(claim);
        is_new
    }

    /// What to say that is known of it.
    const fn acknowledgement(&self) -> Version {
        match self.claim {
            Some(_) => self.known,
            // Not what was forgotten, but how far it is: nothing earlier will do.
            None => Version {
                epoch: self.known.epoch,
                generation: 0,
            },
        }
    }
}

#[cfg(test)]
mod tests;
