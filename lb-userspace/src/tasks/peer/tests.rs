//! What is found on the wire and in the layout for a flow.

use std::net::IpAddr;

use super::*;
use crate::datapath::flows::OwnFlow;
use crate::model::cluster::Protocol;
use crate::model::intent::{BackendIntent, DataplaneIntent, FrontendIntent, FrontendName};
use crate::model::name::ObjectName;
use crate::plan::layout::{Capacity, Plan, Settings};
use crate::proto::peer::{Chunk, Range};

const SLOTS: u32 = 256;

fn vip() -> FrontendName {
    FrontendName {
        addr: [203, 0, 113, 10].into(),
        port: 80,
        protocol: Protocol::Tcp,
    }
}

fn pod(number: u8) -> IpAddr {
    [10, 0, 0, number].into()
}

/// Plans for node `a`, on which pod 1 runs; every other pod runs on node `b`.
fn planned(before: &Layout, pods: &[u8]) -> (Plan, Layout) {
    let backends = pods.iter().map(|number| BackendIntent {
        addr: pod(*number),
        port: 8080,
        node: if *number == 1 { "a" } else { "b" }.into(),
        // The newest one gets all new flows.
        weight: u32::from(Some(number) == pods.last()),
    });
    let mut backends: Vec<_> = backends.collect();
    backends.sort_unstable();
    let frontend = FrontendIntent {
        service: ObjectName::new("default", "web"),
        table_length: SLOTS,
        client_affinity: false,
        forwarding: None,
        backends,
        choices: None,
    };
    let intent = DataplaneIntent {
        node: "a".into(),
        flow_key: [7; 32],
        frontends: [(vip(), frontend)].into(),
        ..DataplaneIntent::default()
    };
    before.plan(&intent, &Segment::default(), Settings::default(), 1)
}

fn history(steps: &[&[u8]]) -> Layout {
    let empty = Layout::new(Capacity::default());
    steps
        .iter()
        .fold(empty, |layout, pods| planned(&layout, pods).1)
}

fn owners(layout: &Layout) -> Vec<[Option<(IpAddr, u16)>; 4]> {
    let table = layout.frontend(&vip()).unwrap();
    (0..SLOTS).map(|slot| table.owners(slot)).collect()
}

fn asked(by: &Layout) -> Range {
    Range {
        frontend: name::frontend_on_wire(&vip()),
        from: 0,
        to: u32::MAX,
        digest: name::digest(by.frontend(&vip()).unwrap()),
    }
}

#[test]
fn what_a_peer_remembers_becomes_the_history_of_a_new_frontend() {
    let peers = history(&[&[1], &[1, 2], &[1, 2, 3]]);
    let empty = Layout::new(Capacity::default());
    let (mut plan, mut own) = planned(&empty, &[1, 2, 3]);
    assert_ne!(owners(&own), owners(&peers));
    let range = asked(&own);
    let mut fetch = Fetch::new([(range.frontend, range.digest)], vec!["b".into()]);
    assert_eq!(fetch.poll(clock::now()).len(), 1);
    for chunk in name::remembered(Some(&peers), &range) {
        fetch.handle_chunk("b", &chunk);
    }
    let (histories, unknown) = fetch.finish();
    assert_eq!(unknown, 0);
    let heritage: Vec<_> = histories.into_iter().filter_map(name::heritage).collect();
    own.inherit(&mut plan, &heritage);
    assert_eq!(owners(&own), owners(&peers));
}

#[test]
fn a_table_without_history_that_equals_the_askers_is_not_sent() {
    let [one, other] = [history(&[&[1]]), history(&[&[1]])];
    let chunks = name::remembered(Some(&one), &asked(&other));
    assert_eq!(chunks, [asked(&other).nothing(SLOTS)]);
    let unknown: Vec<Chunk> = name::remembered(None, &asked(&other));
    assert_eq!(unknown, [asked(&other).unknown()]);
    let strange = name::remembered(Some(&history(&[&[2]])), &asked(&other));
    assert!(strange.iter().all(|chunk| !chunk.owners.is_empty()));
}

#[test]
fn a_flow_is_stray_once_its_slot_forgot_its_pod_and_is_its_owners_to_know() {
    let begun = history(&[&[1]]);
    let (index, member) = begun
        .frontend(&vip())
        .unwrap()
        .member_called(pod(1), 8080)
        .unwrap();
    let own = OwnFlow {
        is_half_open: false,
        pod: SocketAddr::new(pod(1), 8080),
        backend: index,
        generation: member.generation(),
    };
    let flow = FlowName {
        client: ([198, 51, 100, 7], 41_000).into(),
        frontend: vip(),
    };
    let judge = |layout: &Layout, own| {
        let key = layout.flow_key().unwrap();
        stray::judge(layout, key, &Scope::All, flow, own)
    };
    let steps: [&[u8]; 5] = [&[1], &[1, 2], &[1, 2, 3], &[1, 2, 3, 4], &[1, 2, 3, 4, 5]];
    let remembered = history(&steps[..4]);
    assert_eq!(judge(&remembered, own), None);
    let forgotten = history(&steps);
    let stray = judge(&forgotten, own).unwrap();
    assert_eq!((stray.flow, stray.pod), (flow, own.pod));
    assert_eq!(stray.owner.as_deref(), Some("b"));
    // The slots that are looked at hold it.
    let scope = Forgotten::default().changed(&remembered, &forgotten);
    assert!(scope.has(&vip(), stray.slot));
    let other = OwnFlow {
        generation: own.generation + 1,
        ..own
    };
    assert_eq!(judge(&forgotten, other), None, "another pod's");
}

#[tokio::test]
async fn a_change_is_made_at_once_where_nobody_answers_for_the_peers() {
    let (council, changes) = channel();
    drop(changes);
    let layout = Arc::new(Layout::new(Capacity::default()));
    assert_eq!(council.consult(&layout, &layout).await, []);
}
