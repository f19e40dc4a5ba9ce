//! Odd headers: options, fragments, extension headers, cut frames, checksums,
//! tags.

use harness::frame::{ACK, FrameBuilder, SYN, checksum, transport_checksum};
use lb_common::drop::DropReason;
use lb_common::maps::config_flags::KERNEL_KNOWS_VIPS;

use crate::world::{
    Family, LOCAL, NODE, PEER, REJECT, REMOTE, ROUTER, TAGS, World, XDP_DROP, XDP_PASS, XDP_TX,
    delivered, families, request, words,
};

const NOBODY: u16 = 4444;

#[test]
fn options_of_any_length_go_on_and_are_delivered() {
    let world = World::new(0);
    let [family, _] = families();
    for words in 0..=10 {
        for tcp in [Some((1, 2, SYN)), None] {
            let with = |mut frame: FrameBuilder| {
                frame.options = vec![1; 4 * words];
                frame
            };
            let run = world.ingress(&with(request(family, REMOTE, tcp)).build());
            let mut expected = with(request(family, REMOTE, tcp));
            (expected.to, expected.from, expected.ttl) = (PEER, NODE, 59);
            assert_eq!((run.action, run.frame), (XDP_TX, expected.build()));
            let run = world.ingress(&with(request(family, LOCAL, tcp)).build());
            let expected = with(delivered(family, tcp)).build();
            assert_eq!((run.action, run.frame), (XDP_PASS, expected));
        }
    }
}

#[test]
fn a_header_length_that_cannot_be_is_malformed() {
    let world = World::new(REJECT);
    let [family, _] = families();
    let mut count = 0;
    for port in [LOCAL, REMOTE, NOBODY] {
        for tcp in [Some((1, 2, SYN)), None] {
            // Less than a header, and more than the packet.
            for header_length in [0, 1, 4, 15] {
                let mut frame = request(family, port, tcp).build();
                frame[14] = 0x40 | header_length;
                assert_eq!(world.ingress(&frame).action, XDP_DROP);
                count += 1;
            }
        }
    }
    assert_eq!(world.drops(DropReason::Malformed), count);
}

#[test]
fn a_transport_header_that_the_packet_cuts_short_is_malformed() {
    let world = World::new(REJECT);
    let mut count = 0;
    for family in families() {
        for port in [LOCAL, NOBODY] {
            for tcp in [Some((1, 2, ACK)), None] {
                let whole = request(family, port, tcp).build();
                let (protocol, length, network) = match tcp {
                    Some(_) => (6, 19, whole.len() - 25),
                    None => (17, 7, whole.len() - 13),
                };
                // The frame goes on, with padding that must not be taken for the rest of the header.
                let mut frame =
                    request(family, port, tcp).wrap(protocol, &whole[network..network + length]);
                frame.resize(100, 0);
                assert_eq!(world.ingress(&frame).action, XDP_DROP);
                count += 1;
            }
        }
    }
    assert_eq!(world.drops(DropReason::Malformed), count);
}

#[test]
fn a_packet_of_another_version_than_its_ether_type_passes() {
    let world = World::new(REJECT);
    for family in families() {
        let frame = request(family, LOCAL, Some((1, 2, SYN))).build();
        for version in (0..16).filter(|version| *version << 4 != frame[14] & 0xf0) {
            let mut other = frame.clone();
            other[14] = version << 4 | frame[14] & 0xf;
            let run = world.ingress(&other);
            assert_eq!((run.action, run.frame), (XDP_PASS, other));
        }
    }
}

/// First, later and last fragments; what is no fragment but looks a little like one.
const FRAGMENTS: [(u16, bool); 6] = [
    (0x2000, true),
    (0x20b9, true),
    (0x00b9, true),
    (0x1fff, true),
    (0x4000, false),
    (0x8000, false),
];

