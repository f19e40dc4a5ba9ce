//! The member list at work: whom this agent calls, whom it heard of, and what
//! it publishes.
//!
//! Agents that the source does not name are spoken to about the member list alone: they count as
//! [`Presence::Gone`], so that no question about a flow waits for them, and no table knows them.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::Instant;

use tokio::sync::watch;
use tracing::debug;

use crate::net::clock;
use crate::proto::liveness::State;
use crate::proto::members::{Listed, MemberList, Seen};
use crate::proto::peer::{Member, Peer, Presence};
use crate::tasks::liveness::Members;

/// What is known of all agents, by node.
pub type Roster = BTreeMap<String, Listed>;

/// Agents that the command line names: where to speak to them.
pub type Called = BTreeMap<String, Vec<IpAddr>>;

/// The member list and those it is for.
pub struct Gossip {
    node: String,
    list: MemberList,
    called: Called,
    output: watch::Sender<Roster>,
}

impl Gossip {
    /// Of this node.
    pub fn new(node: String, called: Called, output: watch::Sender<Roster>) -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let seed = RandomState::new().hash_one(0_u8);
        let epoch = u64::try_from(clock::wall().as_millis()).unwrap_or(u64::MAX);
        let list = MemberList::new(node.clone(), version, epoch, seed, clock::now());
        Self {
            node,
            list,
            called,
            output,
        }
    }

    /// Adds those that the source does not name, calls everybody who should be there, and publishes.
    pub(super) fn follow(
        &mut self,
        known: &mut BTreeMap<String, Member>,
        members: &Members,
        now: Instant,
    ) {
        for (name, addresses) in &self.called {
            if *name == self.node {
                continue;
            }
            let member = known.entry(name.clone()).or_insert_with(stranger);
            for addr in addresses {
                if !member.addresses.contains(addr) {
                    member.addresses.push(*addr);
                }
            }
        }
        self.list.set_seeds(known.keys().cloned());
        let gone = members.nodes.iter();
        let gone = gone.filter(|(_, (state, _))| *state == State::Gone);
        let gone = gone.map(|(name, _)| name.clone()).collect();
        self.list.set_gone(gone, now);

        let roster = self.list.list();
        let own = roster.get(&self.node).into_iter();
        let own = own.flat_map(|own| own.addresses.iter().copied());
        let members = known.values();
        let taken = members.flat_map(|member| member.addresses.iter().copied());
        let mut taken: BTreeSet<IpAddr> = taken.chain(own).collect();
        for (name, listed) in &roster {
            let is_there = matches!(listed.seen, Seen::Alive | Seen::Suspect);
            if *name == self.node || !is_there || known.contains_key(name) {
                continue;
            }
            // Nobody takes over the address of another.
            let free = listed.addresses.iter().copied();
            let addresses: Vec<IpAddr> = free.filter(|addr| taken.insert(*addr)).collect();
            let member = Member {
                addresses,
                ..stranger()
            };
            known.insert(name.clone(), member);
        }
        self.output.send_if_modified(|published| {
            let is_new = *published != roster;
            *published = roster;
            is_new
        });
    }

    /// Gives the addresses at which this agent is spoken to.
    pub(super) fn set_addresses(&mut self, addresses: &[IpAddr], now: Instant) {
        self.list.set_addresses(addresses, now);
    }

    /// A peer said something.
    pub(super) fn handle(&mut self, from: &str, octets: &[u8], now: Instant) {
        if let Err(error) = self.list.handle_datagram(octets, now) {
            debug!(from, "gossip: {error}");
        }
    }

    /// Does what is due, and says what is to be said.
    pub(super) fn proceed(&mut self, peer: &mut Peer, now: Instant) {
        if self.list.poll_timeout() <= now {
            self.list.handle_timeout(now);
        }
        while let Some((node, octets)) = self.list.poll_transmit() {
            peer.gossip(&node, octets, now);
        }
    }

    pub(super) fn poll_timeout(&self) -> Instant {
        self.list.poll_timeout()
    }
}

const fn stranger() -> Member {
    Member {
        addresses: Vec::new(),
        presence: Presence::Gone,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agents_of_the_command_line_are_spoken_to_and_asked_for_no_flow() {
        let addr = |last: u8| IpAddr::from([192, 0, 2, last]);
        let called = [("a", 11), ("b", 12), ("c", 13)];
        let called = called.map(|(name, last)| (name.to_owned(), vec![addr(last)]));
        let (output, roster) = watch::channel(Roster::new());
        let mut gossip = Gossip::new("a".into(), called.into(), output);
        let member = |addresses, presence| Member {
            addresses,
            presence,
        };
        let named = member(vec![addr(22)], Presence::Live);
        let mut known = BTreeMap::from([("b".to_owned(), named)]);
        let gone = ("d".to_owned(), (State::Gone, None));
        let members = Members {
            nodes: [gone].into(),
            ..Members::default()
        };
        gossip.follow(&mut known, &members, clock::now());
        let wanted = [
            ("b", member(vec![addr(22), addr(12)], Presence::Live)),
            ("c", member(vec![addr(13)], Presence::Gone)),
        ];
        assert_eq!(
            known,
            wanted.map(|(name, one)| (name.to_owned(), one)).into()
        );
        let roster = roster.borrow();
        assert_eq!(roster["a"].seen, Seen::Alive);
        assert_eq!(roster["d"].seen, Seen::Unknown);
        assert_eq!(roster["d"].taken_for_gone_by, ["a".to_owned()].into());
    }
}
