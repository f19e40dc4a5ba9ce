//! A planner says what a fresh one would say, whatever it was given before.

use super::*;
use crate::model::cluster::BgpAdvertisement;
use crate::model::cluster::Endpoint;
use crate::model::cluster::Family;
use crate::model::cluster::L2Advertisement;
use crate::model::cluster::Node;
use crate::model::cluster::PoolAllocation;
use crate::plan::Planner;

const NODES: [&str; 4] = ["a", "b", "c", "nowhere"];

/// Something that happens to a cluster.
#[derive(Clone, Debug)]
enum Event {
    /// A Service comes or changes.
    Service(u8, Wish),
    /// It goes, its endpoints stay for a while.
    Removal(u8),
    /// Its endpoints: last byte of the address, node, and how it is.
    Endpoints(u8, Vec<(u8, usize, u8)>),
    /// They go.
    Silence(u8),
    /// A node's program answers no more, or again.
    Death(usize),
    /// A node's weight changes.
    Weight(usize, u8),
    /// The routes of Services with a label get another preference.
    Preference(u32),
    /// ARP and NDP are answered, or not, on this interface or another.
    Layer2(Option<bool>),
    /// A namespace gets or loses the label that a pool wants.
    Namespace(bool),
    /// What was decided is written into the Services.
    Feedback,
}

/// What a Service asks for.
#[derive(Clone, Debug)]
struct Wish {
    ports: Vec<u16>,
    shares: bool,
    is_local: bool,
    is_dual: bool,
    is_special: bool,
    address: Option<u8>,
    length: Option<u32>,
}

fn wish() -> impl Strategy<Value = Wish> {
    let ports = proptest::sample::subsequence(vec![80, 443], 1..=2);
    let flags = any::<[bool; 4]>();
    let address = proptest::option::weighted(0.2, 0u8..10);
    let length = proptest::option::weighted(0.2, Just(256));
    (ports, flags, address, length).prop_map(|(ports, flags, address, length)| {
        let [shares, is_local, is_dual, is_special] = flags;
        Wish {
            ports,
            shares,
            is_local,
            is_dual,
            is_special,
            address,
            length,
        }
    })
}

fn event() -> impl Strategy<Value = Event> {
    let service = 0u8..6;
    let endpoint = (1u8..6, 0..NODES.len(), 0u8..3);
    let endpoints = proptest::collection::vec(endpoint, 0..5);
    prop_oneof![
        4 => (service.clone(), wish()).prop_map(|(service, wish)| Event::Service(service, wish)),
        1 => service.clone().prop_map(Event::Removal),
        6 => (service.clone(), endpoints).prop_map(|(service, pods)| Event::Endpoints(service, pods)),
        1 => service.prop_map(Event::Silence),
        1 => (1..NODES.len()).prop_map(Event::Death),
        1 => (0..3usize, 1u8..3).prop_map(|(node, weight)| Event::Weight(node, weight)),
        1 => (0u32..3).prop_map(Event::Preference),
        1 => any::<Option<bool>>().prop_map(Event::Layer2),
        1 => any::<bool>().prop_map(Event::Namespace),
        3 => Just(Event::Feedback),
    ]
}

/// A scarce pool, a second one for a namespace with a label, routes that several Services share.
fn scene() -> Cluster {
    let restricted = PoolAllocation {
        namespace_selectors: vec![selector("team", "a")],
        ..PoolAllocation::default()
    };
    let special = BgpAdvertisement {
        service_selectors: vec![selector("tier", "special")],
        aggregation_length: 30,
        ..bgp_advertisement()
    };
    let plain = BgpAdvertisement {
        aggregation_length: 30,
        local_pref: 1,
        service_selectors: vec![selector("tier", "plain")],
        ..bgp_advertisement()
    };
    Cluster {
        nodes: named([
            ("a", node("192.0.2.1")),
            ("b", node("192.0.2.2")),
            ("c", node("192.0.2.3")),
        ]),
        pools: named([
            ("open", pool("203.0.113.0/30 2001:db8::/127")),
            (
                "restricted",
                Pool {
                    allocation: Some(restricted),
                    ..pool("203.0.113.8/31")
                },
            ),
        ]),
        bgp_advertisements: named([("plain", plain), ("special", special)]),
        peers: named([("tor", peer("192.0.2.254")), ("tor6", peer("2001:db8::fe"))]),
        ..Cluster::default()
    }
}

