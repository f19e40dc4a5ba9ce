//! The task against listeners on the loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use tokio::time::timeout;

use super::*;
use crate::model::bfd::{BfdIntent, BfdProfile, BfdReach, BfdState, BfdStatus};
use crate::model::cluster::{Family, PeerAsn};
use crate::model::intent::RouteAttributes;
use crate::model::password::Password;
use crate::model::peer_options::PeerOptions;
use crate::model::session_status::SessionState;
use crate::proto::bgp::message::{self, Framer, MessageType};
use crate::proto::bgp::negotiation::Config;
use crate::proto::bgp::nlri;
use crate::proto::bgp::notification::Notification;
use crate::proto::bgp::update;

const LIMIT: Duration = Duration::from_secs(10);

pub(in crate::tasks) fn intent(peer: SocketAddr) -> SessionIntent {
    SessionIntent {
        config: SessionConfig {
            my_asn: 65002,
            peer_asn: PeerAsn::Number(65001),
            peer_address: peer.ip(),
            peer_port: peer.port(),
            source_address: None,
            router_id: Ipv4Addr::new(10, 0, 0, 2),
            hold_time: Duration::from_secs(9),
            keepalive_time: None,
            connect_time: Duration::from_secs(1),
            password: None,
            multihop: false,
            families: BTreeSet::from([Family::V4]),
            next_hops: BTreeMap::new(),
            host_name: "node-a".to_owned(),
            options: PeerOptions::default(),
        },
        routes: routes(1),
        bfd: None,
        is_partial: false,
        is_draining: false,
    }
}

fn invitation<'a>(intent: &'a SessionIntent, peer: &'a Peer) -> listener::Invitation<'a> {
    listener::Invitation {
        name: "tor",
        config: &intent.config,
        incoming: &peer.incoming,
    }
}

fn routes(count: u8) -> BTreeMap<ipnet::IpNet, RouteAttributes> {
    let route = |n| {
        (
            IpAddr::from([192, 0, 2, n]).into(),
            RouteAttributes::default(),
        )
    };
    (0..count).map(route).collect()
}

/// Brings the session up from the router's side and returns its connection.
async fn accept(listener: &TcpListener) -> TcpStream {
    let (mut stream, _) = listener.accept().await.unwrap();
    let config = Config {
        my_asn: 65001,
        router_id: Ipv4Addr::new(10, 0, 0, 1),
        ..session_config(&intent(listener.local_addr().unwrap()).config)
    };
    let hello = [
        config.open(false, Past::default()).encode(),
        message::keepalive(),
    ]
    .concat();
    stream.write_all(&hello).await.unwrap();
    stream
}

/// Reads to the end of the connection and returns what came.
async fn messages(mut stream: TcpStream) -> Vec<message::Frame> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let mut framer = Framer::default();
    framer.extend(&bytes);
    std::iter::from_fn(|| framer.take().unwrap()).collect()
}

async fn reach(peer: &mut Peer, state: SessionState) {
    let reached = peer.status.wait_for(|status| status.state == state);
    timeout(LIMIT, reached).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refused_connection_says_what_to_do() {
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let (_keep, watched) = watch::channel(intent(closed));
    let mut peer = Peer::spawn("tor".into(), watched);
    let failed = peer.status.wait_for(|status| status.last_error.is_some());
    let status = timeout(LIMIT, failed).await.unwrap().unwrap().clone();
    let expected = format!(
        "cannot connect to {closed}: connection refused; is BGP running there and is this node configured as \
         neighbour?"
    );
    assert_eq!(status.last_error, Some(expected));
    peer.stop(Stop::Restart).await;
}

#[tokio::test]
async fn a_drain_reaches_a_peer_that_has_sent_what_nobody_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_keep, watched) = watch::channel(intent(listener.local_addr().unwrap()));
    let mut peer = Peer::spawn("tor".into(), watched);
    let mut stream = accept(&listener).await;
    reach(&mut peer, SessionState::Established).await;
    stream
        .write_all(&update::end_of_rib(nlri::Family::Ipv4Unicast).repeat(1000))
        .await
        .unwrap();

    let (received, ()) = tokio::join!(
        messages(stream),
        peer.stop(Stop::Drain("node drain".into()))
    );
    let [.., withdrawal, last] = &received[..] else {
        panic!("{received:?}")
    };
    assert_eq!(withdrawal.body[..], [0, 5, 32, 192, 0, 2, 0, 0, 0]);
    assert_eq!(last.kind, MessageType::Notification);
    let notification = Notification::decode(&last.body).unwrap();
    assert_eq!(
        notification.to_string(),
        "administrative shutdown (6/2): \"node drain\""
    );
}

