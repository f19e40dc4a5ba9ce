//! Layer 2: another node takes over, clients with the kernel's own ARP and ND
//! notice little of it, and no two nodes answer for one VIP.

use std::time::Duration;

use harness::layer2::{Mechanism, Segment, VIPS};
use harness::machine;
use harness::witness::{Witness, turns};

/// Open connections while a leader goes.
const CONNECTIONS: usize = 1_000;

/// Three nodes; nothing where tests cannot run.
fn segment(nodes: u8) -> Option<Segment> {
    machine::can_test().then(|| Segment::start(nodes).unwrap())
}

/// One round by a mechanism: no connection whose pod lives breaks, and the two leaders take turns.
fn round(mechanism: Mechanism) -> Option<harness::layer2::Seen> {
    let mut segment = segment(3)?;
    let all: Vec<_> = segment.names().into_iter().map(str::to_owned).collect();
    let leader = segment
        .settled(&all.iter().map(String::as_str).collect())
        .unwrap();
    let witness = Witness::watch(&segment.cluster.topology, mechanism.name()).unwrap();
    let seen = segment.round(mechanism, CONNECTIONS).unwrap();
    let words = witness.end().unwrap();
    eprintln!("{}: {seen:?}", mechanism.name());
    assert_eq!(seen.broken, 0, "{:?}", seen.why);
    assert!(seen.connections > CONNECTIONS / 3, "{seen:?}");
    for vip in VIPS {
        let turns = turns(&words, vip);
        let [.., other, back] = turns[..] else {
            panic!("{turns:?}");
        };
        assert!(
            turns.len() <= 3 && other != leader && back == leader,
            "{turns:?}"
        );
        let announced = words
            .iter()
            .filter(|word| word.address == vip && word.is_unasked);
        assert!(
            announced.clone().any(|word| word.node == other),
            "{words:?}"
        );
    }
    Some(seen)
}

#[test]
fn a_leader_that_is_killed_is_missed_for_less_than_a_second() {
    let Some(seen) = round(Mechanism::Killed) else {
        return;
    };
    assert!(
        seen.pings
            .iter()
            .all(|pings| pings.gap < Duration::from_secs(1)),
        "{seen:?}"
    );
}

#[test]
fn a_leader_whose_link_is_lost_is_missed_for_less_than_a_second() {
    let Some(seen) = round(Mechanism::Link) else {
        return;
    };
    assert!(
        seen.pings
            .iter()
            .all(|pings| pings.gap < Duration::from_secs(1)),
        "{seen:?}"
    );
}

#[test]
fn a_leader_that_is_drained_hands_over_without_a_loss() {
    let Some(seen) = round(Mechanism::Drain) else {
        return;
    };
    assert!(seen.pings.iter().all(|pings| pings.lost == 0), "{seen:?}");
    assert_eq!(seen.new, [Duration::ZERO; 2]);
}
