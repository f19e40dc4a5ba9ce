//! The whole intent of a node, and that it settles.

mod incremental;

use proptest::prelude::*;

use super::*;
use crate::model::cluster::ClusterKeys;
use crate::model::cluster::FamilyPolicy;
use crate::model::cluster::Pool;
use crate::model::cluster::Protocol;
use crate::model::cluster::Service;
use crate::model::cluster::ServicePort;
use crate::model::cluster::TrafficPolicy;
use crate::model::intent::FrontendName;
use crate::model::segment::Segment;
use crate::plan::fixture::*;
use crate::plan::layout::Capacity;
use crate::plan::layout::Layout;
use crate::plan::layout::Settings;

fn context() -> Context {
    Context {
        node: "a".into(),
        interface: "eth0".into(),
        ..Context::default()
    }
}

fn cluster() -> Cluster {
    let https = ServicePort {
        name: "https".into(),
        ..port(443)
    };
    let service = Service {
        ports: vec![port(80), https],
        ..dual(FamilyPolicy::RequireDualStack)
    };
    let silent_port = |at| endpoint(at, "b");
    Cluster {
        services: [(object("web"), service)].into(),
        endpoints: [(
            object("web"),
            vec![
                silent_port("10.0.0.1"),
                silent_port("10.0.0.2"),
                silent_port("fd00::1"),
            ],
        )]
        .into(),
        nodes: named([("a", node("192.0.2.1")), ("b", node("192.0.2.2"))]),
        pools: named([("p", pool("203.0.113.0/24 2001:db8::/120"))]),
        bgp_advertisements: named([("ad", bgp_advertisement())]),
        peers: named([("tor", peer("192.0.2.254"))]),
        keys: Some(ClusterKeys {
            flow_key: [7; 32],
            peer_key: [8; 32],
        }),
        ..Cluster::default()
    }
}

/// Writes what an intent says about Services into their objects, as the state file does.
fn feed_back(cluster: &mut Cluster, intent: &Intent) {
    for (name, state) in &intent.services {
        let service = cluster.services.get_mut(name).unwrap();
        service.status_addresses = state.addresses.clone();
        service.table_length = state.table_length;
    }
}

#[test]
fn a_service_has_a_frontend_per_address_and_port() {
    let intent = compute(&cluster(), &context());
    let frontends: Vec<String> = intent
        .dataplane
        .frontends
        .keys()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        frontends,
        [
            "203.0.113.0:80/tcp",
            "203.0.113.0:443/tcp",
            "[2001:db8::]:80/tcp",
            "[2001:db8::]:443/tcp",
        ]
    );
    let state = &intent.services[&object("web")];
    assert_eq!(state.frontends.len(), 4);
    assert_eq!(
        (state.pool.as_deref(), state.table_length),
        (Some("p"), Some(1_024))
    );
    let [https, http] = [443, 80].map(|port| {
        let name = FrontendName {
            addr: addr("203.0.113.0"),
            port,
            protocol: Protocol::Tcp,
        };
        intent.dataplane.frontends[&name].clone()
    });
    assert_eq!(
        (http.backends.len(), https.backends.len(), http.table_length),
        (2, 0, 1_024)
    );
    assert_eq!(intent.findings, []);
    assert_eq!(intent.dataplane.nodes.keys().collect::<Vec<_>>(), ["b"]);
    assert_eq!(intent.dataplane.flow_key, [7; 32]);
}

#[test]
fn echo_is_answered_while_a_backend_serves() {
    let mut cluster = cluster();
    let echo = |cluster: &Cluster| {
        compute(cluster, &context()).dataplane.vips[&addr("203.0.113.0")].answer_echo
    };
    assert!(echo(&cluster));
    cluster.endpoints.insert(
        object("web"),
        vec![silent("10.0.0.1", "b"), endpoint("fd00::1", "b")],
    );
    assert!(!echo(&cluster));
}

#[test]
fn the_table_length_is_the_same_on_all_nodes_under_traffic_policy_local() {
    let mut cluster = cluster();
    cluster
        .services
        .get_mut(&object("web"))
        .unwrap()
        .traffic_policy = TrafficPolicy::Local;
    let length = |node: &str| {
        let context = Context {
            node: node.into(),
            ..context()
        };
        compute(&cluster, &context).services[&object("web")].table_length
    };
    assert_eq!((length("a"), length("b")), (Some(1_024), Some(1_024)));
}

