//! The owner's flows in the kernel's maps: how they begin, who may change them,
//! how they end.

use std::fs;
use std::net::IpAddr;

use harness::frame::{ACK, FIN, RST, SYN};
use harness::program::Programs;
use lb_common::abi::map;
use lb_common::addr::Be16;
use lb_common::flow::FlowTable;
use lb_common::maps::{Flow, FlowKey4, FlowKey6, Slot, flow_direction, flow_state};
use lb_common::outcome::Outcome;

use crate::world::{
    Family, LOCAL, POD_PORT, REMOTE, World, XDP_PASS, XDP_TX, delivered, families, request,
    response, translated, words,
};

/// A TCP segment: sequence number, acknowledgment, control bits.
type Segment = (u32, u32, u8);

/// An entry: its direction and what it says.
type Entry = (u8, Flow);

fn names(table: FlowTable) -> [&'static str; 2] {
    match table {
        FlowTable::HalfOpen => [map::HALF_OPEN4, map::HALF_OPEN6],
        FlowTable::Established => [map::ESTABLISHED4, map::ESTABLISHED6],
        FlowTable::Unanswered => [map::UNANSWERED4, map::UNANSWERED6],
        FlowTable::Udp => [map::UDP4, map::UDP6],
    }
}

/// Entries of a family's table, forward before reverse; both programs and the host have the same.
fn entries(world: &World, family: Family, table: FlowTable) -> Vec<Entry> {
    let [four, six] = names(table);
    let of = |programs: &Programs| -> Vec<Entry> {
        if family.vip.is_ipv4() {
            let entries = programs.entries::<FlowKey4, Flow>(four).unwrap();
            entries
                .into_iter()
                .map(|(key, flow)| (key.direction, flow))
                .collect()
        } else {
            let entries = programs.entries::<FlowKey6, Flow>(six).unwrap();
            entries
                .into_iter()
                .map(|(key, flow)| (key.direction, flow))
                .collect()
        }
    };
    let host: Vec<Entry> = if family.vip.is_ipv4() {
        let flows = world.memory.flows4.borrow();
        let flows = flows.iter().filter(|((of, _), _)| *of == table);
        flows
            .map(|((_, key), flow)| (key.direction, *flow))
            .collect()
    } else {
        let flows = world.memory.flows6.borrow();
        let flows = flows.iter().filter(|((of, _), _)| *of == table);
        flows
            .map(|((_, key), flow)| (key.direction, *flow))
            .collect()
    };
    // Their clocks differ.
    let sorted = |entries: Vec<Entry>| {
        let mut entries: Vec<Entry> = entries
            .into_iter()
            .map(|(direction, flow)| (direction, Flow { seen: 0, ..flow }))
            .collect();
        entries.sort_by_key(|(direction, flow)| {
            (*direction, flow.backend, flow.port.host(), flow.addr)
        });
        entries
    };
    let entries = sorted(of(&world.programs));
    assert_eq!(entries, sorted(of(&world.linear)));
    assert_eq!(entries, sorted(host));
    entries
}

/// Bits of state that both entries of a family's one flow have.
fn state(world: &World, family: Family, table: FlowTable) -> u16 {
    let entries = entries(world, family, table);
    let directions: Vec<u8> = entries.iter().map(|(direction, _)| *direction).collect();
    assert_eq!(
        directions,
        [flow_direction::FORWARD, flow_direction::REVERSE]
    );
    let states = entries.iter().map(|(_, flow)| flow.state);
    states.fold(u16::MAX, |all, state| all & state)
}

fn arrives(world: &World, family: Family, segment: Segment) {
    let run = world.ingress(&request(family, LOCAL, Some(segment)).build());
    let expected = delivered(family, Some(segment)).build();
    assert_eq!((run.action, run.frame), (XDP_PASS, expected), "{segment:?}");
}

fn leaves(world: &World, family: Family, segment: Segment) {
    let out = world.egress(&response(family, Some(segment)).build());
    assert_eq!(out, translated(family, Some(segment)), "{segment:?}");
}

fn establish(world: &World, family: Family) {
    arrives(world, family, (100, 0, SYN));
    leaves(world, family, (900, 101, SYN | ACK));
    arrives(world, family, (101, 901, ACK));
}

