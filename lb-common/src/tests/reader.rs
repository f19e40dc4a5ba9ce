//! Readers on frames cut anywhere and on octets that chance made.

use std::net::IpAddr;
use std::vec;

use proptest::prelude::*;

use crate::maps::config_flags::{KERNEL_KNOWS_VIPS, REJECT_UNSERVED};
use crate::memory::Action;
use crate::tests::world::{NODE, families, request, tables};
use crate::wire::eth::EthHeader;
use crate::wire::tcp::TcpHeader;
use crate::wire::{arp, icmp, ipv4, ipv6, ndp, udp};

/// Asserts that a reader wants this many octets and no fewer, wherever they begin.
fn wants(octets: usize, name: &str, reads: impl Fn(&[u8], usize) -> bool, frame: &[u8]) {
    for at in [0, 1, 14] {
        let mut shifted = vec![0; at];
        shifted.extend(frame);
        for length in 0..shifted.len() {
            let is_enough = length >= at + octets;
            let cut = &shifted[..length];
            assert_eq!(reads(cut, at), is_enough, "{name} of {length} at {at}");
        }
    }
}

#[test]
fn each_reader_wants_its_header_whole() {
    let four = [&[0x45][..], &[0; 60]].concat();
    wants(
        20,
        "IPv4",
        |frame, at| ipv4::read(frame, at).is_some(),
        &four,
    );
    let six = [&[0x60][..], &[0; 60]].concat();
    wants(
        40,
        "IPv6",
        |frame, at| ipv6::read(frame, at).is_some(),
        &six,
    );
    let zeros = [0; 60];
    wants(
        20,
        "TCP",
        |frame, at| TcpHeader::read(frame, at).is_some(),
        &zeros,
    );
    wants(
        8,
        "ports",
        |frame, at| udp::ports(frame, at).is_some(),
        &zeros,
    );
    let request = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &[0; 40]].concat();
    wants(
        28,
        "ARP",
        |frame, at| arp::Request::read(frame, at).is_some(),
        &request,
    );
    let echo = [&[8, 0][..], &[0; 20]].concat();
    wants(8, "echo", icmp::is_echo_request, &echo);
    let echo = [&[128, 0][..], &[0; 20]].concat();
    wants(8, "echo", icmp::is_echo_request_v6, &echo);
}

#[test]
fn an_ethernet_header_wants_its_tags_whole() {
    for tags in 0..=2 {
        let mut frame = vec![0; 12];
        for _ in 0..tags {
            frame.extend([0x81, 0x00, 0, 5]);
        }
        frame.extend([0x08, 0x00]);
        frame.extend(vec![0; 8]);
        for length in 0..frame.len() {
            let header = EthHeader::read(&frame[..length]);
            let wanted = 14 + 4 * tags;
            assert_eq!(
                header.is_some(),
                length >= wanted,
                "{length} of {tags} tags"
            );
            assert!(header.is_none_or(|header| header.payload == wanted));
        }
    }
}

#[test]
fn a_solicitation_wants_every_octet_that_its_header_claims() {
    let [_, ends] = families();
    let IpAddr::V6(vip) = ends.vip else {
        panic!("of IPv6")
    };
    let mut packet = request(ends, 0, None);
    packet.ttl = 255;
    let mut frame = packet.build();
    frame.truncate(54);
    (frame[18..20]).copy_from_slice(&[0, 32]);
    frame[20] = 58;
    frame.extend([135, 0, 0, 0, 0, 0, 0, 0]);
    frame.extend(vip.octets());
    frame.extend([1, 1, 2, 0, 0, 0, 0, 1]);
    let sum = crate::checksum::Sum::ZERO
        .add_octets(&frame[22..54])
        .add_octets(&[0, 32, 0, 58])
        .add_octets(&frame[54..])
        .finish();
    frame[56..58].copy_from_slice(&sum.raw().to_ne_bytes());
    for length in 54..=frame.len() {
        let cut = &frame[..length];
        let header = ipv6::read(cut, 14).unwrap();
        let target = ndp::read_solicitation(cut, &header);
        assert_eq!(target.is_some(), length == frame.len(), "{length}");
    }
}

/// The tables with every setting.
fn flags() -> impl Strategy<Value = u32> {
    prop::sample::select(&[
        0,
        REJECT_UNSERVED,
        KERNEL_KNOWS_VIPS,
        REJECT_UNSERVED | KERNEL_KNOWS_VIPS,
    ])
}

fn ether_type() -> impl Strategy<Value = [u8; 2]> {
    prop::sample::select(&[
        [0x08, 0x00],
        [0x86, 0xdd],
        [0x08, 0x06],
        [0x81, 0x00],
        [0x88, 0xa8],
        [0x12, 0x34],
    ])
}

proptest! {
    #[test]
    fn octets_of_chance_pass_untouched(
        mut frame in prop::collection::vec(any::<u8>(), 0..160),
        flags in flags(),
        ether_type in ether_type(),
        is_shaped in any::<bool>(),
    ) {
        if is_shaped && frame.len() >= 15 {
            frame[..6].copy_from_slice(&NODE);
            frame[12..14].copy_from_slice(&ether_type);
            frame[14] = if ether_type == [0x08, 0x00] { 0x45 } else { 0x60 };
        }
        let tables = tables(flags);
        let mut copy = frame.clone();
        tables.run_egress(&mut copy);
        prop_assert_eq!(&copy, &frame);
        prop_assert_eq!(tables.run_ingress(&mut copy), Action::Pass);
        prop_assert_eq!(copy, frame);
        prop_assert!(tables.drops.borrow().is_empty());
    }

    #[test]
    fn damaged_frames_for_a_vip_never_panic_and_are_never_half_done(
        family in 0usize..2,
        port in prop::sample::select(&[80u16, 81, 4444]),
        tcp in prop::option::of((any::<u32>(), any::<u32>(), any::<u8>())),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        length in any::<prop::sample::Index>(),
        flags in flags(),
    ) {
        let tables = tables(flags);
        let mut frame = request(families()[family], port, tcp).build();
        for (at, octet) in damage {
            let at = at.index(frame.len());
            frame[at] = octet;
        }
        frame.truncate(length.index(2 * frame.len()));
        let before = frame.clone();
        tables.run_egress(&mut frame);
        prop_assert_eq!(&frame, &before);
        if tables.run_ingress(&mut frame) == Action::Drop {
            prop_assert_eq!(frame, before);
        }
    }
}