#[test]
fn a_service_without_an_address_says_why_and_gets_nothing() {
    let mut cluster = cluster();
    cluster
        .services
        .get_mut(&object("web"))
        .unwrap()
        .requested_pool = Some("none".into());
    let intent = compute(&cluster, &context());
    let state = &intent.services[&object("web")];
    assert!(
        state
            .allocation_error
            .as_deref()
            .unwrap()
            .contains("unknown pool")
    );
    assert!(
        state
            .not_announced
            .as_deref()
            .unwrap()
            .starts_with("noIPAllocated")
    );
    assert!(intent.dataplane.frontends.is_empty() && intent.dataplane.vips.is_empty());
}

#[test]
fn a_missing_key_and_a_missing_node_are_reported() {
    let cluster = Cluster {
        keys: None,
        nodes: named([]),
        ..cluster()
    };
    let intent = compute(&cluster, &context());
    let objects: Vec<_> = intent
        .findings
        .iter()
        .map(|finding| finding.object.as_str())
        .collect();
    assert_eq!(objects, ["Secret torline", "Node a", "Service default/web"]);
    assert_eq!(intent.dataplane.flow_key, PUBLIC_FLOW_KEY);
}

#[test]
fn a_refusal_names_the_same_holder_whoever_came_first() {
    let mut cluster = cluster();
    let sharing = |requested: &str, number| Service {
        sharing_key: Some("k".into()),
        requested_addresses: Ok(addrs(requested)),
        ports: vec![port(number)],
        ..service()
    };
    let refused = Service {
        requested_addresses: Ok(addrs("203.0.113.0")),
        ..service()
    };
    cluster.services = [
        (object("a"), sharing("", 80)),
        (object("b"), sharing("203.0.113.0", 81)),
        (object("c"), refused),
    ]
    .into();
    cluster.pools = named([("p", pool("203.0.113.0/29"))]);
    let first = compute(&cluster, &context());
    assert_eq!(first.services[&object("a")].addresses, addrs("203.0.113.0"));
    feed_back(&mut cluster, &first);
    assert_eq!(compute(&cluster, &context()), first);
}

proptest! {
    #[test]
    fn what_is_fed_back_does_not_change_the_intent(
        shapes in proptest::collection::vec(
            (0u8..3, proptest::option::of(0u8..2), 0u8..10, proptest::collection::vec(0u8..4, 0..6)),
            0..12,
        ),
    ) {
        let mut cluster = cluster();
        for (n, (families, sharing, requested, pods)) in shapes.into_iter().enumerate() {
            let service = Service {
                ports: vec![port(80 + (n % 3) as u16)],
                sharing_key: sharing.map(|key| key.to_string()),
                requested_addresses: Ok(match requested {
                    0..3 if families == 0 => addrs(&format!("203.0.113.{requested}")),
                    _ => Vec::new(),
                }),
                ..match families {
                    0 => service(),
                    1 => dual(FamilyPolicy::PreferDualStack),
                    _ => dual(FamilyPolicy::RequireDualStack),
                }
            };
            let pods = pods.into_iter().map(|pod| match pod {
                0 => silent("10.1.0.1", "a"),
                1 => terminating("10.1.0.2", "b"),
                pod => endpoint(&format!("10.1.0.{pod}"), "b"),
            });
            let name = object(&format!("s{n}"));
            cluster.endpoints.insert(name.clone(), pods.collect());
            cluster.services.insert(name, service);
        }
        cluster.pools = named([("p", pool("203.0.113.0/29 2001:db8::/126"))]);
        let first = compute(&cluster, &context());
        prop_assert_eq!(&compute(&cluster, &context()), &first);
        feed_back(&mut cluster, &first);
        let second = compute(&cluster, &context());
        prop_assert_eq!(without_words(second), without_words(first));
    }
}

/// An intent whose refusals are told apart only by being there: which of several holders a refusal names
/// depends on how many came before.
fn without_words(mut intent: Intent) -> Intent {
    for state in intent.services.values_mut() {
        state.allocation_error = state.allocation_error.take().map(|_| String::new());
    }
    intent
}

