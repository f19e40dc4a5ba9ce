//! What slots remember, in pieces that fit datagrams, and their collection by
//! an agent that joins.
//!
//! A piece names the pods that occur in it once, and each slot's owners by their places in that list. A table
//! that equals the asker's and remembers nobody else is said to do so without its slots.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::flow::{Family, Frontend, end_length, read_end, read_family, write_end, write_family};
use super::wire::{Malformed, Reader};

/// How many owners a slot remembers, today's included.
pub const DEPTH: usize = lb_common::maps::Slot::DEPTH;

/// The owners of a slot, newest first.
pub type Owners = [Option<SocketAddr>; DEPTH];

/// Slots that one question asks for.
const RANGE: u32 = 4_096;
/// Octets of slots and pods in a chunk, so that it fits a datagram.
const ROOM: usize = 1_100;
/// Frontends that are asked for at a time.
const WINDOW: usize = 64;
/// How long an answer may take before the question is asked again.
const RETRY: Duration = Duration::from_millis(100);
/// How often a peer is asked in vain before another is.
const TRIES: u32 = 3;
/// How many peers are asked for a frontend that none knows.
const PEERS: usize = 3;
/// Slots that a table can have.
const LONGEST: u32 = 1 << 24;

/// Slots that somebody wants to know of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    /// Whose.
    pub frontend: Frontend,
    /// The first.
    pub from: u32,
    /// The one behind the last.
    pub to: u32,
    /// Digest of the asker's own table.
    pub digest: u64,
}

/// What slots remember.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// Whose.
    pub frontend: Frontend,
    /// How many slots the frontend has; 0 if it is not known here.
    pub length: u32,
    /// The first slot of this chunk.
    pub from: u32,
    /// How many slots it is about.
    pub count: u32,
    /// The pods that own or owned them.
    pub pods: Vec<SocketAddr>,
    /// By slot: the places of its owners in `pods` plus one, newest first; 0 is nobody. Empty says that the
    /// slots are as the asker's and remember nobody.
    pub owners: Vec<[u8; DEPTH]>,
}

fn write_frontend(frontend: &Frontend, out: &mut Vec<u8>) {
    write_family(frontend.vip.ip(), out);
    out.push(frontend.protocol);
    write_end(frontend.vip, out);
}

fn read_frontend(reader: &mut Reader<'_>) -> Result<Frontend, Malformed> {
    let family = read_family(reader)?;
    let protocol = reader.u8()?;
    let vip = read_end(family, reader)?;
    Ok(Frontend { vip, protocol })
}

impl Range {
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_frontend(&self.frontend, out);
        out.extend(self.from.to_be_bytes());
        out.extend(self.to.to_be_bytes());
        out.extend(self.digest.to_be_bytes());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self {
            frontend: read_frontend(reader)?,
            from: reader.u32()?,
            to: reader.u32()?,
            digest: reader.u64()?,
        })
    }

    pub(super) const fn length(&self) -> usize {
        2 + end_length(self.frontend.vip) + 16
    }

    /// What is answered where the frontend is not known.
    pub const fn unknown(&self) -> Chunk {
        Chunk {
            frontend: self.frontend,
            length: 0,
            from: 0,
            count: 0,
            pods: Vec::new(),
            owners: Vec::new(),
        }
    }

    /// What is answered where the table equals the asker's and remembers nobody.
    pub fn nothing(&self, length: u32) -> Chunk {
        let (from, to) = self.within(length);
        Chunk {
            length,
            from,
            count: to - from,
            ..self.unknown()
        }
    }

    /// What is answered otherwise, from a table of that many slots.
    pub fn chunks(&self, length: u32, owners: impl Fn(u32) -> Owners) -> Vec<Chunk> {
        let (from, to) = self.within(length);
        let mut chunks = Vec::new();
        let mut chunk = Chunk {
            length,
            from,
            ..self.unknown()
        };
        let mut room = ROOM;
        for index in from..to {
            let owners = owners(index);
            let pod_length = end_length(self.frontend.vip);
            if room < DEPTH * (1 + pod_length) || chunk.pods.len() + DEPTH > usize::from(u8::MAX) {
                let next = Chunk {
                    length,
                    from: index,
                    ..self.unknown()
                };
                chunks.push(std::mem::replace(&mut chunk, next));
                room = ROOM;
            }
            let known = chunk.pods.len();
            chunk.add(owners);
            room -= DEPTH + (chunk.pods.len() - known) * pod_length;
        }
        chunks.push(chunk);
        chunks
    }

    fn within(&self, length: u32) -> (u32, u32) {
        let from = self.from.min(length);
        (
            from,
            self.to.min(length).clamp(from, from.saturating_add(RANGE)),
        )
    }
}

