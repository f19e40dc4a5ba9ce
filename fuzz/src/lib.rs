//! What each fuzz target does with its input. The corpora are replayed by
//! `lb-userspace/tests/corpus.rs`, which includes this file.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use lb_userspace::proto::bfd::packet::{self, ControlPacket};
use lb_userspace::proto::bfd::session as bfd_session;
use lb_userspace::proto::bgp::adj_out::{Attributes, Routes};
use lb_userspace::proto::bgp::attribute::Verdict;
use lb_userspace::proto::bgp::capability::Capability;
use lb_userspace::proto::bgp::message::{
    Frame, Framer, HEADER_LENGTH, MAX_EXTENDED, MAX_LENGTH, keepalive,
};
use lb_userspace::proto::bgp::negotiation::{Config, ExpectedAs, Negotiated, Options};
use lb_userspace::proto::bgp::nlri::Family;
use lb_userspace::proto::bgp::notification::{Cease, Notification};
use lb_userspace::proto::bgp::open::Open;
use lb_userspace::proto::bgp::refresh::{self, Subtype};
use lb_userspace::proto::bgp::retention::{Past, Retention};
use lb_userspace::proto::bgp::session::{Event, Session, Stop};
use lb_userspace::proto::bgp::update::{self, Received};
use lb_userspace::proto::bgp::{capture as mrt, fsm, role};
use lb_userspace::proto::router_advertisement::Message;

/// A name, which is that of the corpus too, and what is done with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 10] = [
    ("framing", framing),
    ("open", open),
    ("capability", capability),
    ("update", update),
    ("notification", notification),
    ("refresh", refresh),
    ("session", session),
    ("bfd", bfd),
    ("capture", capture),
    ("router_advertisement", router_advertisement),
];

const OURS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
const BOTH: [Family; 2] = [Family::Ipv4Unicast, Family::Ipv6Unicast];

fn config(asn: u32, peer: u32) -> Config {
    Config {
        my_asn: asn,
        peer_asn: ExpectedAs::Number(peer),
        router_id: Ipv4Addr::from(asn),
        hold_time: Duration::from_secs(9),
        keepalive_time: None,
        connect_time: Duration::from_secs(1),
        families: BTreeSet::from(BOTH),
        next_hops: BTreeMap::from([(Family::Ipv6Unicast, IpAddr::V6(Ipv6Addr::LOCALHOST))]),
        options: Options {
            retention: Some(Retention {
                restart_time: Duration::from_secs(120),
                stale_time: Duration::from_secs(300),
            }),
            host_name: "node-a".to_owned(),
            ..Options::default()
        },
    }
}

/// The first octet, and the rest.
fn first(data: &[u8]) -> (u8, &[u8]) {
    data.split_first()
        .map_or((0, data), |(octet, rest)| (*octet, rest))
}

/// However the stream is split, the same messages come out, and they are what went in.
pub fn framing(data: &[u8]) {
    let (octet, data) = first(data);
    let cut = |size: usize| {
        let mut framer = Framer::default();
        if octet & 1 == 1 {
            framer.extend_messages();
        }
        let mut frames: Vec<Frame> = Vec::new();
        for chunk in data.chunks(size) {
            framer.extend(chunk);
            loop {
                match framer.take() {
                    Ok(Some(frame)) => frames.push(frame),
                    Ok(None) => break,
                    Err(error) => return (frames, Some(error)),
                }
            }
            assert!(framer.held() < MAX_EXTENDED);
        }
        (frames, None)
    };
    let whole = cut(data.len().max(1));
    assert_eq!(whole, cut(usize::from(octet >> 1) + 1));
    let again: Vec<u8> = whole.0.iter().flat_map(Frame::encode).collect();
    assert!(data.starts_with(&again));
}

/// What is read is written and read again; what is agreed on is what both sides offer.
pub fn open(data: &[u8]) {
    let Ok(theirs) = Open::decode(data) else {
        return;
    };
    let written = theirs.encode();
    assert!(written.len() <= MAX_LENGTH);
    let again = Open::decode(&written[HEADER_LENGTH..]).expect("what was read can be written");
    assert_eq!(
        (again.my_as, again.hold_time, again.router_id),
        (theirs.my_as, theirs.hold_time, theirs.router_id)
    );
    let mut config = config(65002, theirs.asn());
    config.options.role = Some(role::Role::Customer);
    let ours = config.open(false, Past::default());
    if let Ok(agreed) = Negotiated::new(&config, &ours, &theirs) {
        assert!(agreed.families.is_subset(&theirs.families()));
        assert!(agreed.hold_time <= config.hold_time);
        assert!(agreed.hold_time.is_zero() || agreed.keepalive_time <= agreed.hold_time);
    }
}