#[test]
#[ignore = "long: plans 10 million slots; prints the times, to be read in a release build"]
fn ten_thousand_services_of_ten_backends_all_find_room() {
    let mut cluster = cluster();
    cluster.pools = named([(
        "p",
        Pool {
            ..pool("10.64.0.0/16")
        },
    )]);
    for (name, addr) in [("c", "192.0.2.3"), ("d", "192.0.2.4")] {
        cluster.nodes.insert(name.into(), node(addr));
    }
    for n in 0..10_000 {
        let pods = (0..10).map(|pod| {
            let node = ["b", "c", "d"][pod % 3];
            endpoint(&format!("10.{}.{}.{pod}", n / 250, n % 250), node)
        });
        let name = object(&format!("s{n}"));
        cluster.endpoints.insert(name.clone(), pods.collect());
        cluster.services.insert(name, service());
    }
    let clock = std::time::Instant::now();
    let intent = compute(&cluster, &context());
    let computed = clock.elapsed();
    let layout = Layout::new(Capacity::default());
    let (plan, layout) = layout.plan(
        &intent.dataplane,
        &Segment::default(),
        Settings::default(),
        0,
    );
    let planned = clock.elapsed();
    assert!(plan.refused.is_empty());
    cluster.endpoints.get_mut(&object("s77")).unwrap().pop();
    let again = std::time::Instant::now();
    let intent = compute(&cluster, &context());
    let recomputed = again.elapsed();
    let (change, layout) = layout.plan(
        &intent.dataplane,
        &Segment::default(),
        Settings::default(),
        0,
    );
    let rebuilt = again.elapsed();
    let without = Context {
        gone: ["d".to_owned()].into(),
        ..context()
    };
    let dead = std::time::Instant::now();
    let intent = compute(&cluster, &without);
    let decided = dead.elapsed();
    let (loss, _) = layout.plan(
        &intent.dataplane,
        &Segment::default(),
        Settings::default(),
        0,
    );
    println!(
        "a node gone: compute {decided:?}, plan {:?} ({} steps)",
        dead.elapsed() - decided,
        loss.steps.len()
    );
    println!(
        "compute {computed:?}, plan {:?} ({} steps); one pod less: compute {recomputed:?}, plan {:?} ({} steps)",
        planned - computed,
        plan.steps.len(),
        rebuilt - recomputed,
        change.steps.len()
    );
}

/// What the first frontend's backends weigh, by address.
fn weights(intent: &Intent) -> Vec<(String, u32)> {
    let frontend = intent.dataplane.frontends.values().next().unwrap();
    let backends = frontend.backends.iter();
    backends
        .map(|backend| (backend.addr.to_string(), backend.weight))
        .collect()
}

#[test]
fn backends_on_a_node_that_is_gone_keep_their_connections_and_get_no_new_ones() {
    let mut cluster = cluster();
    let endpoints = cluster.endpoints.get_mut(&object("web")).unwrap();
    endpoints[0].node = Some("a".into());
    endpoints[2].serving = false;
    let gone = Context {
        gone: ["b".to_owned()].into(),
        ..context()
    };
    let before = compute(&cluster, &context());
    let after = compute(&cluster, &gone);
    let expected = |second| [("10.0.0.1".to_owned(), 1), ("10.0.0.2".to_owned(), second)];
    assert_eq!(weights(&before), expected(1));
    assert_eq!(weights(&after), expected(0));
    assert!(after.dataplane.nodes["b"].is_gone);
    assert!(!before.dataplane.nodes["b"].is_gone);
    let length = |intent: &Intent| intent.services[&object("web")].table_length;
    assert_eq!(length(&before), length(&after));
}

#[test]
fn a_service_all_of_whose_nodes_are_gone_is_announced_no_more() {
    let cluster = cluster();
    let gone = Context {
        gone: ["b".to_owned()].into(),
        ..context()
    };
    let routes = |context| compute(&cluster, &context).sessions["tor"].routes.len();
    assert!(routes(context()) > 0);
    assert_eq!(routes(gone), 0);
}
