//! Tunnels: what goes out through one, what comes in, and what is none of ours.

use harness::frame::{ACK, SYN};
use lb_common::drop::DropReason;
use lb_common::maps::{config_flags, node_flags, node_mode, tour_flags};
use lb_common::outcome::Outcome;

use crate::cluster::{Cluster, HERE, THERE};
use crate::world::{LOCAL, PEER, POD_PORT, REMOTE, XDP_DROP, XDP_PASS, XDP_TX, families, request};

#[test]
fn a_node_off_the_segment_is_reached_through_a_tunnel() {
    for flags in [0, node_flags::IPV6] {
        let cluster = Cluster::new(node_mode::GENEVE, flags, 0);
        for family in families() {
            for tags in [vec![], vec![(0x8100, 5)], vec![(0x88a8, 6), (0x8100, 5)]] {
                let mut frame = request(family, REMOTE, Some((1, 2, ACK)));
                frame.tags = tags;
                let sent = cluster.send(HERE, &frame.build());
                assert_eq!(sent.action, XDP_TX);
                assert_eq!(sent.frame[..6], PEER.0);
                let overhead = if flags == 0 { 52 } else { 72 };
                assert_eq!(sent.frame.len(), frame.build().len() + overhead);
                let received = cluster.send(THERE, &sent.frame);
                // The flow is not there either, so the other end resets it by name of the VIP.
                assert_eq!(received.action, XDP_TX);
            }
        }
        assert_eq!(cluster.count(HERE, Outcome::Tunnelled), 6);
    }
}

#[test]
fn a_connection_through_a_tunnel_reaches_the_pod_with_two_hops_less_to_live() {
    for flags in [0, node_flags::IPV6] {
        let cluster = Cluster::new(node_mode::GENEVE, flags, 0);
        for family in families() {
            for tcp in [Some((1, 0, SYN)), None] {
                let sent = cluster.send(HERE, &request(family, REMOTE, tcp).build());
                let received = cluster.send(THERE, &sent.frame);
                assert_eq!(received.action, XDP_PASS);
                let mut expected = request(family, POD_PORT, tcp);
                (expected.destination, expected.ttl) = (family.pod, 58);
                expected.to = PEER;
                assert_eq!(received.frame[12..], expected.build()[12..]);
                assert_eq!(received.frame[..6], PEER.0);
            }
        }
    }
}

#[test]
fn any_changed_bit_of_the_header_is_not_ours_and_passes_bit_for_bit() {
    let cluster = Cluster::new(node_mode::GENEVE, 0, 0);
    for family in families() {
        let sent = cluster.send(HERE, &request(family, REMOTE, Some((1, 0, SYN))).build());
        let geneve = 14 + 20 + 8;
        for bit in geneve * 8..(geneve + 24) * 8 {
            let mut frame = sent.frame.clone();
            frame[bit / 8] ^= 1 << (bit % 8);
            let run = cluster.send(THERE, &frame);
            assert_eq!((run.action, run.frame), (XDP_PASS, frame), "bit {bit}");
        }
        // Another sender's address, though a peer's would be right.
        let mut frame = sent.frame.clone();
        frame[14 + 12 + 3] ^= 0x40;
        let run = cluster.send(THERE, &frame);
        assert_eq!((run.action, run.frame), (XDP_PASS, frame));
    }
}

#[test]
fn a_peers_packet_without_a_candidate_goes_on_once() {
    let cluster = Cluster::new(node_mode::L2, 0, 0);
    for family in families() {
        let mut frame = request(family, REMOTE, Some((1, 0, SYN)));
        frame.from = PEER;
        let sent = cluster.send(HERE, &frame.build());
        assert_eq!(sent.action, XDP_TX);
        let flags = 14 + 20 + 8 + 12;
        assert_eq!(sent.frame[flags], tour_flags::FINAL);
        assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_PASS);
    }
    assert_eq!(cluster.count(HERE, Outcome::SentOn), 2);
}

#[test]
fn a_final_packet_ends_where_no_candidate_is() {
    let mut cluster = Cluster::new(node_mode::L2, 0, 0);
    // The other node believes that the pod is here.
    cluster.swap_owners(THERE);
    for family in families() {
        let mut frame = request(family, REMOTE, Some((1, 0, SYN)));
        frame.from = PEER;
        let sent = cluster.send(HERE, &frame.build());
        assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_DROP);
    }
    assert_eq!(cluster.drops(THERE, DropReason::NotOwner), 2);
}

#[test]
fn a_tunnel_to_a_port_that_is_not_ours_passes() {
    let cluster = Cluster::new(node_mode::GENEVE, 0, config_flags::LOCATE);
    for family in families() {
        let mut sent = cluster.send(HERE, &request(family, REMOTE, Some((1, 0, SYN))).build());
        sent.frame[14 + 20 + 3] ^= 1;
        let run = cluster.send(THERE, &sent.frame);
        assert_eq!((run.action, run.frame), (XDP_PASS, sent.frame));
        assert_eq!(
            cluster
                .send(HERE, &request(family, LOCAL, None).build())
                .action,
            XDP_PASS
        );
    }
}
