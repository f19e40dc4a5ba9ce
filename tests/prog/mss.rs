//! The MSS of connections that tunnels carry.

use harness::frame::{ACK, FrameBuilder, SYN, transport_checksum};
use lb_common::family::Version;
use lb_common::maps::node_mode;
use lb_common::outcome::Outcome;
use lb_common::rewrite::tunnel_mss;

use crate::cluster::{Cluster, HERE, THERE};
use crate::world::{
    Family, LOCAL, POD_PORT, REMOTE, World, XDP_PASS, XDP_TX, delivered, families, request,
    response, translated,
};

/// Largest that fits, of IPv4 and of IPv6.
const MSS: [u16; 2] = [1_392, 1_372];

fn largest(family: Family) -> u16 {
    let [four, six] = MSS;
    if family.vip.is_ipv4() { four } else { six }
}

/// Options with an MSS, which is where the first four octets are twos.
fn lists(mss: u16) -> Vec<Vec<u8>> {
    let [high, low] = mss.to_be_bytes();
    let option = [2, 4, high, low];
    vec![
        option.to_vec(),
        [&option[..], &[1, 3, 3, 7, 4, 2, 0, 0]].concat(),
        // At an odd offset.
        [&[1], &option[..], &[3, 3, 7]].concat(),
        [&[3, 3, 7], &option[..], &[1]].concat(),
        [&[1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0], &option[..]].concat(),
        // The last of the longest header.
        [&[8, 34], &[0xa5; 32][..], &[1, 1], &option].concat(),
    ]
}

/// Options in which there is no MSS to be found.
fn without() -> Vec<Vec<u8>> {
    vec![
        vec![],
        vec![1; 4],
        // Behind the end of the list, behind an option without length, in a longer option, cut off.
        vec![0, 1, 1, 1, 2, 4, 0xff, 0xff],
        vec![3, 0, 2, 4, 0xff, 0xff, 0, 0],
        vec![3, 1, 2, 4, 0xff, 0xff, 0, 0],
        vec![254, 8, 2, 4, 0xff, 0xff, 0, 0],
        vec![1, 1, 2, 4],
        vec![2, 3, 0xff, 0xff],
        vec![8, 255, 2, 4, 0xff, 0xff, 0, 0],
        // Behind more options than are looked at.
        vec![1, 1, 1, 1, 1, 1, 2, 4, 0xff, 0xff, 0, 0],
    ]
}

/// A frame with options in its TCP header.
fn with_options(frame: &FrameBuilder, options: &[u8]) -> Vec<u8> {
    let (sequence, acknowledgment, flags) = frame.tcp.unwrap();
    let mut transport = [frame.source_port, frame.destination_port]
        .map(u16::to_be_bytes)
        .concat();
    transport.extend([sequence, acknowledgment].map(u32::to_be_bytes).concat());
    let words = (5 + options.len() / 4) as u8;
    transport.extend([words << 4, flags, 0x20, 0, 0, 0, 0, 0]);
    transport.extend(options);
    let sum = transport_checksum(frame.source, frame.destination, 6, &transport);
    transport[16..18].copy_from_slice(&sum.to_be_bytes());
    frame.wrap(6, &transport)
}

fn world() -> World {
    let mut world = World::new(0);
    let [mss4, mss6] = MSS;
    let mut config = world.memory.config;
    (config.mss4, config.mss6) = (mss4, mss6);
    world.set_config(config);
    world
}

/// A SYN-ACK of the pod, and what it is when it has left.
fn syn_ack(family: Family, options: &[u8], expected: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let inside = response(family, Some((900, 101, SYN | ACK)));
    let mut outside = inside.clone();
    (outside.source, outside.source_port) = (family.vip, LOCAL);
    (
        with_options(&inside, options),
        with_options(&outside, expected),
    )
}

