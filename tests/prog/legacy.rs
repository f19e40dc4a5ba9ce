//! Flows that the kernel had before the programs came.

use std::net::IpAddr;

use harness::frame::{ACK, FIN, RST, SYN};
use lb_common::abi::map;
use lb_common::addr::{Be16, words4, words6};
use lb_common::maps::{
    Config, FlowKey4, FlowKey6, Legacy, config_flags, flow_direction, frontend_flags,
};
use lb_common::outcome::Outcome;

use crate::probe::{REQUEST, probe};
use crate::world::{
    Family, LOCAL, PEER, REMOTE, World, XDP_PASS, XDP_TX, delivered, families, request, response,
};

const LEGACY: u32 = config_flags::LEGACY;
const ADOPT: u32 = config_flags::LEGACY | config_flags::ADOPT;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Key of the flow to which [`request`] belongs.
enum Key {
    V4(FlowKey4),
    V6(FlowKey6),
}

fn key(family: Family, port: u16, protocol: u8) -> Key {
    let (source_port, destination_port) = (Be16::new(41_000), Be16::new(port));
    let direction = flow_direction::FORWARD;
    match (family.client, family.vip) {
        (IpAddr::V4(client), IpAddr::V4(vip)) => {
            let ([source, ..], [destination, ..]) = (words4(client), words4(vip));
            Key::V4(FlowKey4 {
                source,
                destination,
                source_port,
                destination_port,
                protocol,
                direction,
                zero: 0,
            })
        }
        (IpAddr::V6(client), IpAddr::V6(vip)) => Key::V6(FlowKey6 {
            source: words6(client),
            destination: words6(vip),
            source_port,
            destination_port,
            protocol,
            direction,
            zero: 0,
        }),
        _ => unreachable!("both addresses are of one family"),
    }
}

/// Notes the flow as the agent does.
fn note(world: &mut World, family: Family, port: u16, protocol: u8) {
    let legacy = Legacy::default();
    match key(family, port, protocol) {
        Key::V4(key) => {
            world.insert(map::LEGACY4, key, legacy);
            world.memory.legacy4.borrow_mut().insert(key, legacy);
        }
        Key::V6(key) => {
            world.insert(map::LEGACY6, key, legacy);
            world.memory.legacy6.borrow_mut().insert(key, legacy);
        }
    }
}

/// Takes the flow's entry away as the agent does.
fn forget(world: &mut World, family: Family, port: u16, protocol: u8) {
    for programs in [&mut world.programs, &mut world.linear] {
        match key(family, port, protocol) {
            Key::V4(key) => programs.remove::<_, Legacy>(map::LEGACY4, key),
            Key::V6(key) => programs.remove::<_, Legacy>(map::LEGACY6, key),
        }
        .unwrap();
    }
    match key(family, port, protocol) {
        Key::V4(key) => drop(world.memory.legacy4.borrow_mut().remove(&key)),
        Key::V6(key) => drop(world.memory.legacy6.borrow_mut().remove(&key)),
    }
}

/// How many flows are noted, everywhere.
fn noted(world: &World) -> usize {
    let host = world.memory.legacy4.borrow().len() + world.memory.legacy6.borrow().len();
    for programs in [&world.programs, &world.linear] {
        let four = programs.entries::<FlowKey4, Legacy>(map::LEGACY4).unwrap();
        let six = programs.entries::<FlowKey6, Legacy>(map::LEGACY6).unwrap();
        assert_eq!(four.len() + six.len(), host, "kernel and host disagree");
    }
    host
}

fn left_to_kernel(world: &World) -> u64 {
    let count = world.programs.outcomes(Outcome::Legacy).unwrap();
    let host = world
        .memory
        .outcomes
        .borrow()
        .get(&Outcome::Legacy)
        .copied();
    assert_eq!(count, host.unwrap_or(0), "kernel and host disagree");
    count
}

fn set_flags(world: &mut World, flags: u32) {
    let config = world.memory.config;
    world.set_config(Config { flags, ..config });
}

