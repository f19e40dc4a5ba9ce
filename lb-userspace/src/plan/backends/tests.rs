//! Readiness, weights, traffic policy, and endpoints that cannot be placed.

use super::*;
use crate::plan::fixture::*;

mod sharing;

fn cluster() -> Cluster {
    Cluster {
        nodes: named([
            ("a", node("192.0.2.1")),
            (
                "b",
                Node {
                    weight: Some(3),
                    ..node("192.0.2.2 2001:db8::2")
                },
            ),
        ]),
        ..Cluster::default()
    }
}

/// `address node weight` of each backend, and the findings.
fn run(service: &Service, endpoints: &[Endpoint]) -> (Vec<String>, Vec<Finding>) {
    let (backends, _, findings) = seen_from("a", &cluster(), service, endpoints);
    (backends, findings)
}

/// The same on a node of a cluster, with what other nodes choose among.
fn seen_from(
    node: &str,
    cluster: &Cluster,
    service: &Service,
    endpoints: &[Endpoint],
) -> (Vec<String>, Option<Choices>, Vec<Finding>) {
    let nodes = Nodes::new(cluster, node);
    let mut findings = Vec::new();
    let behind = Behind::new(&object("web"), service, endpoints, &nodes, &mut findings);
    let Choice { backends, choices } = behind.backends(&port(80), Family::V4);
    assert!(backends.iter().all(|backend| backend.port == 8080));
    let text = |b: &BackendIntent| format!("{} {} {}", b.addr, b.node, b.weight);
    (backends.iter().map(text).collect(), choices, findings)
}

#[test]
fn ready_endpoints_have_the_weight_of_their_node_and_stand_in_order() {
    let list = [
        endpoint("10.0.0.9", "b"),
        endpoint("10.0.0.10", "a"),
        endpoint("fd00::1", "a"),
    ];
    assert_eq!(run(&service(), &list).0, ["10.0.0.9 b 3", "10.0.0.10 a 1"]);
}

#[test]
fn a_terminating_endpoint_drains_while_another_is_ready() {
    let list = [
        terminating("10.0.0.1", "a"),
        endpoint("10.0.0.2", "a"),
        silent("10.0.0.3", "a"),
    ];
    assert_eq!(
        run(&service(), &list).0,
        ["10.0.0.1 a 0", "10.0.0.2 a 1", "10.0.0.3 a 0"]
    );
}

#[test]
fn terminating_endpoints_go_on_if_only_such_serve() {
    let list = [terminating("10.0.0.1", "b"), silent("10.0.0.3", "a")];
    assert_eq!(run(&service(), &list).0, ["10.0.0.1 b 3", "10.0.0.3 a 0"]);
}

#[test]
fn endpoints_that_do_not_serve_get_nothing_new() {
    assert_eq!(
        run(&service(), &[silent("10.0.0.3", "a")]).0,
        ["10.0.0.3 a 0"]
    );
}

#[test]
fn an_endpoint_in_two_slices_counts_once_and_at_its_best() {
    let list = [silent("10.0.0.1", "a"), endpoint("10.0.0.1", "a")];
    assert_eq!(run(&service(), &list).0, ["10.0.0.1 a 1"]);
}

#[test]
fn an_endpoint_without_a_node_is_placed_by_its_address() {
    let host = Endpoint {
        node: None,
        ..endpoint("192.0.2.2", "")
    };
    assert_eq!(
        run(&service(), &[host]),
        (vec!["192.0.2.2 b 3".into()], vec![])
    );
}

#[test]
fn an_endpoint_on_no_known_node_gets_nothing_and_is_named() {
    let list = [
        Endpoint {
            node: None,
            ..endpoint("10.0.0.1", "")
        },
        endpoint("10.0.0.2", "gone"),
        endpoint("10.0.0.3", "gone"),
    ];
    let (backends, findings) = run(&service(), &list);
    assert!(backends.is_empty());
    let texts: Vec<_> = findings
        .iter()
        .map(|finding| finding.message.as_str())
        .collect();
    assert_eq!(
        texts,
        [
            "endpoint 10.0.0.1 names no node and no Node has its address: it gets no traffic; set nodeName",
            "endpoints run on node gone, which does not exist: they get no traffic; add the Node",
        ]
    );
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let named = ServicePort {
        name: "dns".into(),
        ..port(53)
    };
    let cluster = cluster();
    let nodes = Nodes::new(&cluster, "a");
    let list = [endpoint("10.0.0.1", "a")];
    let behind = Behind::new(&object("web"), &service(), &list, &nodes, &mut Vec::new());
    assert_eq!(behind.backends(&named, Family::V4), Choice::default());
}
