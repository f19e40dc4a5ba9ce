//! Sessions in virtual time, against each other and against scripted peers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::IpNet;
use proptest::prelude::*;

use super::*;
use crate::proto::bgp::adj_out::{Attributes, Format};
use crate::proto::bgp::negotiation::{ExpectedAs, Options};
use crate::proto::bgp::refresh::Subtype;
use crate::proto::bgp::{message, update};

mod collision;
mod delay;
mod nasty;
mod restart;

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn config(my_asn: u32, peer_asn: u32) -> Config {
    Config {
        my_asn,
        peer_asn: ExpectedAs::Number(peer_asn),
        router_id: Ipv4Addr::from(my_asn),
        hold_time: seconds(9),
        keepalive_time: None,
        connect_time: seconds(5),
        families: BTreeSet::from([Family::Ipv4Unicast, Family::Ipv6Unicast]),
        next_hops: BTreeMap::from([(Family::Ipv6Unicast, "2001:db8::2".parse().unwrap())]),
        options: Options::default(),
    }
}

fn routes(count: u32) -> Routes {
    let shared = Arc::new(Attributes::default());
    (0..count)
        .map(|n| (IpNet::from(IpAddr::V4(n.into())), shared.clone()))
        .collect()
}

fn events(session: &mut Session) -> Vec<Event> {
    std::iter::from_fn(|| session.poll_event()).collect()
}

fn sent(session: &mut Session) -> Vec<Bytes> {
    std::iter::from_fn(|| session.poll_transmit()).collect()
}

fn open(asn: u32) -> Bytes {
    let peer = Config {
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        ..config(asn, 65002)
    };
    peer.open(false, Past::default()).encode()
}

/// A session that is connected and waits for the peer's OPEN.
fn connected(now: Instant) -> Session {
    let mut session = Session::new(config(65002, 65001), 1, now);
    session.handle_connected(LOCAL, now);
    assert_eq!(session.state(), State::OpenSent);
    sent(&mut session);
    events(&mut session);
    session
}

fn established(now: Instant) -> Session {
    let mut session = connected(now);
    session.handle_bytes(&open(65001), now);
    session.handle_bytes(&message::keepalive(), now);
    assert_eq!(session.state(), State::Established);
    sent(&mut session);
    events(&mut session);
    session
}

/// Code, subcode and data of a NOTIFICATION.
type Told = (u8, u8, Vec<u8>);

/// The NOTIFICATION among the messages that a session still wants to send.
fn notification(session: &mut Session) -> Option<Told> {
    let last = sent(session).pop().filter(|message| message[18] == 3)?;
    let read = Notification::decode(&last[19..])?;
    Some((read.code, read.subcode, read.data))
}

fn header(length: u16, kind: u8) -> Vec<u8> {
    [&[0xff; 16][..], &length.to_be_bytes(), &[kind]].concat()
}

#[test]
fn every_error_is_answered_with_its_notification_and_a_graceful_close() {
    let now = Instant::now();
    let bad_open = |index: usize, octets: &[u8]| {
        let mut bytes = open(65001).to_vec();
        bytes[index..index + octets.len()].copy_from_slice(octets);
        bytes
    };
    let other_type = message::encode(
        MessageType::Open,
        &[4, 0xfd, 0xe9, 0, 9, 10, 0, 0, 1, 3, 1, 1, 0],
    )
    .to_vec();
    let cases: [(Vec<u8>, Told); 11] = [
        (vec![0; 19], (1, 1, vec![])),
        (header(18, 4), (1, 2, vec![0, 18])),
        (header(20, 4), (1, 2, vec![0, 20])),
        (header(19, 9), (1, 3, vec![9])),
        (bad_open(19, &[3]), (2, 1, vec![0, 4])),
        (open(65009).to_vec(), (2, 2, vec![])),
        (bad_open(24, &[0; 4]), (2, 3, vec![])),
        (other_type, (2, 4, vec![])),
        (bad_open(22, &[0, 2]), (2, 6, vec![])),
        (bad_open(28, &[99]), (2, 0, vec![])),
        (message::keepalive().to_vec(), (5, 1, vec![])),
    ];
    for (bytes, expected) in cases {
        let mut session = connected(now);
        session.handle_bytes(&bytes, now);
        assert_eq!(
            notification(&mut session),
            Some(expected.clone()),
            "{bytes:02x?}"
        );
        assert_eq!(session.state(), State::Idle);
        assert!(
            events(&mut session).contains(&Event::Close { graceful: true }),
            "{expected:?}"
        );
        assert_eq!(session.poll_timeout().unwrap().1, Timer::IdleHold);
    }
}

