//! Which files may name which external crate.

use super::{Finding, Source};

/// A crate, or a module of one, and the only places that may use it.
struct Fence {
    path: &'static str,
    inside: &'static [&'static str],
    why: &'static str,
}

/// Paths are prefixes: `x/net` stands for `x/net.rs` and everything below `x/net/`.
const FENCES: &[Fence] = &[
    Fence {
        path: "aya_ebpf",
        inside: &["lb-ebpf/"],
        why: "only programs in the kernel call its helpers",
    },
    Fence {
        path: "aya",
        inside: &["lb-userspace/src/datapath", "tests/"],
        why: "a map handle never leaves the datapath",
    },
    Fence {
        path: "aya_obj",
        inside: &["lb-userspace/src/datapath", "tests/"],
        why: "what an object says of its maps is compared with what is pinned, and nowhere else",
    },
    Fence {
        path: "kube",
        inside: &["lb-userspace/src/k8s", "tests/"],
        why: "a Kubernetes type never leaves its layer",
    },
    Fence {
        path: "k8s_openapi",
        inside: &["lb-userspace/src/k8s", "tests/"],
        why: "a Kubernetes type never leaves its layer",
    },
    Fence {
        path: "serde_saphyr",
        inside: &["lb-userspace/src/k8s", "tests/"],
        why: "YAML is how objects are written, not what they are",
    },
    Fence {
        path: "rtnetlink",
        inside: &["lb-userspace/src/net", "tests/"],
        why: "the kernel's network is reached through `net`",
    },
    Fence {
        path: "netlink_packet_route",
        inside: &["lb-userspace/src/net", "tests/"],
        why: "the kernel's network is reached through `net`",
    },
    Fence {
        path: "socket2",
        inside: &["lb-userspace/src/net", "tests/"],
        why: "the kernel's network is reached through `net`",
    },
    Fence {
        path: "tokio::net",
        inside: &["lb-userspace/src/net", "lb-userspace/src/tasks", "tests/"],
        why: "below the tasks nothing opens a socket but `net`",
    },
    Fence {
        path: "tokio",
        inside: &[
            "lb-userspace/src/main",
            "lb-userspace/src/cli",
            "lb-userspace/src/daemon",
            "lb-userspace/src/tasks",
            "lb-userspace/src/k8s",
            "lb-userspace/src/net",
            "tests/",
        ],
        why: "model, plan, proto and datapath run on no runtime",
    },
    Fence {
        path: "anyhow",
        inside: &[
            "lb-userspace/src/main",
            "lb-userspace/src/cli",
            "lb-userspace/src/daemon",
            "tests/",
            "xtask/",
        ],
        why: "below the shell each operation has its own error",
    },
    Fence {
        path: "clap",
        inside: &[
            "lb-userspace/src/main",
            "lb-userspace/src/cli",
            "tests/",
            "xtask/",
        ],
        why: "the command line is parsed in one place",
    },
];

/// Rejects every use outside its fence.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for fence in FENCES.iter().filter(|fence| !fence.admits(&source.path)) {
            let lines = source.lines().filter(|(_, text)| names(text, fence.path));
            findings.extend(lines.map(|(line, _)| {
                source.finding(
                    line,
                    format!("`{}` does not belong here: {}", fence.path, fence.why),
                )
            }));
        }
    }
    findings
}

impl Fence {
    fn admits(&self, path: &str) -> bool {
        self.inside.iter().any(|prefix| {
            let rest = path.strip_prefix(prefix);
            rest.is_some_and(|rest| prefix.ends_with('/') || rest.starts_with('/') || rest == ".rs")
        })
    }
}

/// Whether `text` has `path` as a path of its own: `aya::x` or `use aya;`, not `my_aya::x` or `foo::aya::x`.
fn names(text: &str, path: &str) -> bool {
    text.match_indices(path).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let after = &text[at + path.len()..];
        let is_start = before.is_none_or(|c| !c.is_alphanumeric() && !"_:.".contains(c))
            || text[..at].ends_with(" ::");
        is_start && (after.starts_with("::") || (is_use(text) && after.starts_with([';', ' '])))
    })
}

fn is_use(text: &str) -> bool {
    text.trim_start()
        .trim_start_matches("pub ")
        .starts_with("use ")
}
