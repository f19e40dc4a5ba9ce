//! Judges what was seen; `port` has what there is to say of the compute port.

mod port;

use serde::Serialize;

/// What was seen of the machine; nothing stands for what could not be seen.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Facts {
    /// Release of the kernel: `6.18.0-1-amd64`.
    pub(super) kernel: String,
    /// It tells its types.
    pub(super) has_btf: bool,
    /// A BPF file system is mounted where maps are pinned, or above.
    pub(super) has_bpffs: bool,
    /// This process may load programs.
    pub(super) is_root: bool,
    /// The agent answers.
    pub(super) agent: Option<Agent>,
    /// The compute port, as it is called.
    pub(super) interface: Option<String>,
    /// The compute port, if there is one of that name.
    pub(super) port: Option<Port>,
    /// `net.ipv4.ip_forward`.
    pub(super) forwards_v4: Option<bool>,
    /// `net.ipv6.conf.all.forwarding`.
    pub(super) forwards_v6: Option<bool>,
    /// The larger of `rp_filter` of all interfaces and of the compute port.
    pub(super) rp_filter: Option<u8>,
    /// kube-proxy, or something like it, serves Services.
    pub(super) kube_proxy: bool,
    /// It does so by IPVS.
    pub(super) ipvs: bool,
    /// `net.ipv4.conf.all.arp_ignore`.
    pub(super) arp_ignore: Option<u8>,
    /// Who listens on port 179; empty where nobody does.
    pub(super) bgp_listeners: Vec<String>,
    /// What the kernel reads the time from.
    pub(super) clock_source: Option<String>,
    /// Open files that a process may have.
    pub(super) open_files: Option<u64>,
    /// `fs.inotify.max_user_instances`.
    pub(super) inotify_instances: Option<u64>,
}

/// The agent, as it says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Agent {
    /// Its version.
    pub(super) version: String,
    /// The maps hold what the source asks for.
    pub(super) in_sync: bool,
    /// Objects with something wrong.
    pub(super) findings: usize,
    /// Nodes, this one too.
    pub(super) nodes: usize,
    /// BGP sessions, and those without BFD.
    pub(super) sessions: usize,
    pub(super) without_bfd: usize,
}

/// The compute port.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Port {
    /// It is up.
    pub(super) is_up: bool,
    /// It is an Ethernet interface.
    pub(super) is_ethernet: bool,
    /// MTU in bytes.
    pub(super) mtu: u32,
    /// Its driver.
    pub(super) driver: Option<String>,
    /// The XDP program on it.
    pub(super) xdp: Option<Xdp>,
    /// `large-receive-offload` is on.
    pub(super) lro: Option<bool>,
    /// `rx-vlan-offload` is on.
    pub(super) vlan_offload: Option<bool>,
}

/// An XDP program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Xdp {
    /// Its id.
    pub(super) id: u32,
    /// It runs after the driver.
    pub(super) is_generic: bool,
    /// It is ours, as far as pins tell.
    pub(super) is_ours: bool,
}

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Severity {
    /// As it should be.
    Good,
    /// Worth knowing.
    Note,
    /// Works, but worse than it could.
    Degraded,
    /// Does not work.
    Broken,
}

impl Severity {
    /// A fixed word.
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Note => "note",
            Self::Degraded => "degraded",
            Self::Broken => "broken",
        }
    }
}

/// What was found about something.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) severity: Severity,
    /// What it is about.
    pub(super) subject: &'static str,
    /// What is the case.
    pub(super) state: String,
    /// What to do; empty where nothing is to be done.
    pub(super) advice: String,
}

/// Judges, in the order in which a person would want to hear it.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let mut findings = vec![kernel(facts), btf(facts), bpffs(facts)];
    findings.extend(privilege(facts));
    findings.extend(agent(facts));
    findings.extend(port::judge(facts));
    findings.extend([forwarding(facts), reverse_path(facts)]);
    findings.extend(kube_proxy(facts));
    findings.extend([bgp_port(facts), clock(facts)]);
    findings.extend(limits(facts));
    findings
}