#[test]
fn forward_and_reverse_entry_are_written_and_removed_together() {
    let world = World::new(0);
    for family in families() {
        establish(&world, family);
        assert!(entries(&world, family, FlowTable::HalfOpen).is_empty());
        let flows = entries(&world, family, FlowTable::Established);
        let [
            (flow_direction::FORWARD, there),
            (flow_direction::REVERSE, back),
        ] = flows[..]
        else {
            panic!("{flows:?}");
        };
        assert_eq!(
            (there.addr, there.port),
            (words(family.pod), Be16::new(POD_PORT))
        );
        assert_eq!(
            (back.addr, back.port),
            (words(family.vip), Be16::new(LOCAL))
        );
        assert_eq!((there.generation, back.generation), (7, 7));
        leaves(&world, family, (901, 101, FIN | ACK));
        arrives(&world, family, (500, 0, SYN));
        assert!(entries(&world, family, FlowTable::Established).is_empty());
        assert_eq!(entries(&world, family, FlowTable::HalfOpen).len(), 2);
    }
}

#[test]
fn fin_and_reset_are_followed_in_both_directions_and_a_syn_then_begins_a_flow() {
    let from_client: fn(&World, Family, Segment) = arrives;
    for (send, segment, noted) in [
        (from_client, (101, 901, FIN | ACK), flow_state::CLIENT_FIN),
        (from_client, (101, 0, RST), flow_state::RESET),
        (leaves, (901, 101, FIN | ACK), flow_state::POD_FIN),
        (leaves, (901, 101, RST | ACK), flow_state::RESET),
    ] {
        let world = World::new(0);
        for family in families() {
            establish(&world, family);
            // On an open flow it is a copy of the one that opened it.
            arrives(&world, family, (100, 0, SYN));
            assert_eq!(entries(&world, family, FlowTable::Established).len(), 2);
            send(&world, family, segment);
            assert_ne!(state(&world, family, FlowTable::Established) & noted, 0);
            arrives(&world, family, (5_000, 0, SYN));
            assert!(entries(&world, family, FlowTable::Established).is_empty());
            leaves(&world, family, (7_000, 5_001, SYN | ACK));
            arrives(&world, family, (5_001, 7_001, ACK));
            assert_eq!(entries(&world, family, FlowTable::Established).len(), 2);
        }
    }
}

#[test]
fn a_forged_reset_shortens_no_flow() {
    let world = World::new(0);
    for family in families() {
        establish(&world, family);
        arrives(&world, family, (90_000, 0, RST));
        assert_eq!(
            state(&world, family, FlowTable::Established) & flow_state::RESET,
            0
        );
    }
    assert_eq!(world.programs.outcomes(Outcome::ResetDoubted).unwrap(), 2);
}

#[test]
fn an_entry_of_another_generation_is_dead() {
    let mut world = World::new(0);
    for (family, id) in families().into_iter().zip([0, 4]) {
        establish(&world, family);
        world.set_backend_of(id, |backend| backend.generation = 8);
        let data = Some((101, 901, ACK));
        let run = world.ingress(&request(family, LOCAL, data).build());
        assert_eq!(run.action, XDP_TX, "it is reset");
        let answer = response(family, data).build();
        assert_eq!(world.egress(&answer), answer);
        // A SYN is of a new flow.
        establish(&world, family);
        let flows = entries(&world, family, FlowTable::Established);
        assert!(
            flows.iter().all(|(_, flow)| flow.generation == 8),
            "{flows:?}"
        );
    }
}

#[test]
fn a_client_port_that_meets_a_pod_port_twice_gets_the_slots_next_candidate() {
    let mut world = World::new(0);
    for (family, id) in families().into_iter().zip([2, 6]) {
        let other: IpAddr = match family.vip {
            IpAddr::V4(_) => "10.1.0.9".parse().unwrap(),
            IpAddr::V6(_) => "fd00:1::9".parse().unwrap(),
        };
        // Both frontends lead to the pod, and the second one remembers another.
        world.set_backend_of(id, |backend| backend.node = 0);
        let mut second = world.memory.backends[&(id * 16 + 1)];
        second.addr = words(other);
        world.set_backend(id * 16 + 2, second);
        for slot in id * 4..id * 4 + 4 {
            world.set_slot(slot, Slot::new([1, 2, 0, 0]));
        }
        establish(&world, family);
        let syn = request(family, REMOTE, Some((100, 0, SYN)));
        let run = world.ingress(&syn.build());
        let mut expected = delivered(family, Some((100, 0, SYN)));
        expected.destination = other;
        assert_eq!((run.action, run.frame), (XDP_PASS, expected.build()));
        // Each reply finds its own flow.
        leaves(&world, family, (901, 101, ACK));
        let mut answer = response(family, Some((900, 101, SYN | ACK)));
        answer.source = other;
        let out = world.egress(&answer.build());
        (answer.source, answer.source_port) = (family.vip, REMOTE);
        assert_eq!(out, answer.build());
    }
    assert_eq!(
        world.programs.outcomes(Outcome::CandidateSkipped).unwrap(),
        2
    );
}

