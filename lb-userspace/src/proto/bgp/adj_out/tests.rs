//! Adj-RIB-Out as the peer sees it.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::proto::bgp::negotiation::{Negotiated, Restart};
use crate::proto::bgp::update::Received;

/// What a peer holds after the messages it was sent.
#[derive(Debug, Default, PartialEq)]
struct Peer {
    routes: BTreeMap<IpNet, Path>,
    complete: Vec<Family>,
    messages: usize,
}

impl Peer {
    fn read(&mut self, adj_out: &mut AdjOut) {
        while let Some(message) = adj_out.poll() {
            self.messages += 1;
            let update = Received::decode(&message[19..], &session()).unwrap();
            update
                .withdrawn
                .iter()
                .for_each(|prefix| _ = self.routes.remove(prefix));
            for prefix in update.announced {
                self.routes.insert(prefix, update.path.clone().unwrap());
            }
            self.complete.extend(update.end_of_rib);
        }
    }
}

fn session() -> Negotiated {
    Negotiated {
        peer_asn: 65001,
        peer_router_id: [10, 0, 0, 1].into(),
        internal: false,
        hold_time: Duration::ZERO,
        keepalive_time: Duration::ZERO,
        families: BTreeSet::from([Family::Ipv4Unicast, Family::Ipv6Unicast]),
        four_octet_as: true,
        extended_next_hop: true,
        extended_message: false,
        enhanced_refresh: true,
        restart: Restart::default(),
        host_name: None,
        capabilities: BTreeSet::new(),
    }
}

fn hop(addr: &str) -> Option<NextHop> {
    Some(addr.parse::<IpAddr>().unwrap().into())
}

fn format() -> Format {
    Format {
        my_asn: 65002,
        internal: false,
        four_octet_as: true,
        only_to_customer: false,
        enhanced_refresh: false,
        next_hops: BTreeMap::from([
            (Family::Ipv4Unicast, hop("10.0.0.2")),
            (Family::Ipv6Unicast, hop("2001:db8::2")),
        ]),
    }
}

fn routes(list: &[(&str, u32)]) -> Routes {
    let route = |(prefix, community): &(&str, u32)| {
        let communities = BTreeSet::from([*community]);
        (
            prefix.parse().unwrap(),
            Arc::new(Attributes {
                communities,
                ..Attributes::default()
            }),
        )
    };
    list.iter().map(route).collect()
}

#[test]
fn the_initial_routes_end_with_end_of_rib_for_each_family() {
    let mut adj_out = AdjOut::default();
    adj_out.set_desired(routes(&[
        ("192.0.2.1/32", 1),
        ("192.0.2.2/32", 1),
        ("2001:db8:1::1/128", 1),
    ]));
    let mut peer = Peer::default();
    peer.read(&mut adj_out);
    assert_eq!(peer, Peer::default(), "nothing before the session is up");

    adj_out.begin(format());
    peer.read(&mut adj_out);
    assert_eq!(peer.routes.len(), 3);
    assert_eq!(peer.complete, [Family::Ipv4Unicast, Family::Ipv6Unicast]);
    assert_eq!(peer.messages, 4);
}

#[test]
fn only_what_changed_is_sent_and_withdrawals_go_first() {
    let mut adj_out = AdjOut::default();
    let mut peer = Peer::default();
    adj_out.set_desired(routes(&[("192.0.2.1/32", 1), ("192.0.2.2/32", 1)]));
    adj_out.begin(format());
    peer.read(&mut adj_out);

    adj_out.set_desired(routes(&[("192.0.2.1/32", 1), ("192.0.2.2/32", 1)]));
    assert_eq!(adj_out.poll(), None, "nothing changed");

    adj_out.set_desired(routes(&[("192.0.2.2/32", 2), ("192.0.2.3/32", 1)]));
    let first = Received::decode(&adj_out.poll().unwrap()[19..], &session()).unwrap();
    assert_eq!(first.withdrawn, ["192.0.2.1/32".parse().unwrap()]);
    let mut announced = 0;
    while let Some(message) = adj_out.poll() {
        let update = Received::decode(&message[19..], &session()).unwrap();
        assert!(update.withdrawn.is_empty() && update.end_of_rib.is_none());
        announced += update.announced.len();
    }
    assert_eq!(announced, 2);
}

