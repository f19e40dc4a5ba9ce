//! What there is to say of the compute port.

use super::{Facts, Finding, Port, Severity, found, good};

/// Drivers that forward frames in the driver itself, as of Linux 6.12.
const NATIVE: [&str; 24] = [
    "amazon-ena",
    "bnxt_en",
    "ena",
    "enetc",
    "fec",
    "gve",
    "hv_netvsc",
    "i40e",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "lan966x-switch",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "nfp",
    "qede",
    "sfc",
    "tun",
    "virtio_net",
];

/// Judges the compute port.
pub(super) fn judge(facts: &Facts) -> Vec<Finding> {
    let Some(name) = &facts.interface else {
        return vec![found(
            Severity::Note,
            "interface",
            "it is not said which carries service traffic",
            "name it: --interface IF",
        )];
    };
    let Some(port) = &facts.port else {
        return vec![found(
            Severity::Broken,
            "interface",
            format!("there is no {name}"),
            "ip -br link lists those there are",
        )];
    };
    let mut findings = vec![match (port.is_ethernet, port.is_up) {
        (false, _) => found(
            Severity::Broken,
            "interface",
            format!("{name} is no Ethernet interface"),
            "choose one that is",
        ),
        (true, false) => found(
            Severity::Broken,
            "interface",
            format!("{name} is down"),
            format!("ip link set {name} up"),
        ),
        (true, true) => good("interface", format!("{name} is up")),
    }];
    findings.extend([driver(name, port), xdp(name, port), mtu(name, port)]);
    findings.extend(offloads(name, port));
    findings
}

fn driver(name: &str, port: &Port) -> Finding {
    match port.driver.as_deref() {
        Some(driver) if NATIVE.contains(&driver) || driver == "veth" => {
            good("driver", format!("{driver} runs XDP in the driver"))
        }
        Some(driver) => found(
            Severity::Degraded,
            "driver",
            format!("{driver} is not known to run XDP in the driver"),
            "generic mode works, several times slower; a card with i40e, ice, mlx5 or the like does better",
        ),
        None => found(
            Severity::Note,
            "driver",
            format!("{name} has no hardware of its own"),
            "",
        ),
    }
}

fn xdp(name: &str, port: &Port) -> Finding {
    match port.xdp {
        None => good("XDP", format!("no program on {name}")),
        Some(xdp) if !xdp.is_ours => found(
            Severity::Broken,
            "XDP",
            format!("{name} carries program {} of somebody else", xdp.id),
            format!(
                "find out whose it is with bpftool prog show id {}; then ip link set {name} xdp off",
                xdp.id
            ),
        ),
        Some(xdp) if xdp.is_generic => found(
            Severity::Degraded,
            "XDP",
            "our program runs in generic mode, several times slower",
            "torline run --attach native says what the driver has against it",
        ),
        Some(_) => good("XDP", "our program runs in the driver"),
    }
}

fn mtu(name: &str, port: &Port) -> Finding {
    match port.mtu {
        0..1280 => found(
            Severity::Broken,
            "MTU",
            format!("{name} has {}, too little for IPv6", port.mtu),
            format!("ip link set {name} mtu 1500"),
        ),
        1500..1570 => found(
            Severity::Note,
            "MTU",
            format!(
                "{name} has {}: packets in tunnels to nodes beyond the segment are cut to fit",
                port.mtu
            ),
            "with 1,570 or more between nodes nothing is cut",
        ),
        mtu => good("MTU", format!("{name} has {mtu}")),
    }
}

fn offloads(name: &str, port: &Port) -> Vec<Finding> {
    let mut findings = Vec::new();
    if port.lro == Some(true) {
        findings.push(found(
            Severity::Degraded,
            "LRO",
            format!("{name} joins packets on receipt, which XDP in the driver forbids"),
            format!("ethtool -K {name} lro off"),
        ));
    }
    if port.vlan_offload == Some(true) {
        findings.push(found(
            Severity::Note,
            "VLAN offload",
            format!("{name} takes tags off frames before XDP sees them"),
            format!("where service traffic is tagged: ethtool -K {name} rxvlan off"),
        ));
    }
    if port.lro.is_none() {
        findings.push(found(
            Severity::Note,
            "offloads",
            "could not be looked at",
            "install ethtool",
        ));
    }
    findings
}
