//! What the cases do.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use harness::peer::speaker::LIMIT;
use harness::peer::{Make, Route};
use harness::wait;
use ipnet::IpNet;
use lb_userspace::model::cluster::{Community, Family};
use lb_userspace::model::intent::{RouteAttributes, SessionConfig};
use lb_userspace::model::password::Password;
use lb_userspace::model::peer_options::Connect;
use lb_userspace::model::session_status::SessionState;
use lb_userspace::tasks::bgp::Stop;

use super::PASSWORD;
use crate::bench::{NODE_ASN, Seat, with_defaults};

/// The community of RFC 8326.
const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;
/// Routes of a large cell, half of them of each family; fewer where each takes a command.
const MANY: u32 = 10_000;
const FEWER: u32 = 2_000;

fn prefixes(seat: &Seat<'_>, family: Family, count: u8) -> Vec<IpNet> {
    (1..=count)
        .map(|number| seat.prefix(family, number))
        .collect()
}

/// One route of each family is there as it was sent, and none of another family.
pub(super) fn routes_arrive(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    let neighbor = seat.neighbor();
    let is_internal = neighbor.asn == neighbor.local_asn;
    for family in seat.families() {
        let prefix = seat.prefix(family, 1);
        let routes = seat.await_routes(family, &[prefix])?;
        let mut expected = Route {
            next_hop: Some(seat.next_hop(family)),
            as_path: vec![neighbor.asn],
            ..routes[&prefix].clone()
        };
        if is_internal {
            expected.as_path = Vec::new();
            expected.local_pref = Some(100);
        }
        ensure!(
            routes[&prefix] == expected,
            "{:?} instead of {expected:?}",
            routes[&prefix]
        );
        ensure!(expected.med.is_none() && expected.communities.is_empty());
    }
    let session = seat.session()?;
    ensure!(session.is_established, "{session:?}");
    let status = speaker.status();
    ensure!(
        status.notifications_sent + status.notifications_received == 0,
        "{status:?}"
    );
    ensure!(status.peer_asn == Some(neighbor.local_asn), "{status:?}");
    ensure!(
        status.families.len() == neighbor.families.len(),
        "{status:?}"
    );
    Ok(())
}

/// A session stays down while `spoil` counts.
pub(super) fn comes_up_only_with(seat: &mut Seat<'_>, spoil: fn(&mut SessionConfig)) -> Result<()> {
    let right = seat.intent();
    let mut wrong = right.clone();
    spoil(&mut wrong.config);
    let speaker = seat.speak(wrong)?;
    speaker.await_error("cannot connect")?;
    ensure!(!seat.session()?.is_established);
    speaker.change(|intent| *intent = right);
    seat.await_up(&speaker)
}

pub(super) fn old_peer_gets_routes(seat: &mut Seat<'_>) -> Result<()> {
    let wide = seat.neighbor().asn;
    let _speaker = seat.establish(seat.intent())?;
    // AS_PATH says 23456; who knows AS4_PATH merges it in (RFC 6793 §4.2.3).
    let prefix = seat.prefix(Family::V4, 1);
    let route = seat.await_route(prefix, |_| true)?;
    ensure!(
        [vec![wide], vec![23456]].contains(&route.as_path),
        "{route:?}"
    );
    Ok(())
}

pub(super) fn never_connects(seat: &mut Seat<'_>, password: Option<&str>) -> Result<()> {
    let mut intent = seat.intent();
    intent.config.password = password.map(Password::new);
    let speaker = seat.speak(intent)?;
    let status = speaker.await_error("no answer")?;
    let hint = status.last_error.as_ref();
    ensure!(
        password.is_none() || hint.is_some_and(|it| it.contains("with the same password")),
        "{status:?}"
    );
    ensure!(status.state != SessionState::Established, "{status:?}");
    ensure!(!seat.session()?.is_established);
    Ok(())
}