fn found(
    severity: Severity,
    subject: &'static str,
    state: impl Into<String>,
    advice: impl Into<String>,
) -> Finding {
    Finding {
        severity,
        subject,
        state: state.into(),
        advice: advice.into(),
    }
}

fn good(subject: &'static str, state: impl Into<String>) -> Finding {
    found(Severity::Good, subject, state, "")
}

fn unseen(subject: &'static str) -> Finding {
    found(Severity::Note, subject, "could not be looked at", "")
}

fn kernel(facts: &Facts) -> Finding {
    let mut numbers = facts.kernel.split(|c: char| !c.is_ascii_digit());
    let mut number = || numbers.next().and_then(|text| text.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (number(), number()) else {
        return unseen("kernel");
    };
    let release = &facts.kernel;
    match (major, minor) {
        version if version < (5, 15) => found(
            Severity::Broken,
            "kernel",
            format!("{release} is too old"),
            "run Linux 5.15 or later",
        ),
        version if version < (6, 6) => found(
            Severity::Note,
            "kernel",
            format!("{release} has no tcx: replies are handled by a clsact filter"),
            "from Linux 6.6 on, the order among programs of others can be kept",
        ),
        _ => good("kernel", release.clone()),
    }
}

fn btf(facts: &Facts) -> Finding {
    match facts.has_btf {
        true => good("BTF", "the kernel tells its types"),
        false => found(
            Severity::Broken,
            "BTF",
            "there is no /sys/kernel/btf/vmlinux",
            "run a kernel with CONFIG_DEBUG_INFO_BTF",
        ),
    }
}

fn bpffs(facts: &Facts) -> Finding {
    match facts.has_bpffs {
        true => good("bpffs", "mounted where maps are pinned"),
        false => found(
            Severity::Degraded,
            "bpffs",
            "no BPF file system where maps are to be pinned: the agent would refuse to start",
            "mount -t bpf bpf /sys/fs/bpf, or run with --pin none and lose connections on a restart",
        ),
    }
}

fn privilege(facts: &Facts) -> Option<Finding> {
    (!facts.is_root).then(|| {
        found(
            Severity::Note,
            "privilege",
            "not root: some things cannot be looked at",
            "run it as root",
        )
    })
}

fn agent(facts: &Facts) -> Vec<Finding> {
    let Some(agent) = &facts.agent else {
        return vec![found(
            Severity::Note,
            "agent",
            "none answers here",
            "start it: torline run",
        )];
    };
    let mut findings = Vec::new();
    let version = env!("CARGO_PKG_VERSION");
    findings.push(if agent.version != version {
        found(
            Severity::Degraded,
            "agent",
            format!("is of version {}, this program of {version}", agent.version),
            "restart it with this program: connections go on meanwhile",
        )
    } else if !agent.in_sync {
        found(
            Severity::Degraded,
            "agent",
            "the maps do not hold what the source asks for",
            "torline status says why",
        )
    } else {
        good("agent", format!("version {version}, in sync"))
    });
    if agent.findings > 0 {
        findings.push(found(
            Severity::Degraded,
            "objects",
            format!(
                "something is wrong with {}",
                counted(agent.findings, "of them")
            ),
            "torline status names each, and what to do",
        ));
    }
    if agent.nodes == 2 && agent.sessions == 0 {
        findings.push(found(
            Severity::Note,
            "two nodes",
            "addresses are announced by ARP and NDP from one of them",
            "with BGP and BFD both carry traffic, and the other takes over within milliseconds",
        ));
    } else if agent.nodes == 2 && agent.without_bfd > 0 {
        findings.push(found(
            Severity::Degraded,
            "two nodes",
            format!(
                "{} without BFD: the router sends to a dead node until the hold time is over",
                counted(agent.without_bfd, "BGP session(s)")
            ),
            "name a BFDProfile in the BGPPeer, on the router too; without BFD, a hold time of 3 s is the least",
        ));
    }
    findings
}

fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}")
}

