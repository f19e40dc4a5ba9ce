//! ARP, neighbour discovery and echo for VIPs.

use std::net::IpAddr;

use harness::frame::{FrameBuilder, checksum, transport_checksum};
use lb_common::addr::Mac;

use crate::world::{NODE, ROUTER, World, XDP_PASS, XDP_TX, families, request};

fn arp(to: Mac, operation: u8, sender: (Mac, [u8; 4]), target: (Mac, [u8; 4])) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend(to.0);
    frame.extend(sender.0.0);
    // A VLAN tag, which an answer keeps.
    frame.extend([0x81, 0x00, 0x00, 0x05, 0x08, 0x06]);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(sender.0.0);
    frame.extend(sender.1);
    frame.extend(target.0.0);
    frame.extend(target.1);
    frame.extend([0; 10]);
    frame
}

const VIP: [u8; 4] = [203, 0, 113, 10];
const NOBODY: Mac = Mac([0; 6]);

#[test]
fn an_arp_request_is_answered_be_it_broadcast_unicast_or_a_probe() {
    let world = World::new(0);
    for to in [Mac::BROADCAST, NODE] {
        for sender in [[192, 0, 2, 1], [0, 0, 0, 0]] {
            let run = world.ingress(&arp(to, 1, (ROUTER, sender), (NOBODY, VIP)));
            assert_eq!(run.action, XDP_TX);
            assert_eq!(run.frame, arp(ROUTER, 2, (NODE, VIP), (ROUTER, sender)));
        }
    }
}

/// A request for the VIP that is answered.
pub(crate) fn arp_request() -> Vec<u8> {
    arp(Mac::BROADCAST, 1, (ROUTER, [192, 0, 2, 1]), (NOBODY, VIP))
}

#[test]
fn other_arp_passes_bit_for_bit() {
    let world = World::new(0);
    let router = (ROUTER, [192, 0, 2, 1]);
    for frame in [
        arp(Mac::BROADCAST, 1, router, (NOBODY, [203, 0, 113, 11])),
        arp(Mac::BROADCAST, 2, router, (NOBODY, VIP)),
        arp(Mac::BROADCAST, 1, (ROUTER, VIP), (NOBODY, VIP)),
        arp(Mac([2, 9, 9, 9, 9, 9]), 1, router, (NOBODY, VIP)),
    ] {
        let run = world.ingress(&frame);
        assert_eq!((run.action, run.frame), (XDP_PASS, frame));
    }
}

const SOURCE_OPTION: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 1];
const NONCE_OPTION: [u8; 8] = [14, 1, 9, 8, 7, 6, 5, 4];

/// An ICMPv6 message in a frame with the right checksum.
fn icmp6(ends: (Mac, Mac), source: &str, destination: &str, mut message: Vec<u8>) -> Vec<u8> {
    let [_, family] = families();
    let (source, destination): (IpAddr, IpAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    let sum = transport_checksum(source, destination, 58, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let (to, from) = ends;
    FrameBuilder {
        to,
        from,
        source,
        destination,
        ttl: 255,
        ..request(family, 0, None)
    }
    .wrap(58, &message)
}

fn solicitation(target: &str, options: &[u8]) -> Vec<u8> {
    let target: std::net::Ipv6Addr = target.parse().unwrap();
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    message.extend(options);
    message
}

/// A solicitation for the VIP that is answered.
pub(crate) fn solicitation_from_router() -> Vec<u8> {
    let message = solicitation(VIP6, &SOURCE_OPTION);
    icmp6((GROUP_MAC, ROUTER), "fe80::1", GROUP, message)
}

fn advertisement(target: &str, flags: u8) -> Vec<u8> {
    let target: std::net::Ipv6Addr = target.parse().unwrap();
    let mut message = vec![136, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(NODE.0);
    message
}

const VIP6: &str = "2001:db8:f::10";
const GROUP: &str = "ff02::1:ff00:10";
const GROUP_MAC: Mac = Mac([0x33, 0x33, 0xff, 0, 0, 0x10]);

#[test]
fn a_solicitation_is_answered_with_and_without_options() {
    let world = World::new(0);
    let both: Vec<u8> = [SOURCE_OPTION, NONCE_OPTION].concat();
    for options in [&[][..], &SOURCE_OPTION, &NONCE_OPTION, &both] {
        for (to, destination) in [(GROUP_MAC, GROUP), (NODE, VIP6)] {
            let message = solicitation(VIP6, options);
            let run = world.ingress(&icmp6((to, ROUTER), "fe80::1", destination, message));
            assert_eq!(run.action, XDP_TX);
            let answer = advertisement(VIP6, 0x60);
            assert_eq!(run.frame, icmp6((ROUTER, NODE), VIP6, "fe80::1", answer));
        }
    }
}

#[test]
fn a_duplicate_address_probe_is_answered_to_all_nodes() {
    let world = World::new(0);
    let probe = icmp6(
        (GROUP_MAC, ROUTER),
        "::",
        GROUP,
        solicitation(VIP6, &NONCE_OPTION),
    );
    let run = world.ingress(&probe);
    assert_eq!(run.action, XDP_TX);
    let all = Mac([0x33, 0x33, 0, 0, 0, 1]);
    let answer = advertisement(VIP6, 0x20);
    assert_eq!(run.frame, icmp6((all, NODE), VIP6, "ff02::1", answer));
}

#[test]
fn an_invalid_solicitation_passes_bit_for_bit() {
    let world = World::new(0);
    let good = icmp6(
        (GROUP_MAC, ROUTER),
        "fe80::1",
        GROUP,
        solicitation(VIP6, &SOURCE_OPTION),
    );
    let changed = |at: usize, value: u8| {
        let mut frame = good.clone();
        frame[at] = value;
        frame
    };
    let ends = (GROUP_MAC, ROUTER);
    for frame in [
        changed(21, 254),
        changed(57, good[57] ^ 1),
        icmp6(
            ends,
            "fe80::1",
            GROUP,
            solicitation("2001:db8:f::1:10", &[]),
        ),
        icmp6(ends, "fe80::1", "ff02::1:ff00:11", solicitation(VIP6, &[])),
        icmp6(
            ends,
            "fe80::1",
            GROUP,
            solicitation(VIP6, &[1, 0, 2, 0, 0, 0, 0, 1]),
        ),
        icmp6(ends, "::", GROUP, solicitation(VIP6, &SOURCE_OPTION)),
    ] {
        let run = world.ingress(&frame);
        assert_eq!((run.action, run.frame), (XDP_PASS, frame));
    }
}

#[test]
fn an_echo_request_to_a_vip_is_answered() {
    let world = World::new(0);
    for family in families() {
        let (protocol, asks, answers) = if family.vip.is_ipv4() {
            (1, 8, 0)
        } else {
            (58, 128, 129)
        };
        let message = |kind: u8, source, destination| {
            let mut message = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3];
            let sum = match protocol {
                1 => checksum(&message),
                _ => transport_checksum(source, destination, protocol, &message),
            };
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            message
        };
        let mut frame = request(family, 0, None);
        let run = world.ingress(&frame.wrap(protocol, &message(asks, family.client, family.vip)));
        assert_eq!(run.action, XDP_TX);
        (frame.to, frame.from, frame.ttl) = (ROUTER, NODE, 64);
        (frame.source, frame.destination) = (family.vip, family.client);
        let expected = frame.wrap(protocol, &message(answers, family.vip, family.client));
        assert_eq!(run.frame, expected);
    }
}