/// Routes with attributes that `set` gives arrive as `wanted` says of our AS and a route.
pub(super) fn attributes_are_seen(
    seat: &mut Seat<'_>,
    set: impl Fn(&mut RouteAttributes),
    wanted: impl Fn(u32, &Route) -> bool,
) -> Result<()> {
    let mut intent = seat.intent();
    intent.routes.values_mut().for_each(set);
    let _speaker = seat.establish(intent)?;
    let ours = seat.neighbor().asn;
    for family in seat.families() {
        let prefix = seat.prefix(family, 1);
        seat.await_route(prefix, |route| wanted(ours, route))?;
    }
    Ok(())
}

pub(super) fn communities_are_seen(seat: &mut Seat<'_>, communities: &[Community]) -> Result<()> {
    let communities: BTreeSet<_> = communities.iter().copied().collect();
    let set = |attributes: &mut RouteAttributes| attributes.communities.clone_from(&communities);
    attributes_are_seen(seat, set, |_, route| route.communities == communities)
}

pub(super) fn routes_change(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    let since = speaker.status().since;
    let tag = Community::Standard(NODE_ASN << 16 | 9);
    speaker.change(|intent| {
        for attributes in intent.routes.values_mut() {
            attributes.communities.insert(tag);
        }
    });
    for family in seat.families() {
        let prefix = seat.prefix(family, 1);
        seat.await_route(prefix, |route| route.communities.contains(&tag))?;
    }
    ensure!(speaker.status().since == since);
    Ok(())
}

pub(super) fn routes_go(seat: &mut Seat<'_>) -> Result<()> {
    let mut intent = seat.intent();
    for family in seat.families() {
        intent
            .routes
            .extend(with_defaults(&prefixes(seat, family, 2)));
    }
    let speaker = seat.establish(intent)?;
    seat.await_counts(2)?;
    let since = speaker.status().since;
    let gone: Vec<_> = seat
        .families()
        .into_iter()
        .map(|family| seat.prefix(family, 1))
        .collect();
    speaker.change(|intent| intent.routes.retain(|prefix, _| !gone.contains(prefix)));
    for family in seat.families() {
        seat.await_routes(family, &[seat.prefix(family, 2)])?;
    }
    let status = speaker.status();
    ensure!(
        status.since == since && status.notifications_sent == 0,
        "{status:?}"
    );
    Ok(())
}

pub(super) fn refresh_is_answered(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    let before = seat.session()?.updates;
    seat.refresh()?;
    wait::until("the routes again", LIMIT, || {
        let session = seat.session()?;
        // A router that removes what is no longer there needs both families to come again.
        ensure!(
            session.updates >= before + 2,
            "{session:?}, {before} before"
        );
        Ok(())
    })?;
    seat.await_counts(1)?;
    ensure!(speaker.status().notifications_received == 0);
    Ok(())
}

/// So many routes in all, half of each family.
fn many(count: u32) -> Vec<IpNet> {
    let mut prefixes = Vec::new();
    for number in 0..count / 2 {
        let v4 = IpAddr::V4((0x6440_0000 + number).into());
        let v6 = IpAddr::V6(((0x2001_0db8_ffff_u128 << 80) + u128::from(number)).into());
        prefixes.extend([IpNet::from(v4), IpNet::from(v6)]);
    }
    prefixes
}

pub(super) fn many_come_and_go(seat: &mut Seat<'_>) -> Result<()> {
    let mut intent = seat.intent();
    intent.routes = with_defaults(&many(MANY));
    let speaker = seat.establish(intent)?;
    let half = usize::try_from(MANY / 2)?;
    seat.await_counts(half)?;
    speaker.change(|intent| intent.routes.clear());
    seat.await_counts(0)?;
    ensure!(speaker.status().state == SessionState::Established);
    Ok(())
}

pub(super) fn what_is_told_is_refused(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    let since = speaker.status().since;
    let count = if seat.make() == Make::ExaBgp {
        FEWER
    } else {
        MANY
    };
    let _feeder = seat.feed(&many(count))?;
    let status = speaker.await_status("refused routes", |status| {
        status.received_refused >= u64::from(count)
    })?;
    ensure!(
        status.since == since && status.notifications_sent == 0,
        "{status:?}"
    );
    seat.await_counts(1)
}