#[test]
fn an_established_session_answers_what_it_does_not_expect() {
    let now = Instant::now();
    let mut session = established(now);
    session.handle_bytes(&open(65001), now);
    assert_eq!(notification(&mut session), Some((5, 3, vec![])));

    let mut session = established(now);
    session.handle_bytes(&message::encode(MessageType::Update, &[0, 9, 0, 0]), now);
    assert_eq!(notification(&mut session), Some((3, 1, vec![])));

    let mut session = connected(now);
    session.handle_bytes(&open(65001), now);
    session.handle_bytes(&update::end_of_rib(Family::Ipv4Unicast), now);
    assert_eq!(notification(&mut session), Some((5, 2, vec![])));
}

#[test]
fn a_lost_path_ends_what_is_connected_and_keeps_the_routes_for_the_next_time() {
    for make in [connected, established] {
        let now = Instant::now();
        let mut session = make(now);
        session.handle_routes(routes(3), false);
        sent(&mut session);
        session.handle_bfd_down(now);
        assert_eq!(notification(&mut session), Some((6, 10, vec![])));
        assert!(events(&mut session).contains(&Event::Failed(Reason::BfdDown)));
        assert_eq!(session.poll_timeout().unwrap().1, Timer::IdleHold);
        session.handle_bfd_down(now);
        assert_eq!(sent(&mut session), Vec::<Bytes>::new());
        assert_eq!(events(&mut session), []);

        session.handle_timeout(session.poll_timeout().unwrap().0);
        session.handle_connected(LOCAL, now);
        session.handle_bytes(&open(65001), now);
        session.handle_bytes(&message::keepalive(), now);
        sent(&mut session);
        assert_eq!(session.adj_out().sent().len(), 3);
    }
}

#[test]
fn a_notification_is_never_answered() {
    let now = Instant::now();
    for make in [connected, established] {
        let mut session = make(now);
        session.handle_bytes(&Notification::new(6, 5, Vec::new()).encode(), now);
        assert_eq!(sent(&mut session), Vec::<Bytes>::new());
        let happened = events(&mut session);
        assert!(happened.contains(&Event::Close { graceful: false }));
        assert!(
            happened
                .iter()
                .any(|event| matches!(event, Event::Failed(Reason::Notified(_))))
        );
        assert_eq!(
            (
                session.counters().notifications_sent,
                session.counters().notifications_received
            ),
            (0, 1)
        );
    }
}

#[test]
fn a_silent_peer_is_left_when_the_hold_time_is_over() {
    let now = Instant::now();
    let mut session = established(now);
    session.handle_bytes(&message::keepalive(), now + seconds(5));
    session.handle_timeout(now + seconds(13));
    assert_eq!(session.state(), State::Established);
    sent(&mut session);
    session.handle_timeout(now + seconds(14));
    assert_eq!(session.state(), State::Idle);
    assert_eq!(notification(&mut session), Some((4, 0, vec![])));
}

#[test]
fn a_peer_that_sends_no_open_is_left() {
    let now = Instant::now();
    let mut session = connected(now);
    session.handle_timeout(now + OPEN_WAIT);
    assert_eq!(notification(&mut session), Some((4, 0, vec![])));
}

