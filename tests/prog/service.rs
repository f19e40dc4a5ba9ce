//! Steering, delivery and replies.

use harness::frame::{ACK, FIN, SYN};
use lb_common::drop::DropReason;
use lb_common::flow::FlowTable;

use crate::world::{
    LOCAL, NODE, PEER, REJECT, REMOTE, World, XDP_DROP, XDP_PASS, XDP_TX, delivered, families,
    request, response, translated,
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
fn a_packet_from_a_peer_goes_on_through_a_tunnel_or_not_at_all() {
    let world = World::new(0);
    for family in families() {
        let mut frame = request(family, REMOTE, Some((1, 2, SYN)));
        frame.from = PEER;
        assert_eq!(world.ingress(&frame.build()).action, XDP_DROP);
    }
    assert_eq!(world.programs.drops(DropReason::NoTunnel).unwrap(), 2);
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

#[test]
fn a_connection_is_promoted_by_the_ack_of_its_syn_ack_alone() {
    let world = World::new(0);
    for (position, family) in families().into_iter().enumerate() {
        let syn = Some((100, 0, SYN));
        let run = world.ingress(&request(family, LOCAL, syn).build());
        assert_eq!(
            (run.action, run.frame),
            (XDP_PASS, delivered(family, syn).build())
        );

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
            (XDP_PASS, delivered(family, wrong).build())
        );
        assert_eq!(flows(&world, FlowTable::Established), 2 * position);

        let right = Some((101, 901, ACK));
        let run = world.ingress(&request(family, LOCAL, right).build());
        assert_eq!(
            (run.action, run.frame),
            (XDP_PASS, delivered(family, right).build())
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
        assert_eq!(
            (run.action, run.frame),
            (XDP_PASS, delivered(family, None).build())
        );
        assert_eq!(
            world.egress(&response(family, None).build()),
            translated(family, None)
        );
    }
    let stats = world.programs.frontend_stats(1).unwrap();
    assert_eq!((stats.packets, stats.flows, stats.delivered), (1, 1, 1));
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
