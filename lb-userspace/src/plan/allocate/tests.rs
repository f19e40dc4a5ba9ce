//! MetalLB's controller and allocator tests, in our words.

use super::*;
use crate::model::cluster::Family;
use crate::model::cluster::PoolAllocation;
use crate::model::cluster::Protocol;
use crate::model::cluster::ServicePort;
use crate::model::cluster::TrafficPolicy;
use crate::plan::fixture::*;

type Services = SharedMap<ObjectName, Service>;

fn services(items: impl IntoIterator<Item = (&'static str, Service)>) -> Services {
    items
        .into_iter()
        .map(|(name, service)| (object(name), service))
        .collect()
}

fn run(services: &Services, pools: &BTreeMap<String, Pool>) -> Allocation {
    let namespaces = named([("default", label("team", "a")), ("other", Labels::new())]);
    allocate(services, pools, &namespaces)
}

/// What a lone Service gets.
fn alone(service: Service, pools: &BTreeMap<String, Pool>) -> Assignment {
    run(&services([("web", service)]), pools)
        .services
        .remove(&object("web"))
        .unwrap()
}

fn pools() -> BTreeMap<String, Pool> {
    named([
        ("one", pool("1.2.3.0/31")),
        (
            "three",
            Pool {
                auto_assign: false,
                ..pool("3.2.3.0/24")
            },
        ),
        ("two", pool("1000::/127")),
    ])
}

fn texts(assignment: &Assignment) -> Vec<String> {
    assignment
        .addresses
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn requests(text: &str) -> Service {
    Service {
        requested_addresses: Ok(addrs(text)),
        ..service()
    }
}

fn holds(text: &str) -> Service {
    Service {
        status_addresses: addrs(text),
        ..service()
    }
}

fn shares(key: &str, at: u16) -> Service {
    Service {
        sharing_key: Some(key.into()),
        ports: vec![port(at)],
        ..service()
    }
}

#[test]
fn a_service_gets_the_lowest_free_address_of_its_family() {
    let got = alone(service(), &pools());
    assert_eq!(
        (texts(&got), got.pool.as_deref(), got.error),
        (vec!["1.2.3.0".into()], Some("one"), None)
    );
    let got = alone(
        Service {
            families: vec![Family::V6],
            ..service()
        },
        &pools(),
    );
    assert_eq!(texts(&got), ["1000::"]);
}

#[test]
fn what_a_service_that_is_not_ours_holds_is_given_to_nobody() {
    let other = Service {
        is_load_balancer: false,
        ..holds("1.2.3.0")
    };
    let got = run(
        &services([("a", other.clone()), ("b", service())]),
        &pools(),
    );
    assert_eq!(got.services.len(), 1);
    assert_eq!(texts(&got.services[&object("b")]), ["1.2.3.1"]);

    let got = run(&services([("a", other), ("b", holds("1.2.3.0"))]), &pools());
    assert_eq!(texts(&got.services[&object("b")]), ["1.2.3.0"], "kept");
}

#[test]
fn an_address_in_the_status_stays_and_nobody_else_gets_it() {
    let got = run(
        &services([("a", service()), ("z", holds("1.2.3.0"))]),
        &pools(),
    );
    assert_eq!(texts(&got.services[&object("a")]), ["1.2.3.1"]);
    assert_eq!(texts(&got.services[&object("z")]), ["1.2.3.0"]);
}

#[test]
fn explicit_requests_go_before_automatic_ones() {
    let got = run(
        &services([("a", service()), ("z", requests("1.2.3.0"))]),
        &pools(),
    );
    assert_eq!(texts(&got.services[&object("a")]), ["1.2.3.1"]);
    assert_eq!(texts(&got.services[&object("z")]), ["1.2.3.0"]);
}

#[test]
fn a_foreign_or_misfit_status_is_replaced() {
    for status in ["9.9.9.9", "1000::", "1.2.3.0 1000::", "1.2.3.0 9.9.9.9"] {
        assert_eq!(
            texts(&alone(holds(status), &pools())),
            ["1.2.3.0"],
            "{status}"
        );
    }
}

#[test]
fn one_address_in_two_statuses_stays_with_the_first_by_name() {
    let got = run(
        &services([("a", holds("1.2.3.1")), ("b", holds("1.2.3.1"))]),
        &pools(),
    );
    assert_eq!(texts(&got.services[&object("a")]), ["1.2.3.1"]);
    assert_eq!(texts(&got.services[&object("b")]), ["1.2.3.0"]);
}

#[test]
fn a_request_replaces_another_address() {
    let service = Service {
        status_addresses: addrs("1.2.3.0"),
        ..requests("1.2.3.1")
    };
    assert_eq!(texts(&alone(service, &pools())), ["1.2.3.1"]);
}

#[test]
fn a_request_that_cannot_be_read_keeps_the_old_address() {
    let service = Service {
        requested_addresses: Err("invalid IP \"x\"".into()),
        ..holds("1.2.3.1")
    };
    let got = alone(service.clone(), &pools());
    assert_eq!(texts(&got), ["1.2.3.1"]);
    assert_eq!(
        got.error,
        Some(AllocateError::BadRequest("invalid IP \"x\"".into()))
    );
    let got = alone(
        Service {
            status_addresses: vec![],
            ..service
        },
        &pools(),
    );
    assert!(got.addresses.is_empty() && got.error.is_some());
}

#[test]
fn requests_that_cannot_be_met_say_why() {
    let dual_request = Service {
        requested_addresses: Ok(addrs("1.2.3.0 3.2.3.0")),
        ..service()
    };
    let cases = [
        (requests("9.9.9.9"), "9.9.9.9 is not allowed in config"),
        (
            requests("1000::"),
            "requested loadBalancer IP(s) 1000:: do not match the ipFamily of the Service (v4)",
        ),
        (requests("1.2.3.0 1000::"), "do not match the ipFamily"),
        (dual_request, "do not match the ipFamily"),
        (
            Service {
                requested_pool: Some("nope".into()),
                ..service()
            },
            "unknown pool \"nope\"",
        ),
        (
            Service {
                requested_pool: Some("three".into()),
                ..requests("1.2.3.0")
            },
            "not compatible with the requested",
        ),
        (
            Service {
                requested_pool: Some("two".into()),
                ..service()
            },
            "no available IPs in pool \"two\" for v4",
        ),
        (
            Service {
                families: vec![],
                ..service()
            },
            "no ClusterIP",
        ),
    ];
    for (service, text) in cases {
        let got = alone(service, &pools());
        assert!(got.addresses.is_empty(), "{text}");
        let error = got.error.unwrap().to_string();
        assert!(error.contains(text), "{error}");
    }
    let error = alone(service(), &BTreeMap::new()).error;
    assert_eq!(error, Some(AllocateError::NoPools));
}

#[test]
fn a_pool_that_does_not_assign_by_itself_serves_by_name_and_by_address() {
    let by_name = Service {
        requested_pool: Some("three".into()),
        ..service()
    };
    assert_eq!(texts(&alone(by_name, &pools())), ["3.2.3.0"]);
    assert_eq!(texts(&alone(requests("3.2.3.9"), &pools())), ["3.2.3.9"]);
}

#[test]
fn asking_for_another_pool_moves_the_service() {
    let service = Service {
        requested_pool: Some("three".into()),
        ..holds("1.2.3.0")
    };
    assert_eq!(texts(&alone(service, &pools())), ["3.2.3.0"]);
}

#[test]
fn an_exhausted_pool_leaves_the_last_without() {
    let got = run(
        &services([("a", service()), ("b", service()), ("c", service())]),
        &pools(),
    );
    assert_eq!(texts(&got.services[&object("b")]), ["1.2.3.1"]);
    let error = got.services[&object("c")].error.clone();
    assert_eq!(error, Some(AllocateError::NoneLeft(vec![Family::V4])));
}

#[test]
fn a_service_is_rehomed_when_its_pool_goes_and_stays_when_it_is_renamed() {
    let moved = named([("new", pool("5.5.5.0/31"))]);
    assert_eq!(texts(&alone(holds("1.2.3.1"), &moved)), ["5.5.5.0"]);
    let renamed = named([("renamed", pool("1.2.3.0/24"))]);
    let got = alone(holds("1.2.3.1"), &renamed);
    assert_eq!(
        (texts(&got), got.pool.as_deref()),
        (vec!["1.2.3.1".into()], Some("renamed"))
    );
}

#[test]
fn avoid_buggy_ips_skips_evicts_and_refuses() {
    let pools = named([(
        "p",
        Pool {
            avoid_buggy_ips: true,
            ..pool("1.2.3.0/30 1.2.4.254/31")
        },
    )]);
    assert_eq!(texts(&alone(service(), &pools)), ["1.2.3.1"]);
    assert_eq!(texts(&alone(holds("1.2.3.0"), &pools)), ["1.2.3.1"]);
    let error = alone(requests("1.2.4.255"), &pools).error.unwrap();
    assert!(matches!(error, AllocateError::Buggy { .. }), "{error}");
    let five = ["a", "b", "c", "d", "e"].map(|name| (name, service()));
    let got = run(&services(five), &pools);
    assert_eq!(texts(&got.services[&object("d")]), ["1.2.4.254"]);
    assert!(got.services[&object("e")].error.is_some());
}

#[test]
fn dual_stack_policies_take_what_they_need_from_one_pool() {
    use FamilyPolicy::*;
    let both = named([
        ("a4", pool("1.2.3.0/24")),
        ("b", pool("2.2.3.0/24 2000::/120")),
        ("c6", pool("1000::/120")),
    ]);
    let single = named([("a6", pool("1000::/120")), ("b4", pool("1.2.3.0/24"))]);
    for policy in [PreferDualStack, RequireDualStack] {
        assert_eq!(texts(&alone(dual(policy), &both)), ["2.2.3.0", "2000::"]);
    }
    assert_eq!(texts(&alone(dual(PreferDualStack), &single)), ["1.2.3.0"]);
    let v6_first = Service {
        families: vec![Family::V6, Family::V4],
        ..dual(PreferDualStack)
    };
    assert_eq!(texts(&alone(v6_first.clone(), &single)), ["1000::"]);
    assert_eq!(texts(&alone(v6_first, &both)), ["2.2.3.0", "2000::"]);
    assert!(alone(dual(RequireDualStack), &single).addresses.is_empty());
    let lone = Service {
        families: vec![Family::V4],
        ..dual(RequireDualStack)
    };
    assert_eq!(alone(lone, &both).error, Some(AllocateError::NotDualStack));
    let lone = Service {
        families: vec![Family::V6],
        ..dual(PreferDualStack)
    };
    assert_eq!(texts(&alone(lone, &single)), ["1000::"]);
}

#[test]
fn a_requested_pair_keeps_its_order_and_comes_from_one_pool() {
    let policy = FamilyPolicy::RequireDualStack;
    let pair = |text| Service {
        requested_addresses: Ok(addrs(text)),
        ..dual(policy)
    };
    let pools = named([
        ("a", pool("1.2.3.0/24 1000::/120")),
        ("b", pool("2000::/120")),
    ]);
    assert_eq!(
        texts(&alone(pair("1000::7 1.2.3.7"), &pools)),
        ["1000::7", "1.2.3.7"]
    );
    let error = alone(pair("1.2.3.7 2000::7"), &pools).error.unwrap();
    assert!(
        matches!(error, AllocateError::SeveralPools { .. }),
        "{error}"
    );
    let held = Service {
        status_addresses: addrs("1.2.3.7 1000::7"),
        ..pair("1000::7 1.2.3.7")
    };
    assert_eq!(
        texts(&alone(held, &pools)),
        ["1.2.3.7", "1000::7"],
        "the order does not matter"
    );
}

#[test]
fn a_service_that_prefers_two_families_is_upgraded_from_its_pool() {
    let half = Service {
        status_addresses: addrs("1.2.3.9"),
        ..dual(FamilyPolicy::PreferDualStack)
    };
    let both = named([("a", pool("1.2.3.0/24 1000::/120"))]);
    assert_eq!(texts(&alone(half.clone(), &both)), ["1.2.3.9", "1000::"]);
    let got = alone(half, &pools_without_v6());
    assert_eq!(texts(&got), ["1.2.3.9"]);
    assert!(matches!(
        got.error,
        Some(AllocateError::NoSecondFamily { .. })
    ));
    let half = Service {
        status_addresses: addrs("1.2.3.9"),
        ..dual(FamilyPolicy::RequireDualStack)
    };
    assert_eq!(texts(&alone(half, &both)), ["1.2.3.0", "1000::"]);
}

fn pools_without_v6() -> BTreeMap<String, Pool> {
    named([("a", pool("1.2.3.0/24")), ("b", pool("1000::/120"))])
}

fn pinned(allocation: PoolAllocation, networks: &str) -> Pool {
    Pool {
        allocation: Some(allocation),
        ..pool(networks)
    }
}

fn for_namespace(priority: i64, namespace: &str) -> PoolAllocation {
    PoolAllocation {
        priority,
        namespaces: [namespace.to_owned()].into(),
        ..PoolAllocation::default()
    }
}

#[test]
fn pinned_pools_go_first_by_priority_and_unset_is_last() {
    let pools = named([
        ("a-open", pool("1.0.0.0/32")),
        ("b-unset", pinned(for_namespace(0, "default"), "2.0.0.0/32")),
        (
            "c-twenty",
            pinned(for_namespace(20, "default"), "3.0.0.0/32"),
        ),
        ("d-ten", pinned(for_namespace(10, "default"), "4.0.0.0/32")),
        ("e-other", pinned(for_namespace(1, "other"), "5.0.0.0/32")),
    ]);
    let names = ["1", "2", "3", "4", "5"];
    let got = run(&services(names.map(|name| (name, service()))), &pools);
    let got: Vec<_> = got.services.values().map(|a| texts(a).join(" ")).collect();
    assert_eq!(got, ["4.0.0.0", "3.0.0.0", "2.0.0.0", "1.0.0.0", ""]);
}

#[test]
fn a_pinned_pool_takes_namespaces_by_label_and_services_by_label() {
    let by_labels = PoolAllocation {
        namespace_selectors: vec![selector("team", "a")],
        service_selectors: vec![selector("tier", "gold"), selector("tier", "silver")],
        ..PoolAllocation::default()
    };
    let pools = named([
        ("a", pool("1.0.0.0/24")),
        ("b", pinned(by_labels, "2.0.0.0/24")),
    ]);
    let silver = Service {
        labels: label("tier", "silver"),
        ..service()
    };
    assert_eq!(texts(&alone(silver.clone(), &pools)), ["2.0.0.0"]);
    assert_eq!(texts(&alone(service(), &pools)), ["1.0.0.0"]);
    let elsewhere = ObjectName::new("other", "web");
    let got = run(&[(elsewhere.clone(), silver)].into(), &pools);
    assert_eq!(texts(&got.services[&elsewhere]), ["1.0.0.0"]);
}

#[test]
fn a_restriction_holds_for_explicit_requests_and_for_addresses_held() {
    let pools = named([
        ("a", pool("1.0.0.0/24")),
        ("b", pinned(for_namespace(0, "other"), "2.0.0.0/24")),
    ]);
    let not_for = Some(AllocateError::NotForService("b".into()));
    assert_eq!(alone(requests("2.0.0.1"), &pools).error, not_for);
    let by_name = Service {
        requested_pool: Some("b".into()),
        ..service()
    };
    assert_eq!(alone(by_name, &pools).error, not_for);
    assert_eq!(texts(&alone(holds("2.0.0.1"), &pools)), ["1.0.0.0"]);
    let nowhere = PoolAllocation {
        namespace_selectors: vec![selector("team", "nobody")],
        ..PoolAllocation::default()
    };
    let pools = named([("b", pinned(nowhere, "2.0.0.0/24"))]);
    assert_eq!(alone(requests("2.0.0.1"), &pools).error, not_for);
}

#[test]
fn services_share_an_address_by_key_on_different_ports() {
    let list = [
        ("a", shares("k", 80)),
        ("b", shares("k", 443)),
        ("c", shares("k", 80)),
        ("d", shares("l", 81)),
    ];
    let got = run(&services(list), &named([("p", pool("1.2.3.0/29"))]));
    let got: Vec<_> = got.services.values().map(|a| texts(a).join(" ")).collect();
    assert_eq!(got, ["1.2.3.0", "1.2.3.0", "1.2.3.1", "1.2.3.2"]);
}

#[test]
fn sharing_is_refused_for_another_key_port_or_backend() {
    let want = |service: Service| Service {
        requested_addresses: Ok(addrs("1.2.3.0")),
        ..service
    };
    let local = |selector: &str, at| Service {
        traffic_policy: TrafficPolicy::Local,
        selector: selector.into(),
        ..want(shares("k", at))
    };
    let second = |first, second| {
        let got = run(&services([("a", first), ("b", second)]), &pools());
        got.services[&object("b")]
            .error
            .clone()
            .map(|error| error.to_string())
    };
    let k80 = || want(shares("k", 80));
    let in_use = "can't assign 1.2.3.0: address also in use by default/a";
    assert!(second(k80(), want(service())).unwrap().starts_with(in_use));
    assert!(
        second(k80(), want(shares("l", 443)))
            .unwrap()
            .starts_with(in_use)
    );
    assert!(
        second(want(service()), want(shares("k", 443)))
            .unwrap()
            .starts_with(in_use)
    );
    let taken = second(k80(), k80()).unwrap();
    assert!(
        taken.starts_with("can't share 1.2.3.0: port 80/tcp is already in use by default/a"),
        "{taken}"
    );
    let differ = "can't share 1.2.3.0 with default/a: externalTrafficPolicy";
    assert!(
        second(k80(), local("app=a", 443))
            .unwrap()
            .starts_with(differ)
    );
    assert!(
        second(local("app=a", 80), local("app=b", 443))
            .unwrap()
            .starts_with(differ)
    );
    assert_eq!(second(local("app=a", 80), local("app=a", 443)), None);
    assert_eq!(second(k80(), local("", 443)), None);
    let udp = ServicePort {
        protocol: Protocol::Udp,
        ..port(80)
    };
    assert_eq!(
        second(
            k80(),
            Service {
                ports: vec![udp],
                ..k80()
            }
        ),
        None
    );
}

#[test]
fn a_sole_holder_may_change_its_key_and_ports() {
    let changed = Service {
        status_addresses: addrs("1.2.3.1"),
        ..shares("new", 8443)
    };
    assert_eq!(texts(&alone(changed, &pools())), ["1.2.3.1"]);
}

#[test]
fn a_pool_that_overlaps_an_earlier_one_is_left_out_and_named() {
    let pools = named([
        ("a", pool("10.0.0.0/24")),
        ("b", pool("11.0.0.0/24 10.0.0.128/25")),
        ("c", pool("11.0.0.0/24")),
        ("d", pool("12.0.0.0/24 12.0.0.0/28")),
    ]);
    let got = run(&services([("web", requests("11.0.0.7"))]), &pools);
    assert_eq!(got.services[&object("web")].pool.as_deref(), Some("c"));
    let found: Vec<_> = got
        .findings
        .iter()
        .map(|f| (f.object.as_str(), f.field.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("IPAddressPool b", "spec.addresses[1]"),
            ("IPAddressPool d", "spec.addresses[1]")
        ]
    );
    let text = got.findings[0].to_string();
    assert!(
        text.contains("CIDR \"10.0.0.128/25\" overlaps with an already defined CIDR of a"),
        "{text}"
    );
}

#[test]
fn what_was_given_out_stays_when_it_is_fed_back() {
    let list = [
        ("a", shares("k", 80)),
        ("b", shares("k", 80)),
        ("c", dual(FamilyPolicy::PreferDualStack)),
    ];
    let pools = named([("p", pool("1.2.3.0/29 1000::/120"))]);
    let mut all = services(list);
    let first = run(&all, &pools);
    for (name, assignment) in &first.services {
        all.get_mut(name).unwrap().status_addresses = assignment.addresses.clone();
    }
    assert_eq!(run(&all, &pools).services, first.services);
}

#[test]
fn fifty_thousand_services_in_one_pool_look_at_each_address_about_once() {
    let pools = named([("p", pool("10.0.0.0/16"))]);
    let probes = |shape: &dyn Fn(usize) -> Service, count: usize| {
        let list = (0..count).map(|n| (object(&format!("s{n}")), shape(n)));
        let got = run(&list.collect(), &pools);
        assert!(
            got.services
                .values()
                .all(|assignment| assignment.error.is_none())
        );
        got.probes
    };
    assert!(probes(&|_| service(), 50_000) <= 150_000);
    assert!(probes(&|_| shares("k", 80), 50_000) <= 150_000);
    assert!(probes(&|n| shares("k", n as u16), 50_000) <= 150_000);
}