#[tokio::test]
async fn a_restart_closes_without_a_word() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intent, watched) = watch::channel(intent(listener.local_addr().unwrap()));
    let mut peer = Peer::spawn("tor".into(), watched);
    let stream = accept(&listener).await;
    reach(&mut peer, SessionState::Established).await;
    drop(intent);
    let received = timeout(LIMIT, messages(stream)).await.unwrap();
    assert!(
        received
            .iter()
            .all(|frame| frame.kind != MessageType::Notification)
    );
}

#[tokio::test]
async fn routes_and_times_change_under_a_session_but_identity_resets_it() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (intent, watched) = watch::channel(intent(listener.local_addr().unwrap()));
    let mut peer = Peer::spawn("tor".into(), watched);
    let stream = accept(&listener).await;
    reach(&mut peer, SessionState::Established).await;
    let since = peer.status.borrow().since;

    intent.send_modify(|intent| {
        intent.routes = routes(3);
        intent.config.hold_time = Duration::from_secs(90);
        intent.config.connect_time = Duration::from_secs(2);
        intent.config.keepalive_time = Some(Duration::from_secs(1));
    });
    let announced = peer.status.wait_for(|status| status.routes.len() == 3);
    let status = timeout(LIMIT, announced).await.unwrap().unwrap().clone();
    assert_eq!(
        (status.state, status.since),
        (SessionState::Established, since)
    );

    intent.send_modify(|intent| intent.config.router_id = Ipv4Addr::new(10, 0, 0, 3));
    let received = timeout(LIMIT, messages(stream)).await.unwrap();
    let notification = Notification::decode(&received.last().unwrap().body).unwrap();
    assert_eq!((notification.code, notification.subcode), (6, 6));
    let _again = timeout(LIMIT, accept(&listener)).await.unwrap();
    reach(&mut peer, SessionState::Established).await;

    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    intent.send_modify(|intent| intent.config.peer_port = other.local_addr().unwrap().port());
    let _moved = timeout(LIMIT, accept(&other)).await.unwrap();
    reach(&mut peer, SessionState::Established).await;
    peer.stop(Stop::Deconfigured).await;
}

fn bfd(state: BfdState, losses: u64) -> BfdReport {
    let status = BfdStatus {
        state,
        since: clock(),
        remote_state: state,
        local_diagnostic: "none",
        remote_diagnostic: "none",
        transmit_interval: None,
        detection_time: None,
        is_multihop: false,
        losses,
        failure: None,
    };
    BfdReport {
        status: Some(status),
        losses,
    }
}

#[tokio::test]
async fn a_path_that_bfd_lost_ends_the_session_at_once_even_if_it_is_back() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (_keep, watched) = watch::channel(intent(listener.local_addr().unwrap()));
    let mut peer = Peer::spawn("tor".into(), watched);
    peer.bfd.send_replace(bfd(BfdState::Down, 0));
    let stream = accept(&listener).await;
    reach(&mut peer, SessionState::Established).await;

    peer.bfd.send_replace(bfd(BfdState::Up, 1));
    let received = timeout(LIMIT, messages(stream)).await.unwrap();
    let last = Notification::decode(&received.last().unwrap().body).unwrap();
    assert_eq!((last.code, last.subcode), (6, 10));
    let status = peer.status.borrow().clone();
    assert_eq!(status.bfd.unwrap().state, BfdState::Up);
    assert!(status.last_error.unwrap().contains("BFD"));

    let _stream = timeout(LIMIT, accept(&listener)).await.unwrap();
    reach(&mut peer, SessionState::Established).await;
    peer.stop(Stop::Restart).await;
}

