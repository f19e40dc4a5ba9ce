//! Which session a packet is for, and how sessions come and go.

use std::collections::BTreeSet;
use std::num::NonZeroU8;

use super::*;
use crate::proto::bfd::packet::Diagnostic;
use crate::proto::bfd::session::Cause;

const MS: Duration = Duration::from_millis(1);

fn addr(last: u8) -> IpAddr {
    [192, 0, 2, last].into()
}

fn endpoint(last: u8, hops: Hops) -> Endpoint {
    Endpoint {
        remote: addr(last),
        interface: 0,
        local: None,
        hops,
    }
}

fn config(minimum_ttl: u8) -> Config {
    Config {
        desired_min_tx: MS * 50,
        required_min_rx: MS * 50,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        is_passive: false,
        minimum_ttl,
    }
}

fn speaker(endpoints: &[Endpoint], now: Instant) -> Speaker {
    let mut speaker = Speaker::new(1);
    let config_of = |endpoint: &Endpoint| match endpoint.hops {
        Hops::Single => config(255),
        Hops::Multiple => config(250),
    };
    let wanted = endpoints.iter().map(|e| (*e, config_of(e))).collect();
    speaker.handle_sessions(&wanted, now);
    speaker
}

fn arrival(last: u8, hops: Hops, ttl: u8) -> Arrival {
    Arrival {
        from: addr(last),
        to: addr(100),
        interface: 1,
        hops,
        ttl,
    }
}

fn said(speaker: &mut Speaker) -> BTreeMap<Endpoint, ControlPacket> {
    let sent = std::iter::from_fn(|| speaker.poll_transmit());
    sent.map(|transmit| {
        let packet = ControlPacket::decode(&transmit.payload).unwrap();
        (transmit.endpoint, packet)
    })
    .collect()
}

fn packet(state: State, yours: Option<Discriminator>) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::None,
        state,
        is_poll: false,
        is_final: false,
        is_control_plane_independent: false,
        wants_demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: Discriminator::new(99).unwrap(),
        your_discriminator: yours,
        desired_min_tx: MS * 50,
        required_min_rx: MS * 50,
        required_min_echo_rx: Duration::ZERO,
    }
}

fn state(speaker: &Speaker, endpoint: Endpoint) -> Option<State> {
    Some(speaker.session(&endpoint)?.state().0)
}

#[test]
fn the_first_packet_finds_its_session_by_address_the_next_by_discriminator() {
    let now = Instant::now();
    let ends = [endpoint(1, Hops::Single), endpoint(2, Hops::Single)];
    let mut speaker = speaker(&ends, now);
    let hello = said(&mut speaker);
    let numbers: BTreeSet<_> = hello.values().map(|p| p.my_discriminator).collect();
    assert_eq!(numbers.len(), 2);

    let near = arrival(2, Hops::Single, 255);
    speaker.handle_datagram(&near, &packet(State::Down, None).encode(), now);
    assert_eq!(state(&speaker, ends[0]), Some(State::Down));
    assert_eq!(state(&speaker, ends[1]), Some(State::Init));

    // RFC 5880 §6.3: the source does not matter any more.
    let ours = Some(hello[&ends[1]].my_discriminator);
    let elsewhere = arrival(3, Hops::Single, 255);
    speaker.handle_datagram(&elsewhere, &packet(State::Init, ours).encode(), now);
    assert_eq!(state(&speaker, ends[1]), Some(State::Up));
    let changes: Vec<_> = std::iter::from_fn(|| speaker.poll_change()).collect();
    assert!(
        changes
            .iter()
            .all(|(of, change)| *of == ends[1] && change.cause == Cause::Handshake)
    );
}

#[test]
fn what_is_for_nobody_or_comes_from_too_far_is_counted() {
    let now = Instant::now();
    let ends = [endpoint(1, Hops::Single), endpoint(2, Hops::Multiple)];
    let mut speaker = speaker(&ends, now);
    let hello = said(&mut speaker);
    let near = Some(hello[&ends[0]].my_discriminator);
    let stranger = Discriminator::new(!hello[&ends[0]].my_discriminator.get());
    let cases = [
        (
            arrival(1, Hops::Single, 254),
            packet(State::Down, None),
            Discard::Ttl,
        ),
        (
            arrival(2, Hops::Multiple, 249),
            packet(State::Down, None),
            Discard::Ttl,
        ),
        (
            arrival(1, Hops::Multiple, 255),
            packet(State::Down, None),
            Discard::UnknownPeer,
        ),
        (
            arrival(7, Hops::Single, 255),
            packet(State::Down, None),
            Discard::UnknownPeer,
        ),
        (
            arrival(1, Hops::Single, 255),
            packet(State::Up, stranger),
            Discard::UnknownDiscriminator,
        ),
        (
            arrival(1, Hops::Multiple, 255),
            packet(State::Down, near),
            Discard::Hops,
        ),
    ];
    for (arrival, packet, reason) in cases {
        let before = speaker.discards().of(reason);
        speaker.handle_datagram(&arrival, &packet.encode(), now);
        assert_eq!(speaker.discards().of(reason), before + 1, "{reason:?}");
        assert_eq!(state(&speaker, ends[0]), Some(State::Down));
        assert_eq!(state(&speaker, ends[1]), Some(State::Down));
    }
    assert_eq!(speaker.low_ttl(&ends[1]), Some(249));
    speaker.handle_datagram(
        &arrival(2, Hops::Multiple, 250),
        &packet(State::Down, None).encode(),
        now,
    );
    assert_eq!(state(&speaker, ends[1]), Some(State::Init));
    assert_eq!(speaker.low_ttl(&ends[1]), None);
}