#[track_caller]
fn passes(world: &World, frame: &[u8]) {
    let run = world.ingress(frame);
    assert_eq!((run.action, run.frame.as_slice()), (XDP_PASS, frame));
}

#[test]
fn packets_of_a_noted_flow_pass_bit_for_bit() {
    let mut world = World::new(LEGACY);
    let mut packets = 0;
    for family in families() {
        for port in [LOCAL, REMOTE] {
            note(&mut world, family, port, TCP);
            note(&mut world, family, port, UDP);
            for flags in [SYN, SYN | ACK, ACK, FIN | ACK, ACK, RST] {
                passes(&world, &request(family, port, Some((1, 2, flags))).build());
            }
            let mut datagram = request(family, port, None);
            passes(&world, &datagram.build());
            // The kernel is who has to say that it went too far.
            datagram.ttl = 1;
            passes(&world, &datagram.build());
            packets += 8;
        }
    }
    assert_eq!(left_to_kernel(&world), packets);
    assert_eq!(world.programs.frontend_stats(0).unwrap().packets, 0);
}

#[test]
fn a_syn_behind_the_fin_of_a_noted_flow_begins_a_flow_of_ours() {
    let mut world = World::new(LEGACY);
    for family in families() {
        note(&mut world, family, LOCAL, TCP);
        passes(
            &world,
            &request(family, LOCAL, Some((1, 2, FIN | ACK))).build(),
        );
        assert_eq!(noted(&world), 1);
        let syn = Some((100, 0, SYN));
        let run = world.ingress(&request(family, LOCAL, syn).build());
        assert_eq!(
            (run.action, run.frame),
            (XDP_PASS, delivered(family, syn).build())
        );
        assert_eq!(noted(&world), 0);
        let ack = Some((101, 1, ACK));
        let run = world.ingress(&request(family, LOCAL, ack).build());
        assert_eq!(
            (run.action, run.frame),
            (XDP_PASS, delivered(family, ack).build())
        );
    }
}

#[test]
fn a_flow_is_ours_once_its_entry_is_gone() {
    let mut world = World::new(LEGACY);
    for family in families() {
        for (port, action) in [(LOCAL, XDP_PASS), (REMOTE, XDP_TX)] {
            let frame = request(family, port, None).build();
            note(&mut world, family, port, UDP);
            passes(&world, &frame);
            forget(&mut world, family, port, UDP);
            let run = world.ingress(&frame);
            assert_eq!(run.action, action);
            assert_ne!(run.frame, frame);
        }
    }
    assert_eq!(left_to_kernel(&world), 4);
}

#[test]
fn without_the_flag_nobody_looks() {
    let mut world = World::new(0);
    for family in families() {
        note(&mut world, family, LOCAL, UDP);
        let run = world.ingress(&request(family, LOCAL, None).build());
        assert_eq!(run.frame, delivered(family, None).build());
    }
    assert_eq!(left_to_kernel(&world), 0);
}

#[test]
fn other_flows_of_the_frontend_are_ours() {
    let mut world = World::new(LEGACY);
    for family in families() {
        note(&mut world, family, LOCAL, TCP);
        let mut other = request(family, LOCAL, Some((1, 0, SYN)));
        other.source_port = 41_001;
        let mut wanted = delivered(family, Some((1, 0, SYN)));
        wanted.source_port = 41_001;
        assert_eq!(world.ingress(&other.build()).frame, wanted.build());
        let run = world.ingress(&request(family, LOCAL, None).build());
        assert_eq!(run.frame, delivered(family, None).build());
    }
    assert_eq!(left_to_kernel(&world), 0);
}

