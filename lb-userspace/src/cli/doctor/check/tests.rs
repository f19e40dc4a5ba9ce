//! A machine that is well, and one thing wrong with it at a time.

use super::*;

fn well() -> Facts {
    Facts {
        kernel: "6.18.0-1-amd64".to_owned(),
        has_btf: true,
        has_bpffs: true,
        is_root: true,
        agent: Some(Agent {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            in_sync: true,
            nodes: 3,
            ..Agent::default()
        }),
        interface: Some("eth0".to_owned()),
        port: Some(Port {
            is_up: true,
            is_ethernet: true,
            mtu: 9000,
            driver: Some("ice".to_owned()),
            xdp: Some(Xdp {
                id: 7,
                is_generic: false,
                is_ours: true,
            }),
            lro: Some(false),
            vlan_offload: Some(false),
        }),
        forwards_v4: Some(true),
        forwards_v6: Some(true),
        rp_filter: Some(2),
        kube_proxy: false,
        ipvs: false,
        arp_ignore: Some(0),
        bgp_listeners: vec!["torline".to_owned()],
        clock_source: Some("tsc".to_owned()),
        open_files: Some(65_536),
        inotify_instances: Some(128),
    }
}

/// What is not good after a change, as `severity subject`.
fn after(change: impl FnOnce(&mut Facts)) -> Vec<String> {
    let mut facts = well();
    change(&mut facts);
    let findings = judge(&facts).into_iter();
    findings
        .filter(|finding| finding.severity > Severity::Good)
        .map(|finding| format!("{} {}", finding.severity.word(), finding.subject))
        .collect()
}

fn port_of(facts: &mut Facts) -> &mut Port {
    facts.port.get_or_insert_default()
}

#[test]
fn a_machine_that_is_well_is_good_throughout() {
    assert_eq!(after(|_| {}), [""; 0]);
}

#[test]
fn what_keeps_torline_from_working_is_broken() {
    assert_eq!(
        after(|it| it.kernel = "5.10.0".to_owned()),
        ["broken kernel"]
    );
    assert_eq!(after(|it| it.has_btf = false), ["broken BTF"]);
    assert_eq!(after(|it| it.port = None), ["broken interface"]);
    assert_eq!(after(|it| port_of(it).is_up = false), ["broken interface"]);
    assert_eq!(
        after(|it| port_of(it).is_ethernet = false),
        ["broken interface"]
    );
    assert_eq!(after(|it| port_of(it).mtu = 1200), ["broken MTU"]);
    assert_eq!(
        after(|it| it.forwards_v4 = Some(false)),
        ["broken forwarding"]
    );
    assert_eq!(after(|it| it.ipvs = true), ["broken kube-proxy"]);
    let other = Xdp {
        id: 9,
        is_generic: false,
        is_ours: false,
    };
    assert_eq!(after(|it| port_of(it).xdp = Some(other)), ["broken XDP"]);
}

#[test]
fn what_makes_it_worse_is_degraded() {
    assert_eq!(after(|it| it.has_bpffs = false), ["degraded bpffs"]);
    assert_eq!(
        after(|it| it.forwards_v6 = Some(false)),
        ["degraded forwarding"]
    );
    assert_eq!(
        after(|it| port_of(it).driver = Some("r8169".to_owned())),
        ["degraded driver"]
    );
    assert_eq!(after(|it| port_of(it).lro = Some(true)), ["degraded LRO"]);
    assert_eq!(
        after(|it| it.clock_source = Some("hpet".to_owned())),
        ["degraded clock"]
    );
    assert_eq!(after(|it| it.open_files = Some(256)), ["degraded limits"]);
    assert_eq!(
        after(|it| it.inotify_instances = Some(8)),
        ["degraded inotify"]
    );
    let generic = Xdp {
        id: 7,
        is_generic: true,
        is_ours: true,
    };
    assert_eq!(
        after(|it| port_of(it).xdp = Some(generic)),
        ["degraded XDP"]
    );
}

#[test]
fn what_is_worth_knowing_is_a_note() {
    assert_eq!(
        after(|it| it.kernel = "6.1.0-26".to_owned()),
        ["note kernel"]
    );
    assert_eq!(after(|it| it.agent = None), ["note agent"]);
    assert_eq!(after(|it| it.interface = None), ["note interface"]);
    assert_eq!(after(|it| port_of(it).mtu = 1500), ["note MTU"]);
    assert_eq!(after(|it| port_of(it).driver = None), ["note driver"]);
    assert_eq!(
        after(|it| port_of(it).vlan_offload = Some(true)),
        ["note VLAN offload"]
    );
    assert_eq!(after(|it| port_of(it).lro = None), ["note offloads"]);
    assert_eq!(after(|it| it.rp_filter = Some(1)), ["note rp_filter"]);
    assert_eq!(after(|it| it.is_root = false), ["note privilege"]);
    assert_eq!(
        after(|it| it.bgp_listeners = vec!["bird".to_owned()]),
        ["note port 179"]
    );
}

#[test]
fn two_nodes_are_told_how_soon_the_other_takes_over() {
    let agent = |sessions, without_bfd| {
        move |it: &mut Facts| {
            let agent = it.agent.get_or_insert_default();
            (agent.nodes, agent.sessions, agent.without_bfd) = (2, sessions, without_bfd);
        }
    };
    assert_eq!(after(agent(0, 0)), ["note two nodes"]);
    assert_eq!(after(agent(2, 1)), ["degraded two nodes"]);
    assert_eq!(after(agent(2, 0)), [""; 0]);
}

#[test]
fn the_agent_is_of_this_version_and_in_sync() {
    let broken = |change: fn(&mut Agent)| after(|it| change(it.agent.get_or_insert_default()));
    assert_eq!(
        broken(|it| it.version = "0.0.1".to_owned()),
        ["degraded agent"]
    );
    assert_eq!(broken(|it| it.in_sync = false), ["degraded agent"]);
    assert_eq!(broken(|it| it.findings = 2), ["degraded objects"]);
}

#[test]
fn whatever_is_not_good_says_what_to_do() {
    let mut facts = Facts {
        interface: Some("eth0".to_owned()),
        port: Some(Port::default()),
        ..Facts::default()
    };
    facts.ipvs = true;
    for finding in judge(&facts) {
        let is_told = !finding.advice.is_empty() || finding.severity <= Severity::Note;
        assert!(is_told, "{finding:?}");
    }
}
