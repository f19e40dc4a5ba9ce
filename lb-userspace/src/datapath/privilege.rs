//! What the kernel and its administrator must grant before anything can be
//! loaded.

use std::io;

use aya::util::KernelVersion;

/// The oldest kernel that has what the programs rely on.
const OLDEST_KERNEL: (KernelVersion, &str) = (KernelVersion::new(5, 15, 0), "5.15");

/// A capability by its number in `capability.h`, its name, and the older one that includes it.
struct Capability {
    bit: u8,
    name: &'static str,
    included_in: Option<u8>,
}

const SYS_ADMIN: u8 = 21;

const NEEDED: [Capability; 3] = [
    Capability {
        bit: 12,
        name: "CAP_NET_ADMIN",
        included_in: None,
    },
    Capability {
        bit: 38,
        name: "CAP_PERFMON",
        included_in: Some(SYS_ADMIN),
    },
    Capability {
        bit: 39,
        name: "CAP_BPF",
        included_in: Some(SYS_ADMIN),
    },
];

/// Why programs cannot be loaded here at all.
#[derive(Debug, thiserror::Error)]
pub enum PrivilegeError {
    /// The kernel is too old.
    #[error("this kernel is older than {}; Torline's programs need at least that", OLDEST_KERNEL.1)]
    Kernel,
    /// The process may not load programs.
    #[error("missing {}; run as root, or grant these capabilities", .0.join(", "))]
    Capabilities(Vec<&'static str>),
    /// The process cannot read its own capabilities.
    #[error("failed to read /proc/self/status")]
    Status(#[source] io::Error),
}

/// Checks the kernel's version and this process's capabilities.
///
/// # Errors
/// What is missing, by name.
pub fn check() -> Result<(), PrivilegeError> {
    // A version that cannot be read is no reason to refuse: loading will tell.
    if KernelVersion::current().is_ok_and(|version| version < OLDEST_KERNEL.0) {
        return Err(PrivilegeError::Kernel);
    }
    let status = std::fs::read_to_string("/proc/self/status").map_err(PrivilegeError::Status)?;
    match missing(effective(&status)) {
        missing if missing.is_empty() => Ok(()),
        missing => Err(PrivilegeError::Capabilities(missing)),
    }
}

/// The effective set, as `/proc/PID/status` shows it; without the line nothing is granted.
fn effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or(0)
}

fn missing(effective: u64) -> Vec<&'static str> {
    let has = |bit: u8| effective & (1 << bit) != 0;
    NEEDED
        .iter()
        .filter(|needed| !has(needed.bit) && !needed.included_in.is_some_and(has))
        .map(|needed| needed.name)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_user_lacks_all_three() {
        let status = "Name:\ttorline\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n";
        assert_eq!(
            missing(effective(status)),
            ["CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF"]
        );
    }

    #[test]
    fn sys_admin_includes_the_bpf_capabilities_but_not_net_admin() {
        assert_eq!(missing(1 << SYS_ADMIN), ["CAP_NET_ADMIN"]);
    }

    #[test]
    fn root_lacks_nothing() {
        assert!(missing(effective("CapEff:\t000001ffffffffff\n")).is_empty());
    }
}
