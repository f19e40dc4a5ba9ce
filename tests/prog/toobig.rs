//! Packets that do not fit through a tunnel: every octet of what their senders
//! are told.

use harness::frame::{ACK, FrameBuilder, SYN};
use lb_common::drop::DropReason;
use lb_common::maps::{Slot, config_flags, node_flags, node_mode};
use lb_common::outcome::Outcome;

use crate::cluster::{Cluster, HERE, THERE};
use crate::refuse::icmp_error;
use crate::world::{
    Family, LOCAL, PEER, REMOTE, ROUTER, TAGS, XDP_DROP, XDP_PASS, XDP_TX, families, request,
};

/// Do not fragment.
const DF: u16 = 0x4000;

/// A segment that makes a packet of so many octets.
fn segment(family: Family, port: u16, length: usize) -> FrameBuilder {
    let mut frame = request(family, port, Some((101, 901, ACK)));
    frame.fragment = DF;
    let headers = if family.vip.is_ipv4() { 40 } else { 60 };
    frame.payload = vec![0xa5; length - headers];
    frame
}

/// What tells the sender of a frame that it did not fit, and what does.
fn too_big(family: Family, frame: &FrameBuilder, mtu: u32) -> Vec<u8> {
    let head = if family.vip.is_ipv4() { [3, 4] } else { [2, 0] };
    icmp_error(family, &frame.tags, head, mtu, &frame.build())
}

#[test]
fn what_does_not_fit_is_answered_with_the_mtu_that_does() {
    for (flags, overhead) in [(0, 52), (node_flags::IPV6, 72)] {
        let cluster = Cluster::new(node_mode::GENEVE, flags, 0);
        let mtu = 1_500 - overhead;
        for family in families() {
            for tags in TAGS {
                let mut frame = segment(family, REMOTE, mtu + 1);
                frame.tags = tags.to_vec();
                let run = cluster.send(HERE, &frame.build());
                let expected = too_big(family, &frame, mtu as u32);
                assert_eq!((run.action, run.frame), (XDP_TX, expected));
            }
            let sent = cluster.send(HERE, &segment(family, REMOTE, mtu).build());
            assert_eq!((sent.action, sent.frame.len()), (XDP_TX, 14 + 1_500));
            assert_eq!(sent.frame[..6], PEER.0);
        }
        assert_eq!(cluster.count(HERE, Outcome::TooBigAnswered), 6);
        assert_eq!(cluster.drops(HERE, DropReason::TooBig), 0);
    }
}

#[test]
fn a_datagram_that_does_not_fit_is_answered_too() {
    let cluster = Cluster::new(node_mode::GENEVE, 0, 0);
    for family in families() {
        let mut frame = request(family, REMOTE, None);
        (frame.fragment, frame.payload) = (DF, vec![7; 1_450]);
        let run = cluster.send(HERE, &frame.build());
        assert_eq!(run.frame, too_big(family, &frame, 1_448));
    }
}

#[test]
fn what_no_error_may_answer_is_counted() {
    let cluster = Cluster::new(node_mode::GENEVE, 0, 0);
    let [four, six] = families();
    let mut may_be_fragmented = segment(four, REMOTE, 1_500);
    may_be_fragmented.fragment = 0;
    let mut options = segment(four, REMOTE, 1_480);
    options.options = vec![1; 4];
    let mut group = segment(six, REMOTE, 1_500);
    group.source = "ff02::1".parse().unwrap();
    for frame in [may_be_fragmented, options, group] {
        assert_eq!(cluster.send(HERE, &frame.build()).action, XDP_DROP);
    }
    assert_eq!(cluster.drops(HERE, DropReason::TooBig), 3);
    assert_eq!(cluster.count(HERE, Outcome::TooBigAnswered), 0);
}

#[test]
fn no_more_errors_are_sent_than_the_budget_of_replies_allows() {
    let mut cluster = Cluster::new(node_mode::GENEVE, 0, 0);
    cluster.spend_replies();
    for family in families() {
        let frame = segment(family, REMOTE, 1_500);
        assert_eq!(cluster.send(HERE, &frame.build()).action, XDP_DROP);
    }
    assert_eq!(cluster.drops(HERE, DropReason::ReplyLimited), 2);
    assert_eq!(cluster.count(HERE, Outcome::TooBigAnswered), 0);
}

/// A connection is established there whose slot now leads here, and remembers two nodes besides this one.
fn moved(flags: u32) -> Cluster {
    let mut cluster = Cluster::new(node_mode::L2, 0, flags);
    cluster.set_slots(LOCAL, Slot::new([2, 1, 0, 0]));
    for family in families() {
        cluster.establish(THERE, family, LOCAL);
    }
    cluster.add_third_node();
    cluster.set_slots(LOCAL, Slot::new([1, 2, 3, 0]));
    cluster
}

#[test]
fn what_does_not_fit_with_its_list_is_located() {
    let mut cluster = moved(config_flags::LOCATE);
    for family in families() {
        let frame = segment(family, LOCAL, 1_500);
        assert_eq!(cluster.send(HERE, &frame.build()).action, XDP_DROP);
        // The exception that comes of it makes the tunnel shorter, and now its sender is told.
        cluster.except(HERE, family, LOCAL, 2, 0);
        let run = cluster.send(HERE, &frame.build());
        assert_eq!(run.frame, too_big(family, &frame, 1_432));
        let sent = cluster.send(HERE, &segment(family, LOCAL, 1_432).build());
        assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_PASS);
    }
    assert_eq!(cluster.drops(HERE, DropReason::Located), 2);
    assert_eq!(cluster.events(HERE).len(), 2);
}

#[test]
fn without_locate_a_list_that_does_not_fit_is_answered() {
    let cluster = moved(0);
    for family in families() {
        let frame = segment(family, LOCAL, 1_500);
        let run = cluster.send(HERE, &frame.build());
        assert_eq!(run.frame, too_big(family, &frame, 1_412));
    }
}

#[test]
fn a_packet_from_a_peer_is_answered_by_way_of_the_router() {
    let mut cluster = Cluster::new(node_mode::L2, 0, 0);
    for knows_router in [false, true] {
        if knows_router {
            cluster.set_router(HERE);
        }
        for family in families() {
            let mut frame = segment(family, REMOTE, 1_500);
            frame.from = PEER;
            let run = cluster.send(HERE, &frame.build());
            let to = if knows_router { ROUTER } else { PEER };
            assert_eq!(run.action, XDP_TX);
            assert_eq!(run.frame[..6], to.0);
            assert_eq!(run.frame[6..], too_big(family, &frame, 1_448)[6..]);
        }
    }
}

#[test]
fn what_the_sender_makes_fit_reaches_the_pod() {
    let cluster = Cluster::new(node_mode::GENEVE, 0, 0);
    for family in families() {
        let mut syn = segment(family, REMOTE, 1_448);
        syn.tcp = Some((1, 0, SYN));
        let sent = cluster.send(HERE, &syn.build());
        assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_PASS);
    }
}