#[test]
fn while_the_agent_reads_every_flow_of_a_frontend_is_noted_and_stays_with_the_kernel() {
    let mut world = World::new(ADOPT);
    for family in families() {
        for tcp in [Some((1, 0, SYN)), Some((2, 7, ACK)), None] {
            for port in [LOCAL, REMOTE] {
                passes(&world, &request(family, port, tcp).build());
            }
        }
        // Not for a frontend.
        let mut other = request(family, LOCAL, None);
        other.destination = family.pod;
        passes(&world, &other.build());
    }
    assert_eq!(noted(&world), 8);
    assert_eq!(left_to_kernel(&world), 12);

    set_flags(&mut world, LEGACY);
    for family in families() {
        passes(&world, &request(family, LOCAL, Some((2, 7, ACK))).build());
        let mut later = request(family, LOCAL, Some((1, 0, SYN)));
        later.source_port = 41_001;
        assert_ne!(world.ingress(&later.build()).frame, later.build());
    }
    assert_eq!(noted(&world), 8);
}

#[test]
fn while_the_agent_reads_for_one_frontend_the_others_serve() {
    let mut world = World::new(LEGACY);
    world.set_frontend_flags(LOCAL, frontend_flags::ADOPT);
    for family in families() {
        for tcp in [Some((1, 0, SYN)), Some((2, 7, ACK)), None] {
            passes(&world, &request(family, LOCAL, tcp).build());
        }
        let other = request(family, REMOTE, None).build();
        assert_eq!(world.ingress(&other).action, XDP_TX);
        // The node serves, and says so.
        assert_eq!(
            world.ingress(&probe(family, REQUEST).build()).action,
            XDP_TX
        );
    }
    assert_eq!(noted(&world), 4);

    world.set_frontend_flags(LOCAL, 0);
    for family in families() {
        passes(&world, &request(family, LOCAL, Some((2, 7, ACK))).build());
        let mut later = request(family, LOCAL, Some((1, 0, SYN)));
        later.source_port = 41_001;
        assert_ne!(world.ingress(&later.build()).frame, later.build());
    }
    assert_eq!(noted(&world), 4);
}

#[test]
fn while_the_agent_reads_what_another_node_leads_here_begins_a_flow_of_ours() {
    let mut world = World::new(LEGACY);
    world.set_frontend_flags(LOCAL, frontend_flags::ADOPT);
    for family in families() {
        let mut led = request(family, LOCAL, Some((1, 0, SYN)));
        led.from = PEER;
        let frame = led.build();
        let outcome = world.ingress(&frame);
        assert_eq!(outcome.action, XDP_PASS);
        assert_ne!(outcome.frame, frame);
    }
    assert_eq!(noted(&world), 0);
}

#[test]
fn while_the_agent_reads_a_connection_that_begins_anew_stays_with_the_kernel() {
    let mut world = World::new(ADOPT);
    for family in families() {
        for flags in [ACK, FIN | ACK, SYN, ACK] {
            passes(&world, &request(family, LOCAL, Some((1, 2, flags))).build());
        }
    }
    set_flags(&mut world, LEGACY);
    for family in families() {
        // The FIN before was of the connection before.
        passes(&world, &request(family, LOCAL, Some((9, 0, SYN))).build());
    }
}

#[test]
fn while_the_agent_reads_no_other_node_is_told_that_this_one_serves() {
    let mut world = World::new(ADOPT);
    for family in families() {
        passes(&world, &probe(family, REQUEST).build());
    }
    set_flags(&mut world, LEGACY);
    for family in families() {
        let frame = probe(family, REQUEST).build();
        assert_eq!(world.ingress(&frame).action, XDP_TX);
    }
}

#[test]
fn replies_that_the_kernel_translates_leave_as_they_are() {
    let mut world = World::new(LEGACY);
    for family in families() {
        note(&mut world, family, LOCAL, TCP);
        for tcp in [Some((1, 2, SYN | ACK)), Some((2, 2, ACK))] {
            // As the pod sends it, and as it leaves after the kernel's NAT.
            let mut reply = response(family, tcp);
            assert_eq!(world.egress(&reply.build()), reply.build());
            (reply.source, reply.source_port) = (family.vip, LOCAL);
            assert_eq!(world.egress(&reply.build()), reply.build());
        }
    }
}
