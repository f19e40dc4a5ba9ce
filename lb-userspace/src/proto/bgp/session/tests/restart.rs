//! What a session says when it ends and when it comes back.

use super::*;
use crate::proto::bgp::capability::Capability;
use crate::proto::bgp::retention::{GracefulRestart, Retention};

fn kept(restart_time: u64) -> Config {
    let mut config = config(65002, 65001);
    config.options.retention = Some(Retention {
        restart_time: seconds(restart_time),
        stale_time: Duration::ZERO,
    });
    config
}

/// A helper's OPEN, with the N bit or without.
fn helper(notification: bool) -> Bytes {
    let mut open = Config {
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        ..config(65001, 65002)
    }
    .open(false, Past::default());
    let helps = GracefulRestart {
        notification,
        ..GracefulRestart::default()
    };
    open.capabilities.push(Capability::GracefulRestart(helps));
    open.encode()
}

fn up(config: Config, open: &[u8], now: Instant) -> Session {
    let mut session = Session::new(config, 1, now);
    session.handle_connected(LOCAL, now);
    session.handle_routes(routes(2), false);
    session.handle_bytes(open, now);
    session.handle_bytes(&message::keepalive(), now);
    assert_eq!(session.state(), State::Established);
    sent(&mut session);
    events(&mut session);
    session
}

fn said(session: &mut Session) -> GracefulRestart {
    let open = Open::decode(&sent(session)[0][19..]).unwrap();
    open.graceful_restart().unwrap().clone()
}

#[test]
fn a_restarted_speaker_says_so_until_its_routes_are_told() {
    let now = Instant::now();
    let mut session = Session::new(kept(120), 1, now);
    let past = Past {
        restarted: true,
        forwarding: true,
    };
    session.handle_restart(past, now + seconds(120));
    session.handle_connected(LOCAL, now);
    let restart = said(&mut session);
    assert!(restart.restarted && restart.families.iter().all(|family| family.forwarding));

    session.handle_routes(routes(2), true);
    session.handle_bytes(&helper(true), now);
    session.handle_bytes(&message::keepalive(), now);
    sent(&mut session);
    assert!(session.past(now).restarted, "routes are missing yet");
    session.handle_routes(routes(2), false);
    assert_eq!(sent(&mut session).len(), 2, "End-of-RIB of both families");
    assert!(!session.past(now).restarted);

    session.handle_disconnected(now);
    let now = session.poll_timeout().unwrap().0;
    session.handle_timeout(now);
    session.handle_connected(LOCAL, now);
    let again = said(&mut session);
    assert!(!again.restarted && again.families.iter().all(|family| family.forwarding));
}

#[test]
fn a_restart_is_over_when_its_time_is() {
    let now = Instant::now();
    let mut session = Session::new(kept(10), 1, now);
    let past = Past {
        restarted: true,
        forwarding: false,
    };
    session.handle_restart(past, now + seconds(10));
    session.handle_connected(LOCAL, now + seconds(10));
    let restart = said(&mut session);
    assert!(!restart.restarted && restart.families.iter().all(|family| !family.forwarding));
}

#[test]
fn a_drain_is_a_hard_reset_where_the_peer_would_keep_routes_after_a_notification() {
    let now = Instant::now();
    for (notification, expected) in [(true, (6, 9)), (false, (6, 2))] {
        let mut session = up(kept(120), &helper(notification), now);
        let stop = Stop::Cease {
            subcode: Cease::AdministrativeShutdown,
            text: "bye".to_owned(),
        };
        session.handle_stop(stop, now);
        let messages = sent(&mut session);
        assert_eq!(messages[0][18], 2, "withdrawn first");
        let last = Notification::decode(&messages.last().unwrap()[19..]).unwrap();
        assert_eq!((last.code, last.subcode), expected);
        assert_eq!(last.meant().shutdown_text().unwrap(), "bye");
    }
}

#[test]
fn a_reset_keeps_the_routes_where_it_can() {
    let now = Instant::now();
    // A peer that keeps routes after a NOTIFICATION is told one, others hear nothing.
    for (notification, messages) in [(true, 1), (false, 0)] {
        let mut session = up(kept(120), &helper(notification), now);
        session.handle_stop(Stop::Reset, now);
        assert_eq!(sent(&mut session).len(), messages);
        assert_eq!(session.state(), State::Idle);
    }
    let mut session = up(config(65002, 65001), &helper(true), now);
    session.handle_stop(Stop::Reset, now);
    let told = notification(&mut session).map(|(code, subcode, _)| (code, subcode));
    assert_eq!(told, Some((6, 6)));
}