#[tokio::test]
async fn a_strict_session_waits_for_bfd() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut strict = intent(listener.local_addr().unwrap());
    strict.bfd = Some(BfdIntent {
        profile: BfdProfile {
            receive_interval: Duration::from_millis(300),
            transmit_interval: Duration::from_millis(300),
            detect_multiplier: NonZeroU8::MIN,
            is_passive: false,
            minimum_ttl: 254,
        },
        reach: BfdReach::SingleHop,
        is_strict: true,
    });
    let (_keep, watched) = watch::channel(strict);
    let mut peer = Peer::spawn("tor".into(), watched);
    let waits = peer.status.wait_for(|status| {
        let error = status.last_error.as_ref();
        error.is_some_and(|error| error.contains("waiting for BFD"))
    });
    timeout(LIMIT, waits).await.unwrap().unwrap();
    assert!(matches!(
        futures::poll!(Box::pin(listener.accept())),
        std::task::Poll::Pending
    ));

    peer.bfd.send_replace(bfd(BfdState::Up, 0));
    let _stream = timeout(LIMIT, accept(&listener)).await.unwrap();
    reach(&mut peer, SessionState::Established).await;
    peer.stop(Stop::Restart).await;
}

#[test]
fn only_an_external_peer_one_hop_away_gets_a_ttl_of_one() {
    let base = intent("10.0.0.1:179".parse().unwrap()).config;
    let ttl = |peer_asn, multihop| {
        dial_options(&SessionConfig {
            peer_asn,
            multihop,
            ..base.clone()
        })
        .socket
        .ttl
    };
    assert_eq!(ttl(PeerAsn::Number(65001), false), Some(1));
    assert_eq!(ttl(PeerAsn::External, false), Some(1));
    assert_eq!(ttl(PeerAsn::Number(65001), true), None);
    assert_eq!(ttl(PeerAsn::Number(65002), false), None);
    assert_eq!(ttl(PeerAsn::Internal, false), None);
}

#[test]
fn equal_attributes_are_one_allocation() {
    let routes = session_routes(&routes(2), false);
    let shared: Vec<_> = routes.values().collect();
    assert!(Arc::ptr_eq(shared[0], shared[1]));
}

type Edit = fn(&mut SessionConfig);

