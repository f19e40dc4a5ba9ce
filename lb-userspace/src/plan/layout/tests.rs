//! Plans run against simulated maps, checked after every single step.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::net::Ipv4Addr;

use lb_common::maps::frontend_flags;
use lb_common::maps::node_mode;
use proptest::prelude::*;

use super::*;
use crate::model::cluster::Protocol;
use crate::model::intent::BackendIntent;
use crate::model::intent::Choices;
use crate::model::intent::FrontendIntent;
use crate::model::intent::PeerNode;
use crate::model::intent::VipIntent;
use crate::model::name::ObjectName;

mod agents;
mod maps;
mod restart;

use self::maps::Maps;

const HERE: &str = "node-0";
const NOW: u32 = 7;

fn segment() -> Segment {
    Segment {
        interface: "eth0".into(),
        ifindex: 2,
        mac: Mac([2, 0, 0, 0, 0, 0]),
        mtu: 1500,
        addresses: vec!["192.0.2.100/24".parse().unwrap()],
        neighbors: (1..200)
            .map(|n| (node_addr(n), Mac([2, 0, 0, 0, 1, n])))
            .collect(),
        gateways: [node_addr(199)].into(),
        routes: BTreeMap::new(),
    }
}

fn node_addr(n: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, n))
}

fn name(n: u8) -> FrontendName {
    FrontendName {
        addr: IpAddr::V4(Ipv4Addr::new(203, 0, 113, n)),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

/// Backends by number of their pod; pod n runs on node n mod 5.
fn frontend(table_length: u32, pods: &[(u16, u32)]) -> FrontendIntent {
    let backends = pods.iter().map(|(pod, weight)| BackendIntent {
        addr: IpAddr::V4(Ipv4Addr::from_bits(0x0af4_0000 + u32::from(*pod))),
        port: 8080,
        node: format!("node-{}", pod % 5).into(),
        weight: *weight,
    });
    FrontendIntent {
        service: ObjectName::new("default", "web"),
        table_length,
        client_affinity: false,
        forwarding: None,
        backends: backends.collect(),
        choices: None,
    }
}

fn intent(frontends: impl IntoIterator<Item = (u8, FrontendIntent)>) -> DataplaneIntent {
    let frontends: SharedMap<_, _> = frontends
        .into_iter()
        .map(|(n, intent)| (name(n), intent))
        .collect();
    let vip = VipIntent {
        answer_neighbors: false,
        answer_echo: true,
    };
    let nodes = (1..5).map(|n| {
        let node = PeerNode {
            addresses: vec![node_addr(n)],
            ..PeerNode::default()
        };
        (format!("node-{n}"), node)
    });
    DataplaneIntent {
        is_partial: false,
        node: HERE.into(),
        flow_key: [1; 32],
        vips: frontends.keys().map(|name| (name.addr, vip)).collect(),
        frontends,
        nodes: nodes.collect(),
        ..DataplaneIntent::default()
    }
}

fn small() -> Capacity {
    Capacity {
        slots: 4_096,
        backends: 300,
        frontends: 16,
        vips: 16,
        nodes: 16,
    }
}

fn plan(layout: &mut Layout, intent: &DataplaneIntent) -> Plan {
    let (plan, next) = layout.plan(intent, &segment(), Settings::default(), NOW);
    *layout = next;
    plan
}

fn slot_writes(plan: &Plan) -> usize {
    let is_slot = |step: &&Step| matches!(step, Step::SetSlot { .. });
    plan.steps.iter().filter(is_slot).count()
}

/// What nodes choose among that keep to their own pods.
fn by_node(frontend: &FrontendIntent) -> Choices {
    let mut groups: BTreeMap<&str, Vec<(u32, u32)>> = BTreeMap::new();
    for (place, backend) in (0..).zip(&frontend.backends) {
        groups.entry(&backend.node).or_default().push((place, 1));
    }
    let others = groups.keys().enumerate().filter(|(_, node)| **node != HERE);
    Choices {
        others: others.map(|(group, _)| group).take(3).collect(),
        groups: groups.into_values().collect(),
    }
}

/// The intent of a scene, and the pods of one node missing.
fn intent_of(scene: &Scene, lost: u8) -> DataplaneIntent {
    let mut wanted = intent(scene.iter().map(|(n, (order, pods))| {
        let mut pods: Vec<_> = pods.iter().map(|(pod, weight)| (*pod, *weight)).collect();
        pods.retain(|(pod, _)| pod % 5 != u16::from(lost));
        let frontend = frontend(1 << order, &pods);
        // Behind every second one other nodes choose among other pods.
        let choices = (n % 2 == 0).then(|| by_node(&frontend));
        (
            *n,
            FrontendIntent {
                choices,
                ..frontend
            },
        )
    }));
    wanted.nodes.remove(&format!("node-{lost}"));
    wanted
}

#[test]
fn a_first_plan_fills_empty_maps_and_a_second_one_has_nothing_to_do() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let wanted = intent([(1, frontend(128, &[(1, 1), (2, 1), (5, 1)]))]);
    let first = plan(&mut layout, &wanted);
    maps.run(&first.steps);
    maps.assert_is(&wanted, &layout);
    assert_eq!(maps.peer_macs.len(), 4);
    assert_eq!(plan(&mut layout, &wanted), Plan::default());
}

#[test]
fn a_backend_that_goes_rewrites_only_slots_that_it_owned_or_that_moved() {
    let mut layout = Layout::new(Capacity::default());
    let mut maps = Maps::default();
    let all: Vec<_> = (1..=100).map(|pod| (pod, 1)).collect();
    maps.run(&plan(&mut layout, &intent([(1, frontend(16_384, &all))])).steps);
    let less = plan(&mut layout, &intent([(1, frontend(16_384, &all[1..]))]));
    maps.run(&less.steps);
    let writes = slot_writes(&less) as f64 / 16_384.0;
    assert!((0.01..=0.025).contains(&writes), "{writes}");
}

#[test]
fn a_change_of_owners_is_noted_before_it_is_made_and_then_once() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let pods = [(1, 1), (2, 1)];
    let first = plan(&mut layout, &intent([(1, frontend(64, &pods))]));
    maps.run(&first.steps);
    assert_eq!(
        maps.frontends[&name(1)].changed_at,
        0,
        "there is no history"
    );

    let affinity = FrontendIntent {
        client_affinity: true,
        ..frontend(64, &pods)
    };
    maps.run(&plan(&mut layout, &intent([(1, affinity.clone())])).steps);
    assert_eq!(maps.frontends[&name(1)].changed_at, 0);

    let wanted = intent([(1, frontend(64, &[(1, 0), (2, 1)]))]);
    let change = plan(&mut layout, &wanted);
    let note = |step: &Step| matches!(step, Step::SetFrontend { frontend, .. } if frontend.changed_at == NOW);
    let write = |step: &Step| matches!(step, Step::SetSlot { .. });
    let at = |wanted: &dyn Fn(&Step) -> bool| change.steps.iter().position(wanted);
    assert!(
        at(&note).unwrap() < at(&write).unwrap(),
        "{:?}",
        change.steps
    );
    maps.run(&change.steps);

    let mut restarted = Layout::restore(small(), maps.dump(), &wanted);
    let (again, _) = restarted.plan(&wanted, &segment(), Settings::default(), NOW + 1);
    assert_eq!(again, Plan::default());
    assert_eq!(plan(&mut restarted, &wanted), Plan::default());
}

