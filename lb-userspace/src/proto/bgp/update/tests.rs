//! UPDATE: golden bytes both ways, packing, and the verdicts of RFC 7606.

use std::net::Ipv4Addr;
use std::time::Duration;

use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

use super::*;
use crate::proto::bgp::attribute::Origin;

fn session(four_octet_as: bool, internal: bool) -> Negotiated {
    Negotiated {
        peer_asn: 65001,
        peer_router_id: Ipv4Addr::new(10, 0, 0, 1),
        internal,
        hold_time: Duration::from_secs(90),
        keepalive_time: Duration::from_secs(30),
        families: BTreeSet::from([Family::Ipv4Unicast, Family::Ipv6Unicast]),
        four_octet_as,
        extended_next_hop: true,
        extended_message: false,
        enhanced_refresh: false,
        restart: Default::default(),
        host_name: None,
        capabilities: BTreeSet::new(),
    }
}

fn path(next_hop: &str) -> Path {
    Path {
        origin: Origin::Igp,
        as_path: vec![65002],
        next_hop: next_hop.parse().unwrap(),
        link_local: None,
        med: None,
        local_pref: None,
        communities: BTreeSet::new(),
        extended_communities: BTreeSet::new(),
        large_communities: BTreeSet::new(),
        only_to_customer: None,
    }
}

fn prefixes(list: &[&str]) -> Vec<IpNet> {
    list.iter().map(|text| text.parse().unwrap()).collect()
}

fn decode(message: &[u8]) -> Result<Received, DecodeError> {
    Received::decode(&message[19..], &session(true, false))
}

/// The body of an UPDATE with these attributes and this NLRI.
fn body(attributes: &[&[u8]], nlri: &[u8]) -> Vec<u8> {
    update(&[], &attributes.concat(), nlri)[19..].to_vec()
}

fn judge(attributes: &[&[u8]]) -> Result<Verdict, DecodeError> {
    judge_on(&session(true, false), attributes)
}

fn judge_on(session: &Negotiated, attributes: &[&[u8]]) -> Result<Verdict, DecodeError> {
    Received::decode(&body(attributes, NLRI), session).map(|received| received.verdict)
}

const NLRI: &[u8] = &[32, 192, 0, 2, 1];
const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xe9];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 10, 0, 0, 1];
const LOCAL_PREF: &[u8] = &[0x40, 5, 4, 0, 0, 0, 100];

#[test]
fn golden_ipv4_announcement() {
    let mut path = path("10.0.0.2");
    path.communities = BTreeSet::from([0xfde9_0002, 0xfde9_0001]);
    path.large_communities = BTreeSet::from([(65002, 1, 2)]);
    let routes = prefixes(&["192.0.2.1/32", "198.51.100.0/24"]);
    let (message, count) = announce(&path, true, routes.iter()).unwrap();
    let golden = [
        &[0, 78, 2, 0, 0, 0, 46][..],
        ORIGIN,
        &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xea],
        &[0x40, 3, 4, 10, 0, 0, 2],
        &[0xc0, 8, 8, 0xfd, 0xe9, 0, 1, 0xfd, 0xe9, 0, 2],
        &[0xc0, 32, 12, 0, 0, 0xfd, 0xea, 0, 0, 0, 1, 0, 0, 0, 2],
        &[32, 192, 0, 2, 1, 24, 198, 51, 100],
    ]
    .concat();
    assert_eq!(count, 2);
    assert_eq!(message[16..], golden);

    let received = decode(&message).unwrap();
    assert_eq!(received.announced, routes);
    assert_eq!(received.path, Some(path));
    assert_eq!(received.verdict, Verdict::Accept);
}