/// By the name of the parameter.
type Edits = Vec<(&'static str, Edit)>;

/// A change of every parameter: those that cost the session, and those that do not.
fn edits() -> (Edits, Edits) {
    use crate::model::peer_options::{Connect, ListenRange, PeerRole, RestartProfile};

    // A new field is to be judged here.
    let SessionConfig {
        my_asn: _,
        peer_asn: _,
        peer_address: _,
        peer_port: _,
        source_address: _,
        router_id: _,
        hold_time: _,
        keepalive_time: _,
        connect_time: _,
        password: _,
        multihop: _,
        families: _,
        next_hops: _,
        host_name: _,
        options:
            PeerOptions {
                restart_profile: _,
                connect: _,
                listen_port: _,
                ttl_security: _,
                role: _,
                interface: _,
                device: _,
                drain_wait: _,
                listen_range: _,
                delay_open: _,
            },
    } = intent("10.0.0.1:179".parse().unwrap()).config;
    let costly: [(&str, Edit); 13] = [
        ("my_asn", |c| c.my_asn = 65009),
        ("peer_asn", |c| c.peer_asn = PeerAsn::External),
        ("peer_address", |c| c.peer_address = [10, 0, 0, 9].into()),
        ("peer_port", |c| c.peer_port = 1179),
        ("source_address", |c| {
            c.source_address = Some([10, 0, 0, 2].into())
        }),
        ("router_id", |c| c.router_id = [10, 0, 0, 9].into()),
        ("password", |c| c.password = Some(Password::new("secret"))),
        ("multihop", |c| c.multihop = true),
        ("families", |c| {
            c.families = BTreeSet::from([Family::V4, Family::V6])
        }),
        ("ttl_security", |c| c.options.ttl_security = Some(1)),
        ("role", |c| c.options.role = Some(PeerRole::Customer)),
        ("interface", |c| {
            c.options.interface = Some("uplink".to_owned())
        }),
        ("device", |c| c.options.device = Some("vrf-red".to_owned())),
    ];
    let free: [(&str, Edit); 11] = [
        ("hold_time", |c| c.hold_time = Duration::from_secs(30)),
        ("keepalive_time", |c| {
            c.keepalive_time = Some(Duration::from_secs(2))
        }),
        ("connect_time", |c| c.connect_time = Duration::from_secs(9)),
        ("next_hops", |c| {
            _ = c
                .next_hops
                .insert(Family::V6, "2001:db8::1".parse().unwrap())
        }),
        ("host_name", |c| c.host_name = "other".to_owned()),
        ("restart_profile", |c| {
            c.options.restart_profile = Some(RestartProfile::Brief)
        }),
        ("connect", |c| c.options.connect = Connect::Both),
        ("listen_port", |c| c.options.listen_port = Some(1179)),
        ("drain_wait", |c| {
            c.options.drain_wait = Some(Duration::ZERO)
        }),
        ("delay_open", |c| {
            c.options.delay_open = Some(Duration::from_secs(9))
        }),
        // Who is not in it any more is another matter.
        ("listen_range", |c| {
            c.options.listen_range = Some(ListenRange {
                network: "10.0.0.0/8".parse().unwrap(),
                limit: 1,
            })
        }),
    ];
    (costly.to_vec(), free.to_vec())
}

#[test]
fn only_identity_families_keys_and_addresses_cost_the_session() {
    let base = intent("10.0.0.1:179".parse().unwrap()).config;
    let (costly, free) = edits();
    let costs = |edit: Edit| {
        let mut after = base.clone();
        edit(&mut after);
        assert_ne!(after, base);
        needs_new_session(&base, &after)
    };
    assert!(
        costly
            .iter()
            .all(|(name, edit)| costs(*edit) || panic!("{name} is free"))
    );
    assert!(
        free.iter()
            .all(|(name, edit)| !costs(*edit) || panic!("{name} costs"))
    );
}

#[tokio::test]
async fn uptime_goes_on_over_every_edit_but_those_that_cost_the_session() {
    let (costly, free) = edits();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (sender, watched) = watch::channel(intent(listener.local_addr().unwrap()));
    let mut peer = Peer::spawn("tor".into(), watched);
    let _stream = accept(&listener).await;
    reach(&mut peer, SessionState::Established).await;
    let since = peer.status.borrow().since;
    for (number, (name, edit)) in (2..).zip(free) {
        sender.send_modify(|intent| {
            edit(&mut intent.config);
            intent.routes = routes(number);
        });
        let done = peer
            .status
            .wait_for(|status| status.routes.len() == usize::from(number));
        let status = timeout(LIMIT, done).await.unwrap().unwrap().clone();
        assert_eq!((name, status.since), (name, since));
    }

    let each = costly.into_iter().map(async |(name, edit)| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (sender, watched) = watch::channel(intent(listener.local_addr().unwrap()));
        let mut peer = Peer::spawn(name.into(), watched);
        let _stream = accept(&listener).await;
        reach(&mut peer, SessionState::Established).await;
        let since = peer.status.borrow().since;
        sender.send_modify(|intent| edit(&mut intent.config));
        let ended = peer.status.wait_for(|status| status.since != since);
        let ended = timeout(LIMIT, ended).await;
        assert!(ended.is_ok(), "{name}");
    });
    futures::future::join_all(each).await;
}