pub(super) fn waits_for_the_router(seat: &mut Seat<'_>, connect: Connect) -> Result<()> {
    let mut intent = seat.intent();
    intent.config.options.connect = connect;
    let speaker = seat.speak(intent)?;
    seat.dial()?;
    seat.await_up(&speaker)?;
    let since = speaker.status().since;
    // Neither side has second thoughts.
    let again = seat.session()?;
    let status = speaker.status();
    ensure!(
        again.is_established && status.since == since,
        "{again:?} {status:?}"
    );
    Ok(())
}

pub(super) fn speaks_second(seat: &mut Seat<'_>, connect: Connect) -> Result<()> {
    // Longer than a router takes to speak, and shorter than it waits.
    const DELAY: Duration = Duration::from_secs(3);
    let mut intent = seat.intent();
    intent.config.options.connect = connect;
    intent.config.options.delay_open = Some(DELAY);
    let speaker = seat.speak(intent)?;
    if connect == Connect::Passive {
        seat.dial()?;
    }
    seat.await_up(&speaker)
}

pub(super) fn routes_stay_over_a_restart(seat: &mut Seat<'_>) -> Result<()> {
    let mut first = seat.intent();
    for family in seat.families() {
        first
            .routes
            .extend(with_defaults(&prefixes(seat, family, 2)));
    }
    let speaker = seat.establish(first)?;
    seat.await_counts(2)?;
    ensure!(speaker.status().peer_keeps_routes, "{:?}", speaker.status());
    speaker.stop(Stop::Restart);
    seat.await_router(false)?;
    let kept = |seat: &Seat<'_>, family| -> Result<()> {
        let routes = seat.routes(family)?;
        ensure!(routes.contains_key(&seat.prefix(family, 1)), "{routes:?}");
        Ok(())
    };
    for family in seat.families() {
        kept(seat, family)?;
    }

    // Of the two routes it announces one.
    let speaker = seat.speak_again(seat.intent())?;
    wait::until("the session", LIMIT, || {
        for family in seat.families() {
            kept(seat, family)?;
        }
        ensure!(speaker.status().state == SessionState::Established);
        Ok(())
    })?;
    for family in seat.families() {
        seat.await_routes(family, &[seat.prefix(family, 1)])?;
    }
    Ok(())
}

pub(super) fn routes_go_gently(seat: &mut Seat<'_>) -> Result<()> {
    let mut intent = seat.intent();
    intent.config.options.drain_wait = Some(Duration::from_secs(3));
    let speaker = seat.establish(intent)?;
    seat.await_counts(1)?;
    let since = speaker.status().since;
    speaker.change(|intent| intent.is_draining = true);
    for family in seat.families() {
        let prefix = seat.prefix(family, 1);
        let mark = Community::Standard(GRACEFUL_SHUTDOWN);
        seat.await_route(prefix, |route| route.communities.contains(&mark))?;
    }
    seat.await_counts(0)?;
    ensure!(speaker.status().since == since && seat.session()?.is_established);
    Ok(())
}

pub(super) fn password_changes(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    speaker.change(|intent| intent.config.password = Some(Password::new("another")));
    speaker.await_status("an end", |status| status.state != SessionState::Established)?;
    speaker.await_error("no answer")?;
    speaker.change(|intent| intent.config.password = Some(Password::new(PASSWORD)));
    seat.await_up(&speaker)
}

pub(super) fn silence_is_noticed(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    ensure!(speaker.status().hold_time == Some(3));
    seat.cut()?;
    let noticed = speaker
        .await_error("hold timer expired")
        .and_then(|_| seat.await_router(false))
        .and_then(|_| seat.await_counts(0));
    seat.mend()?;
    noticed?;
    seat.await_up(&speaker)
}

pub(super) fn drain_withdraws(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    speaker.stop(Stop::Drain("node drain: maintenance-42".to_owned()));
    seat.await_counts(0)?;
    seat.await_router(false).map(drop)
}

pub(super) fn router_comes_back(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    seat.stop_router();
    speaker.await_status("an end", |status| status.state != SessionState::Established)?;
    seat.start_router()?;
    seat.await_up(&speaker)
}
