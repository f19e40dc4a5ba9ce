//! Deadlines by kind, and the jitter that is put on them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Running timers of one session, each kind at most once.
#[derive(Debug)]
pub struct Timers<K>(BTreeMap<K, Instant>);

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<K: Copy + Ord> Timers<K> {
    /// Starts a timer, or moves its deadline.
    pub fn set(&mut self, timer: K, deadline: Instant) {
        self.0.insert(timer, deadline);
    }

    /// Stops a timer; nothing happens if it does not run.
    pub fn stop(&mut self, timer: K) {
        self.0.remove(&timer);
    }

    /// Stops every timer.
    pub fn stop_all(&mut self) {
        self.0.clear();
    }

    /// Whether a timer runs.
    pub fn is_running(&self, timer: K) -> bool {
        self.0.contains_key(&timer)
    }

    /// The timer that expires first.
    pub fn next(&self) -> Option<(Instant, K)> {
        self.0.iter().map(|(&timer, &at)| (at, timer)).min()
    }

    /// Takes one timer whose deadline has come, the earliest first.
    pub fn take_expired(&mut self, now: Instant) -> Option<K> {
        let (at, timer) = self.next()?;
        if at > now {
            return None;
        }
        self.0.remove(&timer);
        Some(timer)
    }
}

/// A stream of pseudo-random factors that follows from its seed (SplitMix64).
#[derive(Clone, Debug)]
pub struct Jitter(u64);

impl Jitter {
    /// A stream from a seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// `base` × a factor drawn evenly from 0.75 to 1.0 (RFC 4271 §10).
    pub fn apply(&mut self, base: Duration) -> Duration {
        let quarter = base / 4;
        base - quarter + self.part(quarter)
    }

    /// A part of `whole`, drawn evenly from none of it to all.
    pub fn part(&mut self, whole: Duration) -> Duration {
        let share = u32::try_from(self.draw() & 0xffff).unwrap_or(0);
        whole * share / 0xffff
    }

    /// The next number of the stream.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_timer_expires_first_and_only_once() {
        let start = Instant::now();
        let mut timers = Timers::default();
        timers.set('b', start + Duration::from_secs(2));
        timers.set('a', start + Duration::from_secs(3));
        timers.set('a', start + Duration::from_secs(1));

        assert_eq!(timers.next(), Some((start + Duration::from_secs(1), 'a')));
        assert_eq!(timers.take_expired(start), None);
        let late = start + Duration::from_secs(5);
        assert_eq!(timers.take_expired(late), Some('a'));
        assert_eq!(timers.take_expired(late), Some('b'));
        assert_eq!(timers.take_expired(late), None);
    }

    #[test]
    fn jitter_stays_between_three_quarters_and_the_whole() {
        let mut jitter = Jitter::new(7);
        let base = Duration::from_secs(8);
        let drawn: Vec<_> = (0..1000).map(|_| jitter.apply(base)).collect();
        assert!(
            drawn
                .iter()
                .all(|d| (Duration::from_secs(6)..=base).contains(d))
        );
        assert!(drawn.iter().any(|d| *d < Duration::from_millis(6200)));
        assert!(drawn.iter().any(|d| *d > Duration::from_millis(7800)));
    }
}