#[test]
fn a_syn_ack_leaves_with_an_mss_that_fits_through_a_tunnel() {
    let world = world();
    let mut clamped = 0;
    for family in families() {
        world.ingress(&request(family, LOCAL, Some((100, 0, SYN))).build());
        let fits = largest(family);
        for mss in [1_460, 0xffff, fits + 1] {
            for (before, after) in lists(mss).into_iter().zip(lists(fits)) {
                let (inside, outside) = syn_ack(family, &before, &after);
                assert_eq!(world.egress(&inside), outside, "{before:?}");
                clamped += 1;
            }
        }
    }
    let count = world.programs.outcomes(Outcome::MssClamped).unwrap();
    assert_eq!(count, clamped);
}

#[test]
fn an_mss_that_fits_or_is_not_there_stays() {
    let world = world();
    for family in families() {
        world.ingress(&request(family, LOCAL, Some((100, 0, SYN))).build());
        let small = [536, largest(family)].into_iter().flat_map(lists);
        for options in small.chain(without()) {
            let (inside, outside) = syn_ack(family, &options, &options);
            assert_eq!(world.egress(&inside), outside, "{options:?}");
        }
    }
    let count = world.programs.outcomes(Outcome::MssClamped).unwrap();
    assert_eq!(count, 0);
}

#[test]
fn a_node_without_tunnels_leaves_every_mss_alone() {
    let world = World::new(0);
    for family in families() {
        world.ingress(&request(family, LOCAL, Some((100, 0, SYN))).build());
        for options in lists(9_000) {
            let (inside, outside) = syn_ack(family, &options, &options);
            assert_eq!(world.egress(&inside), outside);
        }
    }
}

#[test]
fn what_looks_like_an_option_in_later_segments_stays() {
    let world = world();
    let data = Some((901, 101, ACK));
    for family in families() {
        world.ingress(&request(family, LOCAL, Some((100, 0, SYN))).build());
        let (inside, outside) = syn_ack(family, &[], &[]);
        assert_eq!(world.egress(&inside), outside);
        let ack = Some((101, 901, ACK));
        let run = world.ingress(&request(family, LOCAL, ack).build());
        assert_eq!(run.frame, delivered(family, ack).build());
        let mut frame = response(family, data);
        frame.payload = vec![2, 4, 0xff, 0xff];
        let out = world.egress(&frame.build());
        assert_eq!(out[out.len() - 4..], [2, 4, 0xff, 0xff]);
        assert_eq!(out.len(), translated(family, data).len() - 1);
    }
}

#[test]
fn a_syn_that_takes_a_tunnel_offers_what_fits_and_no_other_does() {
    for mode in [node_mode::GENEVE, node_mode::L2] {
        let mut cluster = Cluster::new(mode, 0, 0);
        let [mss4, mss6] = MSS;
        cluster.configure(|config| (config.mss4, config.mss6) = (mss4, mss6));
        for family in families() {
            let fits = largest(family);
            for (before, after) in lists(1_460).into_iter().zip(lists(fits)) {
                let frame = request(family, REMOTE, Some((1, 0, SYN)));
                let sent = cluster.send(HERE, &with_options(&frame, &before));
                assert_eq!(sent.action, XDP_TX);
                if mode == node_mode::L2 {
                    assert!(sent.frame.ends_with(&before));
                    continue;
                }
                let received = cluster.send(THERE, &sent.frame);
                assert_eq!(received.action, XDP_PASS);
                let mut expected = request(family, POD_PORT, Some((1, 0, SYN)));
                (expected.destination, expected.ttl) = (family.pod, 58);
                let expected = with_options(&expected, &after);
                assert_eq!(received.frame[12..], expected[12..], "{before:?}");
            }
        }
    }
}

#[test]
fn the_largest_mss_fills_the_tunnel_to_which_an_exception_leads() {
    for (outer, inner, mss) in [
        (Version::V4, Version::V4, 1_392),
        (Version::V4, Version::V6, 1_372),
        (Version::V6, Version::V4, 1_372),
        (Version::V6, Version::V6, 1_352),
    ] {
        assert_eq!(tunnel_mss(1_500, outer, inner), mss);
        assert_eq!(tunnel_mss(60, outer, inner), 0);
        assert_eq!(tunnel_mss(u32::MAX, outer, inner), u16::MAX);
    }
}