#[test]
fn keepalives_are_sent_in_time_and_not_more_often() {
    let start = Instant::now();
    let mut session = established(start);
    let mut now = start;
    let mut keepalives = 0;
    while now < start + seconds(60) {
        session.handle_bytes(&message::keepalive(), now);
        let (at, timer) = session.poll_timeout().unwrap();
        assert_eq!(timer, Timer::Keepalive);
        assert!(at - now <= seconds(3));
        now = at;
        session.handle_timeout(now);
        keepalives += sent(&mut session).len();
    }
    assert!((20..=27).contains(&keepalives), "{keepalives}");
}

#[test]
fn without_hold_time_nothing_expires() {
    let now = Instant::now();
    let mut session = Session::new(
        Config {
            hold_time: seconds(0),
            ..config(65002, 65001)
        },
        1,
        now,
    );
    session.handle_connected(LOCAL, now);
    session.handle_bytes(&open(65001), now);
    session.handle_bytes(&message::keepalive(), now);
    assert_eq!(session.state(), State::Established);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn a_peer_that_stops_reading_is_left_after_twice_the_hold_time() {
    let now = Instant::now();
    let mut session = established(now);
    session.handle_blocked(now);
    session.handle_blocked(now + seconds(9));
    session.handle_bytes(&message::keepalive(), now + seconds(17));
    session.handle_timeout(now + seconds(18));
    assert_eq!(notification(&mut session), Some((8, 0, vec![])));

    let mut session = established(now);
    session.handle_blocked(now);
    session.handle_written();
    assert_ne!(session.poll_timeout().unwrap().1, Timer::SendHold);
}

#[test]
fn retries_back_off_with_jitter_to_half_a_minute() {
    let mut now = Instant::now();
    let mut session = Session::new(config(65002, 65001), 3, now);
    let mut delays = Vec::new();
    for _ in 0..8 {
        assert!(events(&mut session).contains(&Event::Dial));
        session.handle_disconnected(now);
        assert_eq!(session.state(), State::Active);
        let (at, timer) = session.poll_timeout().unwrap();
        assert_eq!(timer, Timer::ConnectRetry);
        delays.push(at - now);
        now = at;
        session.handle_timeout(now);
        assert_eq!(session.state(), State::Connect);
    }
    for (delay, base) in delays.iter().zip([5, 10, 20, 30, 30, 30, 30, 30]) {
        assert!(
            (seconds(base) * 3 / 4..=seconds(base)).contains(delay),
            "{delays:?}"
        );
    }
}

#[test]
fn a_connection_that_hangs_is_given_up_and_tried_again() {
    let now = Instant::now();
    let mut session = Session::new(config(65002, 65001), 3, now);
    events(&mut session);
    let (at, timer) = session.poll_timeout().unwrap();
    assert_eq!(timer, Timer::ConnectRetry);
    session.handle_timeout(at);
    let expected = [
        Event::Failed(Reason::ConnectTimeout),
        Event::Close { graceful: false },
        Event::Dial,
    ];
    assert_eq!(events(&mut session), expected);
}

#[test]
fn a_peer_that_rejects_capabilities_is_asked_once_without_them() {
    let mut now = Instant::now();
    let mut session = connected(now);
    let capabilities = |session: &mut Session| {
        Open::decode(&sent(session)[0][19..])
            .unwrap()
            .capabilities
            .len()
    };
    let mut counts = Vec::new();
    for _ in 0..3 {
        session.handle_bytes(&Notification::new(2, 4, Vec::new()).encode(), now);
        now = session.poll_timeout().unwrap().0;
        session.handle_timeout(now);
        session.handle_connected(LOCAL, now);
        counts.push(capabilities(&mut session));
    }
    assert_eq!(counts, [2, 8, 2]);
}

#[test]
fn a_drain_withdraws_everything_before_it_says_goodbye() {
    let now = Instant::now();
    let mut session = established(now);
    session.handle_routes(routes(2), false);
    sent(&mut session);
    let text = "node drain".to_owned();
    session.handle_stop(
        Stop::Cease {
            subcode: Cease::AdministrativeShutdown,
            text,
        },
        now,
    );
    let last = sent(&mut session);
    assert_eq!(last.len(), 2);
    assert_eq!(last[0][19..], [0, 10, 32, 0, 0, 0, 0, 32, 0, 0, 0, 1, 0, 0]);
    assert_eq!(last[1][19..], *b"\x06\x02\x0anode drain");
    assert!(events(&mut session).contains(&Event::Close { graceful: true }));
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn a_restart_says_nothing() {
    let now = Instant::now();
    let mut session = established(now);
    session.handle_routes(routes(2), false);
    session.handle_stop(Stop::Abandon, now);
    assert_eq!(sent(&mut session), Vec::<Bytes>::new());
    assert!(events(&mut session).contains(&Event::Close { graceful: false }));
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn received_routes_are_counted_and_forgotten() {
    let now = Instant::now();
    let mut peer = AdjOut::default();
    peer.begin(Format {
        my_asn: 65001,
        internal: false,
        four_octet_as: true,
        only_to_customer: false,
        enhanced_refresh: false,
        next_hops: BTreeMap::from([(Family::Ipv4Unicast, Some(LOCAL.into()))]),
    });
    peer.set_desired(routes(1000));
    let mut session = established(now);
    while let Some(message) = peer.poll() {
        session.handle_bytes(&message, now);
    }
    assert_eq!(session.state(), State::Established);
    assert_eq!(session.counters().received_refused, 1000);
}

#[test]
fn a_refresh_brings_the_routes_again() {
    let now = Instant::now();
    let mut session = established(now);
    session.handle_routes(routes(3), false);
    assert_eq!(sent(&mut session).len(), 1);
    session.handle_bytes(&refresh::encode(Family::Ipv4Unicast, Subtype::Request), now);
    let again = sent(&mut session);
    assert_eq!(again.len(), 3);
    // RFC 7313 §4.1.
    assert_eq!(
        again[0],
        refresh::encode(Family::Ipv4Unicast, Subtype::Begin)
    );
    assert_eq!(again[2], refresh::encode(Family::Ipv4Unicast, Subtype::End));
    session.handle_bytes(&refresh::encode(Family::Ipv6Unicast, Subtype::Request), now);
    assert_eq!(sent(&mut session).len(), 2);
}

#[test]
fn what_cannot_be_announced_is_said() {
    let now = Instant::now();
    let mut session = Session::new(
        Config {
            next_hops: BTreeMap::new(),
            ..config(65002, 65001)
        },
        1,
        now,
    );
    session.handle_connected(LOCAL, now);
    session.handle_bytes(&open(65001), now);
    assert_eq!(session.withheld().count(), 0);
    session.handle_bytes(&message::keepalive(), now);
    let withheld: Vec<_> = session.withheld().collect();
    assert_eq!(withheld, [(Family::Ipv6Unicast, Withheld::NoNextHop)]);
    session.handle_config(config(65002, 65001));
    assert_eq!(session.withheld().count(), 0);
    assert_eq!(session.state(), State::Established);
}

/// Two sessions joined by a pipe that splits and joins bytes as `cuts` says.
struct Pair {
    sides: [Session; 2],
    pipes: [Vec<u8>; 2],
    heard: [Framer; 2],
    held: [BTreeSet<IpNet>; 2],
}

impl Pair {
    fn new(now: Instant) -> Self {
        let mut second = config(65001, 65002);
        second.router_id = Ipv4Addr::new(10, 0, 0, 1);
        let mut sides = [
            Session::new(config(65002, 65001), 1, now),
            Session::new(second, 2, now),
        ];
        sides
            .iter_mut()
            .for_each(|side| side.handle_connected(LOCAL, now));
        Self {
            sides,
            pipes: Default::default(),
            heard: Default::default(),
            held: Default::default(),
        }
    }

    fn pump(&mut self, cuts: &mut impl Iterator<Item = usize>, now: Instant) {
        loop {
            let mut idle = true;
            for from in [0, 1] {
                while let Some(message) = self.sides[from].poll_transmit() {
                    self.pipes[from].extend_from_slice(&message);
                }
                let length = cuts
                    .next()
                    .unwrap_or(usize::MAX)
                    .clamp(1, self.pipes[from].len().max(1));
                let part: Vec<u8> = self.pipes[from]
                    .drain(..length.min(self.pipes[from].len()))
                    .collect();
                if !part.is_empty() {
                    idle = false;
                    self.sides[1 - from].handle_bytes(&part, now);
                    self.tap(from, &part);
                }
            }
            if idle {
                return;
            }
        }
    }

    // What the peer would hold if it imported routes.
    fn tap(&mut self, from: usize, part: &[u8]) {
        self.heard[from].extend(part);
        while let Some(frame) = self.heard[from].take().unwrap() {
            if frame.kind == MessageType::Update {
                let negotiated = self.sides[1 - from].negotiated().unwrap();
                let update = Received::decode(&frame.body, negotiated).unwrap();
                update
                    .withdrawn
                    .iter()
                    .for_each(|prefix| _ = self.held[from].remove(prefix));
                self.held[from].extend(update.announced);
            }
        }
    }
}

proptest! {
    #[test]
    fn two_sessions_converge_over_any_splitting_of_the_stream(
        cuts in prop::collection::vec(1_usize..200, 0..200),
        wishes in prop::collection::vec((any::<bool>(), 0_u32..1500), 1..6),
    ) {
        let now = Instant::now();
        let mut pair = Pair::new(now);
        let mut cuts = cuts.into_iter();
        let mut last = [0, 0];
        for (side, count) in wishes {
            pair.sides[usize::from(side)].handle_routes(routes(count), false);
            last[usize::from(side)] = count;
            pair.pump(&mut cuts, now);
        }
        for side in [0, 1] {
            prop_assert_eq!(pair.sides[side].state(), State::Established);
            let wished: BTreeSet<_> = routes(last[side]).into_keys().collect();
            prop_assert_eq!(&pair.held[side], &wished);
        }
    }

    #[test]
    fn any_inputs_leave_a_live_session(
        inputs in prop::collection::vec((0_u8..9, any::<u8>(), prop::collection::vec(any::<u8>(), 0..64)), 0..60),
    ) {
        let mut now = Instant::now();
        let mut session = Session::new(config(65002, 65001), 9, now);
        for (kind, octet, bytes) in inputs {
            match kind {
                0 => session.handle_connected(LOCAL, now),
                1 => session.handle_disconnected(now),
                2 => session.handle_bytes(&open(65001), now),
                3 => session.handle_bytes(&message::keepalive(), now),
                4 => session.handle_bytes(&bytes, now),
                5 => session.handle_bytes(&message::encode(MessageType::Update, &bytes), now),
                6 => session.handle_bytes(&message::encode(MessageType::Notification, &bytes), now),
                7 => session.handle_blocked(now),
                _ => {
                    now += Duration::from_millis(u64::from(octet) * 100);
                    session.handle_timeout(now);
                }
            }
            let messages = sent(&mut session);
            let notifications = messages.iter().filter(|message| message[18] == 3).count();
            prop_assert!(notifications <= 1);
            // A NOTIFICATION is the last message of its connection.
            prop_assert!(notifications == 0 || messages.last().is_some_and(|message| message[18] == 3));
            prop_assert!(events(&mut session).len() < 40);
            // A session that nobody stopped always has something to wait for.
            prop_assert!(session.poll_timeout().is_some());
            prop_assert!(session.poll_timeout().is_some_and(|(at, _)| at > now));
        }
    }
}
