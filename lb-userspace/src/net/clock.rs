//! The only place that reads a clock: everything else is given the time by its
//! caller.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::time::{ClockId, clock_gettime};

/// Now, for timers and the protocols.
pub fn now() -> Instant {
    Instant::now()
}

/// Time since 1970, to be shown and written down; zero on a clock that is set before.
pub fn wall() -> Duration {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// `CLOCK_MONOTONIC` in nanoseconds: what `bpf_ktime_get_ns` reads in the programs.
pub fn monotonic_nanos() -> u64 {
    nanos(ClockId::CLOCK_MONOTONIC)
}

/// Time of day in nanoseconds since 1970; 0 before.
pub fn since_epoch_nanos() -> u64 {
    nanos(ClockId::CLOCK_REALTIME)
}

fn nanos(clock: ClockId) -> u64 {
    // The call fails for an unknown clock only.
    clock_gettime(clock).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds * 1_000_000_000 + nanos
    })
}