#[test]
fn a_service_says_how_its_packets_go_and_the_node_says_it_for_the_others() {
    let mut forced = frontend(64, &[(1, 1), (2, 1)]);
    forced.forwarding = Some(Forwarding::L2);
    let wanted = intent([(1, forced), (2, frontend(64, &[(1, 1), (2, 1)]))]);
    for (of_node, flags) in [
        (None, 0),
        (Some(Forwarding::L2), frontend_flags::SEGMENT),
        (Some(Forwarding::Geneve), frontend_flags::TUNNEL),
    ] {
        let settings = Settings {
            forwarding: of_node,
            ..Settings::default()
        };
        let mut maps = Maps::default();
        let (plan, _) = Layout::new(small()).plan(&wanted, &segment(), settings, NOW);
        maps.run(&plan.steps);
        assert_eq!(maps.frontends[&name(1)].flags, frontend_flags::SEGMENT);
        assert_eq!(maps.frontends[&name(2)].flags, flags);
        let restarted = Layout::restore(small(), maps.dump(), &wanted);
        let (again, _) = restarted.plan(&wanted, &segment(), settings, NOW);
        assert_eq!(again, Plan::default());
    }
}

#[test]
fn a_pod_that_comes_back_on_another_node_keeps_its_name() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let mut wanted = intent([(1, frontend(64, &[(1, 1), (2, 1)]))]);
    maps.run(&plan(&mut layout, &wanted).steps);
    let before = maps.indices.clone();
    let moved = wanted.frontends.get_mut(&name(1)).unwrap();
    moved.backends[0].node = "node-3".into();
    let steps = plan(&mut layout, &wanted).steps;
    maps.run(&steps);
    maps.assert_is(&wanted, &layout);
    assert!(before.keys().eq(maps.indices.keys()));
    assert_ne!(before, maps.indices);
    let removed = |step: &Step| matches!(step, Step::RemoveBackendIndex { .. });
    assert!(!steps.iter().any(removed));
}

