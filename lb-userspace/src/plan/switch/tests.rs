//! The device of the product's documentation, and everything that its operator
//! may get wrong.

use super::*;
use crate::plan::fixture::*;

/// vSwitch1 {Port2} for management, vSwitch2 {Port3, Port4} for storage.
fn cluster() -> Cluster {
    let port = |alias: &str, interface: &str| SwitchPort {
        alias: alias.to_owned(),
        interface: interface.to_owned(),
    };
    let first = VirtualSwitch {
        ports: vec![port("Port2", "eth1")],
        enabled_for: Purposes {
            management: true,
            ..Purposes::default()
        },
        is_managed: false,
    };
    let second = VirtualSwitch {
        ports: vec![port("Port3", "eth2"), port("Port4", "eth3")],
        enabled_for: Purposes {
            storage: true,
            ..Purposes::default()
        },
        is_managed: false,
    };
    Cluster {
        virtual_switches: named([("vswitch1", first), ("vswitch2", second)]),
        is_implied: true,
        nodes: named([
            ("node-a", node("10.126.77.1")),
            ("node-b", node("10.126.77.2")),
        ]),
        ..Cluster::default()
    }
}

fn here() -> Here {
    let interface = |name: &str, alias: Option<&str>, addresses: &str| Interface {
        name: name.to_owned(),
        alias: alias.map(str::to_owned),
        addresses: addresses
            .split_whitespace()
            .map(|net| net.parse().unwrap())
            .collect(),
    };
    Here {
        interfaces: vec![
            interface("lo", None, "127.0.0.1/8"),
            interface("eth0", Some("Port1"), "192.0.2.7/24"),
            interface("eth1", None, "10.126.77.1/24 2001:db8:77::1/64 fe80::1/64"),
            interface("eth2", None, ""),
        ],
    }
}

/// What the documentation's example sets.
fn request() -> PeerRequest {
    PeerRequest {
        switch: "vSwitch1".to_owned(),
        address: addr("10.126.77.125"),
        peer_asn: 64_512,
        self_asn: 64_513,
        hold_time_seconds: Some(15),
        multi_hop: false,
    }
}

fn set(cluster: &Cluster, request: PeerRequest) -> Result<Decision, SwitchRefusal> {
    decide(cluster, &here(), &SwitchChange::SetPeer(request))
}

fn remove(cluster: &Cluster, switch: &str, address: &str) -> Result<Decision, SwitchRefusal> {
    let change = SwitchChange::RemovePeer {
        switch: switch.to_owned(),
        address: addr(address),
    };
    decide(cluster, &here(), &change)
}

fn enable(
    cluster: &Cluster,
    port: &str,
    interface: Option<&str>,
) -> Result<Decision, SwitchRefusal> {
    let change = SwitchChange::EnableCompute {
        port: port.to_owned(),
        interface: interface.map(str::to_owned),
    };
    decide(cluster, &here(), &change)
}

fn disable(cluster: &Cluster, port: &str) -> Result<Decision, SwitchRefusal> {
    let change = SwitchChange::DisableCompute {
        port: port.to_owned(),
    };
    decide(cluster, &here(), &change)
}

fn edits(decision: Result<Decision, SwitchRefusal>) -> Vec<String> {
    let edits = decision.unwrap().edits;
    edits.iter().map(ToString::to_string).collect()
}

fn refusal(decision: Result<Decision, SwitchRefusal>) -> String {
    decision.unwrap_err().describe("-MultiHop")
}

/// The cluster with a peer on a switch.
fn with_peer(mut cluster: Cluster, name: &str, address: &str, switch: Option<&str>) -> Cluster {
    let on = BgpPeer {
        switch: switch.map(str::to_owned),
        hold_time: request().hold_time(),
        ..peer(address)
    };
    cluster.peers.insert(name.to_owned(), on);
    cluster
}

