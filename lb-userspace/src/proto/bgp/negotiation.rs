//! What two OPENs agree on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::capability::Capability;
use super::error::DecodeError;
use super::nlri::Family;
use super::open::Open;

/// The AS that the peer must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpectedAs {
    /// This one.
    Number(u32),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

impl fmt::Display for ExpectedAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(asn) => write!(f, "AS {asn}"),
            Self::Internal => f.write_str("our own AS (internal)"),
            Self::External => f.write_str("any AS but our own (external)"),
        }
    }
}

/// Parameters of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Our AS.
    pub my_asn: u32,
    /// The peer's AS.
    pub peer_asn: ExpectedAs,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Hold time to propose, in whole seconds; zero for none.
    pub hold_time: Duration,
    /// Longest keepalive interval; absent means a third of the negotiated hold time.
    pub keepalive_time: Option<Duration>,
    /// Time between attempts to connect, before back-off.
    pub connect_time: Duration,
    /// Families to offer.
    pub families: BTreeSet<Family>,
    /// Next hop for a family other than the transport's.
    pub next_hops: BTreeMap<Family, IpAddr>,
}

impl Config {
    /// Whether going over to `other` takes another OPEN, and so another session. Times do not: they count from
    /// the next session on.
    pub fn needs_new_open(&self, other: &Self) -> bool {
        (self.my_asn, self.peer_asn, self.router_id, &self.families)
            != (
                other.my_asn,
                other.peer_asn,
                other.router_id,
                &other.families,
            )
    }

    /// Our OPEN. `minimal` leaves out the capabilities that the session can do without, for a peer that
    /// rejects what it does not know.
    pub fn open(&self, minimal: bool) -> Open {
        let is_plain = self.families.iter().eq([&Family::Ipv4Unicast]);
        let mut capabilities = Vec::new();
        if !(minimal && is_plain) {
            capabilities.extend(self.families.iter().copied().map(multiprotocol));
        }
        if !minimal {
            capabilities.push(Capability::RouteRefresh);
        }
        if !minimal || self.my_asn > u32::from(u16::MAX) {
            capabilities.push(Capability::FourOctetAs(self.my_asn));
        }
        Open {
            my_as: Open::narrow_asn(self.my_asn),
            hold_time: u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX),
            router_id: self.router_id,
            capabilities,
        }
    }
}

const fn multiprotocol(family: Family) -> Capability {
    let (afi, safi) = family.to_wire();
    Capability::Multiprotocol { afi, safi }
}

/// What both sides agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// The peer's AS.
    pub peer_asn: u32,
    /// The peer's BGP identifier.
    pub peer_router_id: Ipv4Addr,
    /// The session is internal (iBGP).
    pub internal: bool,
    /// The smaller hold time; zero for none.
    pub hold_time: Duration,
    /// Interval between our KEEPALIVEs; zero for none.
    pub keepalive_time: Duration,
    /// Families that both offered.
    pub families: BTreeSet<Family>,
    /// AS numbers in UPDATEs have four octets.
    pub four_octet_as: bool,
}

impl Negotiated {
    /// Judges the peer's OPEN against the configuration and our own OPEN.
    ///
    /// # Errors
    /// The peer is not the one configured, or shares no family with us.
    pub fn new(config: &Config, ours: &Open, theirs: &Open) -> Result<Self, DecodeError> {
        let peer_asn = theirs.asn();
        let internal = peer_asn == config.my_asn;
        let is_expected = match config.peer_asn {
            ExpectedAs::Number(expected) => peer_asn == expected,
            ExpectedAs::Internal => internal,
            ExpectedAs::External => !internal,
        };
        // RFC 7607: AS 0 is nobody's.
        if !is_expected || peer_asn == 0 || theirs.my_as == 0 {
            return Err(DecodeError::BadPeerAs {
                actual: peer_asn,
                expected: config.peer_asn.to_string(),
            });
        }
        // RFC 6286 §2.2: between external peers equal identifiers are legal.
        if internal && theirs.router_id == config.router_id {
            return Err(DecodeError::BadBgpIdentifier(theirs.router_id));
        }
        let families: BTreeSet<_> = ours
            .families()
            .intersection(&theirs.families())
            .copied()
            .collect();
        if families.is_empty() {
            let mut missing = Vec::new();
            config
                .families
                .iter()
                .for_each(|&family| multiprotocol(family).encode(&mut missing));
            return Err(DecodeError::UnsupportedCapability { missing });
        }
        let hold_time = Duration::from_secs(ours.hold_time.min(theirs.hold_time).into());
        Ok(Self {
            peer_asn,
            peer_router_id: theirs.router_id,
            internal,
            hold_time,
            keepalive_time: keepalive_time(hold_time, config.keepalive_time),
            families,
            four_octet_as: ours.has_four_octet_as() && theirs.has_four_octet_as(),
        })
    }
}