#[test]
fn a_family_without_next_hop_is_not_announced_until_it_has_one() {
    let mut adj_out = AdjOut::default();
    let mut peer = Peer::default();
    adj_out.set_desired(routes(&[("192.0.2.1/32", 1), ("2001:db8:1::1/128", 1)]));
    let mut format = format();
    format.next_hops.insert(Family::Ipv6Unicast, None);
    adj_out.begin(format);
    peer.read(&mut adj_out);
    assert_eq!(peer.routes.len(), 1);
    assert_eq!(peer.complete.len(), 2);

    adj_out.set_next_hop(Family::Ipv6Unicast, hop("2001:db8::9"));
    peer.read(&mut adj_out);
    assert_eq!(peer.routes.len(), 2);
    adj_out.set_next_hop(Family::Ipv6Unicast, hop("2001:db8::a"));
    peer.read(&mut adj_out);
    let route = &peer.routes[&"2001:db8:1::1/128".parse().unwrap()];
    assert_eq!(route.next_hop, "2001:db8::a".parse::<IpAddr>().unwrap());
    adj_out.set_next_hop(Family::Ipv6Unicast, None);
    peer.read(&mut adj_out);
    assert_eq!(peer.routes.len(), 1);
}

#[test]
fn a_family_that_was_not_negotiated_is_never_mentioned() {
    let mut adj_out = AdjOut::default();
    let mut peer = Peer::default();
    adj_out.set_desired(routes(&[("192.0.2.1/32", 1), ("2001:db8:1::1/128", 1)]));
    let mut format = format();
    format.next_hops.remove(&Family::Ipv6Unicast);
    adj_out.begin(format);
    adj_out.refresh(Family::Ipv6Unicast);
    adj_out.set_next_hop(Family::Ipv6Unicast, hop("2001:db8::2"));
    peer.read(&mut adj_out);
    assert_eq!(
        (peer.routes.len(), peer.complete),
        (1, vec![Family::Ipv4Unicast])
    );
}

#[test]
fn a_refresh_sends_a_family_again() {
    let mut adj_out = AdjOut::default();
    adj_out.set_desired(routes(&[
        ("192.0.2.1/32", 1),
        ("192.0.2.2/32", 2),
        ("2001:db8:1::1/128", 1),
    ]));
    adj_out.begin(format());
    Peer::default().read(&mut adj_out);

    adj_out.refresh(Family::Ipv4Unicast);
    let mut again = Peer::default();
    again.read(&mut adj_out);
    assert_eq!(again.routes.len(), 2);
}

#[test]
fn while_routes_may_be_missing_nobody_hears_that_these_are_all() {
    let mut adj_out = AdjOut::default();
    let mut peer = Peer::default();
    adj_out.set_partial(true);
    adj_out.set_desired(routes(&[("192.0.2.1/32", 1)]));
    adj_out.begin(format());
    adj_out.refresh(Family::Ipv4Unicast);
    peer.read(&mut adj_out);
    assert_eq!((peer.routes.len(), peer.complete.len()), (1, 0));
    assert!(!adj_out.is_complete());
    adj_out.set_partial(false);
    peer.read(&mut adj_out);
    assert_eq!(peer.complete.len(), 2);
    // The request came before End-of-RIB and is answered behind it.
    assert_eq!(peer.messages, 4);
    assert!(adj_out.is_complete());
}

#[test]
fn what_a_route_asks_for_stands_in_its_path() {
    let attributes = Attributes {
        local_pref: Some(200),
        med: Some(5),
        prepend: 2,
        link_bandwidth: Some(1_000_000),
        ..Attributes::default()
    };
    let path = |internal| {
        let mut adj_out = AdjOut::default();
        let prefix = "192.0.2.1/32".parse().unwrap();
        adj_out.set_desired([(prefix, Arc::new(attributes.clone()))].into());
        adj_out.begin(Format {
            internal,
            only_to_customer: true,
            ..format()
        });
        let message = adj_out.poll().unwrap();
        let session = Negotiated {
            internal,
            ..session()
        };
        let update = Received::decode(&message[19..], &session).unwrap();
        update.path.unwrap()
    };
    let external = path(false);
    assert_eq!(external.as_path, [65002, 65002, 65002]);
    assert_eq!((external.med, external.local_pref), (Some(5), None));
    assert_eq!(external.only_to_customer, Some(65002));
    let bandwidth = [0, 4, 0xfd, 0xea, 0x49, 0x74, 0x24, 0];
    assert_eq!(external.extended_communities, [bandwidth].into());
    let internal = path(true);
    assert!(internal.as_path.is_empty());
    assert_eq!(
        (internal.local_pref, internal.only_to_customer),
        (Some(200), None)
    );
}