#[test]
fn a_peer_is_made_as_asked_for_and_a_switch_without_compute_is_warned_of() {
    let decision = set(&cluster(), request()).unwrap();
    let name = "hcs-vswitch1-10.126.77.125".to_owned();
    let peer = request();
    assert_eq!(
        decision.edits,
        [Edit::PutPeer {
            name,
            peer,
            ebgp_multi_hop: false
        }]
    );
    let [warning] = decision.warnings.as_slice() else {
        panic!("{decision:?}");
    };
    let warning = warning.to_string();
    assert!(
        warning.contains("vSwitch1 is not enabled for compute"),
        "{warning}"
    );
    assert!(warning.contains("--port Port2"), "{warning}");
}

#[test]
fn names_of_switches_are_taken_in_any_case_and_written_in_theirs() {
    let request = PeerRequest {
        switch: "VSWITCH1".to_owned(),
        address: addr("2001:db8:77::"),
        ..request()
    };
    let decision = set(&cluster(), request).unwrap();
    let Some(Edit::PutPeer { name, peer, .. }) = decision.edits.first() else {
        panic!("{decision:?}");
    };
    assert_eq!(name, "hcs-vswitch1-2001-db8-77--0");
    assert_eq!(peer.switch, "vSwitch1");
}

#[test]
fn a_peer_that_is_there_is_changed_by_its_name_and_left_alone_if_it_is_as_asked_for() {
    let cluster = with_peer(cluster(), "by-hand", "10.126.77.125", Some("vSwitch1"));
    assert_eq!(edits(set(&cluster, request())), [""; 0]);
    let other = PeerRequest {
        hold_time_seconds: None,
        ..request()
    };
    assert_eq!(edits(set(&cluster, other)), ["BGPPeer by-hand written"]);
}

#[test]
fn as_numbers_are_those_of_the_documentation() {
    for asn in [1, 65_534, 131_072, 4_294_967_294] {
        assert_eq!(check_asn(asn, false), Ok(()), "{asn}");
    }
    for asn in [0, 65_535, 131_071, 4_294_967_295] {
        for is_self in [false, true] {
            let text = check_asn(asn, is_self).unwrap_err().to_string();
            assert!(text.contains("1 to 65534"), "{text}");
            assert!(text.contains("131072 to 4294967294"), "{text}");
        }
    }
    let wrong = PeerRequest {
        self_asn: 65_535,
        ..request()
    };
    assert!(matches!(
        set(&cluster(), wrong),
        Err(SwitchRefusal::Asn { is_self: true, .. })
    ));
}

#[test]
fn a_hold_time_is_none_or_three_seconds_or_more() {
    for (seconds, is_right) in [(0, true), (1, false), (2, false), (3, true), (65_535, true)] {
        assert_eq!(check_hold_time(seconds).is_ok(), is_right, "{seconds}");
    }
    assert!(check_hold_time(65_536).is_err());
}

#[test]
fn an_address_that_nobody_can_have_is_refused() {
    for address in [
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "ff02::1",
        "fe80::1",
    ] {
        let request = PeerRequest {
            address: addr(address),
            ..request()
        };
        let text = refusal(set(&cluster(), request));
        assert!(text.contains("want a unicast address"), "{text}");
    }
}

#[test]
fn a_switch_that_is_not_there_is_told_with_those_that_are() {
    let request = PeerRequest {
        switch: "vSwitch3".to_owned(),
        ..request()
    };
    assert_eq!(
        refusal(set(&cluster(), request)),
        "there is no virtual switch vSwitch3; there are: vSwitch1, vSwitch2"
    );
    assert_eq!(
        refusal(remove(&Cluster::default(), "vSwitch1", "10.0.0.1")),
        "there is no virtual switch vSwitch1; compute is enabled on no port"
    );
}

#[test]
fn a_peer_of_another_switch_or_of_none_is_refused() {
    let other = with_peer(cluster(), "x", "10.126.77.125", Some("VSwitch2"));
    let text = refusal(set(&other, request()));
    assert!(
        text.contains("is a BGP peer already, on vSwitch2"),
        "{text}"
    );
    let other = with_peer(cluster(), "tor", "10.126.77.125", None);
    let text = refusal(set(&other, request()));
    assert!(text.contains("on no switch (BGPPeer tor)"), "{text}");
}

