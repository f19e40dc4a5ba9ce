//! MetalLB's speaker tests, in our words: who announces what, and why not.

use crate::model::cluster::BgpAdvertisement;
use crate::model::cluster::Cluster;
use crate::model::cluster::Community;
use crate::model::cluster::Endpoint;
use crate::model::cluster::Family;
use crate::model::cluster::FamilyPolicy;
use crate::model::cluster::L2Advertisement;
use crate::model::cluster::Node;
use crate::model::cluster::Service;
use crate::model::cluster::TrafficPolicy;
use crate::model::intent::Intent;
use crate::model::intent::ServiceState;
use crate::plan::Context;
use crate::plan::compute;
use crate::plan::fixture::*;

/// One Service at 10.20.30.1 with a pod on each of two nodes, two peers, advertised both ways.
fn cluster() -> Cluster {
    let service = Service {
        status_addresses: addrs("10.20.30.1"),
        ..service()
    };
    Cluster {
        services: [(object("web"), service)].into(),
        endpoints: [(
            object("web"),
            vec![endpoint("10.0.0.1", "iris1"), endpoint("10.0.0.2", "iris2")],
        )]
        .into(),
        nodes: named([
            (
                "iris1",
                Node {
                    labels: label("rack", "1"),
                    ..node("192.0.2.1 2001:db8::1")
                },
            ),
            (
                "iris2",
                Node {
                    labels: label("rack", "2"),
                    ..node("192.0.2.2")
                },
            ),
        ]),
        pools: named([("pool", pool("10.20.30.0/24 1000::/120"))]),
        peers: named([("tor1", peer("192.0.2.251")), ("tor2", peer("192.0.2.252"))]),
        bgp_advertisements: named([("all", bgp_advertisement())]),
        l2_advertisements: named([("all", l2_advertisement())]),
        ..Cluster::default()
    }
}

fn run(cluster: &Cluster, node: &str) -> Intent {
    run_without(cluster, node, [])
}

/// As seen by a node that takes these for gone.
fn run_without<const N: usize>(cluster: &Cluster, node: &str, gone: [&str; N]) -> Intent {
    let context = Context {
        node: node.into(),
        interface: "eth0".into(),
        gone: gone.map(str::to_owned).into(),
        ..Context::default()
    };
    compute(cluster, &context)
}

fn state(cluster: &Cluster, node: &str) -> ServiceState {
    run(cluster, node).services[&object("web")].clone()
}

/// MetalLB's word for why it is not announced.
fn word(cluster: &Cluster, node: &str) -> String {
    let reason = state(cluster, node).not_announced.unwrap_or_default();
    reason.split(':').next().unwrap_or_default().to_owned()
}

/// Routes of a peer as text: prefix, localPref, communities.
fn routes(cluster: &Cluster, node: &str, peer: &str) -> Vec<String> {
    let routes = &run(cluster, node).sessions[peer].routes;
    routes
        .iter()
        .map(|(prefix, attributes)| {
            let communities: Vec<_> = attributes.communities.iter().collect();
            format!("{prefix} {:?} {communities:?}", attributes.local_pref)
        })
        .collect()
}

fn edit(cluster: &mut Cluster) -> &mut Service {
    cluster.services.get_mut(&object("web")).unwrap()
}

fn set_endpoints(cluster: &mut Cluster, endpoints: Vec<Endpoint>) {
    cluster.endpoints.insert(object("web"), endpoints);
}

#[test]
fn every_node_announces_to_every_peer() {
    let cluster = cluster();
    for node in ["iris1", "iris2"] {
        let state = state(&cluster, node);
        assert_eq!(
            state.announced_to,
            ["tor1".to_owned(), "tor2".to_owned()].into()
        );
        assert_eq!(state.not_announced, None);
        assert_eq!(routes(&cluster, node, "tor1"), ["10.20.30.1/32 None []"]);
    }
}

