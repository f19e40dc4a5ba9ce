//! What is tried with every make of router.

use std::collections::BTreeSet;

use anyhow::Result;
use harness::peer::{Make, NeighborConfig, Reach};
use lb_userspace::model::cluster::{Community, Family};
use lb_userspace::model::intent::RouteAttributes;
use lb_userspace::model::peer_options::Connect;

use self::steps::{
    attributes_are_seen, comes_up_only_with, communities_are_seen, drain_withdraws,
    many_come_and_go, never_connects, old_peer_gets_routes, password_changes, refresh_is_answered,
    router_comes_back, routes_arrive, routes_change, routes_go, routes_go_gently,
    routes_stay_over_a_restart, silence_is_noticed, speaks_second, waits_for_the_router,
    what_is_told_is_refused,
};
use crate::bench::{NODE_ASN, Seat};

mod steps;

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
pub(crate) const PASSWORD: &str = "s3cret";

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
        run: |seat| comes_up_only_with(seat, |config| config.multihop = false),
        ..PLAIN
    },
    Case {
        name: "gtsm",
        about: "both sides drop packets with a TTL below 255 (RFC 5082)",
        set: |neighbor| neighbor.reach = Reach::Proven,
        ..PLAIN
    },
    Case {
        name: "gtsm-over-v6",
        about: "the same over IPv6",
        over: Over::V6,
        set: |neighbor| neighbor.reach = Reach::Proven,
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
            communities_are_seen(
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
            communities_are_seen(
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
        run: |seat| {
            let set = |attributes: &mut RouteAttributes| attributes.local_pref = Some(250);
            attributes_are_seen(seat, set, |_, route| route.local_pref == Some(250))
        },
        ..PLAIN
    },
    Case {
        name: "med",
        about: "MULTI_EXIT_DISC as configured",
        run: |seat| {
            let set = |attributes: &mut RouteAttributes| attributes.med = Some(50);
            attributes_are_seen(seat, set, |_, route| route.med == Some(50))
        },
        ..PLAIN
    },
    Case {
        name: "prepend",
        about: "our AS three times in the AS path",
        run: |seat| {
            let set = |attributes: &mut RouteAttributes| attributes.prepend = 2;
            attributes_are_seen(seat, set, |ours, route| route.as_path == [ours; 3])
        },
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
        name: "passive",
        about: "the router connects to a speaker that only waits",
        set: |neighbor| neighbor.dials = true,
        run: |seat| waits_for_the_router(seat, Connect::Passive),
        ..PLAIN
    },
    Case {
        name: "passive-over-v6",
        about: "the same over IPv6",
        over: Over::V6,
        set: |neighbor| neighbor.dials = true,
        run: |seat| waits_for_the_router(seat, Connect::Passive),
        ..PLAIN
    },
    Case {
        name: "passive-md5",
        about: "the same with a password on the listening socket",
        set: |neighbor| {
            neighbor.dials = true;
            with_password(neighbor);
        },
        run: |seat| waits_for_the_router(seat, Connect::Passive),
        ..PLAIN
    },
    Case {
        name: "simultaneous-open",
        about: "both connect and both listen; one connection is left, and routes go over it",
        set: |neighbor| neighbor.dials = true,
        run: |seat| waits_for_the_router(seat, Connect::Both),
        ..PLAIN
    },
    Case {
        name: "delay-open",
        about: "the speaker waits for the router's OPEN before it sends its own (RFC 4271)",
        run: |seat| speaks_second(seat, Connect::Active),
        ..PLAIN
    },
    Case {
        name: "passive-delay-open",
        about: "the same on a connection that the router made",
        set: |neighbor| neighbor.dials = true,
        run: |seat| speaks_second(seat, Connect::Passive),
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
        name: "graceful-restart",
        about: "the router keeps the routes of an agent that restarts, until End-of-RIB says which are gone (RFC 4724)",
        set: |neighbor| neighbor.helps_restart = true,
        run: routes_stay_over_a_restart,
        ..PLAIN
    },
    Case {
        name: "graceful-shutdown",
        about: "a node that drains marks its routes first (RFC 8326), then withdraws them; the session stays",
        run: routes_go_gently,
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
        match (make, self.name) {
            // It cannot hide that it knows four octets, and goes through its own table instead of asking again.
            (Make::GoBgp, "two-octet-peer" | "refresh") => false,
            // It sets the TTL of IPv4 only.
            (Make::ExaBgp, "gtsm-over-v6") => false,
            _ => true,
        }
    }

    /// What a make lacks.
    pub(crate) fn lacks(&self, make: Make) -> Option<&'static str> {
        (make == Make::ExaBgp && self.name == "graceful-restart")
            .then_some("ExaBGP is an injector: it has no table to keep routes in")
    }
}