#[test]
fn sessions_with_one_peer_from_two_addresses_are_two() {
    let now = Instant::now();
    let ends = [100, 101].map(|last| Endpoint {
        local: Some(addr(last)),
        ..endpoint(1, Hops::Single)
    });
    let mut speaker = speaker(&ends, now);
    let from = Arrival {
        to: addr(101),
        ..arrival(1, Hops::Single, 255)
    };
    speaker.handle_datagram(&from, &packet(State::Down, None).encode(), now);
    assert_eq!(state(&speaker, ends[0]), Some(State::Down));
    assert_eq!(state(&speaker, ends[1]), Some(State::Init));
}

#[test]
fn one_link_local_address_on_two_links_is_two_peers() {
    let now = Instant::now();
    let remote: IpAddr = "fe80::1".parse().unwrap();
    let ends = [1, 2].map(|interface| Endpoint {
        remote,
        interface,
        ..endpoint(1, Hops::Single)
    });
    let mut speaker = speaker(&ends, now);
    let from = Arrival {
        from: remote,
        interface: 2,
        ..arrival(1, Hops::Single, 255)
    };
    speaker.handle_datagram(&from, &packet(State::Down, None).encode(), now);
    assert_eq!(state(&speaker, ends[0]), Some(State::Down));
    assert_eq!(state(&speaker, ends[1]), Some(State::Init));
}

fn bring_up(speaker: &mut Speaker, end: Endpoint, now: Instant) -> Discriminator {
    let ours = said(speaker)[&end].my_discriminator;
    let from = arrival(1, Hops::Single, 255);
    for state in [State::Down, State::Init] {
        speaker.handle_datagram(&from, &packet(state, Some(ours)).encode(), now);
    }
    assert_eq!(state(speaker, end), Some(State::Up));
    said(speaker);
    ours
}

#[test]
fn a_session_that_is_not_wanted_any_more_says_so_until_the_peer_knows() {
    let now = Instant::now();
    let end = endpoint(1, Hops::Single);
    let mut speaker = speaker(&[end], now);
    let ours = bring_up(&mut speaker, end, now);

    speaker.handle_sessions(&BTreeMap::new(), now);
    assert_eq!(state(&speaker, end), None);
    let farewell = said(&mut speaker)[&end];
    assert_eq!(farewell.state, State::AdminDown);
    assert_eq!(farewell.diagnostic, Diagnostic::AdministrativelyDown);
    speaker.handle_timeout(now);
    assert_eq!(speaker.endpoints().count(), 1);

    let from = arrival(1, Hops::Single, 255);
    speaker.handle_datagram(&from, &packet(State::Down, Some(ours)).encode(), now);
    speaker.handle_timeout(now);
    assert_eq!(speaker.endpoints().count(), 0);
    assert_eq!(speaker.poll_timeout(), None);
}

#[test]
fn a_peer_that_never_answers_the_farewell_is_told_for_its_detection_time() {
    let now = Instant::now();
    let end = endpoint(1, Hops::Single);
    let mut speaker = speaker(&[end], now);
    let ours = bring_up(&mut speaker, end, now);
    speaker.handle_sessions(&BTreeMap::new(), now);
    let from = arrival(1, Hops::Single, 255);
    let later = now + MS * 149;
    speaker.handle_datagram(&from, &packet(State::Up, Some(ours)).encode(), later);
    speaker.handle_timeout(later);
    assert_eq!(speaker.endpoints().count(), 1);
    speaker.handle_timeout(now + MS * 150);
    assert_eq!(speaker.endpoints().count(), 0);
}

#[test]
fn a_session_wanted_again_begins_anew_with_another_discriminator() {
    let now = Instant::now();
    let end = endpoint(1, Hops::Single);
    let mut speaker = speaker(&[end], now);
    let ours = bring_up(&mut speaker, end, now);
    speaker.handle_sessions(&BTreeMap::new(), now);
    speaker.handle_sessions(&BTreeMap::from([(end, config(255))]), now);
    assert_eq!(speaker.endpoints().count(), 1);
    assert_eq!(state(&speaker, end), Some(State::Down));
    assert_ne!(said(&mut speaker)[&end].my_discriminator, ours);
}

#[test]
fn other_parameters_leave_the_session_up() {
    let now = Instant::now();
    let end = endpoint(1, Hops::Single);
    let mut speaker = speaker(&[end], now);
    bring_up(&mut speaker, end, now);
    let slower = Config {
        desired_min_tx: MS * 300,
        ..config(255)
    };
    speaker.handle_sessions(&BTreeMap::from([(end, slower)]), now);
    assert_eq!(state(&speaker, end), Some(State::Up));
    let poll = said(&mut speaker)[&end];
    assert!(poll.is_poll && poll.desired_min_tx == MS * 300);
}