#[test]
fn an_address_that_no_peer_takes_is_named() {
    let mut cluster = cluster();
    let service = edit(&mut cluster);
    service.families = vec![Family::V4, Family::V6];
    service.status_addresses = addrs("10.20.30.1 1000::1");
    let state = state(&cluster, "iris1");
    assert_eq!(state.announced_to.len(), 2);
    let reason = state.not_announced.unwrap();
    assert!(
        reason.starts_with("noPeer:") && reason.ends_with("(1000::1)"),
        "{reason}"
    );
}

#[test]
fn what_arp_and_ndp_announce_needs_no_bgp_advertisement() {
    let mut cluster = cluster();
    cluster.bgp_advertisements.clear();
    assert_eq!(state(&cluster, "iris1").not_announced, None);
    cluster.l2_advertisements.clear();
    assert_eq!(word(&cluster, "iris1"), "noMatchingAdvertisement");
}

#[test]
fn a_service_without_serving_endpoints_is_withdrawn_everywhere() {
    let mut cluster = cluster();
    set_endpoints(&mut cluster, vec![silent("10.0.0.1", "iris1")]);
    assert_eq!(word(&cluster, "iris1"), "noEndpoints");
    assert_eq!(state(&cluster, "iris1").l2_leader, None);
    set_endpoints(&mut cluster, vec![terminating("10.0.0.1", "iris1")]);
    assert_eq!(word(&cluster, "iris2"), "");
    set_endpoints(
        &mut cluster,
        vec![silent("10.0.0.1", "iris1"), endpoint("10.0.0.1", "iris1")],
    );
    assert_eq!(word(&cluster, "iris2"), "");
}

#[test]
fn traffic_policy_local_announces_where_an_endpoint_serves() {
    let mut cluster = cluster();
    edit(&mut cluster).traffic_policy = TrafficPolicy::Local;
    set_endpoints(
        &mut cluster,
        vec![endpoint("10.0.0.1", "iris1"), silent("10.0.0.2", "iris2")],
    );
    assert_eq!(word(&cluster, "iris1"), "");
    assert_eq!(word(&cluster, "iris2"), "noLocalEndpoints");
    // iris2 would win the election, were it served there.
    assert_eq!(state(&cluster, "iris2").l2_leader.as_deref(), Some("iris1"));
}

#[test]
fn a_node_without_network_or_excluded_by_label_announces_nothing() {
    let mut lost = cluster();
    lost.nodes.get_mut("iris2").unwrap().network_unavailable = true;
    assert_eq!(word(&lost, "iris2"), "nodeNetworkUnavailable");
    assert_eq!(state(&lost, "iris1").l2_leader.as_deref(), Some("iris1"));
    let mut excluded = cluster();
    excluded.nodes.get_mut("iris2").unwrap().excluded = true;
    assert_eq!(word(&excluded, "iris2"), "nodeLabeledExcludeBalancers");
    assert_eq!(
        state(&excluded, "iris1").l2_leader.as_deref(),
        Some("iris1")
    );
    excluded.nodes.get_mut("iris1").unwrap().excluded = true;
    assert_eq!(state(&excluded, "iris1").l2_leader, None);
}

#[test]
fn a_node_that_is_not_ready_announces_by_bgp_and_does_not_lead() {
    let mut cluster = cluster();
    cluster.nodes.get_mut("iris2").unwrap().ready = false;
    assert_eq!(word(&cluster, "iris2"), "");
    assert_eq!(state(&cluster, "iris2").l2_leader.as_deref(), Some("iris1"));
}

#[test]
fn a_peer_is_for_the_nodes_that_it_selects() {
    let mut cluster = cluster();
    cluster.peers.get_mut("tor2").unwrap().node_selectors = vec![selector("rack", "2")];
    assert_eq!(run(&cluster, "iris1").sessions.len(), 1);
    assert_eq!(run(&cluster, "iris2").sessions.len(), 2);
    cluster.peers.get_mut("tor1").unwrap().node_selectors = vec![selector("rack", "2")];
    assert_eq!(word(&cluster, "iris1"), "noPeer");
}

