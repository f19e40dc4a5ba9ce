//! Layer 2: another node takes over, clients with the kernel's own ARP and ND
//! notice little of it, and no two nodes answer for one VIP.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::ensure;
use harness::agent::binary;
use harness::asker::Asker;
use harness::cluster::SETTLE;
use harness::layer2::{Mechanism, Seen, Segment, VIPS, mac};
use harness::machine;
use harness::topology::HOST;
use harness::wait;
use harness::witness::{Witness, Word, longest_silence, turns};

use crate::fixture::SOON;

/// Open connections while a leader goes.
const CONNECTIONS: usize = 1_000;

/// Time between two questions; often enough that two who answer are heard in turn.
const ASK: Duration = Duration::from_millis(20);

/// So many nodes; nothing where tests cannot run.
fn segment(nodes: u8) -> Option<Segment> {
    machine::can_test().then(|| Segment::start(nodes).unwrap())
}

fn ask(segment: &Segment) -> Asker {
    Asker::start(&segment.cluster.topology.host, HOST, &VIPS, ASK).unwrap()
}

/// One round by a mechanism, in which everybody is asked all the time: no connection whose pod lives breaks, and
/// the leader and another node take turns.
fn round(mechanism: Mechanism, nodes: u8) -> Option<Seen> {
    let mut segment = segment(nodes)?;
    let leader = segment.settled(&segment.names()).unwrap();
    let witness = Witness::watch(&segment.cluster.topology, mechanism.name()).unwrap();
    let asker = ask(&segment);
    let seen = segment.round(mechanism, CONNECTIONS).unwrap();
    drop(asker);
    let words = witness.end(&segment.cluster.topology).unwrap();
    assert_eq!(seen.broken, 0, "{:?}", seen.why);
    assert!(seen.connections > CONNECTIONS / 3, "{seen:?}");
    for vip in VIPS {
        assert_turns(&words, vip, &leader);
    }
    Some(seen)
}

/// The leader spoke for the VIP, then another node, which announced it, then the leader again.
fn assert_turns(words: &[Word], vip: IpAddr, leader: &str) {
    let [first, other, back] = <[&str; 3]>::try_from(turns(words, vip)).unwrap();
    assert_eq!([first, back], [leader; 2]);
    assert_ne!(other, leader);
    let mut of_other = words
        .iter()
        .filter(|word| word.address == vip && word.node == other);
    assert!(of_other.any(|word| word.is_unasked), "{words:?}");
}

#[test]
fn a_leader_that_is_killed_is_missed_for_less_than_a_second() {
    is_missed_for_less_than_a_second(Mechanism::Killed);
}

#[test]
fn a_leader_whose_link_is_lost_is_missed_for_less_than_a_second() {
    is_missed_for_less_than_a_second(Mechanism::Link);
}

fn is_missed_for_less_than_a_second(mechanism: Mechanism) {
    let Some(seen) = round(mechanism, 3) else {
        return;
    };
    let mut pings = seen.pings.iter();
    assert!(
        pings.all(|pings| pings.gap < Duration::from_secs(1)),
        "{seen:?}"
    );
}

#[test]
fn a_leader_that_is_drained_hands_over_without_a_loss() {
    let Some(seen) = round(Mechanism::Drain, 3) else {
        return;
    };
    eprintln!("{seen:?}");
    assert!(seen.pings.iter().all(|pings| pings.lost == 0), "{seen:?}");
    assert_eq!(seen.new, [Duration::ZERO; 2]);
}

#[test]
fn of_two_nodes_the_one_that_hears_its_router_leads() {
    // The other one is cut off from it and from the router, and gives up what it led.
    round(Mechanism::Killed, 2);
}

#[test]
fn a_restart_of_every_agent_leaves_no_vip_unanswered_and_moves_none() {
    let Some(mut segment) = segment(3) else {
        return;
    };
    let leader = segment.settled(&segment.names()).unwrap();
    let witness = Witness::watch(&segment.cluster.topology, "restart").unwrap();
    let asker = ask(&segment);
    for index in 0..3 {
        segment.cluster.agents[index].end().unwrap();
        segment
            .cluster
            .restart_agent(index, &binary().unwrap())
            .unwrap();
        let agent = &mut segment.cluster.agents[index];
        agent
            .wait_for("the agent to be back", SETTLE * 2, |status| status.in_sync)
            .unwrap();
        assert_eq!(segment.settled(&segment.names()).unwrap(), leader);
    }
    drop(asker);
    let words = witness.end(&segment.cluster.topology).unwrap();
    for vip in VIPS {
        assert_eq!(turns(&words, vip), [leader.as_str()]);
        let silence = longest_silence(&words, vip).unwrap();
        eprintln!("{vip}: silent for {silence:?} at most");
        // The kernel asks again after a second. Memberships in groups end with an agent: solicitations come again
        // when the next one has joined.
        assert!(vip.is_ipv6() || silence < SOON, "{silence:?}");
    }
}

#[test]
fn two_nodes_whose_link_is_cut_both_answer_and_end_with_the_elected_one() {
    let Some(segment) = segment(2) else { return };
    let all = segment.names();
    let leader = segment.settled(&all).unwrap();
    let topology = &segment.cluster.topology;
    topology
        .cut_between(&topology.nodes[0], &topology.nodes[1])
        .unwrap();
    let witness = Witness::watch(topology, "apart").unwrap();
    let asker = ask(&segment);
    // Both hear the router, so neither can tell the other's death from a cut cable.
    wait::until("both to answer", SETTLE, || {
        let words = witness.words()?;
        ensure!(turns(&words, VIPS[0]).len() > 2, "{} words", words.len());
        Ok(())
    })
    .unwrap();
    topology.reconnect_between().unwrap();
    assert_eq!(segment.settled(&all).unwrap(), leader);
    drop(witness);
    let witness = Witness::watch(topology, "together").unwrap();
    let elected = mac(topology.node(&leader).unwrap()).unwrap();
    wait::until("the elected one alone to answer", SETTLE, || {
        let words = witness.words()?;
        let last: Vec<_> = words
            .iter()
            .rev()
            .take(50)
            .map(|word| word.node.as_str())
            .collect();
        ensure!(
            last.len() == 50 && last.iter().all(|node| *node == leader),
            "{last:?}"
        );
        Ok(())
    })
    .unwrap();
    drop(asker);
    for vip in VIPS {
        assert_eq!(segment.neighbor(vip).unwrap().as_ref(), Some(&elected));
    }
}
