//! All BFD sessions of a node, and which of them a packet is for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::discard::{Discard, Discards};
use super::packet::{ControlPacket, Discriminator, LENGTH, State};
use super::session::{Change, Config, Session};
use crate::proto::timers::Jitter;

/// A session that is over is told to the peer for its detection time, and for no longer than this.
const LONGEST_FAREWELL: Duration = Duration::from_secs(5);

/// How far away the peer may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Hops {
    /// On the same link (RFC 5881).
    Single,
    /// Behind routers (RFC 5883).
    Multiple,
}

impl Hops {
    /// The UDP port that packets are sent to.
    pub const fn port(self) -> u16 {
        match self {
            Self::Single => 3784,
            Self::Multiple => 4784,
        }
    }
}

/// Whom a session is with, and over what path: at most one session each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Endpoint {
    /// The peer.
    pub remote: IpAddr,
    /// Index of the interface that the peer is behind, where its address does not say; else 0.
    pub interface: u32,
    /// Our address, where one is configured.
    pub local: Option<IpAddr>,
    /// How far away the peer may be.
    pub hops: Hops,
}

impl Endpoint {
    fn is_end_of(&self, arrival: &Arrival) -> bool {
        self.remote == arrival.from
            && [0, arrival.interface].contains(&self.interface)
            && self.local.is_none_or(|local| local == arrival.to)
            && self.hops == arrival.hops
    }
}

/// Whence a datagram came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Arrival {
    /// Its source.
    pub from: IpAddr,
    /// Its destination.
    pub to: IpAddr,
    /// Index of the interface that it came in at.
    pub interface: u32,
    /// By the port that it came to.
    pub hops: Hops,
    /// Its TTL or hop limit.
    pub ttl: u8,
}

/// A datagram to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Transmit {
    /// Whom to, and from where.
    pub endpoint: Endpoint,
    /// UDP payload.
    pub payload: [u8; LENGTH],
}

#[derive(Debug)]
struct Entry {
    endpoint: Endpoint,
    session: Session,
    /// The session is over; the peer is told until then.
    ends: Option<Instant>,
    /// TTL of the last packet, if it was refused for that.
    low_ttl: Option<u8>,
}

/// The sessions.
#[derive(Debug)]
pub struct Speaker {
    sessions: BTreeMap<Discriminator, Entry>,
    random: Jitter,
    discards: Discards,
}

impl Speaker {
    /// No sessions yet. `seed` is random, new at every start.
    pub fn new(seed: u64) -> Self {
        Self {
            sessions: BTreeMap::new(),
            random: Jitter::new(seed),
            discards: Discards::default(),
        }
    }

    /// Says which sessions there are to be. Those that are there go on, with new parameters if these are
    /// others; those that are not wanted any more tell their peers.
    pub fn handle_sessions(&mut self, wanted: &BTreeMap<Endpoint, Config>, now: Instant) {
        for entry in self.sessions.values_mut() {
            match wanted.get(&entry.endpoint) {
                Some(config) if entry.ends.is_none() => {
                    if config != entry.session.config() {
                        entry.session.handle_config(config.clone(), now);
                    }
                }
                _ => entry.end(now),
            }
        }
        for (endpoint, config) in wanted {
            let is_there = |entry: &Entry| entry.endpoint == *endpoint && entry.ends.is_none();
            if !self.sessions.values().any(is_there) {
                // A farewell to the same peer would contradict what comes.
                self.sessions.retain(|_, entry| entry.endpoint != *endpoint);
                let discriminator = self.new_discriminator();
                let seed = self.random.draw();
                let entry = Entry {
                    endpoint: *endpoint,
                    session: Session::new(config.clone(), discriminator, seed, now),
                    ends: None,
                    low_ttl: None,
                };
                self.sessions.insert(discriminator, entry);
            }
        }
    }

