//! What a VIP answers that nobody serves: every octet of resets and of port
//! unreachable, and of ICMP errors in general.

use std::net::IpAddr;

use harness::frame::{ACK, FIN, FrameBuilder, RST, SYN, checksum, transport_checksum};
use lb_common::drop::DropReason;
use lb_common::maps::Slot;

use crate::world::{
    Family, LOCAL, NODE, REJECT, ROUTER, TAGS, World, XDP_DROP, XDP_TX, families, request,
};

const NOBODY: u16 = 4444;

/// A frame from the VIP, as the programs make them, back whence a request came.
pub(crate) fn answer(family: Family, tags: &[(u16, u16)]) -> FrameBuilder {
    FrameBuilder {
        to: ROUTER,
        from: NODE,
        tags: tags.to_vec(),
        source: family.vip,
        destination: family.client,
        source_port: NOBODY,
        destination_port: 41_000,
        ttl: 64,
        identification: 0,
        fragment: 0x4000,
        window: 0,
        payload: Vec::new(),
        ..request(family, 0, None)
    }
}

/// The port unreachable that answers a datagram.
fn port_unreachable(family: Family, tags: &[(u16, u16)], frame: &[u8]) -> Vec<u8> {
    let head = if family.vip.is_ipv4() { [3, 3] } else { [1, 4] };
    icmp_error(family, tags, head, 0, frame)
}

/// The ICMP error of this type and code, and with this second word, that answers a frame.
pub(crate) fn icmp_error(
    family: Family,
    tags: &[(u16, u16)],
    [kind, code]: [u8; 2],
    word: u32,
    frame: &[u8],
) -> Vec<u8> {
    let network = 14 + 4 * tags.len();
    let builder = answer(family, tags);
    let (protocol, quote) = if family.vip.is_ipv4() {
        (1, 28)
    } else {
        (58, 48)
    };
    let mut message = vec![kind, code, 0, 0];
    message.extend(word.to_be_bytes());
    message.extend(&frame[network..network + quote]);
    let sum = match protocol {
        1 => checksum(&message),
        _ => transport_checksum(builder.source, builder.destination, protocol, &message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    builder.wrap(protocol, &message)
}

#[test]
fn a_datagram_nobody_serves_is_answered_with_port_unreachable() {
    let world = World::new(REJECT);
    for family in families() {
        for tags in TAGS {
            for length in [0, 1, 5, 18, 100, 1_400] {
                let mut datagram = request(family, NOBODY, None);
                datagram.tags = tags.to_vec();
                datagram.payload = vec![0xa5; length];
                let mut frame = datagram.build();
                // An Ethernet frame is padded to 60 octets.
                frame.resize(frame.len().max(60), 0);
                let run = world.ingress(&frame);
                assert_eq!(run.action, XDP_TX);
                assert_eq!(run.frame, port_unreachable(family, tags, &frame));
            }
        }
    }
}

#[test]
fn a_datagram_for_a_frontend_without_backends_is_answered_with_port_unreachable() {
    let mut world = World::new(REJECT);
    for slot in 0..32 {
        world.set_slot(slot, Slot::new([0; 4]));
    }
    for family in families() {
        let frame = request(family, LOCAL, None).build();
        let expected = port_unreachable(family, &[], &frame);
        let run = world.ingress(&frame);
        assert_eq!((run.action, run.frame), (XDP_TX, expected));
    }
}

#[test]
fn a_datagram_is_dropped_where_no_error_may_answer_it() {
    let world = World::new(REJECT);
    let [four, six] = families();
    let mut frames = Vec::new();
    for source in ["0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255"] {
        frames.push(from(four, source));
    }
    for source in ["::", "::1", "ff02::1"] {
        frames.push(from(six, source));
    }
    let mut options = request(four, NOBODY, None);
    options.options = vec![1; 4];
    frames.push(options.build());
    for (count, frame) in frames.iter().enumerate() {
        assert_eq!(world.ingress(frame).action, XDP_DROP, "{frame:02x?}");
        assert_eq!(world.drops(DropReason::UnservedUdp), count as u64 + 1);
    }
}

fn from(family: Family, source: &str) -> Vec<u8> {
    let source: IpAddr = source.parse().unwrap();
    let datagram = request(family, NOBODY, None);
    FrameBuilder { source, ..datagram }.build()
}

#[test]
fn a_segment_nobody_serves_is_reset_with_the_right_numbers() {
    let world = World::new(REJECT);
    // RFC 9293 §3.10.7.1: what came, in five octets of data; and what answers it.
    let cases = [
        ((100, 0, SYN), (0, 106, RST | ACK)),
        ((u32::MAX, 0, SYN), (0, 5, RST | ACK)),
        ((100, 0, SYN | FIN), (0, 107, RST | ACK)),
        ((100, 0, FIN), (0, 106, RST | ACK)),
        ((100, 0, 0), (0, 105, RST | ACK)),
        ((100, 7, SYN | ACK), (7, 0, RST)),
        ((100, 7, ACK | FIN), (7, 0, RST)),
    ];
    for family in families() {
        for tags in TAGS {
            for options in [0, 8, 40] {
                for (segment, reset) in cases {
                    let mut frame = request(family, NOBODY, Some(segment));
                    frame.tags = tags.to_vec();
                    if family.vip.is_ipv4() {
                        frame.options = vec![1; options];
                    }
                    let run = world.ingress(&frame.build());
                    assert_eq!(run.action, XDP_TX);
                    let mut expected = answer(family, tags);
                    expected.tcp = Some(reset);
                    assert_eq!(run.frame, expected.build(), "{segment:?}");
                }
            }
        }
    }
}

#[test]
fn a_segment_of_no_flow_is_reset_though_unserved_ports_are_silent() {
    let world = World::new(0);
    for family in families() {
        let run = world.ingress(&request(family, LOCAL, Some((1, 2, ACK))).build());
        let mut expected = answer(family, &[]);
        (expected.source_port, expected.tcp) = (LOCAL, Some((2, 0, RST)));
        assert_eq!((run.action, run.frame), (XDP_TX, expected.build()));
    }
}

#[test]
fn a_reset_is_never_answered() {
    let world = World::new(REJECT);
    for family in families() {
        for port in [LOCAL, NOBODY] {
            for flags in [RST, RST | ACK, RST | SYN] {
                let frame = request(family, port, Some((1, 2, flags))).build();
                assert_eq!(world.ingress(&frame).action, XDP_DROP);
            }
        }
    }
    assert_eq!(world.drops(DropReason::UnservedPort), 6);
    assert_eq!(world.drops(DropReason::UnknownFlow), 6);
}

#[test]
fn a_node_told_to_be_silent_drops_what_nobody_serves() {
    let world = World::new(0);
    for family in families() {
        let syn = request(family, NOBODY, Some((9, 0, SYN)));
        assert_eq!(world.ingress(&syn.build()).action, XDP_DROP);
        let datagram = request(family, NOBODY, None);
        assert_eq!(world.ingress(&datagram.build()).action, XDP_DROP);
    }
    assert_eq!(world.drops(DropReason::UnservedPort), 2);
    assert_eq!(world.drops(DropReason::UnservedUdp), 2);
}
