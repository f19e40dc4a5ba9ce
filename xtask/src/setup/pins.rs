//! What is installed, in which version, and what for; said only here.

use super::Need;

/// The oldest Rust that compiles this workspace, for the host and for the kernel.
pub(crate) const RUST: &str = env!("CARGO_PKG_RUST_VERSION");

/// The nightly that is downloaded where neither rustup nor the distribution has a compiler for BPF.
pub(crate) const NIGHTLY: &str = "nightly-2026-05-20";

/// The version of bpf-linker.
pub(crate) const BPF_LINKER: &str = "0.13.0";

/// The distribution's compilers, best first: compiler, cargo, library source, lints. `rustc-web` is
/// the newer one that Debian keeps for building browsers.
pub(crate) const COMPILERS: [[&str; 4]; 2] = [
    ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"],
    ["rustc", "cargo", "rust-src", "rust-clippy"],
];

/// A program that something needs.
pub(crate) struct Program {
    /// Its file name.
    pub(crate) name: &'static str,
    /// The Debian and Ubuntu package that has it.
    pub(crate) package: &'static str,
    /// What fails without it.
    pub(crate) why: &'static str,
    /// Who asks for it.
    pub(crate) needs: &'static [Need],
}

const LAB: &[Need] = &[Need::Test, Need::Lab, Need::Demo];
const SUITES: &[Need] = &[Need::Test, Need::Lab];

/// Everything beside the compiler.
pub(crate) const PROGRAMS: &[Program] = &[
    Program {
        name: "cc",
        package: "gcc",
        why: "links host binaries",
        needs: &[Need::Build],
    },
    Program {
        name: "ip",
        package: "iproute2",
        why: "namespaces and links",
        needs: LAB,
    },
    Program {
        name: "tc",
        package: "iproute2",
        why: "queueing disciplines",
        needs: LAB,
    },
    Program {
        name: "bird",
        package: "bird2",
        why: "the router at the other end",
        needs: LAB,
    },
    Program {
        name: "nft",
        package: "nftables",
        why: "cuts a node off",
        needs: LAB,
    },
    Program {
        name: "ethtool",
        package: "ethtool",
        why: "offloads of veth ports",
        needs: LAB,
    },
    Program {
        name: "iperf3",
        package: "iperf3",
        why: "bulk traffic",
        needs: LAB,
    },
    Program {
        name: "tcpdump",
        package: "tcpdump",
        why: "the witness of who answers",
        needs: LAB,
    },
    Program {
        name: "sysctl",
        package: "procps",
        why: "forwarding, as the README sets it",
        needs: SUITES,
    },
    Program {
        name: "curl",
        package: "curl",
        why: "the client of the README",
        needs: SUITES,
    },
    Program {
        name: "python3",
        package: "python3",
        why: "the pods of the README",
        needs: SUITES,
    },
    Program {
        name: "vtysh",
        package: "frr",
        why: "FRR, a peer of the BGP speaker",
        needs: &[Need::Test],
    },
    Program {
        name: "gobgpd",
        package: "gobgpd",
        why: "GoBGP, another",
        needs: &[Need::Test],
    },
    Program {
        name: "bgpctl",
        package: "openbgpd",
        why: "OpenBGPD, another",
        needs: &[Need::Test],
    },
    Program {
        name: "exabgp",
        package: "exabgp",
        why: "ExaBGP, another",
        needs: &[Need::Test],
    },
];