fn happen(event: Event, cluster: &mut Cluster, context: &mut Context, intent: &Intent) {
    let name = |service: u8| object(&format!("s{service}"));
    match event {
        Event::Service(number, wish) => {
            let families = match wish.is_dual {
                true => vec![Family::V4, Family::V6],
                false => vec![Family::V4],
            };
            let former = cluster.services.get(&name(number));
            let made = Service {
                labels: label("tier", if wish.is_special { "special" } else { "plain" }),
                ports: wish.ports.into_iter().map(port).collect(),
                sharing_key: wish.shares.then(|| "key".to_owned()),
                traffic_policy: match wish.is_local {
                    true => TrafficPolicy::Local,
                    false => TrafficPolicy::Cluster,
                },
                families,
                family_policy: FamilyPolicy::PreferDualStack,
                requested_addresses: Ok(wish
                    .address
                    .into_iter()
                    .map(|last| addr(&format!("203.0.113.{last}")))
                    .collect()),
                table_length: wish.length,
                status_addresses: former.map_or_else(Vec::new, |s| s.status_addresses.clone()),
                ..service()
            };
            cluster.services.insert(name(number), made);
        }
        Event::Removal(number) => drop(cluster.services.remove(&name(number))),
        Event::Endpoints(number, pods) => {
            let pods: Vec<Endpoint> = pods
                .into_iter()
                .map(|(last, node, how)| {
                    let at = format!("10.0.{number}.{last}");
                    match how {
                        0 => endpoint(&at, NODES[node]),
                        1 => terminating(&at, NODES[node]),
                        _ => silent(&at, NODES[node]),
                    }
                })
                .collect();
            cluster.endpoints.insert(name(number), pods);
        }
        Event::Silence(number) => drop(cluster.endpoints.remove(&name(number))),
        Event::Death(node) => {
            let node = NODES[node].to_owned();
            if !context.gone.remove(&node) {
                context.gone.insert(node);
            }
        }
        Event::Weight(number, weight) => {
            let node = cluster.nodes.get_mut(NODES[number]).unwrap();
            *node = Node {
                weight: Some(weight),
                ..node.clone()
            };
        }
        Event::Preference(preference) => {
            let special = cluster.bgp_advertisements.get_mut("special").unwrap();
            special.local_pref = preference;
        }
        Event::Layer2(interface) => {
            cluster.l2_advertisements.clear();
            if let Some(is_ours) = interface {
                let interface = if is_ours { "eth0" } else { "eth1" };
                let advertisement = L2Advertisement {
                    interfaces: [interface.to_owned()].into(),
                    ..l2_advertisement()
                };
                cluster
                    .l2_advertisements
                    .insert("l2".to_owned(), advertisement);
            }
        }
        Event::Namespace(has_label) => {
            let team = if has_label { "a" } else { "b" };
            cluster
                .namespaces
                .insert("default".to_owned(), label("team", team));
        }
        Event::Feedback => feed_back(cluster, intent),
    }
}

proptest! {
    #[test]
    fn a_planner_says_what_a_fresh_one_would_say(
        events in proptest::collection::vec(event(), 1..40),
    ) {
        let (mut cluster, mut context) = (scene(), context());
        let mut planner = Planner::default();
        let mut intent = planner.compute(&cluster, &context);
        for event in events {
            happen(event.clone(), &mut cluster, &mut context, &intent);
            intent = planner.compute(&cluster, &context);
            prop_assert_eq!(&intent, &compute(&cluster, &context), "after {:?}", event);
        }
    }
}

#[test]
fn what_a_change_does_not_touch_is_shared_with_the_intent_before() {
    let mut cluster = scene();
    for name in ["s0", "s1"] {
        let service = Service {
            table_length: Some(1_024),
            ..service()
        };
        cluster.services.insert(object(name), service);
        let pods = vec![endpoint("10.0.0.1", "a"), endpoint("10.0.0.2", "b")];
        cluster.endpoints.insert(object(name), pods);
    }
    let mut planner = Planner::default();
    let before = planner.compute(&cluster, &context());
    cluster.endpoints.get_mut(&object("s1")).unwrap().pop();
    let after = planner.compute(&cluster, &context());
    let frontends = after
        .dataplane
        .frontends
        .changes(&before.dataplane.frontends);
    assert_eq!(frontends.len(), 1);
    assert!(after.services.is_same(&before.services));
    assert!(after.dataplane.vips.is_same(&before.dataplane.vips));
    assert!(Arc::ptr_eq(&after.sessions, &before.sessions));
}