#[test]
fn ipv4_routes_take_an_ipv6_next_hop_where_there_is_no_other() {
    let mut adj_out = AdjOut::default();
    let mut peer = Peer::default();
    adj_out.set_desired(routes(&[("192.0.2.1/32", 1), ("192.0.2.2/32", 1)]));
    let mut format = format();
    let link_local = NextHop {
        addr: "::".parse().unwrap(),
        link_local: Some("fe80::1".parse().unwrap()),
    };
    format
        .next_hops
        .insert(Family::Ipv4Unicast, Some(link_local));
    adj_out.begin(format);
    peer.read(&mut adj_out);
    assert_eq!(peer.routes.len(), 2);
    for path in peer.routes.values() {
        assert_eq!(path.link_local, link_local.link_local);
    }
    adj_out.set_desired(Routes::new());
    peer.read(&mut adj_out);
    assert_eq!(peer.routes.len(), 0);
}

#[test]
fn equal_attributes_share_messages() {
    let mut adj_out = AdjOut::default();
    let shared = Arc::new(Attributes::default());
    let many = (0..10_000_u32).map(|n| {
        (
            IpNet::new(IpAddr::V4(n.into()), 32).unwrap(),
            shared.clone(),
        )
    });
    adj_out.set_desired(many.collect());
    adj_out.begin(format());
    let mut peer = Peer::default();
    peer.read(&mut adj_out);
    assert_eq!(peer.routes.len(), 10_000);
    assert_eq!(peer.messages, 13 + 2);
    adj_out.set_desired(Routes::new());
    peer.read(&mut adj_out);
    assert_eq!((peer.routes.len(), peer.messages), (0, 13 + 2 + 13));
}

#[test]
fn attributes_that_fit_no_message_are_reported_and_what_they_replace_is_withdrawn() {
    let mut adj_out = AdjOut::default();
    let mut peer = Peer::default();
    adj_out.set_desired(routes(&[("192.0.2.1/32", 1), ("192.0.2.2/32", 1)]));
    adj_out.begin(format());
    peer.read(&mut adj_out);

    let mut changed = routes(&[("192.0.2.1/32", 1), ("192.0.2.2/32", 1)]);
    let huge = Attributes {
        communities: (0..1100).collect(),
        ..Attributes::default()
    };
    let prefix: IpNet = "192.0.2.2/32".parse().unwrap();
    changed.insert(prefix, Arc::new(huge));
    adj_out.set_desired(changed);
    peer.read(&mut adj_out);
    assert_eq!(peer.routes.len(), 1);
    assert_eq!(adj_out.oversized(), &BTreeSet::from([prefix]));
    assert_eq!(adj_out.poll(), None);
}

proptest! {
    #[test]
    fn a_peer_always_ends_with_the_latest_wish_however_slowly_it_reads(
        steps in prop::collection::vec((prop::collection::btree_map(0_u32..40, 0_u32..4, 0..30), 0_usize..6), 1..12),
    ) {
        let mut adj_out = AdjOut::default();
        adj_out.begin(format());
        let mut peer = Peer::default();
        let mut last = Routes::new();
        for (wish, reads) in steps {
            last = wish.iter().map(|(n, community)| {
                let addr = if n % 2 == 0 { IpAddr::V4((*n).into()) } else { IpAddr::V6(u128::from(*n).into()) };
                let communities = BTreeSet::from([*community]);
                (IpNet::from(addr), Arc::new(Attributes { communities, ..Attributes::default() }))
            }).collect();
            adj_out.set_desired(last.clone());
            for _ in 0..reads {
                let Some(message) = adj_out.poll() else { break };
                let update = Received::decode(&message[19..], &session()).unwrap();
                update.withdrawn.iter().for_each(|prefix| _ = peer.routes.remove(prefix));
                for prefix in update.announced {
                    peer.routes.insert(prefix, update.path.clone().unwrap());
                }
            }
        }
        peer.read(&mut adj_out);
        let held: BTreeMap<_, _> = peer.routes.into_iter().map(|(p, path)| (p, path.communities)).collect();
        let wished: BTreeMap<_, _> = last.iter().map(|(p, a)| (*p, a.communities.clone())).collect();
        prop_assert_eq!(held, wished);
        prop_assert_eq!(adj_out.sent(), &last);
    }
}
