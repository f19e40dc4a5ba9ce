//! What is tried with every make of router.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Result, ensure};
use harness::peer::speaker::LIMIT;
use harness::peer::{Make, NeighborConfig, Route};
use harness::wait;
use ipnet::IpNet;
use lb_userspace::model::cluster::{Community, Family};
use lb_userspace::model::password::Password;
use lb_userspace::model::session_status::SessionState;
use lb_userspace::tasks::bgp::Stop;

use crate::bench::{NODE_ASN, Seat, with_defaults};

/// Families of the routes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Families {
    V4,
    V6,
    Both,
}

impl Families {
    /// A fixed word.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::V4 => "v4",
            Self::V6 => "v6",
            Self::Both => "both",
        }
    }

    pub(crate) fn set(self) -> BTreeSet<Family> {
        match self {
            Self::V4 => BTreeSet::from([Family::V4]),
            Self::V6 => BTreeSet::from([Family::V6]),
            Self::Both => BTreeSet::from([Family::V4, Family::V6]),
        }
    }
}

/// What a session runs over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Over {
    /// IPv4 on a shared link.
    V4,
    /// IPv6 on a shared link.
    V6,
    /// IPv4 with a router between.
    Hops,
}

/// Something to try.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    /// What it shows.
    pub(crate) about: &'static str,
    pub(crate) families: &'static [Families],
    pub(crate) over: Over,
    /// What its neighbour has that others have not.
    pub(crate) set: fn(&mut NeighborConfig),
    pub(crate) run: fn(&mut Seat<'_>) -> Result<()>,
}

const EACH: &[Families] = &[Families::V4, Families::V6, Families::Both];
const BOTH: &[Families] = &[Families::Both];
const V4: &[Families] = &[Families::V4];
const PASSWORD: &str = "s3cret";
/// Routes of a large cell, half of them of each family.
const MANY: u32 = 10_000;

const PLAIN: Case = Case {
    name: "",
    about: "",
    families: BOTH,
    over: Over::V4,
    set: |_| {},
    run: routes_arrive,
};

const fn internal(neighbor: &mut NeighborConfig) {
    neighbor.asn = neighbor.local_asn;
}

fn with_password(neighbor: &mut NeighborConfig) {
    neighbor.password = Some(PASSWORD.to_owned());
}

/// Every case; those that disturb the router come last.
pub(crate) const ALL: &[Case] = &[
    Case {
        name: "ebgp",
        about: "an external session, next hops and AS paths as sent",
        families: EACH,
        ..PLAIN
    },
    Case {
        name: "ebgp-over-v6",
        about: "the same over IPv6",
        families: EACH,
        over: Over::V6,
        ..PLAIN
    },
    Case {
        name: "ibgp",
        about: "an internal session: no AS path, LOCAL_PREF 100",
        families: EACH,
        set: internal,
        ..PLAIN
    },
    Case {
        name: "ibgp-over-v6",
        about: "the same over IPv6",
        families: EACH,
        over: Over::V6,
        set: internal,
        ..PLAIN
    },
    Case {
        name: "multihop",
        about: "an external session through a router; without `multihop` it does not come up",
        over: Over::Hops,
        run: hops_need_multihop,
        ..PLAIN
    },
    Case {
        name: "wide-asn",
        about: "AS numbers above 65,535 on both sides (RFC 6793)",
        set: |neighbor| {
            neighbor.local_asn = 4_200_000_001;
            neighbor.asn = 4_200_000_002;
        },
        ..PLAIN
    },
    Case {
        name: "two-octet-peer",
        about: "a router that knows AS numbers of two octets only sees the whole one all the same",
        families: V4,
        set: |neighbor| {
            neighbor.wide_asn = false;
            neighbor.asn = 4_200_000_002;
        },
        run: old_peer_gets_routes,
        ..PLAIN
    },
    Case {
        name: "md5",
        about: "TCP MD5 with the right password (RFC 2385)",
        set: with_password,
        ..PLAIN
    },
    Case {
        name: "md5-over-v6",
        about: "the same over IPv6",
        over: Over::V6,
        set: with_password,
        ..PLAIN
    },
    Case {
        name: "md5-wrong",
        about: "another password never connects, and the speaker hints at it",
        set: with_password,
        run: |seat| never_connects(seat, Some("guess")),
        ..PLAIN
    },
    Case {
        name: "md5-missing",
        about: "no password never connects",
        set: with_password,
        run: |seat| never_connects(seat, None),
        ..PLAIN
    },
    Case {
        name: "communities",
        about: "communities, well-known ones too, as sent (RFC 1997)",
        run: |seat| {
            seat_has_communities(
                seat,
                &[
                    Community::Standard(NODE_ASN << 16 | 7),
                    // NO_EXPORT.
                    Community::Standard(0xffff_ff01),
                ],
            )
        },
        ..PLAIN
    },
    Case {
        name: "large-communities",
        about: "large communities as sent (RFC 8092)",
        run: |seat| {
            seat_has_communities(
                seat,
                &[
                    Community::Large(NODE_ASN, 1, 2),
                    Community::Large(4_200_000_000, 3, 4),
                ],
            )
        },
        ..PLAIN
    },
    Case {
        name: "local-pref",
        about: "LOCAL_PREF as configured on an internal session",
        set: internal,
        run: local_pref_is_seen,
        ..PLAIN
    },
    Case {
        name: "change",
        about: "another attribute replaces a route under the same session",
        run: routes_change,
        ..PLAIN
    },
    Case {
        name: "withdraw",
        about: "a route goes, the other stays, under the same session",
        run: routes_go,
        ..PLAIN
    },
    Case {
        name: "refresh",
        about: "the router asks for the routes again and gets them (RFC 2918)",
        run: refresh_is_answered,
        ..PLAIN
    },
    Case {
        name: "ten-thousand",
        about: "10,000 routes come and go",
        run: many_come_and_go,
        ..PLAIN
    },
    Case {
        name: "refused",
        about: "what the router announces is counted, refused, and no reason to reset",
        set: |neighbor| neighbor.is_told = true,
        run: what_is_told_is_refused,
        ..PLAIN
    },
    Case {
        name: "dialled-by-both",
        about: "a router that connects as well does not disturb the session",
        set: |neighbor| neighbor.dials = true,
        run: routes_arrive,
        ..PLAIN
    },
    Case {
        name: "password-change",
        about: "another password ends the session, the right one brings it back",
        set: with_password,
        run: password_changes,
        ..PLAIN
    },
    Case {
        name: "hold-time",
        about: "both sides notice silence within the hold time of three seconds, and recover",
        set: |neighbor| neighbor.hold_time = 3,
        run: silence_is_noticed,
        ..PLAIN
    },
    Case {
        name: "drain",
        about: "a drain withdraws and ends the session with a NOTIFICATION",
        run: drain_withdraws,
        ..PLAIN
    },
    Case {
        name: "peer-restart",
        about: "the session and the routes come back after the router restarted",
        run: router_comes_back,
        ..PLAIN
    },
];

