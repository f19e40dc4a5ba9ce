//! Who leads: MetalLB's order, what changes it, and that no two nodes lead at a
//! time.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use super::*;
use crate::model::claim::Neighborhood;
use crate::model::cluster::Family;
use crate::model::cluster::FamilyPolicy;
use crate::model::cluster::Preference;
use crate::model::intent::Intent;
use crate::plan::compute;
use crate::plan::fixture::*;

fn candidate(name: &str) -> Candidate<'_> {
    Candidate {
        name,
        is_draining: false,
        preference: 0,
        on_interface: true,
        is_ready: true,
    }
}

#[test]
fn leaders_are_those_that_metallb_elects() {
    let golden = [
        ("node-a node-b node-c", "10.0.0.1", "node-b node-a node-c"),
        ("node-a node-b node-c", "10.0.0.2", "node-b node-c node-a"),
        (
            "edge-a edge-b worker-a worker-b",
            "10.20.30.1",
            "edge-b worker-a edge-a worker-b",
        ),
        ("iris1 iris2", "10.20.30.1", "iris2 iris1"),
        ("iris1 iris2", "10.20.30.2", "iris1 iris2"),
        ("iris1 iris2", "1000::1", "iris1 iris2"),
    ];
    for (nodes, addr, order) in golden {
        let mut left: Vec<_> = nodes.split(' ').map(candidate).collect();
        let mut elected = Vec::new();
        while let Some(leader) = elect(&left, addr.parse().unwrap()) {
            left.retain(|node| node.name != leader.name);
            elected.push(leader.name);
        }
        assert_eq!(elected.join(" "), order, "{addr}");
    }
}

/// A node's name and rack.
const NODES: [(&str, &str); 3] = [("node-a", "1"), ("node-b", "2"), ("node-c", "3")];

/// Services `s1`, `s2`, … at 10.0.0.1, …, each with a pod on every node.
fn cluster(services: u8) -> Cluster {
    let nodes = NODES.map(|(name, rack)| {
        let labelled = Node {
            labels: label("rack", rack),
            ..node("192.0.2.1")
        };
        (name, labelled)
    });
    let numbers = || 1..=services;
    Cluster {
        services: numbers()
            .map(|n| {
                let service = crate::model::cluster::Service {
                    status_addresses: addrs(&format!("10.0.0.{n}")),
                    ..service()
                };
                (object(&format!("s{n}")), service)
            })
            .collect(),
        endpoints: numbers()
            .map(|n| {
                let pods = NODES.map(|(name, _)| endpoint("10.1.0.1", name));
                (object(&format!("s{n}")), pods.into())
            })
            .collect(),
        nodes: named(nodes),
        pools: named([("pool", pool("10.0.0.0/24"))]),
        l2_advertisements: named([("all", l2_advertisement())]),
        ..Cluster::default()
    }
}

/// All nodes of a cluster, each with what it holds and hears.
struct World {
    cluster: Cluster,
    contexts: BTreeMap<&'static str, Context>,
}

impl World {
    fn new(cluster: Cluster) -> Self {
        let context = |(name, _): (&'static str, _)| {
            let context = Context {
                node: name.to_owned(),
                interface: "eth0".to_owned(),
                ..Context::default()
            };
            (name, context)
        };
        Self {
            cluster,
            contexts: NODES.map(context).into(),
        }
    }

    fn placed(placement: Placement, services: u8) -> Self {
        let mut cluster = cluster(services);
        cluster.l2_advertisements.get_mut("all").unwrap().placement = Some(placement);
        Self::new(cluster)
    }

    fn ad(&mut self) -> &mut L2Advertisement {
        self.cluster.l2_advertisements.get_mut("all").unwrap()
    }

    /// This node computes what it is to do, and does it.
    fn act(&mut self, name: &str) -> Intent {
        let context = self.contexts.get_mut(name).unwrap();
        let intent = compute(&self.cluster, context);
        let vips = intent.dataplane.vips.iter();
        context.held = vips
            .filter(|(_, vip)| vip.answer_neighbors)
            .map(|(addr, _)| *addr)
            .collect();
        intent
    }

    /// What this node holds is heard by all that live.
    fn tell(&mut self, name: &str) {
        let gone = self.gone();
        let context = &self.contexts[name];
        let claim = Claim {
            interface: context.interface.clone(),
            is_ready: true,
            addresses: context.held.clone(),
        };
        for (other, context) in &mut self.contexts {
            if *other != name && !gone.contains(*other) && !gone.contains(name) {
                let neighborhood = &mut context.neighborhood;
                neighborhood.claims.insert(name.to_owned(), claim.clone());
                neighborhood.awaited.remove(name);
            }
        }
    }

