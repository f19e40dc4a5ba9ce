//! Steering, delivery and replies.

use harness::frame::{ACK, FIN, RST, SYN};
use lb_common::drop::DropReason;
use lb_common::flow::FlowTable;

use crate::world::{
    Family, LOCAL, NODE, PEER, POD_PORT, REJECT, REMOTE, World, XDP_DROP, XDP_PASS, XDP_TX,
    families, request, response,
};

/// How many flows of a table the host holds, of both families.
fn flows(world: &World, table: FlowTable) -> usize {
    let four = world
        .memory
        .flows4
        .borrow()
        .keys()
        .filter(|(one, _)| *one == table)
        .count();
    let six = world
        .memory
        .flows6
        .borrow()
        .keys()
        .filter(|(one, _)| *one == table)
        .count();
    four + six
}

#[test]
fn a_packet_for_a_remote_pod_goes_on_over_the_segment() {
    let world = World::new(0);
    for family in families() {
        for tcp in [Some((1, 2, ACK)), None] {
            for tags in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 6), (0x8100, 5)]] {
                let mut frame = request(family, REMOTE, tcp);
                frame.tags = tags;
                let run = world.ingress(&frame.build());
                assert_eq!(run.action, XDP_TX);
                (frame.to, frame.from, frame.ttl) = (PEER, NODE, 59);
                assert_eq!(run.frame, frame.build());
            }
        }
    }
}

#[test]
fn a_packet_does_not_leave_without_ttl() {
    let world = World::new(0);
    for family in families() {
        for port in [LOCAL, REMOTE] {
            let mut frame = request(family, port, None);
            frame.ttl = 1;
            assert_eq!(world.ingress(&frame.build()).action, XDP_DROP);
        }
    }
    assert_eq!(world.programs.drops(DropReason::TtlExpired).unwrap(), 4);
}

/// What `request` looks like once it is addressed to the pod.
fn delivered(family: Family, tcp: Option<(u32, u32, u8)>) -> Vec<u8> {
    let mut frame = request(family, POD_PORT, tcp);
    (frame.destination, frame.ttl) = (family.pod, 59);
    frame.build()
}

/// What `response` looks like once it comes from the VIP.
fn translated(family: Family, tcp: Option<(u32, u32, u8)>) -> Vec<u8> {
    let mut frame = response(family, tcp);
    (frame.source, frame.source_port) = (family.vip, LOCAL);
    frame.build()
}

#[test]
fn a_connection_is_promoted_by_the_ack_of_its_syn_ack_alone() {
    let world = World::new(0);
    for (position, family) in families().into_iter().enumerate() {
        let syn = Some((100, 0, SYN));
        let run = world.ingress(&request(family, LOCAL, syn).build());
        assert_eq!((run.action, run.frame), (XDP_PASS, delivered(family, syn)));

        let early = Some((101, 901, ACK));
        world.ingress(&request(family, LOCAL, early).build());
        assert_eq!(
            flows(&world, FlowTable::Established),
            2 * position,
            "no SYN-ACK was seen"
        );

        let syn_ack = Some((900, 101, SYN | ACK));
        assert_eq!(
            world.egress(&response(family, syn_ack).build()),
            translated(family, syn_ack)
        );

        let wrong = Some((101, 902, ACK));
        let run = world.ingress(&request(family, LOCAL, wrong).build());
        assert_eq!(
            (run.action, run.frame),
            (XDP_PASS, delivered(family, wrong))
        );
        assert_eq!(flows(&world, FlowTable::Established), 2 * position);

        let right = Some((101, 901, ACK));
        let run = world.ingress(&request(family, LOCAL, right).build());
        assert_eq!(
            (run.action, run.frame),
            (XDP_PASS, delivered(family, right))
        );
        assert_eq!(flows(&world, FlowTable::Established), 2 * position + 2);
        assert_eq!(flows(&world, FlowTable::HalfOpen), 0);

        let data = Some((901, 101, ACK | FIN));
        assert_eq!(
            world.egress(&response(family, data).build()),
            translated(family, data)
        );
        let syn = Some((500, 0, SYN));
        world.ingress(&request(family, LOCAL, syn).build());
        assert_eq!(
            flows(&world, FlowTable::Established),
            2 * position,
            "a SYN after FIN is new"
        );
        assert_eq!(flows(&world, FlowTable::HalfOpen), 2);
        world.egress(&response(family, Some((700, 501, SYN | ACK))).build());
        world.ingress(&request(family, LOCAL, Some((501, 701, ACK))).build());
    }
}

