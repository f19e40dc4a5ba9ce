//! Nodes that choose among different backends.

use super::*;

fn local() -> Service {
    Service {
        traffic_policy: TrafficPolicy::Local,
        ..service()
    }
}

fn zonal() -> Service {
    Service {
        follows_hints: true,
        ..service()
    }
}

/// Nodes in zones: `a` and `b` in east, `c` in west, `d` in none.
fn zones() -> Cluster {
    let in_zone = |zone| Node {
        labels: label("topology.kubernetes.io/zone", zone),
        ..node("")
    };
    Cluster {
        nodes: named([
            ("a", in_zone("east")),
            ("b", in_zone("east")),
            ("c", in_zone("west")),
            ("d", node("")),
        ]),
        ..Cluster::default()
    }
}

fn hinted(at: &str, node: &str, zone: &str) -> Endpoint {
    Endpoint {
        zones: [zone.to_owned()].into(),
        ..endpoint(at, node)
    }
}

/// Weights of the backends on a node, and the groups that it looks to.
fn weights(cluster: &Cluster, at: &str, service: &Service, list: &[Endpoint]) -> (String, String) {
    let (backends, choices, _) = seen_from(at, cluster, service, list);
    let weights = backends
        .iter()
        .filter_map(|text| text.rsplit(' ').next())
        .collect();
    let others = choices.map_or_else(Vec::new, |choices| choices.others);
    (weights, others.iter().map(ToString::to_string).collect())
}

#[test]
fn traffic_policy_local_keeps_to_this_node_and_knows_the_others() {
    let list = [endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b")];
    let (backends, choices, _) = seen_from("a", &cluster(), &local(), &list);
    assert_eq!(backends, ["10.0.0.1 a 1", "10.0.0.2 b 0"]);
    let wanted = Choices {
        groups: vec![vec![(0, 1)], vec![(1, 3)]],
        others: vec![1],
    };
    assert_eq!(choices, Some(wanted));
}

#[test]
fn nodes_that_keep_to_their_own_know_the_same_groups_and_ask_different_ones_first() {
    let nodes = ["a", "b", "c", "d"].into_iter().zip(1..);
    let list: Vec<_> = nodes
        .map(|(node, n)| endpoint(&format!("10.0.0.{n}"), node))
        .collect();
    let groups = |at| seen_from(at, &zones(), &local(), &list).1.unwrap().groups;
    assert!(
        ["b", "c", "d", "x"]
            .iter()
            .all(|at| groups(at) == groups("a"))
    );
    let at = |node| weights(&zones(), node, &local(), &list);
    assert_eq!(at("a"), ("1000".into(), "123".into()));
    assert_eq!(at("c"), ("0010".into(), "301".into()));
    // A node without pods of its own gives new connections to nobody.
    assert_eq!(at("bb"), ("0000".into(), "230".into()));
}

#[test]
fn a_node_whose_pods_only_drain_is_asked_last_and_chooses_nobody() {
    let list = [
        silent("10.0.0.1", "a"),
        endpoint("10.0.0.2", "b"),
        endpoint("10.0.0.3", "c"),
    ];
    let at = |node| weights(&zones(), node, &local(), &list);
    assert_eq!(at("a"), ("000".into(), "12".into()));
    assert_eq!(at("c"), ("001".into(), "10".into()));
    let groups = |at| seen_from(at, &zones(), &local(), &list).1.unwrap().groups;
    assert_eq!(groups("a"), groups("c"));
}

#[test]
fn terminating_endpoints_of_a_node_go_on_if_only_such_serve_there() {
    let list = [
        terminating("10.0.0.1", "a"),
        endpoint("10.0.0.2", "b"),
        terminating("10.0.0.3", "b"),
    ];
    let at = |node| weights(&zones(), node, &local(), &list).0;
    assert_eq!([at("a"), at("b")], ["100", "010"]);
}

#[test]
fn a_zone_chooses_what_is_hinted_for_it_and_a_node_without_a_zone_everything() {
    let list = [
        hinted("10.0.0.1", "a", "east"),
        hinted("10.0.0.2", "b", "east"),
        hinted("10.0.0.3", "c", "west"),
    ];
    let at = |node| weights(&zones(), node, &zonal(), &list);
    assert_eq!(at("a"), ("110".into(), "20".into()));
    assert_eq!(at("b"), at("a"));
    assert_eq!(at("c"), ("001".into(), "01".into()));
    assert_eq!(at("d"), ("111".into(), "12".into()));
    let groups = |at| seen_from(at, &zones(), &zonal(), &list).1.unwrap().groups;
    assert!(["b", "c", "d"].iter().all(|at| groups(at) == groups("a")));
}

#[test]
fn a_zone_without_ready_endpoints_chooses_among_all() {
    let list = [
        hinted("10.0.0.1", "a", "east"),
        Endpoint {
            zones: ["west".to_owned()].into(),
            ..terminating("10.0.0.3", "c")
        },
    ];
    assert_eq!(weights(&zones(), "c", &zonal(), &list).0, "10");
}

#[test]
fn hints_are_followed_where_every_endpoint_has_one_and_the_service_asks_for_it() {
    let all = [
        hinted("10.0.0.1", "a", "east"),
        hinted("10.0.0.3", "c", "west"),
    ];
    let none = (String::from("11"), String::new());
    assert_eq!(weights(&zones(), "a", &service(), &all), none);
    let [one, _] = all;
    let some = [one, endpoint("10.0.0.3", "c")];
    assert_eq!(weights(&zones(), "a", &zonal(), &some), none);
}

#[test]
fn a_hint_that_leads_out_of_the_pods_zone_is_not_followed() {
    let list = [
        hinted("10.0.0.1", "a", "east"),
        hinted("10.0.0.2", "b", "west"),
        hinted("10.0.0.3", "c", "west"),
    ];
    let at = |node| weights(&zones(), node, &zonal(), &list).0;
    assert_eq!([at("a"), at("c")], ["100", "111"]);
}

#[test]
fn traffic_policy_local_leaves_hints_alone() {
    let service = Service {
        traffic_policy: TrafficPolicy::Local,
        ..zonal()
    };
    let list = [
        hinted("10.0.0.1", "a", "east"),
        hinted("10.0.0.2", "b", "east"),
    ];
    assert_eq!(weights(&zones(), "a", &service, &list).0, "10");
}