    /// Everybody acts and tells in turn until nothing changes; at no time do two hold an address.
    fn settle(&mut self) -> BTreeMap<IpAddr, &'static str> {
        for _ in 0..6 {
            let gone = self.gone();
            for (name, _) in NODES.iter().filter(|(name, _)| !gone.contains(*name)) {
                self.act(name);
                self.holders();
                self.tell(name);
            }
        }
        self.holders()
    }

    /// Whom some node takes for gone.
    fn gone(&self) -> BTreeSet<String> {
        let contexts = self.contexts.values();
        contexts.flat_map(|context| context.gone.clone()).collect()
    }

    /// Who holds each address, of the nodes that live.
    fn holders(&self) -> BTreeMap<IpAddr, &'static str> {
        let mut holders = BTreeMap::new();
        let gone = self.gone();
        for (name, context) in &self.contexts {
            if gone.contains(*name) {
                continue;
            }
            for addr in &context.held {
                let before = holders.insert(*addr, *name);
                assert_eq!(before, None, "{name} holds {addr} too");
            }
        }
        holders
    }

    /// A node's program answers no more.
    fn lose(&mut self, name: &str) {
        for (other, context) in &mut self.contexts {
            if *other == name {
                context.held.clear();
                context.neighborhood = Neighborhood::default();
            } else {
                context.gone.insert(name.to_owned());
                context.neighborhood.claims.remove(name);
                context.neighborhood.awaited.insert(name.to_owned());
            }
        }
    }

    /// It answers again; nothing was heard from it yet, nor by it.
    fn bring_back(&mut self, name: &str) {
        for (other, context) in &mut self.contexts {
            if *other == name {
                let others = NODES.map(|(other, _)| other.to_owned());
                context.neighborhood.awaited = others.into();
                context.neighborhood.awaited.remove(name);
            } else {
                context.gone.remove(name);
            }
        }
    }
}

fn counts(holders: &BTreeMap<IpAddr, &'static str>) -> Vec<usize> {
    let names: BTreeSet<_> = holders.values().collect();
    let count = |name: &str| holders.values().filter(|holder| **holder == name).count();
    names.iter().map(|name| count(name)).collect()
}

#[test]
fn a_node_that_returns_takes_its_address_back_unless_placement_is_sticky() {
    let first = addr("10.0.0.1");
    for (placement, after) in [(None, "node-b"), (Some(Placement::Sticky), "node-a")] {
        let mut world = World::new(cluster(1));
        world.ad().placement = placement;
        assert_eq!(world.settle()[&first], "node-b");
        world.lose("node-b");
        assert_eq!(world.settle()[&first], "node-a");
        world.bring_back("node-b");
        assert_eq!(world.settle()[&first], after, "{placement:?}");
    }
}

#[test]
fn a_sticky_address_stays_over_a_restart_and_moves_when_its_node_is_drained() {
    let first = addr("10.0.0.1");
    let mut world = World::placed(Placement::Sticky, 1);
    world.settle();
    world.lose("node-b");
    world.settle();
    world.bring_back("node-b");
    assert_eq!(world.settle()[&first], "node-a");
    // An agent that restarts knows from its maps what it held, and nothing of others.
    let others = ["node-b", "node-c"].map(str::to_owned);
    let context = world.contexts.get_mut("node-a").unwrap();
    context.neighborhood = Neighborhood {
        awaited: others.into(),
        ..Neighborhood::default()
    };
    assert_eq!(world.settle()[&first], "node-a");
    world.cluster.nodes.get_mut("node-a").unwrap().is_draining = true;
    assert_eq!(world.settle()[&first], "node-b");
    // Where there is nobody else, a drained node goes on.
    world.lose("node-b");
    world.lose("node-c");
    assert_eq!(world.settle()[&first], "node-a");
}

#[test]
fn balanced_addresses_are_spread_evenly_over_the_nodes_that_live() {
    let mut world = World::placed(Placement::Balanced, 10);
    let mut even = counts(&world.settle());
    even.sort_unstable();
    assert_eq!(even, [3, 3, 4]);
    world.lose("node-b");
    assert_eq!(counts(&world.settle()), [5, 5]);
    world.bring_back("node-b");
    let mut even = counts(&world.settle());
    even.sort_unstable();
    assert_eq!(even, [3, 3, 4]);
}

#[test]
fn preferences_add_up_and_count_more_than_the_hash() {
    let first = addr("10.0.0.1");
    let prefers = |weight, rack| Preference {
        weight,
        selector: selector("rack", rack),
    };
    let mut world = World::new(cluster(1));
    world.ad().preferences = vec![prefers(60, "3"), prefers(50, "1")];
    assert_eq!(world.settle()[&first], "node-c");
    let more = L2Advertisement {
        preferences: vec![prefers(20, "1")],
        ..l2_advertisement()
    };
    world.cluster.l2_advertisements.insert("more".into(), more);
    assert_eq!(world.settle()[&first], "node-a");
    // Not for nodes that the advertisement does not let lead.
    let more = world.cluster.l2_advertisements.get_mut("more").unwrap();
    more.node_selectors = vec![selector("rack", "2")];
    assert_eq!(world.settle()[&first], "node-c");
    world.lose("node-c");
    assert_eq!(world.settle()[&first], "node-a");
}