#[test]
fn an_address_of_our_own_is_explained() {
    for (address, owner) in [
        ("10.126.77.1", "Port2, interface eth1"),
        ("192.0.2.7", "interface eth0"),
        ("10.126.77.2", "node node-b"),
    ] {
        let request = PeerRequest {
            address: addr(address),
            ..request()
        };
        let text = refusal(set(&cluster(), request));
        assert!(text.contains(owner), "{text}");
        assert!(
            text.contains("PeerAddress is the address of the router"),
            "{text}"
        );
    }
}

#[test]
fn a_peer_outside_the_subnets_needs_to_be_said_to_be_hops_away() {
    let far = PeerRequest {
        address: addr("198.51.100.9"),
        ..request()
    };
    let text = refusal(set(&cluster(), far.clone()));
    assert!(
        text.contains("in no subnet of vSwitch1, which has 10.126.77.0/24, 2001:db8:77::/64;"),
        "{text}"
    );
    assert!(text.ends_with("-MultiHop"), "{text}");

    let multi_hop = PeerRequest {
        multi_hop: true,
        ..far.clone()
    };
    let decision = set(&cluster(), multi_hop.clone()).unwrap();
    assert!(matches!(
        decision.edits.first(),
        Some(Edit::PutPeer {
            ebgp_multi_hop: true,
            ..
        })
    ));
    let internal = PeerRequest {
        peer_asn: 64_513,
        ..multi_hop
    };
    let decision = set(&cluster(), internal).unwrap();
    assert!(matches!(
        decision.edits.first(),
        Some(Edit::PutPeer {
            ebgp_multi_hop: false,
            ..
        })
    ));

    let bare = PeerRequest {
        switch: "vSwitch2".to_owned(),
        ..far
    };
    let text = refusal(set(&cluster(), bare));
    assert!(text.contains("whose ports have no addresses"), "{text}");
}

#[test]
fn an_advertisement_is_made_where_none_selects_the_peer() {
    let name = "hcs-vswitch1-10.126.77.125";
    let mut cluster = cluster();
    cluster.is_implied = false;
    cluster.pools = named([("pool", pool("203.0.113.0/24"))]);
    let advertised = |cluster: &Cluster| {
        let mut edits = set(cluster, request()).unwrap().edits.into_iter();
        edits.find(|edit| matches!(edit, Edit::PutAdvertisement { .. }))
    };
    let made = |of_switch| {
        Some(Edit::PutAdvertisement {
            name: "hcs-vswitch1".to_owned(),
            switch: "vSwitch1".to_owned(),
            peers: vec![name.to_owned()],
            of_switch,
        })
    };
    assert_eq!(advertised(&cluster), made(false));

    let pool = cluster.pools.get_mut("pool").unwrap();
    pool.labels = label(SWITCH_LABEL, "vswitch1");
    assert_eq!(advertised(&cluster), made(true));

    let mut ad = bgp_advertisement();
    ad.peers = ["another".to_owned()].into();
    cluster.bgp_advertisements = named([("one", ad)]);
    assert_eq!(advertised(&cluster), made(true));
    cluster.bgp_advertisements = named([("all", bgp_advertisement())]);
    assert_eq!(advertised(&cluster), None);

    cluster.bgp_advertisements.clear();
    cluster.is_implied = true;
    assert_eq!(advertised(&cluster), None, "it is implied");
}

#[test]
fn the_last_peer_takes_the_advertisement_along() {
    let mut cluster = with_peer(cluster(), "a", "10.126.77.125", Some("vSwitch1"));
    cluster = with_peer(cluster, "b", "10.126.77.126", Some("vswitch1"));
    let mut ad = bgp_advertisement();
    ad.peers = ["a".to_owned(), "b".to_owned()].into();
    cluster.bgp_advertisements = named([("hcs-vswitch1", ad)]);
    assert_eq!(
        edits(remove(&cluster, "vSwitch1", "10.126.77.125")),
        ["BGPPeer a deleted", "BGPAdvertisement hcs-vswitch1 written"]
    );
    cluster.peers.remove("a");
    assert_eq!(
        edits(remove(&cluster, "vSwitch1", "10.126.77.126")),
        ["BGPPeer b deleted", "BGPAdvertisement hcs-vswitch1 deleted"]
    );
    assert_eq!(
        refusal(remove(&cluster, "vSwitch1", "10.126.77.125")),
        "vSwitch1 has no BGP peer 10.126.77.125; it has: 10.126.77.126"
    );
}