#[test]
fn a_node_that_is_gone_is_known_by_its_addresses() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let mut wanted = intent([(1, frontend(64, &[(1, 1), (2, 1)]))]);
    let node = wanted.nodes.get_mut("node-1").unwrap();
    node.addresses.push("2001:db8::1".parse().unwrap());
    node.is_gone = true;
    maps.run(&plan(&mut layout, &wanted).steps);
    maps.assert_peers_are_known(&wanted, &layout);
    assert_eq!(maps.peer_addrs.len(), 5);
}

#[test]
fn a_draining_backend_leaves_the_front_and_stays_in_history() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    maps.run(&plan(&mut layout, &intent([(1, frontend(64, &[(1, 1), (2, 1)]))])).steps);
    let owned: BTreeMap<u32, u16> = maps
        .slots
        .iter()
        .map(|(index, slot)| (*index, slot.current()))
        .collect();
    let wanted = intent([(1, frontend(64, &[(1, 0), (2, 1)]))]);
    maps.run(&plan(&mut layout, &wanted).steps);
    maps.assert_is(&wanted, &layout);
    let (leaving, staying) = (owned[&0].min(3 - owned[&0]), 2);
    assert_eq!(leaving, 1);
    for (index, slot) in &maps.slots {
        let [c0, c1, ..] = slot.owners();
        assert_eq!(c0, staying);
        assert_eq!(c1, if owned[index] == leaving { leaving } else { 0 });
    }
}

#[test]
fn a_table_that_grows_inherits_its_history() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    maps.run(&plan(&mut layout, &intent([(1, frontend(64, &[(1, 1), (2, 1)]))])).steps);
    let old = layout.frontends[&name(1)].slots.clone();
    let wanted = intent([(1, frontend(256, &[(1, 1), (2, 1), (3, 1)]))]);
    maps.run(&plan(&mut layout, &wanted).steps);
    maps.assert_is(&wanted, &layout);
    for (index, slot) in layout.frontends[&name(1)].slots.iter().enumerate() {
        assert!(
            slot.owners().contains(&old[index % 64].current()),
            "slot {index}"
        );
    }
    assert_eq!(layout.slots_used(), 256);
}

#[test]
fn a_table_with_history_never_shrinks_but_its_owners_repeat() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    maps.run(
        &plan(
            &mut layout,
            &intent([(1, frontend(256, &[(1, 1), (2, 1), (3, 1)]))]),
        )
        .steps,
    );
    let wanted = intent([(1, frontend(64, &[(1, 1), (2, 1)]))]);
    maps.run(&plan(&mut layout, &wanted).steps);
    maps.assert_is(&wanted, &layout);
    let digest = layout.frontends[&name(1)].digest().to_owned();
    assert_eq!(layout.slots_used(), 256);

    let mut fresh = Layout::new(small());
    plan(&mut fresh, &wanted);
    assert_eq!(fresh.slots_used(), 64);
    assert_eq!(fresh.frontends[&name(1)].digest(), digest);

    let alone = intent([(1, frontend(64, &[(1, 1)]))]);
    maps.run(&plan(&mut layout, &alone).steps);
    maps.assert_is(&alone, &layout);
    assert_eq!(layout.slots_used(), 64, "nobody else is left to remember");
}

#[test]
fn a_newcomer_is_refused_when_the_slots_are_used_up_and_taken_in_later() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let big = || frontend(2_048, &[(1, 1), (2, 1)]);
    maps.run(&plan(&mut layout, &intent([(5, big()), (6, big())])).steps);
    let refused = plan(&mut layout, &intent([(1, big()), (5, big()), (6, big())]));
    maps.run(&refused.steps);
    let [(newcomer, reason)] = refused.refused.as_slice() else {
        panic!("{:?}", refused.refused);
    };
    assert_eq!(*newcomer, name(1));
    assert_eq!(
        reason,
        "no room for 2048 slots: 4096 of 4096 are in use; raise --slots or remove Services"
    );
    let swapped = intent([(1, big()), (6, big())]);
    let plan = plan(&mut layout, &swapped);
    maps.run(&plan.steps);
    assert_eq!(plan.refused, []);
    maps.assert_is(&swapped, &layout);
}