#[test]
fn golden_ipv6_announcement_and_withdrawal() {
    let path = path("2001:db8::2");
    let routes = prefixes(&["2001:db8:1::1/128"]);
    let (message, _) = announce(&path, true, routes.iter()).unwrap();
    let next_hop = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    let nlri = [128, 0x20, 1, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let golden = [
        &[0, 77, 2, 0, 0, 0, 54][..],
        &[0x80, 14, 38, 0, 2, 1, 16],
        &next_hop,
        &[0],
        &nlri,
        ORIGIN,
        &[0x40, 2, 6, 2, 1, 0, 0, 0xfd, 0xea],
    ]
    .concat();
    assert_eq!(message[16..], golden);
    let received = decode(&message).unwrap();
    assert_eq!(
        (received.announced, received.path),
        (routes.clone(), Some(path))
    );

    let (message, _) = withdraw(Family::Ipv6Unicast, routes.iter()).unwrap();
    assert_eq!(
        message[16..],
        [&[0, 46, 2, 0, 0, 0, 23, 0x80, 15, 20, 0, 2, 1][..], &nlri].concat()
    );
    assert_eq!(decode(&message).unwrap().withdrawn, routes);
}

#[test]
fn golden_end_of_rib() {
    let v4 = end_of_rib(Family::Ipv4Unicast);
    assert_eq!(v4[16..], [0, 23, 2, 0, 0, 0, 0]);
    assert_eq!(decode(&v4).unwrap().end_of_rib, Some(Family::Ipv4Unicast));
    let v6 = end_of_rib(Family::Ipv6Unicast);
    assert_eq!(v6[16..], [0, 29, 2, 0, 0, 0, 6, 0x80, 15, 3, 0, 2, 1]);
    assert_eq!(decode(&v6).unwrap().end_of_rib, Some(Family::Ipv6Unicast));
}

#[test]
fn an_old_peer_gets_as_trans_and_the_truth_beside_it() {
    let mut path = path("10.0.0.2");
    path.as_path = vec![4_200_000_000];
    let routes = prefixes(&["192.0.2.1/32"]);
    let (message, _) = announce(&path, false, routes.iter()).unwrap();
    let narrow = [0x40, 2, 4, 2, 1, 0x5b, 0xa0];
    let truth = [0xc0, 17, 6, 2, 1, 0xfa, 0x56, 0xea, 0];
    let contains = |needle: &[u8]| message.windows(needle.len()).any(|window| window == needle);
    assert!(contains(&narrow) && contains(&truth));
    let received = Received::decode(&message[19..], &session(false, false)).unwrap();
    assert_eq!(received.path.unwrap().as_path, [23456]);

    path.as_path = vec![65002];
    let (message, _) = announce(&path, false, routes.iter()).unwrap();
    assert!(!message[23..].windows(2).any(|window| window == [0xc0, 17]));
}

#[test]
fn one_message_holds_what_the_limit_allows() {
    let v4: Vec<IpNet> = (0..2000_u32)
        .map(|n| IpNet::new(Ipv4Addr::from(n).into(), 32).unwrap())
        .collect();
    let (message, count) = announce(&path("10.0.0.2"), true, v4.iter()).unwrap();
    assert_eq!((message.len(), count), (4093, 810));
    let (message, count) = withdraw(Family::Ipv4Unicast, v4.iter()).unwrap();
    assert_eq!((message.len(), count), (4093, 814));

    let v6: Vec<IpNet> = (0..2000_u128)
        .map(|n| IpNet::new(Ipv6Addr::from(n).into(), 128).unwrap())
        .collect();
    let (message, count) = announce(&path("2001:db8::2"), true, v6.iter()).unwrap();
    assert!(message.len() <= 4096 && message.len() + 17 > 4096 && count == 237);
    assert_eq!(decode(&message).unwrap().announced, v6[..count]);

    let mut huge = path("10.0.0.2");
    huge.communities = (0..1100).collect();
    assert_eq!(announce(&huge, true, v4.iter()), None);
}

#[test]
fn lengths_that_contradict_each_other_end_the_session() {
    for body in [
        &[0, 1, 0, 0][..],
        &[0, 0, 0, 1],
        &[0, 0, 0],
        &[255, 255, 0, 0],
        &[0, 0, 255, 255, 1],
    ] {
        let received = Received::decode(body, &session(true, false));
        assert_eq!(received, Err(DecodeError::MalformedAttributeList));
    }
    for (withdrawn, nlri) in [
        (&[33, 1, 2, 3, 4, 5][..], &[][..]),
        (&[24, 1][..], &[]),
        (&[], &[33, 0, 0, 0, 0, 0]),
    ] {
        let received = Received::decode(&update(withdrawn, &[], nlri)[19..], &session(true, false));
        assert_eq!(received, Err(DecodeError::InvalidNetworkField));
    }
}

#[test]
fn a_well_formed_update_is_accepted_with_any_low_flag_bits() {
    assert_eq!(judge(&[ORIGIN, AS_PATH, NEXT_HOP]), Ok(Verdict::Accept));
    assert_eq!(
        judge(&[&[0x4f, 1, 0, 1, 0][..], AS_PATH, NEXT_HOP]),
        Ok(Verdict::TreatAsWithdraw)
    );
    assert_eq!(
        judge(&[&[0x48, 1, 1, 0], AS_PATH, NEXT_HOP]),
        Ok(Verdict::Accept)
    );
    assert_eq!(
        judge(&[&[0x58, 1, 0, 1, 0], AS_PATH, NEXT_HOP]),
        Ok(Verdict::Accept)
    );
    assert_eq!(
        judge_on(
            &session(true, true),
            &[ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF]
        ),
        Ok(Verdict::Accept)
    );
}

#[test]
fn a_missing_mandatory_attribute_withdraws() {
    let all = [ORIGIN, AS_PATH, NEXT_HOP];
    for missing in 0..3 {
        let some: Vec<_> = (0..3).filter(|n| *n != missing).map(|n| all[n]).collect();
        assert_eq!(
            judge(&some),
            Ok(Verdict::TreatAsWithdraw),
            "without {missing}"
        );
    }
    assert_eq!(judge(&[]), Ok(Verdict::TreatAsWithdraw));
    assert_eq!(
        judge_on(&session(true, true), &all),
        Ok(Verdict::TreatAsWithdraw)
    );
}

#[test]
fn malformed_attributes_withdraw_or_are_discarded_as_rfc_7606_says() {
    use Verdict::{Accept, DiscardAttribute, TreatAsWithdraw};
    let mandatory = |instead: &'static [u8]| {
        let others = [ORIGIN, AS_PATH, NEXT_HOP]
            .into_iter()
            .filter(|a| a[1] != instead[1]);
        others.chain([instead]).collect::<Vec<_>>()
    };
    // (attribute, on an external session, on an internal one)
    let cases: &[(&[u8], Verdict, Verdict)] = &[
        (&[0x40, 1, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0x40, 1, 2, 0, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0x40, 1, 1, 3], TreatAsWithdraw, TreatAsWithdraw),
        (&[0x00, 1, 1, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0x80, 1, 1, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0xc0, 1, 1, 0], TreatAsWithdraw, TreatAsWithdraw),
        (
            &[0x40, 2, 6, 1, 1, 0, 0, 0, 9],
            TreatAsWithdraw,
            TreatAsWithdraw,
        ),
        (
            &[0x40, 2, 6, 3, 1, 0, 0, 0, 9],
            TreatAsWithdraw,
            TreatAsWithdraw,
        ),
        (
            &[0x40, 2, 6, 9, 1, 0, 0, 0, 9],
            TreatAsWithdraw,
            TreatAsWithdraw,
        ),
        (&[0x40, 2, 2, 2, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0x40, 2, 1, 2], TreatAsWithdraw, TreatAsWithdraw),
        (
            &[0x40, 2, 6, 2, 2, 0, 0, 0, 9],
            TreatAsWithdraw,
            TreatAsWithdraw,
        ),
        (
            &[0x40, 2, 6, 2, 1, 0, 0, 0, 0],
            TreatAsWithdraw,
            TreatAsWithdraw,
        ),
        (&[0x40, 2, 0], Accept, Accept),
        (&[0x40, 3, 3, 10, 0, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0x40, 3, 4, 0, 0, 0, 1], TreatAsWithdraw, TreatAsWithdraw),
        (
            &[0x40, 3, 4, 127, 0, 0, 1],
            TreatAsWithdraw,
            TreatAsWithdraw,
        ),
        (
            &[0x40, 3, 4, 224, 0, 0, 1],
            TreatAsWithdraw,
            TreatAsWithdraw,
        ),
        (&[0x80, 4, 3, 0, 0, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0x80, 4, 4, 0, 0, 0, 1], Accept, Accept),
        (&[0x40, 5, 3, 0, 0, 0], DiscardAttribute, TreatAsWithdraw),
        (&[0x40, 6, 1, 0], DiscardAttribute, DiscardAttribute),
        (&[0x40, 6, 0], Accept, Accept),
        (
            &[0xc0, 7, 6, 0, 1, 10, 0, 0, 1],
            DiscardAttribute,
            DiscardAttribute,
        ),
        (&[0xc0, 7, 8, 0, 0, 0, 1, 10, 0, 0, 1], Accept, Accept),
        (&[0xc0, 8, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0xc0, 8, 3, 0, 0, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0x80, 9, 3, 0, 0, 0], DiscardAttribute, TreatAsWithdraw),
        (&[0x80, 10, 3, 0, 0, 0], DiscardAttribute, TreatAsWithdraw),
        (&[0xc0, 16, 0], TreatAsWithdraw, TreatAsWithdraw),
        (
            &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0],
            TreatAsWithdraw,
            TreatAsWithdraw,
        ),
        (
            &[0xc0, 17, 6, 2, 1, 0, 0, 0, 9],
            DiscardAttribute,
            DiscardAttribute,
        ),
        (
            &[
                0xc0, 25, 19, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            ],
            TreatAsWithdraw,
            TreatAsWithdraw,
        ),
        (&[0xc0, 32, 0], TreatAsWithdraw, TreatAsWithdraw),
        (&[0xc0, 32, 4, 0, 0, 0, 0], TreatAsWithdraw, TreatAsWithdraw),
    ];
    for &(attribute, external, internal) in cases {
        let attributes = mandatory(attribute);
        assert_eq!(
            judge(&attributes),
            Ok(external),
            "{attribute:02x?} external"
        );
        let with_preference: Vec<_> = attributes
            .into_iter()
            .chain((attribute[1] != 5).then_some(LOCAL_PREF))
            .collect();
        let verdict = judge_on(&session(true, true), &with_preference);
        assert_eq!(verdict, Ok(internal), "{attribute:02x?} internal");
    }
}

