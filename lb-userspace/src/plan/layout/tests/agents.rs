//! What agents make of each other's tables.

use std::sync::Arc;

use lb_common::maps::Slot;

use super::*;
use crate::model::intent::Choices;
use crate::plan::layout::forget::Forgotten;
use crate::plan::layout::forget::Scope;
use crate::plan::layout::inherit::Heritage;
use crate::plan::step::Step;

const LENGTH: u32 = 256;

/// An intent of one frontend with pods, of which pod n runs on node n mod 5.
fn with_pods(pods: &[u16]) -> DataplaneIntent {
    let pods: Vec<_> = pods.iter().map(|pod| (*pod, 1)).collect();
    DataplaneIntent {
        node: HERE.into(),
        frontends: [(name(1), frontend(LENGTH, &pods))].into(),
        ..DataplaneIntent::default()
    }
}

/// The layouts after each of several intents.
fn history(steps: &[&[u16]]) -> Vec<Layout> {
    let mut layouts = vec![Layout::new(Capacity::default())];
    for pods in steps {
        let (_, next) = planned(&layouts[layouts.len() - 1], pods);
        layouts.push(next);
    }
    layouts
}

fn planned(layout: &Layout, pods: &[u16]) -> (Plan, Layout) {
    layout.plan(&with_pods(pods), &segment(), Settings::default(), NOW)
}

fn heritage(layout: &Layout) -> Heritage {
    let table = layout.frontend(&name(1)).unwrap();
    let slots = 0..table.slots().len() as u32;
    Heritage {
        name: name(1),
        slots: slots.map(|slot| table.owners(slot)).collect(),
    }
}

#[test]
fn a_joining_agent_remembers_what_its_peers_remember() {
    let mut former = history(&[&[1, 2], &[1, 2, 3], &[1, 2, 3, 4]]);
    let present = former.pop().unwrap();
    let (mut plan, mut joined) = planned(&Layout::new(Capacity::default()), &[1, 2, 3, 4]);
    joined.inherit(&mut plan, &[heritage(&present)]);
    assert_eq!(heritage(&joined), heritage(&present));
    let written = plan.steps.iter().find_map(|step| match step {
        Step::SetSlots { slots, .. } => Some(Arc::clone(slots)),
        _ => None,
    });
    assert_eq!(
        &*written.unwrap(),
        joined.frontend(&name(1)).unwrap().slots()
    );
    // The layout goes on from there: planning again changes nothing.
    let (again, _) = planned(&joined, &[1, 2, 3, 4]);
    assert_eq!(again.steps, []);
}

#[test]
fn a_joining_agent_chooses_todays_owner_itself_and_takes_the_peers_for_a_former_one() {
    let lagging = history(&[&[1, 2]]).pop().unwrap();
    let (mut plan, mut joined) = planned(&Layout::new(Capacity::default()), &[1, 2, 3]);
    let own = heritage(&joined);
    joined.inherit(&mut plan, &[heritage(&lagging)]);
    for ((own, peers), slot) in own
        .slots
        .iter()
        .zip(heritage(&lagging).slots)
        .zip(heritage(&joined).slots)
    {
        assert_eq!(slot[0], own[0]);
        let moved = own[0] != peers[0];
        assert_eq!(slot[1], moved.then_some(peers[0]).flatten());
    }
}

#[test]
fn pods_that_are_not_known_here_are_left_out_and_tables_that_were_there_stay() {
    let mut peers = heritage(&history(&[&[1, 2]])[1]);
    peers.slots[0] = [Some(("10.9.9.9".parse().unwrap(), 1)); Slot::DEPTH];
    let (mut plan, mut joined) = planned(&Layout::new(Capacity::default()), &[1, 2]);
    joined.inherit(&mut plan, &[peers.clone()]);
    assert_eq!(heritage(&joined).slots[0][1], None);
    let (mut plan, mut later) = planned(&joined, &[1, 2, 3]);
    let before = heritage(&later);
    later.inherit(&mut plan, &[heritage(&history(&[&[4, 2, 1]])[1])]);
    assert_eq!(heritage(&later), before);
}

#[test]
fn a_slot_that_forgets_a_pod_of_this_node_is_looked_at_then_and_when_its_owner_moves() {
    // Pod 5 runs here; with one more pod at a time, some slots forget it.
    let pods: Vec<u16> = [5, 1, 2, 3, 4, 6, 7, 8, 9].into();
    let steps: Vec<_> = (1..=pods.len()).map(|count| &pods[..count]).collect();
    let layouts = history(&steps);
    let here: IpAddr = "10.244.0.5".parse().unwrap();
    let mut forgotten = Forgotten::default();
    let mut strays = BTreeSet::new();
    let (mut lost, mut moved) = (0, 0);
    for pair in layouts.windows(2).skip(1) {
        let scope = forgotten.changed(&pair[0], &pair[1]);
        let [old, new] = [0, 1].map(|at| pair[at].frontend(&name(1)).unwrap());
        for slot in 0..LENGTH {
            let knows = |table: &Table| {
                let mut owners = table.owners(slot).into_iter().flatten();
                owners.any(|(addr, _)| addr == here)
            };
            let forgets = knows(old) && !knows(new);
            let moves = old.owners(slot)[0] != new.owners(slot)[0];
            let is_stray = strays.contains(&slot);
            let wanted = forgets || (is_stray && moves);
            assert_eq!(scope.has(&name(1), slot), wanted, "slot {slot}");
            lost += usize::from(forgets);
            moved += usize::from(is_stray && moves);
            if wanted {
                strays.insert(slot);
                forgotten.note(name(1), slot);
            }
        }
    }
    assert!(lost > 0 && moved > 0, "{lost} {moved}");
    // Slots whose flows turn out to have ended are not looked at again.
    let mut ended = forgotten.clone();
    let [.., before, last] = &layouts[..] else {
        panic!("there are layouts");
    };
    ended.changed(before, last);
    assert_ne!(ended, forgotten);
}

