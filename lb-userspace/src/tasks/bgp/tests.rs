//! The task against listeners on the loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use tokio::time::timeout;

use super::*;
use crate::model::cluster::{Family, PeerAsn};
use crate::model::intent::RouteAttributes;
use crate::model::peer_options::PeerOptions;
use crate::model::session_status::SessionState;
use crate::proto::bgp::message::{self, Framer, MessageType};
use crate::proto::bgp::negotiation::Config;
use crate::proto::bgp::nlri;
use crate::proto::bgp::notification::Notification;
use crate::proto::bgp::update;

const LIMIT: Duration = Duration::from_secs(10);

pub(super) fn intent(peer: SocketAddr) -> SessionIntent {
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
        is_partial: false,
        is_draining: false,
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
