//! Checksums: a rewritten packet's are right if they were, and else as wrong as
//! before.

use std::vec::Vec;

use proptest::prelude::*;

use crate::addr::Be16;
use crate::checksum::Sum;
use crate::memory::{Action, MemoryTables};
use crate::tests::world::{Ends, HERE, THERE, establish, families, request, response, tables};

/// What the IPv4 header and the transport header with pseudo-header and payload sum up to: 0 and 0 where
/// the checksums are right, else by how much they are wrong.
fn wrong(frame: &[u8]) -> (Be16, Be16) {
    let (header, addresses, protocol) = match frame[12..14] {
        [0x08, 0x00] => (20, 26..34, frame[23]),
        _ => (40, 22..54, frame[20]),
    };
    let transport = &frame[14 + header..];
    let of_header = match header {
        20 => Sum::ZERO.add_octets(&frame[14..34]).finish(),
        _ => Be16::new(0),
    };
    let of_transport = Sum::ZERO
        .add_octets(&frame[addresses])
        .add16(Be16::new(u16::from(protocol)))
        .add16(Be16::new(transport.len() as u16))
        .add_octets(transport)
        .finish();
    (of_header, of_transport)
}

/// Adds to the checksums of a frame.
fn spoil(frame: &mut [u8], by: u16) {
    let (transport, protocol) = match frame[12..14] {
        [0x08, 0x00] => {
            add(frame, 24, by);
            (34, frame[23])
        }
        _ => (54, frame[20]),
    };
    add(frame, transport + if protocol == 6 { 16 } else { 6 }, by);
}

fn add(frame: &mut [u8], at: usize, by: u16) {
    let old = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let sum = u32::from(old) + u32::from(by);
    let sum = (sum & 0xffff) as u16 + (sum >> 16) as u16;
    frame[at..at + 2].copy_from_slice(&sum.to_be_bytes());
}

/// Tables that hold a connection and a datagram flow.
fn prepared(ends: Ends) -> MemoryTables {
    let tables = tables(0);
    establish(&tables, ends);
    request(ends, HERE, None).ingress(&tables);
    tables
}

proptest! {
    #[test]
    fn checksums_stay_as_right_or_wrong_as_they_were(
        family in 0usize..2,
        is_tcp in any::<bool>(),
        port in prop::sample::select(&[HERE, THERE]),
        numbers in any::<(u32, u32)>(),
        ttl in 2u8..,
        payload in prop::collection::vec(any::<u8>(), 0..100),
        by in prop_oneof![Just(0u16), 1..0xffffu16],
    ) {
        let ends = families()[family];
        let tables = prepared(ends);
        let tcp = is_tcp.then_some((numbers.0, numbers.1, 0x18));
        for (is_request, mut packet) in
            [(true, request(ends, port, tcp)), (false, response(ends, tcp))]
        {
            packet.ttl = ttl;
            packet.payload = payload.clone();
            let mut frame = packet.build();
            prop_assert_eq!(wrong(&frame), (Be16::new(0), Be16::new(0)));
            spoil(&mut frame, by);
            let before = (frame.clone(), wrong(&frame));
            if is_request {
                prop_assert_ne!(tables.run_ingress(&mut frame), Action::Drop);
            } else {
                tables.run_egress(&mut frame);
            }
            prop_assert_ne!(&frame, &before.0, "it was rewritten");
            // A UDP checksum that came out as zero says there is none; either zero is the same sum.
            prop_assert_eq!(wrong(&frame), before.1);
        }
    }

    #[test]
    fn a_datagram_that_had_no_checksum_gets_none(
        payload in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let [ends, _] = families();
        let tables = prepared(ends);
        for is_request in [true, false] {
            let mut packet = if is_request {
                request(ends, HERE, None)
            } else {
                response(ends, None)
            };
            packet.payload = payload.clone();
            let mut frame = packet.build();
            frame[40..42].fill(0);
            if is_request {
                tables.run_ingress(&mut frame);
            } else {
                tables.run_egress(&mut frame);
            }
            prop_assert_eq!(&frame[40..42], &[0, 0]);
        }
    }
}

#[test]
fn a_datagram_with_a_checksum_never_gets_none() {
    let [ends, six] = families();
    for ends in [ends, six] {
        let tables = prepared(ends);
        let at = if ends.vip.is_ipv4() { 40 } else { 60 };
        // Two octets of payload take every value, so the checksum does too.
        for value in 0..=u16::MAX {
            let mut packet = request(ends, HERE, None);
            packet.payload = Vec::from(value.to_be_bytes());
            let (_, frame) = packet.ingress(&tables);
            assert_ne!(frame[at..at + 2], [0, 0], "{value}");
        }
    }
}