#[test]
fn a_datagram_begins_a_flow_and_its_answer_comes_from_the_vip() {
    let world = World::new(0);
    for family in families() {
        let run = world.ingress(&request(family, LOCAL, None).build());
        assert_eq!((run.action, run.frame), (XDP_PASS, delivered(family, None)));
        assert_eq!(
            world.egress(&response(family, None).build()),
            translated(family, None)
        );
    }
    let stats = world.programs.frontend_stats(1).unwrap();
    assert_eq!((stats.packets, stats.flows, stats.delivered), (1, 1, 1));
}

#[test]
fn a_segment_nobody_knows_is_reset_from_the_vip() {
    let world = World::new(0);
    for family in families() {
        let mut reset = response(family, Some((2, 0, RST)));
        (reset.source, reset.source_port, reset.ttl) = (family.vip, LOCAL, 64);
        reset.payload.clear();
        let run = world.ingress(&request(family, LOCAL, Some((1, 2, ACK))).build());
        assert_eq!(run.action, XDP_TX);
        let expected = reset.build();
        // Identification, fragment word, window and what they do to the sums are the program's own.
        assert_eq!(run.frame.len(), expected.len());
        let transport = run.frame.len() - 20;
        assert_eq!(
            run.frame[transport..transport + 14],
            expected[transport..transport + 14]
        );
        assert_eq!(run.frame[..14], expected[..14]);
        let run = world.ingress(&request(family, LOCAL, Some((1, 2, RST))).build());
        assert_eq!(run.action, XDP_DROP);
    }
}

#[test]
fn an_unserved_port_is_reset_or_silent_as_configured() {
    for (flags, action) in [(REJECT, XDP_TX), (0, XDP_DROP)] {
        let world = World::new(flags);
        for family in families() {
            let syn = request(family, 4444, Some((9, 0, SYN)));
            assert_eq!(world.ingress(&syn.build()).action, action);
        }
    }
}

#[test]
fn frames_cut_anywhere_are_judged_alike() {
    let world = World::new(REJECT);
    for family in families() {
        for port in [LOCAL, REMOTE, 4444] {
            for tcp in [Some((1, 2, SYN)), None] {
                let frame = request(family, port, tcp).build();
                // The kernel runs no frame without an Ethernet header.
                for length in 14..frame.len() {
                    world.ingress(&frame[..length]);
                }
            }
        }
    }
}

#[test]
fn options_fragments_and_wrong_checksums_are_judged_alike() {
    let world = World::new(REJECT);
    let [family, _] = families();
    for port in [LOCAL, REMOTE, 4444] {
        for tcp in [Some((1, 2, SYN)), Some((1, 2, ACK)), None] {
            for options in [0, 4, 40] {
                for fragment in [0, 0x2000, 0x00b9, 0x4000] {
                    let mut frame = request(family, port, tcp);
                    frame.options = vec![1; options];
                    frame.fragment = fragment;
                    let mut frame = frame.build();
                    world.ingress(&frame);
                    let last = frame.len() - 6;
                    frame[last] ^= 0x55;
                    world.ingress(&frame);
                }
            }
        }
    }
}

#[test]
fn what_is_for_nobody_here_passes_bit_for_bit() {
    let world = World::new(REJECT);
    for mut family in families() {
        family.vip = family.client;
        for tcp in [Some((1, 2, SYN)), None] {
            let frame = request(family, LOCAL, tcp).build();
            let run = world.ingress(&frame);
            assert_eq!((run.action, run.frame), (XDP_PASS, frame));
        }
    }
}