#[test]
fn a_pod_that_is_gone_has_no_flows_to_be_pushed() {
    let layouts = history(&[&[5], &[5, 1, 2], &[1, 2]]);
    let mut forgotten = Forgotten::default();
    assert!(forgotten.changed(&layouts[2], &layouts[3]).is_empty());
}

#[test]
fn all_flows_are_looked_at_when_the_key_of_the_hash_changes() {
    let [empty, old] = &history(&[&[5, 1]])[..] else {
        panic!("there are two layouts");
    };
    let mut forgotten = Forgotten::default();
    assert_eq!(forgotten.changed(empty, old), Scope::default());
    forgotten.note(name(1), 7);
    let rekeyed = DataplaneIntent {
        flow_key: [9; 32],
        ..with_pods(&[5, 1])
    };
    let (_, new) = old.plan(&rekeyed, &segment(), Settings::default(), NOW);
    assert_eq!(forgotten.changed(old, &new), Scope::All);
    // The slots of before were other flows' slots.
    assert_eq!(forgotten, Forgotten::default());
}

#[test]
fn all_flows_of_a_frontend_are_looked_at_when_its_affinity_changes() {
    let old = history(&[&[5, 1]]).pop().unwrap();
    let mut wanted = with_pods(&[5, 1]);
    let mut other = frontend(2 * LENGTH, &[(5, 1)]);
    wanted.frontends.insert(name(2), other.clone());
    let (_, old) = old.plan(&wanted, &segment(), Settings::default(), NOW);
    other.client_affinity = true;
    wanted.frontends.insert(name(2), other);
    let (_, new) = old.plan(&wanted, &segment(), Settings::default(), NOW);
    let mut forgotten = Forgotten::default();
    forgotten.note(name(2), 7);
    let scope = forgotten.changed(&old, &new);
    assert!((0..2 * LENGTH).all(|slot| scope.has(&name(2), slot)));
    assert!((0..LENGTH).all(|slot| !scope.has(&name(1), slot)));
    assert_eq!(forgotten, Forgotten::default());
}

/// An intent as the node of that number has it, where each node keeps to its own pods: pod n runs on node n.
fn kept_apart(node: usize, pods: u16) -> DataplaneIntent {
    let pods: Vec<_> = (0..pods)
        .map(|pod| (pod, u32::from(usize::from(pod) == node)))
        .collect();
    let count = pods.len();
    let choices = Choices {
        groups: (0..count as u32).map(|place| vec![(place, 1)]).collect(),
        others: (1..count)
            .map(|step| (node + step) % count)
            .take(3)
            .collect(),
    };
    let frontend = FrontendIntent {
        choices: Some(choices),
        ..frontend(LENGTH, &pods)
    };
    DataplaneIntent {
        node: format!("node-{node}"),
        frontends: [(name(1), frontend)].into(),
        ..DataplaneIntent::default()
    }
}

#[test]
fn nodes_that_choose_differently_name_each_others_choice_and_have_one_digest() {
    let plan = |node| {
        let empty = Layout::new(Capacity::default());
        let (plan, layout) = empty.plan(&kept_apart(node, 4), &segment(), Settings::default(), NOW);
        let written = plan.steps.into_iter().find_map(|step| match step {
            Step::SetSlots { slots, .. } => Some(slots),
            _ => None,
        });
        (written.unwrap(), layout)
    };
    let planned = [0, 1, 2, 3].map(plan);
    for (node, (written, layout)) in planned.iter().enumerate() {
        let table = layout.frontend(&name(1)).unwrap();
        let pod = |number| table.member(number).map(|member| member.node.clone());
        let wanted: Vec<_> = (0..4)
            .map(|step| Some(Arc::from(format!("node-{}", (node + step) % 4))))
            .collect();
        for slot in written.iter() {
            let owners: Vec<_> = slot.owners().into_iter().map(pod).collect();
            assert_eq!(owners, wanted);
        }
        // None of that is history, and peers are not told of it.
        assert!(table.remembers_nobody());
        let first = planned[0].1.frontend(&name(1)).unwrap();
        assert_eq!(table.digest(), first.digest());
    }
    let (_, fewer) = Layout::new(Capacity::default()).plan(
        &kept_apart(0, 3),
        &segment(),
        Settings::default(),
        NOW,
    );
    let digest = |layout: &Layout| layout.frontend(&name(1)).unwrap().digest().to_owned();
    assert_ne!(digest(&fewer), digest(&planned[0].1));
}

#[test]
fn what_others_chose_is_remembered_once_all_choose_alike() {
    let empty = Layout::new(Capacity::default());
    let (_, apart) = empty.plan(&kept_apart(0, 4), &segment(), Settings::default(), NOW);
    let alike = DataplaneIntent {
        frontends: [(name(1), frontend(LENGTH, &[(0, 1), (1, 1), (2, 1), (3, 1)]))].into(),
        ..kept_apart(0, 4)
    };
    let (_, alike) = apart.plan(&alike, &segment(), Settings::default(), NOW);
    let table = alike.frontend(&name(1)).unwrap();
    for slot in 0..LENGTH {
        let owners = BTreeSet::from(table.owners(slot));
        assert_eq!(owners.len(), 4, "{owners:?}");
    }
}
