//! Whether kube-proxy, or something like it, serves Service addresses in this
//! kernel.

use std::path::Path;
use std::process::{Command, Stdio};

/// Looks for what kube-proxy leaves in each of its modes: the ipvs dummy interface, the nftables table,
/// the iptables chain. A tool that is not installed finds nothing.
pub fn are_served() -> bool {
    Path::new("/sys/class/net/kube-ipvs0").exists()
        || succeeds("nft", &["list", "table", "ip", "kube-proxy"])
        || succeeds("nft", &["list", "table", "ip6", "kube-proxy"])
        || succeeds("iptables", &["-w", "1", "-t", "nat", "-S", "KUBE-SERVICES"])
        || succeeds(
            "ip6tables",
            &["-w", "1", "-t", "nat", "-S", "KUBE-SERVICES"],
        )
}

fn succeeds(program: &str, arguments: &[&str]) -> bool {
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}