impl Chunk {
    fn add(&mut self, owners: Owners) {
        let pods = &mut self.pods;
        self.owners.push(owners.map(|owner| {
            let Some(owner) = owner else { return 0 };
            let place = pods
                .iter()
                .position(|pod| *pod == owner)
                .unwrap_or_else(|| {
                    pods.push(owner);
                    pods.len() - 1
                });
            (place + 1) as u8
        }));
        self.count += 1;
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        write_frontend(&self.frontend, out);
        for number in [self.length, self.from, self.count] {
            out.extend(number.to_be_bytes());
        }
        out.push(self.pods.len() as u8);
        self.pods.iter().for_each(|pod| write_end(*pod, out));
        self.owners.iter().for_each(|owners| out.extend(owners));
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, Malformed> {
        let frontend = read_frontend(reader)?;
        let [length, from, count] = [reader.u32()?, reader.u32()?, reader.u32()?];
        let family = Family::of(frontend.vip);
        let pods = (0..reader.u8()?)
            .map(|_| read_end(family, reader))
            .collect::<Result<Vec<_>, _>>()?;
        let mut owners = Vec::new();
        while !reader.is_empty() {
            let places: [u8; DEPTH] = reader.array()?;
            if places.iter().any(|place| usize::from(*place) > pods.len()) {
                return Err(Malformed);
            }
            owners.push(places);
        }
        let is_within = from.checked_add(count).is_some_and(|end| end <= length);
        let is_whole = owners.is_empty() || owners.len() == count as usize;
        if !is_within || !is_whole || length > LONGEST {
            return Err(Malformed);
        }
        Ok(Self {
            frontend,
            length,
            from,
            count,
            pods,
            owners,
        })
    }

    pub(super) fn length(&self) -> usize {
        let pods: usize = self.pods.iter().map(|pod| end_length(*pod)).sum();
        2 + end_length(self.frontend.vip) + 13 + pods + self.owners.len() * DEPTH
    }

    fn slots(&self) -> impl Iterator<Item = Owners> {
        let nobody = [[0; DEPTH]].into_iter().cycle();
        let owners = self.owners.iter().copied().chain(nobody);
        let pod = |place: u8| self.pods.get(usize::from(place).checked_sub(1)?).copied();
        owners
            .take(self.count as usize)
            .map(move |places| places.map(pod))
    }
}

/// All slots of a frontend, as a peer remembers them; a slot without any owner is as one's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct History {
    /// Whose.
    pub frontend: Frontend,
    /// Owners by slot.
    pub slots: Vec<Owners>,
}

/// A frontend that is being asked for.
#[derive(Debug)]
struct Partial {
    digest: u64,
    /// The place of the peer that is asked.
    peer: usize,
    slots: Vec<Option<Owners>>,
    /// Slots below this one were asked for.
    asked: u32,
    due: Option<Instant>,
    tries: u32,
}

/// The collection of histories by an agent that has none.
#[derive(Debug)]
pub struct Fetch {
    peers: Vec<String>,
    wanted: BTreeMap<Frontend, Partial>,
    done: Vec<History>,
    unknown: usize,
}

