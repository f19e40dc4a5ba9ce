//! Captures written, read, and played through a session again.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use proptest::prelude::*;

use super::*;
use crate::proto::bgp::capability::Capability;
use crate::proto::bgp::message::{self, HEADER_LENGTH, MessageType};
use crate::proto::bgp::negotiation::{Config, ExpectedAs, Options};
use crate::proto::bgp::nlri::Family;
use crate::proto::bgp::notification::{Cease, Notification};
use crate::proto::bgp::open::Open;
use crate::proto::bgp::session::{Session, Stop};

const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const THEIRS: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));

const ENDS: Ends = Ends {
    peer_asn: 65001,
    local_asn: 65002,
    peer: THEIRS,
    local: OURS,
};

fn read(bytes: &[u8]) -> Result<Vec<Record>, ReadError> {
    let mut reader = Reader::default();
    reader.extend(bytes);
    let mut records = Vec::new();
    while let Some(record) = reader.take()? {
        records.push(record);
    }
    Ok(records)
}

fn write(records: &[Record]) -> BytesMut {
    let mut bytes = BytesMut::new();
    for record in records {
        record.encode(&mut bytes);
    }
    bytes
}

#[test]
fn a_message_stands_as_rfc_6396_says() {
    let record = Record {
        at: Duration::new(0x0102_0304, 5_000),
        ends: ENDS,
        act: Act::Sent(message::keepalive()),
    };
    #[rustfmt::skip]
    let golden = [
        &[
            1, 2, 3, 4,  0, 17, 0, 7,  0, 0, 0, 43,  0, 0, 0, 5,
            0, 0, 0xfd, 0xe9,  0, 0, 0xfd, 0xea,  0, 0,  0, 1,  10, 0, 0, 1,  10, 0, 0, 2,
        ][..],
        &message::keepalive(),
    ]
    .concat();
    assert_eq!(write(std::slice::from_ref(&record))[..], golden);
    assert_eq!(read(&golden), Ok(vec![record]));
}

#[test]
fn records_of_two_octets_for_an_as_are_read_and_others_are_passed_over() {
    let body = |asns: &[u8]| {
        let ends = [&[0, 9, 0, 1], &THEIRS_AND_OURS[..]].concat();
        [asns, &ends, &[0, 3, 0, 6]].concat()
    };
    let record = |kind: u8, subtype: u8, body: &[u8]| {
        let length = u8::try_from(body.len()).unwrap();
        [
            &[0, 0, 0, 1, 0, kind, 0, subtype, 0, 0, 0, length][..],
            body,
        ]
        .concat()
    };
    let table_dump = record(13, 1, &[7; 30]);
    let narrow = record(16, 0, &body(&[0xfd, 0xe9, 0xfd, 0xea]));
    let records = read(&[table_dump, narrow].concat()).unwrap();
    assert_eq!(records.len(), 1);
    assert_eq!(records[0].ends, ENDS);
    let up = Act::State {
        from: State::Active,
        to: State::Established,
    };
    assert_eq!(records[0].act, up);
}

const THEIRS_AND_OURS: [u8; 8] = [10, 0, 0, 1, 10, 0, 0, 2];

#[test]
fn what_is_no_capture_is_said() {
    assert_eq!(read(&[0xff; 12]), Err(ReadError::TooLong(u32::MAX)));
    let no_family = [
        &[0, 0, 0, 1, 0, 16, 0, 4, 0, 0, 0, 12][..],
        &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 9],
    ]
    .concat();
    let malformed = ReadError::Malformed {
        kind: 16,
        subtype: 4,
    };
    assert_eq!(read(&no_family), Err(malformed));
    assert_eq!(read(&no_family[..20]), Ok(vec![]));
}

fn states() -> impl Strategy<Value = State> {
    prop::sample::select(vec![
        State::Idle,
        State::Connect,
        State::Active,
        State::OpenSent,
        State::OpenConfirm,
        State::Established,
    ])
}

fn acts() -> impl Strategy<Value = Act> {
    let message = || prop::collection::vec(any::<u8>(), 0..5000).prop_map(Bytes::from);
    prop_oneof![
        message().prop_map(Act::Sent),
        message().prop_map(Act::Received),
        (states(), states()).prop_map(|(from, to)| Act::State { from, to }),
    ]
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(a, b)| (a.into(), b.into())),
        any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(a, b)| (a.into(), b.into())),
    ]
}