#[test]
fn an_attribute_that_overruns_withdraws_but_a_cut_mp_attribute_ends_the_session() {
    for cut in [
        &[0xc0, 8, 200, 1][..],
        &[0xc0],
        &[0xc0, 8],
        &[0xd0, 8, 1],
        &[0x80, 4, 4, 0, 0, 0],
    ] {
        assert_eq!(
            judge(&[ORIGIN, AS_PATH, NEXT_HOP, cut]),
            Ok(Verdict::TreatAsWithdraw),
            "{cut:02x?}"
        );
    }
    for cut in [&[0x80, 14][..], &[0x80, 14, 50, 0, 2], &[0x90, 15, 0]] {
        assert_eq!(
            judge(&[ORIGIN, cut]),
            Err(DecodeError::MalformedAttributeList),
            "{cut:02x?}"
        );
    }
}

#[test]
fn a_duplicate_keeps_the_first_but_a_duplicate_mp_attribute_ends_the_session() {
    let second: &[u8] = &[0x40, 1, 1, 2];
    let received = Received::decode(
        &body(&[ORIGIN, second, AS_PATH, NEXT_HOP], NLRI),
        &session(true, false),
    );
    let received = received.unwrap();
    assert_eq!(received.verdict, Verdict::DiscardAttribute);
    assert_eq!(received.path.unwrap().origin, Origin::Igp);
    for twice in [&[0x80, 15, 3, 0, 2, 1][..], &[0x80, 14, 5, 0, 9, 1, 0, 0]] {
        assert_eq!(
            judge(&[twice, twice]),
            Err(DecodeError::MalformedAttributeList)
        );
    }
}

