//! Whom an agent takes for gone, as it says itself, and what was heard of that.
//!
//! ```text
//! teller, epoch (64 bits), number (32), names of the nodes that it takes for gone
//! ```
//!
//! A name is its length in one octet and as many octets. A word lapses unless it is repeated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, BufMut};
use foca::{BroadcastHandler, Invalidates};

use super::Identity;
use super::wire::{Unreadable, put_text, text};

/// How long a word is believed.
pub(super) const LAPSE: Duration = Duration::from_secs(60);
/// Octets of names in a word; nodes beyond it are not told.
const NAMES: usize = 400;
/// Tellers that are listened to.
const TELLERS: usize = 4_096;

/// What an agent says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    pub(super) teller: String,
    /// The life of the teller.
    pub(super) epoch: u64,
    /// Counted up in that life.
    pub(super) number: u32,
    pub(super) gone: BTreeSet<String>,
}

impl Word {
    /// Its octets; none if the teller's name cannot be written.
    pub(super) fn written(&self) -> Vec<u8> {
        let mut out = Vec::new();
        if put_text(&self.teller, &mut out).is_err() {
            return Vec::new();
        }
        out.put_u64(self.epoch);
        out.put_u32(self.number);
        let begin = out.len();
        for name in &self.gone {
            if out.len() - begin + 1 + name.len() > NAMES || put_text(name, &mut out).is_err() {
                break;
            }
        }
        out
    }

    pub(super) fn read(mut octets: &[u8]) -> Result<Self, Unreadable> {
        let teller = text(&mut octets)?;
        let epoch = octets.try_get_u64()?;
        let number = octets.try_get_u32()?;
        let mut gone = BTreeSet::new();
        while octets.has_remaining() {
            gone.insert(text(&mut octets)?);
        }
        Ok(Self {
            teller,
            epoch,
            number,
            gone,
        })
    }
}

/// The newest word of each teller, shared with foca, which keeps its listener to itself.
pub(super) struct Words(Arc<Mutex<Heard>>);

struct Heard {
    now: Instant,
    newest: BTreeMap<String, (Instant, Word)>,
}

impl Words {
    pub(super) fn new(now: Instant) -> Self {
        let newest = BTreeMap::new();
        Self(Arc::new(Mutex::new(Heard { now, newest })))
    }

    pub(super) fn listener(&self) -> Listener {
        Listener(Arc::clone(&self.0))
    }

    pub(super) fn set_now(&self, now: Instant) {
        lock(&self.0).now = now;
    }

    pub(super) fn forget_lapsed(&self, now: Instant) {
        let mut heard = lock(&self.0);
        heard
            .newest
            .retain(|_, (at, _)| now.saturating_duration_since(*at) < LAPSE);
    }

    /// Whom each teller takes for gone.
    pub(super) fn told(&self) -> Vec<(String, BTreeSet<String>)> {
        let heard = lock(&self.0);
        let words = heard.newest.values();
        words
            .map(|(_, word)| (word.teller.clone(), word.gone.clone()))
            .collect()
    }
}

/// What foca asks about a word.
pub(super) struct Listener(Arc<Mutex<Heard>>);

/// The teller: its newest word replaces those before.
pub(super) struct Teller(String);

impl Invalidates for Teller {
    fn invalidates(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl BroadcastHandler<Identity> for Listener {
    type Key = Teller;
    type Error = Unreadable;

    fn receive_item(
        &mut self,
        data: &[u8],
        _sender: Option<&Identity>,
    ) -> Result<Option<Teller>, Unreadable> {
        let word = Word::read(data)?;
        let mut heard = lock(&self.0);
        let newest = heard.newest.get(&word.teller);
        let is_new = newest
            .is_none_or(|(_, newest)| (word.epoch, word.number) > (newest.epoch, newest.number));
        let has_room = newest.is_some() || heard.newest.len() < TELLERS;
        if !is_new || !has_room {
            return Ok(None);
        }
        let teller = Teller(word.teller.clone());
        let now = heard.now;
        heard.newest.insert(word.teller.clone(), (now, word));
        Ok(Some(teller))
    }
}

/// Whoever panicked while holding it left whole words behind.
fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
