//! DelayOpen (RFC 4271 §8.1.1): the peer speaks first, if it does so in time.

use super::*;

/// A session whose connection is there and which waits for the peer's OPEN.
fn delayed(passive: bool, now: Instant) -> Session {
    let mut config = config(65002, 65001);
    config.options.delay_open = Some(seconds(7));
    config.options.passive = passive;
    let mut session = Session::new(config, 1, now);
    session.handle_connected(LOCAL, now);
    assert_eq!(session.poll_transmit(), None);
    assert_eq!(
        session.poll_timeout(),
        Some((now + seconds(7), Timer::DelayOpen))
    );
    session
}

fn kinds(session: &mut Session) -> Vec<u8> {
    sent(session).iter().map(|message| message[18]).collect()
}

#[test]
fn an_open_that_comes_in_time_is_answered_with_both_messages() {
    let now = Instant::now();
    for passive in [false, true] {
        let mut session = delayed(passive, now);
        let expected = if passive {
            State::Active
        } else {
            State::Connect
        };
        assert_eq!(session.state(), expected);
        session.handle_bytes(&open(65001), now + seconds(3));
        assert_eq!(session.state(), State::OpenConfirm);
        assert_eq!(kinds(&mut session), [1, 4]);
        session.handle_bytes(&message::keepalive(), now + seconds(3));
        assert_eq!(session.state(), State::Established);
    }
}

#[test]
fn a_peer_that_waits_too_gets_our_open_in_the_end() {
    let now = Instant::now();
    let mut session = delayed(false, now);
    session.handle_timeout(now + seconds(7));
    assert_eq!(session.state(), State::OpenSent);
    assert_eq!(kinds(&mut session), [1]);
    session.handle_bytes(&open(65001), now + seconds(8));
    assert_eq!(session.state(), State::OpenConfirm);
}

#[test]
fn what_is_wrong_before_our_open_closes_without_a_notification() {
    let now = Instant::now();
    for bytes in [
        vec![0; 19],
        open(65009).to_vec(),
        message::keepalive().to_vec(),
    ] {
        let mut session = delayed(false, now);
        session.handle_bytes(&bytes, now);
        assert_eq!(session.state(), State::Idle);
        assert_eq!(kinds(&mut session), [0; 0]);
        assert!(events(&mut session).contains(&Event::Close { graceful: false }));
    }
}

#[test]
fn a_lost_connection_is_tried_again_and_a_second_open_is_refused() {
    let now = Instant::now();
    let mut session = delayed(false, now);
    session.handle_disconnected(now);
    assert_eq!(session.state(), State::Active);
    assert_eq!(session.poll_timeout().unwrap().1, Timer::ConnectRetry);

    let mut session = delayed(false, now);
    session.handle_bytes(&[open(65001), open(65001)].concat(), now);
    assert_eq!(session.state(), State::Idle);
    assert_eq!(notification(&mut session), Some((5, 2, vec![])));
}

#[test]
fn a_newcomer_says_who_it_is_at_once() {
    let now = Instant::now();
    let mut config = config(65002, 65001);
    config.options.delay_open = Some(seconds(7));
    let newcomer = Session::accepted(config, Past::default(), 1, LOCAL, now);
    assert_eq!(newcomer.state(), State::OpenSent);
}