#[test]
fn a_malformed_mp_attribute_ends_the_session_and_is_quoted() {
    let cases: [&[u8]; 8] = [
        &[0x80, 14, 0],
        &[0x80, 14, 3, 0, 2, 1],
        &[0x80, 14, 4, 0, 2, 1, 16],
        &[0x80, 14, 9, 0, 2, 1, 4, 10, 0, 0, 1, 0],
        &[0x80, 14, 6, 0, 1, 1, 1, 9, 0],
        &[0x80, 15, 2, 0, 2],
        &[0x80, 15, 4, 0, 2, 1, 129],
        &[0x80, 15, 5, 0, 2, 1, 24, 1],
    ];
    for attribute in cases {
        let error = DecodeError::OptionalAttributeError(attribute.to_vec());
        assert_eq!(judge(&[attribute]), Err(error), "{attribute:02x?}");
    }
}

#[test]
fn other_families_are_ignored_however_they_look() {
    for value in [
        &[0x80, 14, 5, 0, 25, 70, 99, 99][..],
        &[0x80, 15, 4, 0, 1, 128, 255],
    ] {
        assert_eq!(
            judge(&[ORIGIN, AS_PATH, NEXT_HOP, value]),
            Ok(Verdict::Accept)
        );
    }
    let only_v4 = Negotiated {
        families: BTreeSet::from([Family::Ipv4Unicast]),
        ..session(true, false)
    };
    let v6: &[u8] = &[0x80, 15, 4, 0, 2, 1, 255];
    assert_eq!(
        judge_on(&only_v4, &[ORIGIN, AS_PATH, NEXT_HOP, v6]),
        Ok(Verdict::Accept)
    );
}

