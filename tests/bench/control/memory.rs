//! What the process takes, and what it shares with the maps.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

/// Resident memory of this process in bytes, without pages of maps.
pub(crate) fn resident() -> Result<u64> {
    let mut total = 0;
    let mut is_map = false;
    for line in fs::read_to_string("/proc/self/smaps")?.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some("Rss:"), Some(kilobytes)) if !is_map => {
                total += kilobytes.parse::<u64>().context("Rss")? * 1_024;
            }
            // The first line of a mapping: ADDRESSES PERMISSIONS ...
            (Some(first), Some(_)) if !first.ends_with(':') => {
                is_map = line.contains("bpf-map");
            }
            _ => {}
        }
    }
    Ok(total)
}

/// Time that this process has spent on any core.
pub(crate) fn busy() -> Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let spent = usage.user_time() + usage.system_time();
    Ok(Duration::from_micros(u64::try_from(
        spent.num_microseconds(),
    )?))
}
