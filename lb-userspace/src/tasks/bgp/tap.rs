//! What the sessions of a peer did lately, and do, for whoever wants a capture.
//!
//! The latest messages are always kept, so that a capture also shows what went wrong before anybody looked. A
//! follower that does not keep up is left behind and its capture ends: nobody waits for it.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;

use crate::net::clock;
use crate::proto::bgp::capture::{Ends, ReadError, Reader, Record};
use crate::proto::bgp::message::HEADER_LENGTH;
use crate::proto::bgp::session::Session;
use crate::proto::bgp::session::acts::Act;

/// Records and octets kept for later.
const RECENT: (usize, usize) = (512, 64 * 1024);
/// Octets that a follower may be behind.
const BEHIND: usize = 16 * 1024 * 1024;

/// Where the acts of a peer's sessions go.
#[derive(Clone, Debug, Default)]
pub struct Tap(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    recent: VecDeque<Record>,
    octets: usize,
    followers: Vec<Follower>,
}

#[derive(Debug)]
struct Follower {
    to: mpsc::UnboundedSender<Record>,
    behind: Arc<AtomicUsize>,
}

impl Follower {
    /// Hands a record on; false if nobody takes it.
    fn tell(&self, record: &Record) -> bool {
        let behind = self.behind.fetch_add(size(record), Ordering::Relaxed);
        behind < BEHIND && self.to.send(record.clone()).is_ok()
    }
}

/// A capture that goes on.
#[derive(Debug)]
pub struct Following {
    records: mpsc::UnboundedReceiver<Record>,
    behind: Arc<AtomicUsize>,
}

impl Following {
    /// The next record in its written form; none when the session is over, or too far ahead.
    pub async fn next(&mut self) -> Option<Bytes> {
        let record = self.records.recv().await?;
        self.behind.fetch_sub(size(&record), Ordering::Relaxed);
        Some(written([&record]))
    }
}

impl Tap {
    /// What is kept, in its written form, and what comes next.
    pub fn follow(&self) -> (Bytes, Following) {
        let (to, records) = mpsc::unbounded_channel();
        let behind = Arc::new(AtomicUsize::new(0));
        let mut kept = self.kept();
        kept.followers.push(Follower {
            to,
            behind: Arc::clone(&behind),
        });
        (written(&kept.recent), Following { records, behind })
    }

    /// What is kept, in its written form.
    pub fn recent(&self) -> Bytes {
        written(&self.kept().recent)
    }

    /// Takes down what a session did; `states` is false for a connection that is not the session's yet.
    pub(super) fn take_down(&self, session: &mut Session, ends: Ends, states: bool) {
        while let Some(act) = session.poll_act() {
            if states || !matches!(act, Act::State { .. }) {
                let at = clock::wall();
                self.keep(Record { at, ends, act });
            }
        }
    }

    fn keep(&self, record: Record) {
        let mut kept = self.kept();
        kept.followers.retain(|follower| follower.tell(&record));
        kept.octets += size(&record);
        kept.recent.push_back(record);
        while kept.recent.len() > RECENT.0 || kept.octets > RECENT.1 {
            let Some(oldest) = kept.recent.pop_front() else {
                break;
            };
            kept.octets -= size(&oldest);
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // Nothing that holds it can leave it half changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ends of a session, as far as they are known.
pub(super) fn ends(session: &Session, my_asn: u32, peer: IpAddr) -> Ends {
    let any: IpAddr = match peer {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let negotiated = session.negotiated();
    Ends {
        peer_asn: negotiated.map_or(0, |negotiated| negotiated.peer_asn),
        local_asn: my_asn,
        peer,
        local: session.local_address().unwrap_or(any),
    }
}

fn size(record: &Record) -> usize {
    const EACH: usize = 64;
    EACH + record.act.octets()
}

fn written<'a>(records: impl IntoIterator<Item = &'a Record>) -> Bytes {
    let mut bytes = BytesMut::new();
    for record in records {
        record.encode(&mut bytes);
    }
    bytes.freeze()
}

/// What a capture holds, counted while it comes in.
#[derive(Debug, Default)]
pub struct Summary {
    reader: Reader,
    /// Messages of ours, and of the peer's, by type from OPEN to ROUTE-REFRESH; the last are none of these.
    pub messages: [[u64; 6]; 2],
    /// Changes of state.
    pub state_changes: u64,
}

impl Summary {
    /// Names of the types.
    pub const TYPES: [&'static str; 6] = [
        "open",
        "update",
        "notification",
        "keepalive",
        "route_refresh",
        "unreadable",
    ];

    /// Counts the records in what was read next.
    ///
    /// # Errors
    /// That is no capture.
    pub fn add(&mut self, bytes: &[u8]) -> Result<(), ReadError> {
        self.reader.extend(bytes);
        while let Some(record) = self.reader.take()? {
            let (side, message) = match &record.act {
                Act::State { .. } => {
                    self.state_changes += 1;
                    continue;
                }
                Act::Sent(message) => (0, message),
                Act::Received(message) => (1, message),
            };
            let kind = match message.get(HEADER_LENGTH - 1) {
                Some(kind @ 1..=5) => usize::from(*kind) - 1,
                _ => 5,
            };
            let counts = self.messages.get_mut(side);
            if let Some(count) = counts.and_then(|counts| counts.get_mut(kind)) {
                *count += 1;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::bgp::fsm::State;

    fn record(octets: usize) -> Record {
        Record {
            at: clock::wall(),
            ends: Ends {
                peer_asn: 1,
                local_asn: 2,
                peer: [10, 0, 0, 1].into(),
                local: [10, 0, 0, 2].into(),
            },
            act: Act::Sent(vec![0xff; octets].into()),
        }
    }

    #[tokio::test]
    async fn the_latest_are_kept_and_a_follower_gets_the_rest() {
        let tap = Tap::default();
        for _ in 0..40 {
            tap.keep(record(4096));
        }
        let (recent, mut following) = tap.follow();
        assert!((60_000..70_000).contains(&recent.len()), "{}", recent.len());
        tap.keep(record(19));
        assert_eq!(
            following.next().await.unwrap().len(),
            written([&record(19)]).len()
        );
    }

    #[tokio::test]
    async fn a_follower_that_falls_behind_is_left_there() {
        let tap = Tap::default();
        let (_, mut following) = tap.follow();
        for _ in 0..5_000 {
            tap.keep(record(4096));
        }
        let mut taken = 0;
        while following.next().await.is_some() {
            taken += 1;
        }
        assert!((3_000..5_000).contains(&taken), "{taken}");
        assert!(tap.kept().followers.is_empty());
    }

    #[test]
    fn a_summary_counts_over_any_splitting() {
        let mut state = record(0);
        state.act = Act::State {
            from: State::Idle,
            to: State::Connect,
        };
        let mut open = record(29);
        open.act = Act::Received([&[0xff; 16][..], &[0, 29, 1], &[0; 10]].concat().into());
        let bytes = written([&state, &open, &record(3)]);
        let mut summary = Summary::default();
        for octet in bytes.chunks(1) {
            summary.add(octet).unwrap();
        }
        assert_eq!(summary.state_changes, 1);
        assert_eq!(summary.messages, [[0, 0, 0, 0, 0, 1], [1, 0, 0, 0, 0, 0]]);
        assert!(Summary::default().add(&[0xff; 30]).is_err());
    }
}