impl Case {
    /// Whether a make has the switches that the case needs.
    pub(crate) fn exists(&self, make: Make) -> bool {
        // GoBGP has none to hide that it knows four octets, and reads its own table instead of asking again.
        !(make == Make::GoBgp && ["two-octet-peer", "refresh"].contains(&self.name))
    }

    /// What a make lacks.
    pub(crate) const fn lacks(&self, _make: Make) -> Option<&'static str> {
        None
    }
}

fn prefixes(seat: &Seat<'_>, family: Family, count: u8) -> Vec<IpNet> {
    (1..=count)
        .map(|number| seat.prefix(family, number))
        .collect()
}

/// One route of each family is there as it was sent, and none of another family.
fn routes_arrive(seat: &mut Seat<'_>) -> Result<()> {
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

fn hops_need_multihop(seat: &mut Seat<'_>) -> Result<()> {
    let mut near = seat.intent();
    near.config.multihop = false;
    let speaker = seat.speak(near)?;
    speaker.await_error("cannot connect")?;
    ensure!(!seat.session()?.is_established);
    speaker.change(|intent| intent.config.multihop = true);
    seat.await_up(&speaker)
}

fn old_peer_gets_routes(seat: &mut Seat<'_>) -> Result<()> {
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

fn never_connects(seat: &mut Seat<'_>, password: Option<&str>) -> Result<()> {
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

fn seat_has_communities(seat: &mut Seat<'_>, communities: &[Community]) -> Result<()> {
    let communities: BTreeSet<_> = communities.iter().copied().collect();
    let mut intent = seat.intent();
    for attributes in intent.routes.values_mut() {
        attributes.communities.clone_from(&communities);
    }
    let _speaker = seat.establish(intent)?;
    for family in seat.families() {
        let prefix = seat.prefix(family, 1);
        seat.await_route(prefix, |route| route.communities == communities)?;
    }
    Ok(())
}

fn local_pref_is_seen(seat: &mut Seat<'_>) -> Result<()> {
    let mut intent = seat.intent();
    for attributes in intent.routes.values_mut() {
        attributes.local_pref = Some(250);
    }
    let _speaker = seat.establish(intent)?;
    for family in seat.families() {
        let prefix = seat.prefix(family, 1);
        seat.await_route(prefix, |route| route.local_pref == Some(250))?;
    }
    Ok(())
}

fn routes_change(seat: &mut Seat<'_>) -> Result<()> {
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

fn routes_go(seat: &mut Seat<'_>) -> Result<()> {
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

fn refresh_is_answered(seat: &mut Seat<'_>) -> Result<()> {
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

fn many_come_and_go(seat: &mut Seat<'_>) -> Result<()> {
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

fn what_is_told_is_refused(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    let since = speaker.status().since;
    let _feeder = seat.feed(&many(MANY))?;
    let status = speaker.await_status("refused routes", |status| {
        status.received_refused >= u64::from(MANY)
    })?;
    ensure!(
        status.since == since && status.notifications_sent == 0,
        "{status:?}"
    );
    seat.await_counts(1)
}

fn password_changes(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    speaker.change(|intent| intent.config.password = Some(Password::new("another")));
    speaker.await_status("an end", |status| status.state != SessionState::Established)?;
    speaker.await_error("no answer")?;
    speaker.change(|intent| intent.config.password = Some(Password::new(PASSWORD)));
    seat.await_up(&speaker)
}

fn silence_is_noticed(seat: &mut Seat<'_>) -> Result<()> {
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

fn drain_withdraws(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    speaker.stop(Stop::Drain("node drain: maintenance-42".to_owned()));
    seat.await_counts(0)?;
    seat.await_router(false).map(drop)
}

fn router_comes_back(seat: &mut Seat<'_>) -> Result<()> {
    let speaker = seat.establish(seat.intent())?;
    seat.await_counts(1)?;
    seat.stop_router();
    speaker.await_status("an end", |status| status.state != SessionState::Established)?;
    seat.start_router()?;
    seat.await_up(&speaker)
}