#[test]
fn fragments_are_too_hard() {
    for (flags, action) in [(REJECT, XDP_DROP), (REJECT | KERNEL_KNOWS_VIPS, XDP_PASS)] {
        let world = World::new(flags);
        let [four, six] = families();
        let mut count = 0;
        for port in [LOCAL, REMOTE, NOBODY] {
            for (fragment, is_fragment) in FRAGMENTS {
                let mut frame = request(four, port, None);
                frame.fragment = fragment;
                let frame = frame.build();
                let run = world.ingress(&frame);
                if is_fragment {
                    assert_eq!((run.action, run.frame), (action, frame));
                    count += 1;
                }
                let offset = (fragment << 3 | fragment >> 13 & 1).to_be_bytes();
                let frame = extended(six, port, 44, &[17, 0, offset[0], offset[1], 0, 0, 0, 9]);
                let run = world.ingress(&frame);
                assert_eq!((run.action, run.frame), (action, frame));
                count += 1;
            }
        }
        assert_eq!(world.drops(reason(flags, DropReason::Fragment)), count);
    }
}

/// A datagram behind an extension header.
fn extended(family: Family, port: u16, kind: u8, header: &[u8]) -> Vec<u8> {
    let plain = request(family, port, None).build();
    request(family, port, None).wrap(kind, &[header, &plain[54..]].concat())
}

/// Under what a packet that is too hard is counted.
fn reason(flags: u32, reason: DropReason) -> DropReason {
    if flags & KERNEL_KNOWS_VIPS == 0 {
        reason
    } else {
        DropReason::PassedToKernel
    }
}

#[test]
fn extension_headers_and_other_protocols_are_too_hard() {
    for (flags, action) in [(REJECT, XDP_DROP), (REJECT | KERNEL_KNOWS_VIPS, XDP_PASS)] {
        let world = World::new(flags);
        let [four, six] = families();
        let mut frames: Vec<Vec<u8>> = [0, 43, 51, 59, 60, 135, 139, 140]
            .map(|kind| extended(six, LOCAL, kind, &[17, 0, 1, 4, 0, 0, 0, 0]))
            .into();
        for protocol in [0, 2, 4, 33, 41, 47, 50, 132, 136, 255] {
            frames.push(request(four, LOCAL, None).wrap(protocol, &[0; 24]));
            frames.push(request(six, LOCAL, None).wrap(protocol, &[0; 24]));
        }
        for frame in &frames {
            let run = world.ingress(frame);
            assert_eq!((run.action, &run.frame), (action, frame));
        }
        let reason = reason(flags, DropReason::UnknownProtocol);
        assert_eq!(world.drops(reason), frames.len() as u64);
    }
}

#[test]
fn a_wrong_checksum_stays_wrong_by_as_much() {
    let world = World::new(0);
    for family in families() {
        for (tcp, at) in [(Some((1, 2, SYN)), 16), (None, 6)] {
            let transport = 14 + if family.vip.is_ipv4() { 20 } else { 40 };
            let right = request(family, LOCAL, tcp).build();
            let expected = delivered(family, tcp).build();
            for wrong in [1u16, 0x00ff, 0x8000, 0x1234] {
                let damaged = |frame: &[u8]| {
                    let mut frame = frame.to_vec();
                    add(&mut frame, transport + at, wrong);
                    if family.vip.is_ipv4() {
                        add(&mut frame, 24, wrong);
                    }
                    frame
                };
                let run = world.ingress(&damaged(&right));
                assert_eq!((run.action, run.frame), (XDP_PASS, damaged(&expected)));
            }
        }
    }
}

/// Adds to a checksum, in one's complement.
fn add(frame: &mut [u8], at: usize, wrong: u16) {
    let sum = u32::from(u16::from_be_bytes([frame[at], frame[at + 1]])) + u32::from(wrong);
    let sum = (sum & 0xffff) + (sum >> 16);
    frame[at..at + 2].copy_from_slice(&(sum as u16).to_be_bytes());
}

#[test]
fn a_datagram_without_checksum_is_delivered_without() {
    let world = World::new(0);
    let [family, _] = families();
    let bare = |frame: &[u8]| {
        let mut frame = frame.to_vec();
        frame[40..42].fill(0);
        frame
    };
    let run = world.ingress(&bare(&request(family, LOCAL, None).build()));
    let expected = bare(&delivered(family, None).build());
    assert_eq!((run.action, run.frame), (XDP_PASS, expected));
}

#[test]
fn frames_cut_anywhere_are_judged_alike_and_never_delivered() {
    for flags in [REJECT, KERNEL_KNOWS_VIPS] {
        let world = World::new(flags);
        for frame in whole_frames() {
            // The kernel runs no frame without an Ethernet header.
            for length in 14..frame.len() {
                let cut = &frame[..length];
                let run = world.ingress(cut);
                assert_ne!(run.action, XDP_TX, "{cut:02x?}");
                if run.action == XDP_PASS {
                    assert_eq!(run.frame, cut);
                }
            }
        }
    }
}