// RFC 4271 §4.4: a third of the hold time, and never more than one a second.
fn keepalive_time(hold_time: Duration, configured: Option<Duration>) -> Duration {
    if hold_time.is_zero() {
        return Duration::ZERO;
    }
    let third = hold_time / 3;
    configured
        .map_or(third, |time| time.min(third))
        .max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config {
            my_asn: 65002,
            peer_asn: ExpectedAs::Number(65001),
            router_id: Ipv4Addr::new(10, 0, 0, 2),
            hold_time: Duration::from_secs(90),
            keepalive_time: None,
            connect_time: Duration::from_secs(5),
            families: BTreeSet::from([Family::Ipv4Unicast, Family::Ipv6Unicast]),
            next_hops: BTreeMap::new(),
        }
    }

    fn peer(asn: u32) -> Open {
        Open {
            my_as: Open::narrow_asn(asn),
            hold_time: 9,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            capabilities: vec![
                multiprotocol(Family::Ipv6Unicast),
                Capability::RouteRefresh,
                Capability::FourOctetAs(asn),
            ],
        }
    }

    fn negotiate(config: &Config, theirs: &Open) -> Result<Negotiated, DecodeError> {
        Negotiated::new(config, &config.open(false), theirs)
    }

    #[test]
    fn the_smaller_hold_time_and_the_common_families_win() {
        let agreed = negotiate(&config(), &peer(65001)).unwrap();
        assert_eq!(agreed.hold_time, Duration::from_secs(9));
        assert_eq!(agreed.keepalive_time, Duration::from_secs(3));
        assert_eq!(agreed.families, BTreeSet::from([Family::Ipv6Unicast]));
        assert!(agreed.four_octet_as && !agreed.internal);
    }

    #[test]
    fn keepalives_follow_the_hold_time_and_the_configuration() {
        let seconds = Duration::from_secs;
        assert_eq!(keepalive_time(seconds(0), Some(seconds(1))), seconds(0));
        assert_eq!(keepalive_time(seconds(3), None), seconds(1));
        assert_eq!(keepalive_time(seconds(90), Some(seconds(10))), seconds(10));
        assert_eq!(keepalive_time(seconds(9), Some(seconds(60))), seconds(3));
        assert_eq!(
            keepalive_time(seconds(4), Some(Duration::from_millis(10))),
            seconds(1)
        );
    }

    #[test]
    fn the_peer_must_be_of_the_expected_as() {
        let with = |peer_asn| Config {
            peer_asn,
            ..config()
        };
        let actual = |config: &Config, asn| {
            negotiate(
                config,
                &Open {
                    router_id: [1, 1, 1, 1].into(),
                    ..peer(asn)
                },
            )
        };
        assert!(actual(&with(ExpectedAs::External), 4_200_000_000).is_ok());
        assert!(actual(&with(ExpectedAs::Internal), 65002).unwrap().internal);
        for (expected, asn) in [
            (ExpectedAs::Number(65001), 65009),
            (ExpectedAs::External, 65002),
            (ExpectedAs::Internal, 65001),
            (ExpectedAs::External, 0),
        ] {
            assert!(matches!(
                actual(&with(expected), asn),
                Err(DecodeError::BadPeerAs { .. })
            ));
        }
        let zero_field = Open {
            my_as: 0,
            ..peer(65001)
        };
        assert!(matches!(
            negotiate(&config(), &zero_field),
            Err(DecodeError::BadPeerAs { .. })
        ));
    }

    #[test]
    fn router_ids_may_be_equal_only_between_external_peers() {
        let same = |asn| Open {
            router_id: config().router_id,
            ..peer(asn)
        };
        assert!(negotiate(&config(), &same(65001)).is_ok());
        let internal = Config {
            peer_asn: ExpectedAs::Internal,
            ..config()
        };
        let refused = negotiate(&internal, &same(65002));
        assert_eq!(
            refused,
            Err(DecodeError::BadBgpIdentifier(config().router_id))
        );
    }

    #[test]
    fn no_common_family_names_the_missing_capabilities() {
        let only_v6 = Config {
            families: BTreeSet::from([Family::Ipv6Unicast]),
            ..config()
        };
        let old = Open {
            capabilities: Vec::new(),
            ..peer(65001)
        };
        let refused = negotiate(&only_v6, &old);
        assert_eq!(
            refused,
            Err(DecodeError::UnsupportedCapability {
                missing: vec![1, 4, 0, 2, 0, 1]
            })
        );
    }

    #[test]
    fn a_minimal_open_keeps_only_what_the_session_needs() {
        let v4 = Config {
            families: BTreeSet::from([Family::Ipv4Unicast]),
            ..config()
        };
        assert_eq!(v4.open(true).capabilities, []);
        assert_eq!(config().open(true).capabilities.len(), 2);
        let wide = Config {
            my_asn: 70000,
            ..v4
        };
        assert_eq!(
            wide.open(true).capabilities,
            [Capability::FourOctetAs(70000)]
        );
        assert_eq!(wide.open(true).my_as, 23456);
    }
}