/// Sends a packet from the client to a service whose pod is that of `LOCAL`; the port that the pod sees.
fn seen_port(world: &World, family: Family, tcp: Option<Segment>) -> u16 {
    let run = world.ingress(&request(family, REMOTE, tcp).build());
    let at = if family.vip.is_ipv4() { 34 } else { 54 };
    let port = u16::from_be_bytes([run.frame[at], run.frame[at + 1]]);
    let mut expected = delivered(family, tcp);
    expected.source_port = port;
    assert_eq!((run.action, run.frame), (XDP_PASS, expected.build()));
    port
}

/// Lets the pod send a packet to that port, which is the client's own once it leaves.
fn leaves_from_remote(world: &World, family: Family, port: u16, tcp: Option<Segment>) {
    let mut packet = response(family, tcp);
    let mut expected = packet.clone();
    packet.destination_port = port;
    (expected.source, expected.source_port) = (family.vip, REMOTE);
    assert_eq!(world.egress(&packet.build()), expected.build());
}

#[test]
fn a_client_port_that_meets_a_pod_port_twice_is_another_there_where_there_is_no_candidate() {
    let mut world = World::new(0);
    for (family, id) in families().into_iter().zip([2, 6]) {
        for id in [id, id + 1] {
            world.set_backend_of(id, |backend| backend.node = 0);
        }
        establish(&world, family);
        world.ingress(&request(family, LOCAL, None).build());
        let port = seen_port(&world, family, Some((100, 0, SYN)));
        assert_ne!(port, 41_000);
        leaves_from_remote(&world, family, port, Some((900, 101, SYN | ACK)));
        for _ in 0..2 {
            assert_eq!(seen_port(&world, family, Some((101, 901, ACK))), port);
            leaves_from_remote(&world, family, port, Some((901, 101, ACK)));
        }
        assert_eq!(entries(&world, family, FlowTable::Established).len(), 4);
        let port = seen_port(&world, family, None);
        assert_ne!(port, 41_000);
        for _ in 0..2 {
            leaves_from_remote(&world, family, port, None);
            assert_eq!(seen_port(&world, family, None), port);
        }
        assert_eq!(entries(&world, family, FlowTable::Udp).len(), 2);
        // And what was there is whole.
        leaves(&world, family, (901, 101, ACK));
        let out = world.egress(&response(family, None).build());
        assert_eq!(out, translated(family, None));
    }
    let translated = world.programs.outcomes(Outcome::PortTranslated).unwrap();
    assert_eq!(translated, 4);
}

#[test]
fn a_datagrams_flow_is_promoted_by_the_pods_first_answer() {
    let world = World::new(0);
    for family in families() {
        world.ingress(&request(family, LOCAL, None).build());
        world.ingress(&request(family, LOCAL, None).build());
        assert_eq!(state(&world, family, FlowTable::Unanswered), 0);
        assert!(entries(&world, family, FlowTable::Udp).is_empty());
        let out = world.egress(&response(family, None).build());
        assert_eq!(out, translated(family, None));
        assert_eq!(state(&world, family, FlowTable::Udp), flow_state::ANSWERED);
        assert!(entries(&world, family, FlowTable::Unanswered).is_empty());
        let run = world.ingress(&request(family, LOCAL, None).build());
        assert_eq!(run.frame, delivered(family, None).build());
    }
}

/// Seconds of the clock that stamps entries.
fn now() -> u32 {
    let uptime = fs::read_to_string("/proc/uptime").unwrap();
    uptime.split('.').next().unwrap().parse().unwrap()
}

#[test]
fn both_stamps_are_refreshed_and_at_most_once_a_second() {
    let mut world = World::new(0);
    let [family, _] = families();
    establish(&world, family);
    let data = request(family, LOCAL, Some((101, 901, ACK))).build();
    let held = |world: &World| {
        world
            .programs
            .entries::<FlowKey4, Flow>(map::ESTABLISHED4)
            .unwrap()
    };
    // Should the second end in the middle, another one begins.
    let tried = (0..100).find(|_| {
        let began = now();
        for (key, flow) in held(&world) {
            let seen = match key.direction {
                flow_direction::FORWARD => began,
                _ => 1,
            };
            let stamped = Flow { seen, ..flow };
            world
                .programs
                .insert(map::ESTABLISHED4, key, stamped)
                .unwrap();
        }
        world.ingress(&data);
        let seen: Vec<u32> = held(&world).iter().map(|(_, flow)| flow.seen).collect();
        now() == began && seen.contains(&1)
    });
    assert!(
        tried.is_some(),
        "the reverse entry was written within the second"
    );
    for (key, flow) in held(&world) {
        let stamped = Flow { seen: 1, ..flow };
        world
            .programs
            .insert(map::ESTABLISHED4, key, stamped)
            .unwrap();
    }
    world.ingress(&data);
    assert!(held(&world).iter().all(|(_, flow)| flow.seen > 1));
}
