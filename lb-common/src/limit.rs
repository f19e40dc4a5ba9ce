//! The budget of replies that the programs make themselves.

/// Nanoseconds between two replies once the burst is spent: 10,000 a second and CPU.
const INTERVAL: u64 = 100_000;
/// How far ahead of its time the schedule may run: a burst of 1,000.
const BURST: u64 = 1_000 * INTERVAL;

/// Whether a reply may be sent, by the generic cell rate algorithm (ITU-T I.371).
///
/// `due` is when the next reply is due by the schedule, in the nanoseconds of `now`; 0 to begin with.
/// Gives the new value of `due` if the reply may be sent.
#[inline(always)]
pub const fn admit(due: u64, now: u64) -> Option<u64> {
    let start = if due > now { due } else { now };
    if start - now > BURST {
        None
    } else {
        Some(start + INTERVAL)
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
        while let Some(next) = admit(due, now) {
            due = next;
            sent += 1;
        }
        assert_eq!(sent, 1_001);
        assert!(admit(due, now + INTERVAL - 1).is_none());
        assert!(admit(due, now + INTERVAL).is_some());
    }
}