/// Two speakers that dial each other at the same moment.
#[tokio::test]
async fn speakers_that_dial_each_other_end_with_one_connection() {
    use super::listener::Doors;
    use crate::model::peer_options::Connect;

    let free = || std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let (first, second) = (free(), free());
    let ports = [&first, &second].map(|socket| socket.local_addr().unwrap().port());
    drop((first, second));
    let addresses: [IpAddr; 2] = [[127, 0, 0, 11].into(), [127, 0, 0, 12].into()];
    let of = |me: usize, asn, peer_asn| {
        let mut intent = intent(SocketAddr::new(addresses[1 - me], ports[1 - me]));
        intent.config.my_asn = asn;
        intent.config.peer_asn = PeerAsn::Number(peer_asn);
        intent.config.router_id = Ipv4Addr::from(asn);
        intent.config.source_address = Some(addresses[me]);
        intent.config.options.connect = Connect::Both;
        intent.config.options.listen_port = Some(ports[me]);
        intent
    };
    for _ in 0..10 {
        let intents = [of(0, 65001, 65002), of(1, 65002, 65001)];
        let mut doors = [Doors::default(), Doors::default()];
        let mut senders = Vec::new();
        let mut peers = Vec::new();
        for (intent, doors) in intents.iter().zip(&mut doors) {
            let (sender, watched) = watch::channel(intent.clone());
            let peer = Peer::spawn("other".into(), watched);
            doors.follow(std::iter::once(invitation(intent, &peer)));
            senders.push(sender);
            peers.push(peer);
        }
        for peer in &mut peers {
            reach(peer, SessionState::Established).await;
            let told = peer.status.wait_for(|status| status.routes.len() == 1);
            timeout(LIMIT, told).await.unwrap().unwrap();
        }
        for peer in peers {
            peer.stop(Stop::Deconfigured).await;
        }
    }
}

#[tokio::test]
async fn a_peer_that_opens_a_hundred_connections_disturbs_nothing() {
    use super::listener::Doors;
    use crate::model::peer_options::Connect;

    let router = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let free = std::net::TcpListener::bind("0.0.0.0:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut intent = intent(router.local_addr().unwrap());
    intent.config.options.connect = Connect::Both;
    intent.config.options.listen_port = Some(port);
    let (sender, watched) = watch::channel(intent.clone());
    let mut peer = Peer::spawn("tor".into(), watched);
    let mut doors = Doors::default();
    doors.follow(std::iter::once(invitation(&intent, &peer)));
    let _established = accept(&router).await;
    reach(&mut peer, SessionState::Established).await;
    let since = peer.status.borrow().since;

    let open = |asn| {
        let config = Config {
            my_asn: asn,
            router_id: Ipv4Addr::new(10, 0, 0, 1),
            ..session_config(&intent.config)
        };
        config.open(false, Past::default()).encode()
    };
    let mut connections = Vec::new();
    while connections.len() < 100 {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)).await else {
            tokio::task::yield_now().await;
            continue;
        };
        // Some say nothing, some garbage, some who they are, some who they are not.
        let words = match connections.len() % 4 {
            0 => Default::default(),
            1 => bytes::Bytes::from_static(b"GET / HTTP/1.1\r\n\r\n"),
            2 => open(65001),
            _ => open(65009),
        };
        // It may be closed by now.
        let _ = stream.write_all(&words).await;
        connections.push(stream);
    }
    sender.send_modify(|intent| intent.routes = routes(5));
    let told = peer.status.wait_for(|status| status.routes.len() == 5);
    let status = timeout(LIMIT, told).await.unwrap().unwrap().clone();
    assert_eq!(
        (status.state, status.since),
        (SessionState::Established, since)
    );
    peer.stop(Stop::Deconfigured).await;
}
