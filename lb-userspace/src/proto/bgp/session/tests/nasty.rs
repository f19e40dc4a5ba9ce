//! Messages that brought other speakers down, by incident, and what becomes of
//! them here.

use super::*;

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 1];
const NLRI: &[u8] = &[32, 192, 0, 2, 1];

/// An UPDATE with these attributes behind the mandatory ones.
fn update_with(attributes: &[&[u8]]) -> Bytes {
    raw(&[&[ORIGIN, AS_PATH, NEXT_HOP], attributes].concat())
}

/// An UPDATE with these attributes and one prefix.
fn raw(attributes: &[&[u8]]) -> Bytes {
    let attributes = attributes.concat();
    let length = u16::try_from(attributes.len()).unwrap().to_be_bytes();
    let body = [&[0, 0][..], &length, &attributes, NLRI].concat();
    message::encode(MessageType::Update, &body)
}

fn attribute(flags: u8, code: u8, value: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    crate::proto::bgp::attribute::put(&mut out, flags, code, value);
    out
}

/// What an established session answers: nothing, or a NOTIFICATION.
fn answer(message: &[u8]) -> Option<(u8, u8)> {
    let now = Instant::now();
    let mut session = established(now);
    session.handle_bytes(message, now);
    let told = notification(&mut session).map(|(code, subcode, _)| (code, subcode));
    assert_eq!(told.is_none(), session.state() == State::Established);
    told
}

#[test]
fn attributes_that_brought_networks_down_do_no_harm() {
    let zeros = vec![0; 300];
    let mp_unreach_vpn = attribute(0x80, 15, &[0, 25, 70, 1, 2, 3]);
    let cases: Vec<(&str, Bytes)> = vec![
        (
            "2023, entropy label, empty",
            update_with(&[&attribute(0xc0, 28, &[])]),
        ),
        (
            "2023, entropy label, garbage",
            update_with(&[&attribute(0xc0, 28, &zeros)]),
        ),
        (
            "2025, prefix SID of zeros",
            update_with(&[&attribute(0xc0, 40, &zeros[..20])]),
        ),
        (
            "2010, attribute 99 of 3,000 octets",
            update_with(&[&attribute(0xc0, 99, &zeros.repeat(10))]),
        ),
        (
            "ATTR_SET",
            update_with(&[&attribute(0xc0, 128, &[0, 0, 0, 1, 0x40, 1])]),
        ),
        ("AIGP", update_with(&[&attribute(0x80, 26, &[1, 0, 3])])),
        (
            "tunnel encapsulation",
            update_with(&[&attribute(0xc0, 23, &[0, 15, 0xff])]),
        ),
        (
            "2012, reserved flag bits",
            raw(&[&[0x4f, 1, 1, 0], AS_PATH, NEXT_HOP]),
        ),
        (
            "ORIGIN without its flag",
            raw(&[&[0x00, 1, 1, 0], AS_PATH, NEXT_HOP]),
        ),
        ("CVE-2023-41358: prefixes without attributes", raw(&[])),
        (
            "CVE-2023-46753: a mandatory attribute is missing",
            raw(&[ORIGIN]),
        ),
        (
            "AS_PATH segment without AS",
            raw(&[ORIGIN, &[0x40, 2, 2, 2, 0], NEXT_HOP]),
        ),
        (
            "AS_PATH segment that overruns",
            raw(&[ORIGIN, &[0x40, 2, 6, 2, 9, 0, 0, 0xfd, 0xe9], NEXT_HOP]),
        ),
        (
            "CVE-2025-20115: a confederation of 255",
            raw(&[
                ORIGIN,
                &attribute(0x40, 2, &[&[3, 255][..], &zeros.repeat(4)[..1020]].concat()),
                NEXT_HOP,
            ]),
        ),
        (
            "AS_SET",
            raw(&[ORIGIN, &[0x40, 2, 6, 1, 1, 0, 0, 0xfd, 0xe9], NEXT_HOP]),
        ),
        (
            "last attribute overruns",
            update_with(&[&[0xc0, 8, 255, 0]]),
        ),
        (
            "communities, none",
            update_with(&[&attribute(0xc0, 8, &[])]),
        ),
        (
            "communities, three octets",
            update_with(&[&attribute(0xc0, 8, &[0; 3])]),
        ),
        (
            "communities, 900",
            update_with(&[&attribute(0xc0, 8, &zeros.repeat(12))]),
        ),
        (
            "large communities, 11 octets",
            update_with(&[&attribute(0xc0, 32, &[0; 11])]),
        ),
        (
            "only to customer, 3 octets",
            update_with(&[&attribute(0xc0, 35, &[0; 3])]),
        ),
        (
            "AS4_PATH of garbage from a NEW speaker",
            update_with(&[&attribute(0xc0, 17, &[9, 9, 9])]),
        ),
        ("the same attribute twice", update_with(&[ORIGIN])),
        (
            "a family nobody negotiated",
            update_with(&[&mp_unreach_vpn]),
        ),
    ];
    for (name, message) in cases {
        assert_eq!(answer(&message), None, "{name}");
    }
}