#[test]
fn compute_makes_a_switch_on_a_port_that_has_none() {
    let cluster = cluster();
    let decision = enable(&cluster, "Port1", None).unwrap();
    let [Edit::PutSwitch { name, switch }] = decision.edits.as_slice() else {
        panic!("{decision:?}");
    };
    assert_eq!(name, "vswitch3");
    assert_eq!(switch.ports[0].interface, "eth0");
    assert!(switch.is_managed && switch.enabled_for.compute);

    let decision = enable(&cluster, "Port9", Some("eth0")).unwrap();
    assert_eq!(decision.edits.len(), 1);
    let text = refusal(enable(&cluster, "Port9", None));
    assert!(text.contains("--interface IF"), "{text}");
    let text = refusal(enable(&cluster, "eth1", None));
    assert_eq!(text, "eth1 is Port2 of vSwitch1 already");
}

#[test]
fn compute_is_enabled_on_a_switch_that_is_there_and_disabled_again() {
    let mut cluster = cluster();
    let decision = enable(&cluster, "port4", None).unwrap();
    let [Edit::PutSwitch { name, switch }] = decision.edits.as_slice() else {
        panic!("{decision:?}");
    };
    assert_eq!(name, "vswitch2");
    assert_eq!(
        switch.enabled_for.words().collect::<Vec<_>>(),
        ["compute", "storage"]
    );
    cluster
        .virtual_switches
        .insert(name.clone(), switch.clone());
    assert_eq!(edits(enable(&cluster, "Port3", None)), [""; 0]);
    assert_eq!(
        edits(disable(&cluster, "Port3")),
        ["VirtualSwitch vswitch2 written"]
    );
    let text = refusal(disable(&cluster, "Port8"));
    assert!(text.contains("Port2, Port3, Port4"), "{text}");
}

#[test]
fn a_switch_that_compute_made_goes_with_it_unless_it_has_peers() {
    let mut cluster = cluster();
    let decision = enable(&cluster, "Port1", None).unwrap();
    let [Edit::PutSwitch { name, switch }] = decision.edits.as_slice() else {
        panic!("{decision:?}");
    };
    cluster
        .virtual_switches
        .insert(name.clone(), switch.clone());
    assert_eq!(
        edits(disable(&cluster, "Port1")),
        ["VirtualSwitch vswitch3 deleted"]
    );
    let cluster = with_peer(cluster, "a", "192.0.2.1", Some("vSwitch3"));
    let text = refusal(disable(&cluster, "Port1"));
    assert!(text.contains("vSwitch3 has BGP peers: 192.0.2.1"), "{text}");
}

#[test]
fn an_edit_is_done_once_the_source_says_so() {
    let mut cluster = cluster();
    let decision = set(&cluster, request()).unwrap();
    let [edit] = decision.edits.as_slice() else {
        panic!("{decision:?}");
    };
    assert!(!exists(&cluster, edit) && !is_done(&cluster, edit));
    let name = "hcs-vswitch1-10.126.77.125";
    cluster = with_peer(cluster, name, "10.126.77.125", Some("vSwitch1"));
    assert!(exists(&cluster, edit) && is_done(&cluster, edit));
    let deletion = Edit::DeletePeer {
        name: name.to_owned(),
    };
    assert!(!is_done(&cluster, &deletion));
}

#[test]
fn a_virtual_interface_has_one_uuid_for_ever() {
    let golden = host_vnic("node-a", "vswitch1");
    assert_eq!(golden, "c1ec0f13-ccbf-5b44-887c-5d032666b4f6");
    assert_ne!(golden, host_vnic("node-a", "vswitch2"));
    assert_ne!(golden, host_vnic("node-b", "vswitch1"));
}
