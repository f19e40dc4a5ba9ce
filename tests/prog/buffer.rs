//! Frames of more octets than one buffer has, and headers that do not lie in
//! the first.

use harness::frame::{ACK, FrameBuilder, SYN};
use lb_common::drop::DropReason;

use crate::world::{
    LOCAL, NODE, PEER, REJECT, REMOTE, World, XDP_DROP, XDP_PASS, XDP_TX, delivered, families,
    request,
};

const NOBODY: u16 = 4444;

#[test]
fn a_frame_of_the_usual_mtu_and_one_that_just_fits_a_page_go_on() {
    let world = World::new(0);
    for family in families() {
        // What the kernel lets a test put into one buffer of a page of 4,096 octets.
        for length in [1_514, 3_520] {
            let mut frame = request(family, REMOTE, Some((1, 2, ACK)));
            let headers = frame.build().len() - frame.payload.len();
            frame.payload = vec![0xa5; length - headers];
            let run = world.ingress(&frame.build());
            (frame.to, frame.from, frame.ttl) = (PEER, NODE, 59);
            assert_eq!((run.action, run.frame), (XDP_TX, frame.build()));
        }
    }
}

#[test]
fn a_jumbo_frame_goes_on_and_is_delivered_whole() {
    let world = World::new(0);
    for family in families() {
        for tcp in [Some((1, 2, SYN)), None] {
            for length in [3_600, 8_900, 9_100] {
                let with = |mut frame: FrameBuilder| {
                    frame.payload = vec![0xa5; length];
                    frame
                };
                let frame = with(request(family, REMOTE, tcp)).build();
                let mut expected = with(request(family, REMOTE, tcp));
                (expected.to, expected.from, expected.ttl) = (PEER, NODE, 59);
                let run = world.ingress_jumbo(&frame);
                assert_eq!((run.action, run.frame), (XDP_TX, expected.build()));
                let run = world.ingress_jumbo(&with(request(family, LOCAL, tcp)).build());
                let expected = with(delivered(family, tcp)).build();
                assert_eq!((run.action, run.frame), (XDP_PASS, expected));
            }
        }
    }
}

#[test]
fn a_jumbo_frame_that_is_answered_shrinks_to_the_answer() {
    let world = World::new(REJECT);
    for family in families() {
        for tcp in [Some((1, 2, ACK)), None] {
            let mut frame = request(family, NOBODY, tcp);
            frame.payload = vec![0xa5; 8_900];
            let run = world.ingress_jumbo(&frame.build());
            assert_eq!(run.action, XDP_TX);
            assert!(run.frame.len() < 120, "{} octets", run.frame.len());
        }
    }
}

#[test]
fn headers_that_lie_in_two_buffers_are_too_hard() {
    let world = World::new(REJECT);
    for family in families() {
        let network = 14 + if family.vip.is_ipv4() { 20 } else { 40 };
        for tcp in [Some((1, 2, SYN)), None] {
            let mut frame = request(family, LOCAL, tcp);
            frame.payload = vec![0xa5; 500];
            let frame = frame.build();
            let run = world.ingress_split(&frame, network + 4, DropReason::Malformed);
            assert_eq!(run.action, XDP_DROP, "{family:?} {tcp:?}");
        }
    }
}
