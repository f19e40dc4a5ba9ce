//! Silence, loss and return of the peer.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use lb_userspace::model::intent::{RouteAttributes, SessionIntent};
use lb_userspace::model::session_status::SessionState;

use crate::lab::{EBGP, Lab, intent};

const HOLD_TIME: Duration = Duration::from_secs(3);

fn quick() -> SessionIntent {
    let mut intent = intent();
    intent.config.hold_time = HOLD_TIME;
    intent.routes.insert(
        "203.0.113.1/32".parse().unwrap(),
        RouteAttributes::default(),
    );
    intent
}

/// Lets nothing out of a namespace.
const DROP: &str =
    "table inet cut { chain out { type filter hook output priority 0; policy drop; }; }";

#[test]
fn both_sides_notice_silence_within_the_hold_time_and_recover() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let speaker = lab.establish(quick())?;
    lab.await_route_count("master4", 1)?;
    ensure!(speaker.status().hold_time == Some(3));

    let cut = Instant::now();
    lab.node.run(["nft", DROP])?;
    lab.tor.run(["nft", DROP])?;
    speaker.await_status("the end", |status| {
        status.state != SessionState::Established
    })?;
    let ours = cut.elapsed();
    speaker.await_error("hold timer expired")?;
    lab.await_route_count("master4", 0)?;
    let theirs = cut.elapsed();
    let limit = HOLD_TIME + Duration::from_secs(1);
    ensure!(
        ours <= limit && theirs <= limit,
        "we after {ours:?}, the router after {theirs:?}"
    );

    lab.node.run(["nft", "delete table inet cut"])?;
    lab.tor.run(["nft", "delete table inet cut"])?;
    speaker.await_state(SessionState::Established)?;
    lab.await_route_count("master4", 1)
}

#[test]
fn a_router_that_cannot_hear_us_ends_the_session_and_says_why() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let speaker = lab.establish(quick())?;
    lab.await_route_count("master4", 1)?;
    lab.node.run(["nft", DROP])?;
    // What the router sends last still reaches us: its NOTIFICATION, or the end of the stream.
    lab.await_route_count("master4", 0)?;
    speaker.await_status("an end", |status| status.state != SessionState::Established)?;
    lab.node.run(["nft", "delete table inet cut"])?;
    speaker.await_state(SessionState::Established)?;
    lab.await_route_count("master4", 1)
}

#[test]
fn a_session_comes_back_after_the_router_restarted() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let speaker = lab.establish(quick())?;
    lab.await_route_count("master4", 1)?;

    lab.stop_bird();
    speaker.await_error("connection refused; is BGP running there")?;
    lab.start_bird(EBGP)?;
    let status = speaker.await_state(SessionState::Established)?;
    ensure!(
        status
            .last_error
            .is_some_and(|error| error.contains("10.99.0.1:179"))
    );
    lab.await_route_count("master4", 1)
}

#[test]
fn a_speaker_that_starts_before_its_router_finds_it() -> Result<()> {
    let mut lab = Lab::new()?;
    let speaker = lab.speak(quick())?;
    speaker.await_error("connection refused")?;
    lab.start_bird(EBGP)?;
    speaker.await_state(SessionState::Established)?;
    lab.await_route_count("master4", 1)
}