/// One of each kind that a whole frame would be answered, forwarded or delivered for.
fn whole_frames() -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    for tags in TAGS {
        for family in families() {
            for port in [LOCAL, REMOTE, NOBODY] {
                for tcp in [Some((1, 2, SYN)), Some((1, 2, ACK)), None] {
                    let mut frame = request(family, port, tcp);
                    frame.tags = tags.to_vec();
                    frames.push(frame.build());
                }
            }
            let mut frame = request(family, 0, None);
            frame.tags = tags.to_vec();
            frames.push(frame.wrap(echo(family).0, &echo(family).1));
        }
        frames.push(arp_request(tags));
        frames.push(solicitation(tags));
    }
    frames
}

fn echo(family: Family) -> (u8, Vec<u8>) {
    let (protocol, kind) = if family.vip.is_ipv4() {
        (1, 8)
    } else {
        (58, 128)
    };
    let mut message = vec![kind, 0, 0, 0, 0x12, 0x34, 0, 1, 1, 2, 3];
    let sum = match protocol {
        1 => checksum(&message),
        _ => transport_checksum(family.client, family.vip, protocol, &message),
    };
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    (protocol, message)
}

fn arp_request(tags: &[(u16, u16)]) -> Vec<u8> {
    let [family, _] = families();
    let mut frame = request(family, 0, None);
    frame.tags = tags.to_vec();
    // A header of its own length is cut off again, and what stands before it says ARP.
    let mut frame = frame.wrap(0, &[]);
    let network = frame.len() - 20;
    frame.truncate(network);
    frame[network - 1] = 0x06;
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend(ROUTER.0);
    frame.extend([192, 0, 2, 1, 0, 0, 0, 0, 0, 0, 203, 0, 113, 10]);
    frame
}

fn solicitation(tags: &[(u16, u16)]) -> Vec<u8> {
    let [_, family] = families();
    let mut frame = request(family, 0, None);
    (frame.tags, frame.ttl) = (tags.to_vec(), 255);
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(
        words(family.vip)
            .map(|word| word.host().to_be_bytes())
            .concat(),
    );
    message.extend([1, 1, 2, 0, 0, 0, 0, 1]);
    let sum = transport_checksum(family.client, family.vip, 58, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    frame.wrap(58, &message)
}

#[test]
fn every_answer_keeps_the_tags() {
    let world = World::new(REJECT);
    for [bare, tagged @ ..] in answered() {
        let answer = world.ingress(&bare);
        assert_eq!(answer.action, XDP_TX);
        for (count, frame) in tagged.into_iter().enumerate() {
            let tags = &frame[12..12 + 4 * (count + 1)];
            let expected = [&answer.frame[..12], tags, &answer.frame[12..]].concat();
            let run = world.ingress(&frame);
            assert_eq!((run.action, run.frame), (XDP_TX, expected));
        }
    }
}

/// What is answered, with no tag, one, and two.
fn answered() -> Vec<[Vec<u8>; 3]> {
    let mut frames = vec![TAGS.map(arp_request), TAGS.map(solicitation)];
    for family in families() {
        let tagged = |tags: &[(u16, u16)], port, tcp| {
            let mut frame = request(family, port, tcp);
            frame.tags = tags.to_vec();
            frame
        };
        frames.push(TAGS.map(|tags| {
            let (protocol, message) = echo(family);
            tagged(tags, 0, None).wrap(protocol, &message)
        }));
        for tcp in [Some((1, 2, SYN)), Some((1, 2, ACK)), None] {
            frames.push(TAGS.map(|tags| tagged(tags, NOBODY, tcp).build()));
        }
    }
    frames
}

#[test]
fn three_tags_are_nobodys() {
    let world = World::new(REJECT);
    for family in families() {
        for port in [LOCAL, REMOTE, NOBODY] {
            let mut frame = request(family, port, Some((1, 2, SYN)));
            frame.tags = vec![(0x8100, 5); 3];
            let frame = frame.build();
            let run = world.ingress(&frame);
            assert_eq!((run.action, run.frame), (XDP_PASS, frame));
        }
    }
}