#[test]
fn a_table_that_cannot_grow_goes_on_at_its_length() {
    let mut layout = Layout::new(Capacity {
        slots: 64,
        ..small()
    });
    let mut maps = Maps::default();
    maps.run(&plan(&mut layout, &intent([(1, frontend(64, &[(1, 1), (2, 1)]))])).steps);
    let longer = intent([(1, frontend(128, &[(1, 1), (3, 1)]))]);
    let first = plan(&mut layout, &longer);
    maps.run(&first.steps);
    maps.assert_is(&intent([(1, frontend(64, &[(1, 1), (3, 1)]))]), &layout);
    assert_eq!(first.refused.len(), 1);
    let again = plan(&mut layout, &longer);
    assert_eq!((again.steps, again.refused), (vec![], first.refused));
}

#[test]
fn a_frontend_with_more_backends_than_there_is_room_for_is_refused() {
    let mut layout = Layout::new(Capacity {
        backends: 4,
        ..small()
    });
    let four: Vec<_> = (1..=4).map(|pod| (pod, 1)).collect();
    let plan = plan(
        &mut layout,
        &intent([(1, frontend(64, &four)), (2, frontend(64, &four[1..]))]),
    );
    let refused: Vec<_> = plan.refused.iter().map(|(name, _)| *name).collect();
    assert_eq!(refused, [name(1)]);
    assert!(layout.frontend(&name(2)).is_some());
}

#[test]
fn a_node_that_goes_frees_its_number_once_no_pod_is_on_it() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let mut wanted = intent([(1, frontend(64, &[(1, 1), (2, 1)]))]);
    maps.run(&plan(&mut layout, &wanted).steps);
    let number = layout.nodes["node-1"].number;
    wanted.nodes.remove("node-1");
    maps.run(&plan(&mut layout, &wanted).steps);
    assert_eq!(layout.nodes["node-1"].number, number);
    assert_eq!(maps.nodes[&number].mode, node_mode::UNREACHABLE);
    assert_eq!(maps.peer_macs.len(), 3);

    let mut wanted = intent([(1, frontend(64, &[(2, 1)]))]);
    wanted.nodes.remove("node-1");
    maps.run(&plan(&mut layout, &wanted).steps);
    assert!(!layout.nodes.contains_key("node-1"));
}

#[test]
fn steps_that_were_not_taken_come_first_in_the_next_plan() {
    let mut layout = Layout::new(small());
    let mut maps = Maps::default();
    let first = plan(&mut layout, &intent([(1, frontend(64, &[(1, 1), (2, 1)]))]));
    let (taken, left) = first.steps.split_at(first.steps.len() / 2);
    maps.run(taken);
    let mut layout = layout.with_pending(left.to_vec());
    let wanted = intent([(1, frontend(64, &[(2, 1), (3, 1)]))]);
    let second = plan(&mut layout, &wanted);
    assert!(second.steps.starts_with(left));
    maps.run(&second.steps);
    maps.assert_is(&wanted, &layout);
    assert_eq!(plan(&mut layout, &wanted), Plan::default());
}

/// Frontends by number: table length as a power of two, and pods with their weights.
type Scene = BTreeMap<u8, (u32, BTreeMap<u16, u32>)>;

fn scene() -> impl Strategy<Value = Scene> {
    let pods = proptest::collection::btree_map(1u16..20, 0u32..3, 0..8);
    proptest::collection::btree_map(1u8..6, (3u32..8, pods), 0..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_sequence_of_intents_keeps_every_slot_on_a_pod_that_is_there(
        scenes in proptest::collection::vec(scene(), 1..8),
        lost in proptest::collection::vec(1u8..5, 8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut layout = Layout::new(small());
        let mut maps = Maps::default();
        for (scene, lost) in scenes.iter().zip(lost) {
            let wanted = intent_of(scene, lost);
            let plan = plan(&mut layout, &wanted);
            prop_assert_eq!(&plan.refused, &[]);
            let at = cut.index(plan.steps.len() + 1);
            maps.run(&plan.steps[..at]);
            if at % 2 == 0 {
                layout = layout.with_pending(plan.steps[at..].to_vec());
                let rest = self::plan(&mut layout, &wanted).steps;
                prop_assert_eq!(&rest, &plan.steps[at..]);
                maps.run(&rest);
            } else {
                maps.run(&plan.steps[at..]);
            }
            maps.assert_is(&wanted, &layout);
            prop_assert_eq!(self::plan(&mut layout, &wanted), Plan::default());
        }
        let ids: BTreeSet<u32> = maps.frontends.values().map(|frontend| frontend.id).collect();
        prop_assert_eq!(ids.len(), maps.frontends.len());
    }
}