#[test]
fn unknown_attributes_never_reset_unless_they_claim_to_be_well_known() {
    for kind in (0..=255_u8).filter(|kind| attribute::expected_flags(*kind).is_none()) {
        for length in [0, 1, 4, 200, 255_u8] {
            let unknown = [&[0xc0, kind, length][..], &vec![0; usize::from(length)]].concat();
            assert_eq!(
                judge(&[ORIGIN, AS_PATH, NEXT_HOP, &unknown]),
                Ok(Verdict::Accept),
                "type {kind}"
            );
        }
        let claim = vec![0x40, kind, 1, 7];
        let refused = Err(DecodeError::UnrecognizedWellKnownAttribute(claim.clone()));
        assert_eq!(judge(&[ORIGIN, AS_PATH, NEXT_HOP, &claim]), refused);
    }
}

#[test]
fn a_long_as_path_is_read() {
    let segment = [&[2, 255][..], &[0, 0, 0xfd, 0xe9].repeat(255)].concat();
    let value = segment.repeat(3);
    let [high, low] = u16::try_from(value.len()).unwrap().to_be_bytes();
    let long = [&[0x50, 2, high, low][..], &value].concat();
    assert_eq!(judge(&[ORIGIN, &long, NEXT_HOP]), Ok(Verdict::Accept));
}

fn any_path(next_hop: IpAddr) -> impl Strategy<Value = Path> {
    (
        prop_oneof![
            Just(Origin::Igp),
            Just(Origin::Egp),
            Just(Origin::Incomplete)
        ],
        vec(1_u32.., 0..300),
        any::<Option<u32>>(),
        any::<u32>(),
        btree_set(any::<u32>(), 0..80),
        btree_set(any::<(u32, u32, u32)>(), 0..40),
    )
        .prop_map(
            move |(origin, as_path, med, local_pref, communities, large_communities)| Path {
                origin,
                as_path,
                next_hop,
                link_local: Some(Ipv6Addr::LOCALHOST).filter(|_| next_hop.is_ipv6()),
                med,
                local_pref: Some(local_pref),
                communities,
                extended_communities: [attribute::link_bandwidth(65002, u64::from(local_pref))]
                    .into(),
                large_communities,
                only_to_customer: med,
            },
        )
}

proptest! {
    #[test]
    fn an_announcement_read_back_is_the_announcement(
        v4 in any_path([10, 0, 0, 2].into()),
        v6 in any_path("2001:db8::2".parse().unwrap()),
        routes in vec(any::<(u128, u8)>(), 1..300),
    ) {
        let session = session(true, true);
        let v4_routes: Vec<IpNet> = routes.iter().map(|&(bits, length)| {
            IpNet::new(Ipv4Addr::from((bits >> 96) as u32).into(), length % 33).unwrap().trunc()
        }).collect();
        let v6_routes: Vec<IpNet> = routes.iter().map(|&(bits, length)| {
            IpNet::new(Ipv6Addr::from(bits).into(), length % 129).unwrap().trunc()
        }).collect();
        for (path, routes) in [(v4, v4_routes), (v6, v6_routes)] {
            let (message, count) = announce(&path, true, routes.iter()).unwrap();
            prop_assert!(message.len() <= message::MAX_LENGTH);
            let received = Received::decode(&message[19..], &session).unwrap();
            prop_assert_eq!(received.announced, &routes[..count]);
            prop_assert_eq!(received.path, Some(path));
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        body in vec(any::<u8>(), 0..600),
        attributes in vec(any::<(u8, u8, Vec<u8>)>(), 0..8),
        four_octet_as: bool,
        internal: bool,
    ) {
        let session = session(four_octet_as, internal);
        let _ = Received::decode(&body, &session);
        let mut list = Vec::new();
        for (flags, kind, value) in attributes {
            attribute::put(&mut list, flags & 0xef, kind % 40, &value);
        }
        let _ = Received::decode(&update(&[], &list, NLRI)[19..], &session);
    }

    #[test]
    fn every_cut_of_a_valid_update_is_read_without_panic(cut in 0_usize..70) {
        let (message, _) = announce(&path("2001:db8::2"), true, prefixes(&["2001:db8:1::1/128"]).iter()).unwrap();
        let body = &message[19..];
        let _ = Received::decode(&body[..cut.min(body.len())], &session(true, false));
    }
}