fn records() -> impl Strategy<Value = Record> {
    let micros = 0..u64::from(u32::MAX) * 1_000_000;
    (micros, any::<(u32, u32)>(), addresses(), acts()).prop_map(
        |(micros, (peer_asn, local_asn), (peer, local), act)| Record {
            at: Duration::from_micros(micros),
            ends: Ends {
                peer_asn,
                local_asn,
                peer,
                local,
            },
            act,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_however_it_is_split(
        records in prop::collection::vec(records(), 0..6),
        cut in 1_usize..600,
    ) {
        let bytes = write(&records);
        let mut reader = Reader::default();
        let mut found = Vec::new();
        for chunk in bytes.chunks(cut) {
            reader.extend(chunk);
            while let Some(record) = reader.take().unwrap() {
                found.push(record);
            }
        }
        prop_assert_eq!(found, records);
        prop_assert_eq!(reader.held(), 0);
    }

    #[test]
    fn no_bytes_make_the_reader_fall_over(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = read(&bytes);
    }
}

fn config(asn: u32, peer: u32) -> Config {
    Config {
        my_asn: asn,
        peer_asn: ExpectedAs::Number(peer),
        router_id: Ipv4Addr::from(asn),
        hold_time: Duration::from_secs(9),
        keepalive_time: None,
        connect_time: Duration::from_secs(5),
        families: BTreeSet::from([Family::Ipv4Unicast]),
        next_hops: BTreeMap::new(),
        options: Options::default(),
    }
}

/// The session that wrote a capture, as far as its OPEN tells.
fn config_of(records: &[Record]) -> Option<Config> {
    let open = |act: &Act| match act {
        Act::Sent(message) if message.get(18) == Some(&1) => {
            Open::decode(message.get(HEADER_LENGTH..)?).ok()
        }
        _ => None,
    };
    let open = records.iter().find_map(|record| open(&record.act))?;
    let peers = records.iter().map(|record| record.ends.peer_asn);
    let role = open
        .capabilities
        .iter()
        .find_map(|capability| match capability {
            Capability::Role(role) => Some(*role),
            _ => None,
        });
    Some(Config {
        // Unknown where it was never agreed on.
        peer_asn: ExpectedAs::Number(peers.max()?),
        router_id: open.router_id,
        hold_time: Duration::from_secs(open.hold_time.into()),
        families: open.families(),
        options: Options {
            role,
            ..Options::default()
        },
        ..config(open.asn(), 0)
    })
}

/// States that a connection went through, and kinds of messages that do not depend on routes or chance.
type Course = (Vec<State>, Vec<u8>);

/// The course of the first connection that a capture has from its beginning.
fn course<'a>(acts: impl IntoIterator<Item = &'a Act>) -> Course {
    let mut course = Course::default();
    for act in acts {
        match act {
            Act::State { to, .. } if course.0.is_empty() && *to != State::OpenSent => {}
            // What is still said belongs to the connection that ends.
            Act::State { .. }
                if course.0.last() < Some(&State::OpenSent) && !course.0.is_empty() =>
            {
                break;
            }
            Act::State { to, .. } => course.0.push(*to),
            Act::Sent(message) => course
                .1
                .extend(message.get(18).filter(|kind| [1, 3].contains(kind))),
            Act::Received(_) => {}
        }
    }
    course
}

/// Plays the peer's part of a capture to a session.
fn replay(records: &[Record]) -> Option<Course> {
    let base = Instant::now();
    let begins = |record: &Record| {
        matches!(
            record.act,
            Act::State {
                to: State::OpenSent,
                ..
            }
        )
    };
    let records = records.get(records.iter().position(begins)?..)?;
    let mut session = Session::new(config_of(records)?, 1, base);
    let first = records.first()?;
    session.handle_connected(first.ends.local, base);
    let mut acts = Vec::new();
    for record in records.iter().skip(1) {
        let now = base + record.at.saturating_sub(first.at);
        session.handle_timeout(now);
        match &record.act {
            Act::Received(message) => session.handle_bytes(message, now),
            Act::State { to, .. } if *to < State::OpenSent && session.has_connection() => {
                session.handle_disconnected(now);
            }
            Act::Sent(message) if message.get(18..20) == Some(&[3, 6]) => {
                let subcode = Cease::AdministrativeShutdown;
                let text = String::new();
                session.handle_stop(Stop::Cease { subcode, text }, now);
            }
            Act::Sent(_) | Act::State { .. } => {}
        }
        while session.poll_transmit().is_some() {}
        acts.extend(std::iter::from_fn(|| session.poll_act()));
    }
    Some(course(&acts))
}

/// A session and its peer, who says `words` a second apart; and what was written down.
fn recorded(words: &[&[u8]]) -> Vec<Record> {
    let start = Instant::now();
    let mut session = Session::new(config(65002, 65001), 1, start);
    session.handle_connected(OURS, start);
    let mut records = Vec::new();
    for (seconds, words) in (0..30).zip(words.iter().copied().chain(std::iter::repeat(&[][..]))) {
        let now = start + Duration::from_secs(seconds);
        session.handle_timeout(now);
        session.handle_bytes(words, now);
        while session.poll_transmit().is_some() {}
        records.extend(std::iter::from_fn(|| session.poll_act()).map(|act| Record {
            at: Duration::from_secs(1_000 + seconds),
            ends: ENDS,
            act,
        }));
    }
    records
}

/// What the peer says, the states it leads to, and the kinds of messages that we send.
type Case<'a> = (&'a [&'a [u8]], &'a [State], &'a [u8]);

#[test]
fn a_capture_plays_as_the_session_went() {
    let open = config(65001, 65002)
        .open(false, Default::default())
        .encode();
    let foreign = config(65009, 65002)
        .open(false, Default::default())
        .encode();
    let keepalive = message::keepalive();
    let cease = Notification::cease(Cease::AdministrativeShutdown, "maintenance").encode();
    // An MP_REACH_NLRI that is cut off.
    let broken = message::encode(MessageType::Update, &[0, 0, 0, 5, 0x80, 14, 2, 0, 1]);
    let garbage = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    let up = [State::OpenSent, State::OpenConfirm, State::Established];
    let cases: [Case<'_>; 6] = [
        (&[&open, &keepalive, &cease], &up, &[1]),
        (&[&open, &keepalive, &broken], &up, &[1, 3]),
        // It falls silent.
        (&[&open, &keepalive], &up, &[1, 3]),
        (&[&open, &open], &up[..2], &[1, 3]),
        (&[&foreign], &up[..1], &[1, 3]),
        (&[garbage], &up[..1], &[1, 3]),
    ];
    for (words, states, kinds) in cases {
        let records = recorded(words);
        let (found, told) = course(records.iter().map(|record| &record.act));
        assert_eq!((&found[..states.len()], &told[..]), (states, kinds));
        let read = read(&write(&records)).unwrap();
        assert_eq!(read, records);
        assert_eq!(replay(&read), Some((found, told)));
    }
}
