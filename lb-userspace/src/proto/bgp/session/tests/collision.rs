//! Two connections with one peer: one stays, and both sides choose the same.

use super::*;
use crate::proto::bgp::collision::{Outcome, resolve};

fn side(asn: u32, peer: u32, router_id: u8) -> Config {
    Config {
        router_id: Ipv4Addr::new(10, 0, 0, router_id),
        ..config(asn, peer)
    }
}

fn newcomer(config: Config, open: &[u8], now: Instant) -> Session {
    let mut session = Session::accepted(config, Past::default(), 2, LOCAL, now);
    assert_eq!(session.state(), State::OpenSent);
    assert_eq!(resolve(&connected(now), &session, now), None);
    session.handle_bytes(open, now);
    assert_eq!(session.state(), State::OpenConfirm);
    session
}

#[test]
fn the_higher_identifier_keeps_the_connection_it_made() {
    let now = Instant::now();
    for (ours, theirs, ours_stays) in [(2, 1, true), (1, 2, false)] {
        let (left, right) = (side(65002, 65001, ours), side(65001, 65002, theirs));
        // Each dials; each sees the other's connection as the newcomer.
        let judge = |mine: &Config, other: &Config| {
            let mut dialed = Session::new(mine.clone(), 1, now);
            dialed.handle_connected(LOCAL, now);
            let open = other.open(false, Past::default()).encode();
            resolve(&dialed, &newcomer(mine.clone(), &open, now), now).unwrap()
        };
        let expected = |stays| {
            if stays {
                Outcome::KeepPresent
            } else {
                Outcome::KeepNewcomer
            }
        };
        assert_eq!(judge(&left, &right), expected(ours_stays));
        assert_eq!(judge(&right, &left), expected(!ours_stays));
        // Equal identifiers: the AS decides.
        let same = side(65001, 65002, ours);
        assert_eq!(judge(&left, &same), Outcome::KeepPresent);
        assert_eq!(judge(&same, &left), Outcome::KeepNewcomer);
    }
}

#[test]
fn an_established_session_gives_way_only_to_a_peer_that_restarted() {
    let now = Instant::now();
    let present = established(now);
    let newcomer = newcomer(config(65002, 65001), &open(65001), now);
    // Both dialed at once: the peer has not forgotten what it has just brought up.
    assert_eq!(
        resolve(&present, &newcomer, now),
        Some(Outcome::KeepPresent)
    );
    let later = now + seconds(30);
    assert_eq!(resolve(&present, &newcomer, later), Some(Outcome::Replace));

    let mut old = connected(now);
    let plain = Config {
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        ..config(65001, 65002)
    };
    old.handle_bytes(&plain.open(true, Past::default()).encode(), now);
    old.handle_bytes(&message::keepalive(), now);
    assert_eq!(old.state(), State::Established);
    assert_eq!(resolve(&old, &newcomer, later), Some(Outcome::KeepPresent));
}

#[test]
fn a_session_goes_on_with_the_newcomers_connection() {
    let now = Instant::now();
    let mut session = established(now);
    session.handle_routes(routes(3), false);
    sent(&mut session);

    // What came behind the OPEN is not lost, and not looked at before it is decided.
    let hello = [open(65001), message::keepalive()].concat();
    let mut newcomer = newcomer(config(65002, 65001), &hello, now);
    assert_eq!(sent(&mut newcomer).len(), 2, "OPEN and KEEPALIVE");
    session.handle_stop(Stop::Abandon, now);
    session.take_over(newcomer, now);
    assert_eq!(session.state(), State::Established);
    let states: Vec<_> = events(&mut session)
        .into_iter()
        .filter(|event| matches!(event, Event::StateChanged(_)))
        .collect();
    let changed = Event::StateChanged;
    let expected = [State::Idle, State::OpenConfirm, State::Established].map(changed);
    assert_eq!(states, expected);
    let messages = sent(&mut session);
    assert_eq!(messages.len(), 3, "the routes again, and End-of-RIB twice");
    assert_eq!(session.adj_out().sent().len(), 3);
}

proptest! {
    #[test]
    fn any_bytes_to_a_newcomer_disturb_nothing(
        parts in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20),
    ) {
        let now = Instant::now();
        let present = established(now);
        let mut newcomer = Session::accepted(config(65002, 65001), Past::default(), 3, LOCAL, now);
        for (is_open, bytes) in parts {
            let bytes = if is_open { open(65001).to_vec() } else { bytes };
            newcomer.handle_bytes(&bytes, now);
            prop_assert!(newcomer.state() <= State::OpenConfirm);
            sent(&mut newcomer);
            events(&mut newcomer);
            let _ = resolve(&present, &newcomer, now);
        }
        prop_assert_eq!(present.state(), State::Established);
    }
}