#[test]
fn an_advertisement_is_for_the_pools_services_nodes_and_peers_that_it_selects() {
    let with = |ad: BgpAdvertisement| Cluster {
        bgp_advertisements: named([("ad", ad)]),
        l2_advertisements: named([]),
        ..cluster()
    };
    let none = "noMatchingAdvertisement";
    let mut ad = bgp_advertisement();
    ad.node_selectors = vec![selector("rack", "2")];
    assert_eq!(word(&with(ad.clone()), "iris1"), none);
    assert_eq!(word(&with(ad), "iris2"), "");
    let mut ad = bgp_advertisement();
    ad.pools.names = ["another".to_owned()].into();
    assert_eq!(word(&with(ad.clone()), "iris1"), none);
    ad.pools.selectors = vec![selector("zone", "x")];
    let mut labelled = with(ad);
    labelled.pools.get_mut("pool").unwrap().labels = label("zone", "x");
    assert_eq!(word(&labelled, "iris1"), "");
    let mut ad = bgp_advertisement();
    ad.service_selectors = vec![selector("tier", "gold")];
    assert_eq!(word(&with(ad), "iris1"), none);
    let mut ad = bgp_advertisement();
    ad.peers = ["tor2".to_owned()].into();
    assert_eq!(
        state(&with(ad), "iris1").announced_to,
        ["tor2".to_owned()].into()
    );
}

#[test]
fn several_advertisements_give_several_routes_and_join_communities() {
    let mut cluster = cluster();
    let community = |n| [Community::Standard(n)].into();
    cluster.bgp_advertisements = named([
        (
            "a",
            BgpAdvertisement {
                communities: community(2),
                ..bgp_advertisement()
            },
        ),
        (
            "b",
            BgpAdvertisement {
                communities: community(1),
                ..bgp_advertisement()
            },
        ),
        (
            "c",
            BgpAdvertisement {
                aggregation_length: 24,
                local_pref: 100,
                ..bgp_advertisement()
            },
        ),
    ]);
    assert_eq!(
        routes(&cluster, "iris1", "tor1"),
        [
            "10.20.30.0/24 Some(100) []",
            "10.20.30.1/32 None [Standard(1), Standard(2)]"
        ]
    );
}

#[test]
fn conflicting_preferences_withdraw_the_service_unless_peers_or_lengths_differ() {
    let with = |a: BgpAdvertisement, b: BgpAdvertisement| {
        let b = BgpAdvertisement {
            local_pref: 200,
            ..b
        };
        let cluster = Cluster {
            bgp_advertisements: named([("a", a), ("b", b)]),
            ..cluster()
        };
        word(&cluster, "iris1")
    };
    let plain = bgp_advertisement;
    let to = |peer: &str| BgpAdvertisement {
        peers: [peer.to_owned()].into(),
        ..plain()
    };
    let on = |rack| BgpAdvertisement {
        node_selectors: vec![selector("rack", rack)],
        ..plain()
    };
    assert_eq!(with(plain(), plain()), "conflictingAdvertisements");
    assert_eq!(with(to("tor1"), plain()), "conflictingAdvertisements");
    assert_eq!(with(to("tor1"), to("tor2")), "");
    assert_eq!(with(on("1"), on("2")), "");
    assert_eq!(
        with(
            BgpAdvertisement {
                aggregation_length: 24,
                ..plain()
            },
            plain()
        ),
        ""
    );
}