#[test]
fn what_leaves_the_stream_unreadable_ends_the_session_with_the_right_code() {
    let mp = |next_hop: u8| {
        let value = [
            &[0, 2, 1, next_hop][..],
            &vec![0; usize::from(next_hop)],
            &[0],
        ]
        .concat();
        attribute(0x80, 14, &value)
    };
    let cases: Vec<(&str, Bytes, (u8, u8))> = vec![
        (
            "unknown well-known attribute",
            update_with(&[&[0x40, 99, 0]]),
            (3, 2),
        ),
        ("MP_REACH twice", update_with(&[&mp(16), &mp(16)]), (3, 1)),
        ("next hop of 5 octets", update_with(&[&mp(5)]), (3, 9)),
        (
            "MP_UNREACH without a family",
            update_with(&[&attribute(0x80, 15, &[0])]),
            (3, 9),
        ),
        (
            "MP_REACH cut short",
            update_with(&[&[0x80, 14, 200, 0, 2, 1]]),
            (3, 1),
        ),
        (
            "prefix of 33 bits",
            message::encode(MessageType::Update, &[0, 0, 0, 0, 33, 1, 2, 3, 4, 5]),
            (3, 10),
        ),
        (
            "withdrawn routes that overrun",
            message::encode(MessageType::Update, &[0xff, 0xff, 0, 0]),
            (3, 1),
        ),
        (
            "attributes that overrun",
            message::encode(MessageType::Update, &[0, 0, 0xff, 0xff]),
            (3, 1),
        ),
    ];
    for (name, message, expected) in cases {
        assert_eq!(answer(&message), Some(expected), "{name}");
    }
}

// The sink stores nothing and looks into nothing that it does not know: no content can harm it.
#[test]
fn no_optional_attribute_of_any_type_and_length_ends_a_session() {
    let now = Instant::now();
    let mut session = established(now);
    let content: Vec<u8> = (0..=255_u8).cycle().take(600).collect();
    for code in (0..=255_u8).filter(|code| !matches!(code, 14 | 15)) {
        for length in [0, 1, 2, 3, 4, 5, 7, 8, 12, 20, 255, 256, 300, 600] {
            for flags in [0xc0, 0x80, 0xe0] {
                let attribute = attribute(flags, code, &content[..length]);
                session.handle_bytes(&update_with(&[&attribute]), now);
                assert_eq!(session.state(), State::Established, "{code} {length}");
            }
        }
    }
    assert!(session.counters().treated_as_withdraw > 0);
    assert!(session.counters().attributes_discarded > 0);
}

#[test]
fn every_beginning_of_an_open_is_answered_or_waited_for() {
    let now = Instant::now();
    let whole = open(65001);
    for cut in 29..whole.len() {
        let mut bytes = whole[..cut].to_vec();
        bytes[16..18].copy_from_slice(&u16::try_from(cut).unwrap().to_be_bytes());
        let mut session = connected(now);
        session.handle_bytes(&bytes, now);
        let told = notification(&mut session).map(|(code, ..)| code);
        assert_eq!(told, Some(2), "{cut}");
    }
}

#[test]
fn a_flood_of_messages_leaves_nothing_behind() {
    let now = Instant::now();
    let mut session = established(now);
    let flood = [message::keepalive(), update_with(&[])]
        .concat()
        .repeat(500);
    for part in flood.chunks(1_000) {
        session.handle_bytes(part, now);
        assert!(session.framer.held() <= 5_096);
    }
    assert_eq!(session.state(), State::Established);
    assert_eq!(sent(&mut session), Vec::<Bytes>::new());
    assert_eq!(session.counters().received_refused, 500);
}
