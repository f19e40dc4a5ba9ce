//! Pairs of OPENs and what they agree on.

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
        options: Options::default(),
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
    Negotiated::new(config, &config.open(false, Past::default()), theirs)
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
    assert_eq!(v4.open(true, Past::default()).capabilities, []);
    assert_eq!(config().open(true, Past::default()).capabilities.len(), 2);
    let wide = Config {
        my_asn: 70000,
        ..v4
    };
    assert_eq!(
        wide.open(true, Past::default()).capabilities,
        [Capability::FourOctetAs(70000)]
    );
    assert_eq!(wide.open(true, Past::default()).my_as, 23456);
}

fn kept() -> Config {
    let options = Options {
        retention: Some(Retention {
            restart_time: Duration::from_secs(120),
            stale_time: Duration::from_secs(300),
        }),
        ..Options::default()
    };
    Config {
        options,
        ..config()
    }
}

fn with(capability: Capability) -> Open {
    let mut open = peer(65001);
    open.capabilities.push(capability);
    open
}

#[test]
fn routes_are_kept_only_where_we_ask_for_it_and_the_peer_knows_how() {
    let helper = || {
        let helps = GracefulRestart {
            notification: true,
            ..GracefulRestart::default()
        };
        with(Capability::GracefulRestart(helps))
    };
    let agreed = negotiate(&kept(), &helper()).unwrap().restart;
    assert!(agreed.keeps && agreed.keeps_on_notification && !agreed.keeps_stale);
    assert!(!negotiate(&config(), &helper()).unwrap().restart.keeps);
    assert!(!negotiate(&kept(), &peer(65001)).unwrap().restart.keeps);

    let mut last_resort = kept();
    last_resort.options.retention = Some(Retention {
        restart_time: Duration::ZERO,
        stale_time: Duration::from_secs(300),
    });
    assert!(!negotiate(&last_resort, &helper()).unwrap().restart.keeps);
    let mut both = helper();
    both.capabilities
        .push(Capability::LongLivedGracefulRestart(Vec::new()));
    assert!(negotiate(&last_resort, &both).unwrap().restart.keeps);
}

#[test]
fn an_open_tells_of_a_restart_only_where_one_was() {
    let restart = |past| {
        kept()
            .open(false, past)
            .graceful_restart()
            .cloned()
            .unwrap()
    };
    let first = restart(Past::default());
    assert!(!first.restarted && first.families.iter().all(|family| !family.forwarding));
    let again = restart(Past {
        restarted: true,
        forwarding: true,
    });
    assert!(again.restarted && again.families.iter().all(|family| family.forwarding));
    assert_eq!((again.restart_time, again.families.len()), (120, 2));
    let helper = config().open(false, Past::default());
    assert_eq!(helper.graceful_restart(), Some(&GracefulRestart::default()));
}

#[test]
fn roles_must_go_together_where_both_sides_say_one() {
    let mut customer = config();
    customer.options.role = Some(Role::Customer);
    assert!(negotiate(&customer, &peer(65001)).is_ok());
    assert!(negotiate(&customer, &with(Capability::Role(Role::Provider))).is_ok());
    let refused = negotiate(&customer, &with(Capability::Role(Role::Peer)));
    assert!(matches!(refused, Err(DecodeError::RoleMismatch { .. })));
    assert!(negotiate(&config(), &with(Capability::Role(Role::Peer))).is_ok());
    let mut two = with(Capability::Role(Role::Provider));
    two.capabilities.push(Capability::Role(Role::Peer));
    assert!(negotiate(&customer, &two).is_err());
}