#[test]
fn two_services_that_disagree_on_an_aggregate_are_reported_and_the_first_stays() {
    let mut cluster = cluster();
    let gold = Service {
        labels: label("tier", "gold"),
        status_addresses: addrs("10.20.30.9"),
        ..service()
    };
    cluster.services.insert(object("zoo"), gold);
    cluster
        .endpoints
        .insert(object("zoo"), vec![endpoint("10.0.0.9", "iris1")]);
    edit(&mut cluster).labels = label("tier", "silver");
    let ad = |tier, local_pref| BgpAdvertisement {
        aggregation_length: 24,
        service_selectors: vec![selector("tier", tier)],
        local_pref,
        ..bgp_advertisement()
    };
    cluster.bgp_advertisements = named([("g", ad("gold", 1)), ("s", ad("silver", 2))]);
    assert_eq!(
        routes(&cluster, "iris1", "tor1"),
        ["10.20.30.0/24 Some(2) []"]
    );
    let findings = run(&cluster, "iris1").findings;
    assert!(
        findings
            .iter()
            .any(|finding| finding.object == "Service default/zoo")
    );
}

#[test]
fn a_session_carries_its_own_family_and_both_if_dual_stack() {
    let mut cluster = cluster();
    *edit(&mut cluster) = Service {
        status_addresses: addrs("10.20.30.1 1000::1"),
        ..dual(FamilyPolicy::RequireDualStack)
    };
    cluster.peers.get_mut("tor2").unwrap().dual_stack = true;
    assert_eq!(routes(&cluster, "iris1", "tor1"), ["10.20.30.1/32 None []"]);
    assert_eq!(
        routes(&cluster, "iris1", "tor2"),
        ["10.20.30.1/32 None []", "1000::1/128 None []"]
    );
    let session = run(&cluster, "iris1").sessions["tor2"].config.clone();
    assert_eq!(
        session.next_hops,
        [(Family::V6, addr("2001:db8::1"))].into()
    );
    // iris2 has no IPv6 address, hence no next hop to give.
    assert_eq!(routes(&cluster, "iris2", "tor2"), ["10.20.30.1/32 None []"]);
}

#[test]
fn a_session_has_the_defaults_of_the_design() {
    let session = run(&cluster(), "iris1").sessions["tor1"].config.clone();
    assert_eq!(
        (session.hold_time.as_secs(), session.connect_time.as_secs()),
        (90, 5)
    );
    assert_eq!(
        (session.keepalive_time, session.router_id.to_string()),
        (None, "192.0.2.1".into())
    );
}

#[test]
fn the_leader_alone_answers_and_only_for_addresses_advertised_at_layer_2() {
    let answers = |cluster: &Cluster, node| {
        run(cluster, node).dataplane.vips[&addr("10.20.30.1")].answer_neighbors
    };
    let both = cluster();
    assert_eq!(state(&both, "iris1").l2_leader.as_deref(), Some("iris2"));
    assert_eq!(
        [answers(&both, "iris1"), answers(&both, "iris2")],
        [false, true]
    );
    let bgp_only = Cluster {
        l2_advertisements: named([]),
        ..cluster()
    };
    assert_eq!(state(&bgp_only, "iris2").l2_leader, None);
    assert!(!answers(&bgp_only, "iris2"));
}

#[test]
fn candidates_are_the_nodes_that_an_l2_advertisement_selects() {
    let with = |ads: [L2Advertisement; 2]| Cluster {
        l2_advertisements: named([("a", ads[0].clone()), ("b", ads[1].clone())]),
        ..cluster()
    };
    let on = |rack| L2Advertisement {
        node_selectors: vec![selector("rack", rack)],
        ..l2_advertisement()
    };
    assert_eq!(
        state(&with([on("1"), on("1")]), "iris2")
            .l2_leader
            .as_deref(),
        Some("iris1")
    );
    assert_eq!(
        state(&with([on("1"), on("2")]), "iris1")
            .l2_leader
            .as_deref(),
        Some("iris2")
    );
    let mut local = with([on("1"), on("1")]);
    edit(&mut local).traffic_policy = TrafficPolicy::Local;
    set_endpoints(&mut local, vec![endpoint("10.0.0.2", "iris2")]);
    assert_eq!(state(&local, "iris1").l2_leader, None);
}