fn forwarding(facts: &Facts) -> Finding {
    match (facts.forwards_v4, facts.forwards_v6) {
        (Some(true), Some(true)) => good("forwarding", "on, for IPv4 and IPv6"),
        (Some(false), _) => found(
            Severity::Broken,
            "forwarding",
            "IPv4 packets do not get from the compute port to pods",
            "sysctl -w net.ipv4.ip_forward=1",
        ),
        (_, Some(false)) => found(
            Severity::Degraded,
            "forwarding",
            "IPv6 packets do not get from the compute port to pods",
            "sysctl -w net.ipv6.conf.all.forwarding=1, if pods have IPv6",
        ),
        _ => unseen("forwarding"),
    }
}

fn reverse_path(facts: &Facts) -> Finding {
    match facts.rp_filter {
        Some(1) => found(
            Severity::Note,
            "rp_filter",
            "strict: clients have to be reached by the compute port",
            "where the default route is by another interface: sysctl -w net.ipv4.conf.all.rp_filter=2",
        ),
        Some(mode) => good("rp_filter", if mode == 0 { "off" } else { "loose" }),
        None => unseen("rp_filter"),
    }
}

fn kube_proxy(facts: &Facts) -> Vec<Finding> {
    if !facts.kube_proxy && !facts.ipvs {
        return vec![good(
            "kube-proxy",
            "not here: what is too hard for XDP is dropped",
        )];
    }
    if !facts.ipvs {
        return vec![good(
            "kube-proxy",
            "here: what is too hard for XDP goes to it",
        )];
    }
    match facts.arp_ignore {
        Some(0) => vec![found(
            Severity::Broken,
            "kube-proxy",
            "IPVS without strictARP: every node answers ARP for every address",
            "set ipvs.strictARP: true in the ConfigMap kube-proxy, and restart it",
        )],
        _ => vec![good("kube-proxy", "IPVS with strictARP")],
    }
}

fn bgp_port(facts: &Facts) -> Finding {
    let others: Vec<_> = facts.bgp_listeners.iter().map(String::as_str).collect();
    match others.as_slice() {
        [] => good(
            "port 179",
            "nobody listens; only peers that connect to us need it",
        ),
        listeners if listeners.iter().all(|name| *name == "torline") => {
            good("port 179", "torline listens")
        }
        listeners => found(
            Severity::Note,
            "port 179",
            format!("{} listens", listeners.join(", ")),
            "peers that are to connect to torline need another: annotation torline.io/listen-port",
        ),
    }
}

fn clock(facts: &Facts) -> Finding {
    match facts.clock_source.as_deref() {
        Some(source @ ("hpet" | "acpi_pm" | "jiffies" | "refined-jiffies")) => found(
            Severity::Degraded,
            "clock",
            format!("the kernel reads the time from {source}, which is slow"),
            "find out in dmesg why tsc was given up",
        ),
        Some(source) => good("clock", source),
        None => unseen("clock"),
    }
}

fn limits(facts: &Facts) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(files) = facts.open_files {
        findings.push(match files {
            0..1024 => found(
                Severity::Degraded,
                "limits",
                format!("{files} open files are few"),
                "LimitNOFILE=65536 in the unit, or ulimit -n",
            ),
            _ => good("limits", format!("{files} open files")),
        });
    }
    if facts
        .inotify_instances
        .is_some_and(|instances| instances < 128)
    {
        findings.push(found(
            Severity::Degraded,
            "inotify",
            "few instances: watching a directory may be refused",
            "sysctl -w fs.inotify.max_user_instances=128",
        ));
    }
    findings
}

#[cfg(test)]
mod tests;