#[test]
fn a_node_without_a_listed_interface_leaves_it_to_one_that_has_one() {
    let first = addr("10.0.0.1");
    let mut world = World::new(cluster(1));
    world.ad().interfaces = ["eth1".to_owned()].into();
    world.contexts.get_mut("node-c").unwrap().interface = "eth1".to_owned();
    assert_eq!(world.settle()[&first], "node-c");
    // Where nobody has one, nobody answers, and the elected node says so.
    world.contexts.get_mut("node-c").unwrap().interface = "eth0".to_owned();
    assert_eq!(world.settle(), BTreeMap::new());
    let findings = world.act("node-b").findings;
    assert!(
        findings
            .iter()
            .any(|finding| finding.message.contains("interface eth0"))
    );
}

#[test]
fn an_elected_node_waits_for_the_one_that_answers() {
    let first = addr("10.0.0.1");
    let mut world = World::new(cluster(1));
    world.settle();
    world.cluster.nodes.get_mut("node-b").unwrap().is_draining = true;
    let intent = world.act("node-a");
    assert_eq!(
        intent.services[&object("s1")].l2_leader.as_deref(),
        Some("node-a")
    );
    assert!(!intent.dataplane.vips[&first].answer_neighbors);
    world.act("node-b");
    assert_eq!(world.holders(), BTreeMap::new());
    world.tell("node-b");
    world.act("node-a");
    assert_eq!(world.holders()[&first], "node-a");
}

#[test]
fn nobody_leaves_an_address_to_a_node_that_has_not_filled_its_tables() {
    let first = addr("10.0.0.1");
    let mut world = World::new(cluster(1));
    world.settle();
    world.lose("node-b");
    world.settle();
    world.bring_back("node-b");
    world.act("node-a");
    assert_eq!(world.holders()[&first], "node-a");
    let unready = Claim {
        interface: "eth0".to_owned(),
        ..Claim::default()
    };
    let hears = |world: &mut World, is_ready| {
        let neighborhood = &mut world.contexts.get_mut("node-a").unwrap().neighborhood;
        neighborhood.awaited.clear();
        let claim = Claim {
            is_ready,
            ..unready.clone()
        };
        neighborhood.claims.insert("node-b".to_owned(), claim);
    };
    hears(&mut world, false);
    world.act("node-a");
    assert_eq!(world.holders()[&first], "node-a");
    hears(&mut world, true);
    world.act("node-a");
    assert_eq!(world.holders(), BTreeMap::new());
}

#[test]
fn a_node_takes_nothing_while_one_that_lives_is_silent_and_keeps_what_it_has() {
    let [first, second] = ["10.0.0.1", "10.0.0.2"].map(addr);
    let mut world = World::new(cluster(1));
    world.settle();
    world.cluster = cluster(2);
    let context = world.contexts.get_mut("node-b").unwrap();
    context.neighborhood.claims.remove("node-c");
    context.neighborhood.awaited.insert("node-c".to_owned());
    world.act("node-b");
    assert_eq!(world.holders(), [(first, "node-b")].into());
    world.tell("node-c");
    world.act("node-b");
    assert_eq!(
        world.holders(),
        [(first, "node-b"), (second, "node-b")].into()
    );
}

#[test]
fn a_second_address_that_has_to_wait_does_not_stop_the_first() {
    let [first, second] = ["10.0.0.1", "2001:db8::1"].map(addr);
    let mut world = World::new(cluster(1));
    world.settle();
    world.cluster.pools = named([("pool", pool("10.0.0.0/24 2001:db8::/112"))]);
    let service = world.cluster.services.get_mut(&object("s1")).unwrap();
    service.families = vec![Family::V4, Family::V6];
    service.family_policy = FamilyPolicy::RequireDualStack;
    service.status_addresses = vec![first, second];
    let context = world.contexts.get_mut("node-b").unwrap();
    context.neighborhood.claims.remove("node-c");
    context.neighborhood.awaited.insert("node-c".to_owned());
    world.act("node-b");
    assert_eq!(world.holders(), [(first, "node-b")].into());
    world.tell("node-c");
    world.act("node-b");
    assert_eq!(
        world.holders(),
        [(first, "node-b"), (second, "node-b")].into()
    );
}

#[test]
fn a_node_that_is_isolated_gives_up_what_it_has_and_says_so() {
    let mut world = World::new(cluster(1));
    world.settle();
    world
        .contexts
        .get_mut("node-b")
        .unwrap()
        .neighborhood
        .is_isolated = true;
    let intent = world.act("node-b");
    assert_eq!(world.holders(), BTreeMap::new());
    assert!(
        intent
            .findings
            .iter()
            .any(|finding| finding.object == "Node node-b")
    );
}

#[test]
fn two_that_answer_after_a_partition_end_with_the_elected_one() {
    let first = addr("10.0.0.1");
    for placement in [None, Some(Placement::Sticky)] {
        let mut world = World::new(cluster(1));
        world.ad().placement = placement;
        for name in ["node-a", "node-b"] {
            world.contexts.get_mut(name).unwrap().held = [first].into();
        }
        for name in ["node-a", "node-b", "node-c"] {
            world.tell(name);
        }
        world.act("node-a");
        world.act("node-b");
        assert_eq!(world.holders()[&first], "node-b");
        assert_eq!(world.settle()[&first], "node-b");
    }
}