#[test]
fn a_leader_whose_interface_is_not_listed_does_not_answer_and_says_so() {
    let mut cluster = cluster();
    let ad = cluster.l2_advertisements.get_mut("all").unwrap();
    ad.interfaces = ["eth7".to_owned()].into();
    ad.node_selectors = vec![selector("rack", "2")];
    let intent = run(&cluster, "iris2");
    assert!(!intent.dataplane.vips[&addr("10.20.30.1")].answer_neighbors);
    assert!(
        intent
            .findings
            .iter()
            .any(|finding| finding.message.contains("lists interface eth0"))
    );
    let more = L2Advertisement {
        interfaces: ["eth0".to_owned()].into(),
        ..l2_advertisement()
    };
    cluster.l2_advertisements.insert("more".into(), more);
    assert!(run(&cluster, "iris2").dataplane.vips[&addr("10.20.30.1")].answer_neighbors);
}

#[test]
fn a_shared_address_with_a_selective_l2_advertisement_is_denied_everywhere() {
    let mut cluster = cluster();
    edit(&mut cluster).sharing_key = Some("k".into());
    edit(&mut cluster).labels = label("tier", "gold");
    assert!(state(&cluster, "iris1").l2_leader.is_some());
    let ad = cluster.l2_advertisements.get_mut("all").unwrap();
    ad.service_selectors = vec![selector("tier", "gold")];
    assert_eq!(state(&cluster, "iris1").l2_leader, None);
    assert_eq!(word(&cluster, "iris1"), "");
}

#[test]
fn what_metallb_lacks_reaches_the_routes_and_the_session() {
    let mut cluster = cluster();
    let service = edit(&mut cluster);
    service.traffic_policy = TrafficPolicy::Local;
    cluster
        .endpoints
        .get_mut(&object("web"))
        .unwrap()
        .push(endpoint("10.0.0.3", "iris1"));
    cluster.bgp_advertisements = named([(
        "all",
        BgpAdvertisement {
            med: Some(7),
            prepend: 2,
            link_bandwidth: Some(1_000),
            ..bgp_advertisement()
        },
    )]);
    cluster.peers.get_mut("tor1").unwrap().local_asn = Some(65_009);
    let of = |cluster: &Cluster, node: &str| run(cluster, node).sessions["tor1"].clone();
    let attributes = |cluster: &Cluster, node| of(cluster, node).routes.into_values().next();
    let first = attributes(&cluster, "iris1").unwrap();
    assert_eq!((first.med, first.prepend), (Some(7), 2));
    // Two endpoints weigh twice as much as one.
    assert_eq!(first.link_bandwidth, Some(2_000));
    let second = attributes(&cluster, "iris2").unwrap();
    assert_eq!(second.link_bandwidth, Some(1_000));
    edit(&mut cluster).traffic_policy = TrafficPolicy::Cluster;
    let shared = attributes(&cluster, "iris1").unwrap();
    assert_eq!(shared.link_bandwidth, Some(1_000));

    let session = of(&cluster, "iris1");
    assert_eq!(session.config.my_asn, 65_009);
    assert_eq!(session.config.host_name, "iris1");
    assert!(!session.is_draining);
    cluster.nodes.get_mut("iris1").unwrap().is_draining = true;
    assert!(of(&cluster, "iris1").is_draining);
    assert!(!of(&cluster, "iris2").is_draining);
}

#[test]
fn an_unnumbered_session_carries_both_families_without_addresses() {
    let mut cluster = cluster();
    let peer = cluster.peers.get_mut("tor1").unwrap();
    peer.peer_address = addr("::");
    peer.options.interface = Some("uplink".to_owned());
    let config = run(&cluster, "iris2").sessions["tor1"].config.clone();
    assert_eq!(config.families, [Family::V4, Family::V6].into());
    assert!(config.next_hops.is_empty());
}
