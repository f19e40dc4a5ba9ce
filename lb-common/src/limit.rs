//! The budgets of what the programs make themselves: replies, and events for
//! the agent.

/// How often something may happen, by the generic cell rate algorithm (ITU-T I.371).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Nanoseconds between two once the burst is spent.
    interval: u64,
    /// How far ahead of its time the schedule may run.
    burst: u64,
}

/// Replies: 10,000 a second and CPU, a burst of 1,000.
pub const REPLIES: Rate = Rate::new(100_000, 1_000);
/// Events of one bucket: 100 a second and CPU, a burst of 20.
pub const EVENTS: Rate = Rate::new(10_000_000, 20);

/// How many buckets there are for events: a flood from one network does not spend what others need.
pub const EVENT_BUCKETS: u32 = 256;

impl Rate {
    const fn new(interval: u64, burst: u64) -> Self {
        Self {
            interval,
            burst: burst * interval,
        }
    }

    /// Whether one more is within the rate.
    ///
    /// `due` is when the next one is due by the schedule, in the nanoseconds of `now`; 0 to begin with.
    /// Gives the new value of `due` if it is.
    #[inline(always)]
    pub const fn admit(self, due: u64, now: u64) -> Option<u64> {
        let start = if due > now { due } else { now };
        if start - now > self.burst {
            None
        } else {
            Some(start + self.interval)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let now = 5_000_000_000;
        let mut due = 0;
        let mut sent = 0;
        while let Some(next) = REPLIES.admit(due, now) {
            due = next;
            sent += 1;
        }
        assert_eq!(sent, 1_001);
        assert!(REPLIES.admit(due, now + REPLIES.interval - 1).is_none());
        assert!(REPLIES.admit(due, now + REPLIES.interval).is_some());
    }
}