/// No capability is read beyond its length.
pub fn capability(data: &[u8]) {
    let mut read = Vec::new();
    if Capability::decode_all(data, &mut read).is_err() {
        return;
    }
    let mut written = Vec::new();
    read.iter()
        .for_each(|capability| capability.encode(&mut written));
    let mut again = Vec::new();
    Capability::decode_all(&written, &mut again).expect("what was read can be written");
    let codes = |list: &[Capability]| list.iter().map(Capability::code).collect::<Vec<_>>();
    assert_eq!(codes(&read), codes(&again));
}

/// Whatever the verdict, it fits what was found; what is accepted can be announced and read again.
pub fn update(data: &[u8]) {
    let (octet, body) = first(data);
    let peer = if octet & 1 == 0 { 65001 } else { 65002 };
    let (mine, theirs) = (config(65002, peer), config(peer, 65002));
    let mut theirs = theirs.open(octet & 2 == 2, Past::default());
    theirs.router_id = Ipv4Addr::new(10, 0, 0, 1);
    let ours = mine.open(false, Past::default());
    let agreed = Negotiated::new(&mine, &ours, &theirs).expect("these two agree");
    let Ok(received) = Received::decode(body, &agreed) else {
        return;
    };
    let Some(path) = &received.path else {
        let is_empty = received.announced.is_empty();
        assert!(is_empty || received.verdict == Verdict::TreatAsWithdraw);
        return;
    };
    assert_ne!(received.verdict, Verdict::TreatAsWithdraw);
    for family in BOTH {
        let of_family = |prefix: &&ipnet::IpNet| Family::of(prefix.addr()) == family;
        let prefixes: Vec<_> = received
            .announced
            .iter()
            .filter(of_family)
            .copied()
            .collect();
        let fits = family == Family::Ipv4Unicast || path.next_hop.is_ipv6();
        if let Some((message, count)) =
            update::announce(path, agreed.four_octet_as, prefixes.iter()).filter(|_| fits)
        {
            assert!(message.len() <= MAX_LENGTH);
            if let Ok(again) = Received::decode(&message[HEADER_LENGTH..], &agreed) {
                assert!(prefixes.starts_with(&again.announced), "{count}");
            }
        }
    }
}

/// It is shown without what a terminal would act on, and written as it was read.
pub fn notification(data: &[u8]) {
    let Some(read) = Notification::decode(data) else {
        return;
    };
    assert!(!read.to_string().chars().any(char::is_control));
    let written = read.encode();
    assert!(written.len() <= MAX_LENGTH);
    let again =
        Notification::decode(&written[HEADER_LENGTH..]).expect("what was read can be written");
    assert!(read.data.starts_with(&again.data));
}

/// A request for a family is that family's.
pub fn refresh(data: &[u8]) {
    for enhanced in [false, true] {
        if let Ok(Some(family)) = refresh::decode(data, enhanced) {
            assert_eq!(
                refresh::encode(family, Subtype::Request)[HEADER_LENGTH..],
                *data
            );
        }
    }
}

