//! The only place that reads a clock: everything else is given the time by its
//! caller.

use std::time::{Instant, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// Now, for timers and the protocols.
pub fn now() -> Instant {
    Instant::now()
}

/// Milliseconds since 1970, to tell lives of an agent apart; 0 before that.
pub fn time_of_day_ms() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}

/// `CLOCK_MONOTONIC` in nanoseconds: what `bpf_ktime_get_ns` reads in the programs.
pub fn monotonic_nanos() -> u64 {
    // The call fails for an unknown clock only.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let seconds = u64::try_from(time.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec()).unwrap_or(0);
        seconds * 1_000_000_000 + nanos
    })
}