impl Fetch {
    /// Wants the histories of frontends, each with the digest of the own table, from one of the peers.
    pub fn new(frontends: impl IntoIterator<Item = (Frontend, u64)>, peers: Vec<String>) -> Self {
        let partial = |digest| Partial {
            digest,
            peer: 0,
            slots: Vec::new(),
            asked: 0,
            due: None,
            tries: 0,
        };
        let frontends = frontends.into_iter();
        let mut fetch = Self {
            wanted: frontends
                .map(|(name, digest)| (name, partial(digest)))
                .collect(),
            peers,
            done: Vec::new(),
            unknown: 0,
        };
        if fetch.peers.is_empty() {
            fetch.unknown = fetch.wanted.len();
            fetch.wanted.clear();
        }
        fetch
    }

    /// The next questions, each with the peer that it is for.
    pub fn poll(&mut self, now: Instant) -> Vec<(String, Range)> {
        self.wanted.retain(|_, partial| {
            if partial.due.is_some_and(|due| due <= now) {
                partial.due = None;
                partial.tries += 1;
                if partial.tries >= TRIES {
                    partial.turn();
                }
            }
            let has_peer = partial.peer < self.peers.len().min(PEERS);
            self.unknown += usize::from(!has_peer);
            has_peer
        });
        let mut room = WINDOW.saturating_sub(
            self.wanted
                .values()
                .filter(|partial| partial.due.is_some())
                .count(),
        );
        let mut questions = Vec::new();
        for (frontend, partial) in &mut self.wanted {
            if room == 0 {
                break;
            }
            if partial.due.is_some() {
                continue;
            }
            let Some(peer) = self.peers.get(partial.peer) else {
                continue;
            };
            room -= 1;
            let from = partial.missing();
            partial.asked = from.saturating_add(RANGE);
            partial.due = Some(now + RETRY);
            questions.push((
                peer.clone(),
                Range {
                    frontend: *frontend,
                    from,
                    to: partial.asked,
                    digest: partial.digest,
                },
            ));
        }
        questions
    }

    /// A chunk came from a peer; [`Self::poll`] again.
    pub fn handle_chunk(&mut self, peer: &str, chunk: &Chunk) {
        let Some(partial) = self.wanted.get_mut(&chunk.frontend) else {
            return;
        };
        if self
            .peers
            .get(partial.peer)
            .is_none_or(|asked| asked != peer)
        {
            return;
        }
        if chunk.length == 0 {
            partial.turn();
            return;
        }
        let length = chunk.length as usize;
        if partial.slots.len() != length {
            // It has grown meanwhile: what was heard before is of another table.
            partial.slots = vec![None; length];
            partial.asked = RANGE;
        }
        let slots = partial.slots.iter_mut().skip(chunk.from as usize);
        for (slot, owners) in slots.zip(chunk.slots()) {
            *slot = Some(owners);
        }
        let missing = partial.missing();
        if missing == chunk.length {
            if let Some(partial) = self.wanted.remove(&chunk.frontend) {
                self.done.push(History {
                    frontend: chunk.frontend,
                    slots: partial.slots.into_iter().flatten().collect(),
                });
            }
        } else if missing >= partial.asked {
            partial.due = None;
            partial.tries = 0;
        }
    }

    /// A peer went away.
    pub fn handle_loss(&mut self, peer: &str) {
        let asked = |partial: &&mut Partial| {
            let asked = self.peers.get(partial.peer);
            asked.is_some_and(|asked| asked == peer)
        };
        self.wanted
            .values_mut()
            .filter(asked)
            .for_each(Partial::turn);
    }

    /// When to [`Self::poll`] again, if no chunk comes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.wanted.values().filter_map(|partial| partial.due).min()
    }

    /// Whether nothing is wanted any more.
    pub fn is_done(&self) -> bool {
        self.wanted.is_empty()
    }

    /// What was heard, and of how many frontends no peer knew or told anything.
    pub fn finish(self) -> (Vec<History>, usize) {
        (self.done, self.unknown + self.wanted.len())
    }
}

impl Partial {
    /// The first slot that was not heard of.
    fn missing(&self) -> u32 {
        let missing = self.slots.iter().position(Option::is_none);
        missing.unwrap_or(self.slots.len()) as u32
    }

    /// On to the next peer.
    fn turn(&mut self) {
        self.peer += 1;
        self.slots.clear();
        self.due = None;
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests;
