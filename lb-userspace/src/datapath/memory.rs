//! What the maps cost the kernel.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use aya::maps::MapInfo;
use aya::programs::ProgramInfo;

/// Kernel memory, in bytes, of all maps that the programs use; each map counts once.
pub(super) fn of_maps(programs: impl Iterator<Item = ProgramInfo>) -> u64 {
    let ids: BTreeSet<u32> = programs
        .filter_map(|program| program.map_ids().ok().flatten())
        .flatten()
        .collect();
    ids.into_iter().filter_map(of_map).sum()
}

fn of_map(id: u32) -> Option<u64> {
    let fd = MapInfo::from_id(id).ok()?.fd().ok()?;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    memlock(&fs::read_to_string(path).ok()?)
}

fn memlock(fdinfo: &str) -> Option<u64> {
    fdinfo
        .lines()
        .find_map(|line| line.strip_prefix("memlock:"))
        .and_then(|bytes| bytes.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_what_a_map_costs() {
        let fdinfo = "pos:\t0\nmap_type:\t2\nmax_entries:\t1\nmemlock:\t4096\nmap_id:\t7\n";
        assert_eq!(memlock(fdinfo), Some(4096));
        assert_eq!(memlock("pos:\t0\n"), None);
    }
}