/// Nothing is said after a NOTIFICATION, nothing is too long, and a session that was not stopped goes on.
pub fn session(data: &[u8]) {
    let mut now = Instant::now();
    let (octet, mut data) = first(data);
    let mut config = config(65002, 65001);
    config.options.passive = octet & 1 == 1;
    config.options.delay_open = (octet & 2 == 2).then_some(Duration::from_secs(3));
    let mut session = Session::new(config, octet.into(), now);
    let theirs = self::config(65001, 65002)
        .open(octet & 4 == 4, Past::default())
        .encode();
    let mut is_stopped = false;
    let mut is_ended = true;
    while let [step, rest @ ..] = data {
        let (length, rest) = first(rest);
        data = rest;
        now += Duration::from_millis(u64::from(length) * 40);
        match step % 14 {
            0 | 1 => {
                session.handle_connected(OURS.into(), now);
                is_ended = false;
            }
            2 => session.handle_disconnected(now),
            3 => session.handle_bytes(&theirs, now),
            4 => session.handle_bytes(&keepalive(), now),
            5..=7 => {
                let (bytes, rest) = data.split_at(usize::from(length).min(data.len()));
                session.handle_bytes(bytes, now);
                data = rest;
            }
            8 => session.handle_routes(routes(length), length & 1 == 1),
            9 => session.handle_blocked(now),
            10 => session.handle_written(),
            11 => session.handle_bfd_down(now),
            12 if length > 250 => {
                let subcode = Cease::AdministrativeShutdown;
                let text = String::from_utf8_lossy(data).into_owned();
                session.handle_stop(Stop::Cease { subcode, text }, now);
                is_stopped = true;
            }
            _ => session.handle_timeout(now),
        }
        while let Some(message) = session.poll_transmit() {
            assert!(
                !is_ended,
                "something was said without a connection: {message:02x?}"
            );
            assert!((HEADER_LENGTH..=MAX_LENGTH).contains(&message.len()));
            is_ended = message[HEADER_LENGTH - 1] == 3;
        }
        while let Some(event) = session.poll_event() {
            is_ended |= matches!(event, Event::Close { .. });
        }
        while session.poll_act().is_some() {}
        if is_stopped {
            assert_eq!(session.state(), fsm::State::Idle);
            return;
        }
        let waits = session.state() == fsm::State::Active && octet & 1 == 1;
        assert!(
            waits || session.poll_timeout().is_some(),
            "{:?}",
            session.state()
        );
    }
}

fn routes(count: u8) -> Routes {
    let shared = Arc::new(Attributes::default());
    let v4 = (0..count / 2).map(|n| IpAddr::from([203, 0, 113, n]));
    let v6 = (0..count / 2).map(|n| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(n)]));
    v4.chain(v6)
        .map(|addr| (addr.into(), Arc::clone(&shared)))
        .collect()
}

/// What is taken is written as it came; a session answers at most one packet with one.
pub fn bfd(data: &[u8]) {
    let mut now = Instant::now();
    let config = bfd_session::Config {
        desired_min_tx: Duration::from_millis(50),
        required_min_rx: Duration::from_millis(50),
        detect_multiplier: NonZeroU8::MIN,
        is_passive: data.first().is_some_and(|octet| octet & 1 == 1),
        minimum_ttl: 255,
    };
    let mut session = bfd_session::Session::new(config, NonZeroU32::MIN, 1, now);
    while session.poll_transmit().is_some() {}
    for chunk in data.get(1..).unwrap_or_default().chunks(packet::LENGTH + 1) {
        let (octet, payload) = first(chunk);
        if let Ok(packet) = ControlPacket::decode(payload) {
            let written = packet.encode();
            assert_eq!(ControlPacket::decode(&written), Ok(packet));
            let _ = session.handle_packet(&packet, now);
        }
        now += Duration::from_millis(u64::from(octet) * 8);
        session.handle_timeout(now);
        let mut sent = 0;
        while session.poll_transmit().is_some() {
            sent += 1;
        }
        assert!(sent <= 2, "{sent} packets");
        while session.poll_change().is_some() {}
    }
}

/// However the stream is split, the same records come out, and they can be written again.
pub fn capture(data: &[u8]) {
    let (octet, data) = first(data);
    let cut = |size: usize| {
        let mut reader = mrt::Reader::default();
        let mut records = Vec::new();
        for chunk in data.chunks(size) {
            reader.extend(chunk);
            loop {
                match reader.take() {
                    Ok(Some(record)) => records.push(record),
                    Ok(None) => break,
                    Err(error) => return (records, Some(error)),
                }
            }
        }
        (records, None)
    };
    let whole = cut(data.len().max(1));
    assert_eq!(whole, cut(usize::from(octet) + 1));
    for record in whole.0 {
        let mut written = BytesMut::new();
        record.encode(&mut written);
        let mut reader = mrt::Reader::default();
        reader.extend(&Bytes::from(written));
        let again = reader.take().expect("what was read can be written");
        assert_eq!(again.map(|again| again.act), Some(record.act));
    }
}

/// It is read or not.
pub fn router_advertisement(data: &[u8]) {
    // What nobody looks at would be compiled away.
    std::hint::black_box(Message::decode(data));
}