    /// A datagram came.
    pub fn handle_datagram(&mut self, arrival: &Arrival, payload: &[u8], now: Instant) {
        let taken = ControlPacket::decode(payload).and_then(|packet| {
            let entry = self.select(arrival, &packet)?;
            // A packet from afar must not get by the check of the TTL with a number it overheard.
            if entry.endpoint.hops != arrival.hops {
                return Err(Discard::Hops);
            }
            let is_far = arrival.ttl < entry.session.config().minimum_ttl;
            entry.low_ttl = is_far.then_some(arrival.ttl);
            if is_far {
                return Err(Discard::Ttl);
            }
            entry.session.handle_packet(&packet, now)
        });
        if let Err(reason) = taken {
            self.discards.count(reason);
        }
    }

    /// Acts on every timer whose deadline has come. What has come by then is to be handled before.
    pub fn handle_timeout(&mut self, now: Instant) {
        for entry in self.sessions.values_mut() {
            entry.session.handle_timeout(now);
        }
        self.sessions.retain(|_, entry| !entry.is_over(now));
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.sessions.values_mut().find_map(|entry| {
            let payload = entry.session.poll_transmit()?;
            Some(Transmit {
                endpoint: entry.endpoint,
                payload,
            })
        })
    }

    /// The next change of a session's state.
    pub fn poll_change(&mut self) -> Option<(Endpoint, Change)> {
        self.sessions.values_mut().find_map(|entry| {
            let change = entry.session.poll_change()?;
            Some((entry.endpoint, change))
        })
    }

    /// When to call [`Self::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timers = self.sessions.values().flat_map(|entry| {
            let timer = entry.session.poll_timeout().map(|(at, _)| at);
            timer.into_iter().chain(entry.ends)
        });
        timers.min()
    }

    /// The session of an endpoint, unless it is over.
    pub fn session(&self, endpoint: &Endpoint) -> Option<&Session> {
        self.entry(endpoint).map(|entry| &entry.session)
    }

    /// The TTL of the peer's last packet, if it was refused for having come too far.
    pub fn low_ttl(&self, endpoint: &Endpoint) -> Option<u8> {
        self.entry(endpoint)?.low_ttl
    }

    /// Every endpoint that something may still be sent to, or come from.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.sessions.values().map(|entry| &entry.endpoint)
    }

    /// Packets that were discarded.
    pub const fn discards(&self) -> &Discards {
        &self.discards
    }

    fn entry(&self, endpoint: &Endpoint) -> Option<&Entry> {
        let mut wanted = self.sessions.values().filter(|entry| entry.ends.is_none());
        wanted.find(|entry| entry.endpoint == *endpoint)
    }

    /// RFC 5880 §6.3: by the discriminator the peer returns; by addresses before it knows one.
    fn select(&mut self, arrival: &Arrival, packet: &ControlPacket) -> Result<&mut Entry, Discard> {
        if let Some(discriminator) = packet.your_discriminator {
            let entry = self.sessions.get_mut(&discriminator);
            return entry.ok_or(Discard::UnknownDiscriminator);
        }
        let mut entries = self.sessions.values_mut();
        let entry = entries.find(|entry| entry.endpoint.is_end_of(arrival));
        entry.ok_or(Discard::UnknownPeer)
    }

    fn new_discriminator(&mut self) -> Discriminator {
        loop {
            let number = (self.random.draw() >> 32) as u32;
            if let Some(number) = Discriminator::new(number)
                && !self.sessions.contains_key(&number)
            {
                return number;
            }
        }
    }
}

impl Entry {
    fn end(&mut self, now: Instant) {
        if self.ends.is_none() {
            // RFC 5880 §6.8.16, and before the pace becomes that of a session that is down.
            let interval = self.session.transmit_interval().unwrap_or_default();
            let farewell = interval * u32::from(self.session.config().detect_multiplier.get());
            self.ends = Some(now + farewell.min(LONGEST_FAREWELL));
            self.session.handle_admin_down(now);
        }
    }

    /// The time is up, or the peer has answered.
    fn is_over(&self, now: Instant) -> bool {
        let remote = self.session.remote();
        let knows = matches!(remote.state, State::Down | State::AdminDown);
        self.ends.is_some_and(|ends| now >= ends || knows)
    }
}

#[cfg(test)]
mod tests;
