//! Peers of a listen range, on the loopback.

use std::net::{IpAddr, TcpListener};
use std::sync::Arc;

use tokio::time::timeout;

use super::*;
use crate::model::cluster::PeerAsn;
use crate::model::password::Password;
use crate::model::peer_options::{Connect, ListenRange};
use crate::plan::layout::{Capacity, Layout};
use crate::tasks::bgp::tests::intent;
use crate::tasks::control::Desired;

const LIMIT: Duration = Duration::from_secs(20);

fn programmed(session: &SessionIntent) -> Programmed {
    let mut desired = Desired::default();
    desired.intent.sessions = Arc::new([("leafs".to_owned(), session.clone())].into());
    Programmed {
        desired: Arc::new(desired),
        layout: Arc::new(Layout::new(Capacity::default())),
        refused: Vec::new(),
        failure: None,
        ifindex: 1,
        mode: "native",
    }
}

/// A router that dials us from an address.
fn router(from: &str, port: u16) -> (watch::Sender<SessionIntent>, Peer) {
    let mut intent = intent(([127, 0, 0, 1], port).into());
    let source: IpAddr = from.parse().unwrap();
    intent.config.source_address = Some(source);
    intent.config.my_asn = 65001;
    intent.config.peer_asn = PeerAsn::Number(65002);
    intent.config.password = Some(Password::new("s3cret"));
    intent.config.router_id = from.parse().unwrap();
    let (sender, watched) = watch::channel(intent);
    (sender, Peer::spawn(from.to_owned(), watched))
}

async fn reach(
    status: &mut watch::Receiver<SessionStatus>,
    wanted: impl FnMut(&SessionStatus) -> bool,
) -> Result<(), String> {
    let reached = matches!(timeout(LIMIT, status.wait_for(wanted)).await, Ok(Ok(_)));
    if !reached {
        return Err(format!("{:?}", status.borrow()));
    }
    Ok(())
}

#[tokio::test]
async fn who_comes_from_a_listen_range_gets_a_session_while_there_is_room() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let mut session = intent(([0, 0, 0, 0], 179).into());
    session.config.peer_asn = PeerAsn::External;
    session.config.password = Some(Password::new("s3cret"));
    session.config.source_address = Some([127, 0, 0, 1].into());
    session.config.options.connect = Connect::Passive;
    session.config.options.listen_port = Some(port);
    let range = |network: &str| {
        Some(ListenRange {
            network: network.parse().unwrap(),
            limit: 2,
        })
    };
    session.config.options.listen_range = range("127.0.0.64/26");

    let (book, mut running) = watch::channel(SessionBook::default());
    let (tell, told) = watch::channel(Some(programmed(&session)));
    let (stop, stopped) = oneshot::channel();
    let sessions = Sessions::new(book, Past::default(), Bfd::start().unwrap());
    tell.send_modify(|_| {});
    let task = tokio::spawn(sessions.run(told, stopped));

    let is_up = |status: &SessionStatus| status.state == SessionState::Established;
    let (_first, mut first) = router("127.0.0.71", port);
    reach(&mut first.status, is_up).await.unwrap();
    let (_second, mut second) = router("127.0.0.72", port);
    reach(&mut second.status, is_up).await.unwrap();
    let names: Vec<_> = running.borrow().keys().cloned().collect();
    assert_eq!(names, ["leafs", "leafs/127.0.0.71", "leafs/127.0.0.72"]);
    let of = |name: &str| running.borrow().get(name).unwrap().status.clone();
    let mut kept = of("leafs/127.0.0.71");
    reach(&mut kept, |status| status.routes.len() == 1)
        .await
        .unwrap();
    let since = kept.borrow().since;
    assert_eq!(kept.borrow().object(), "leafs");
    assert_eq!(of("leafs").borrow().place(), "127.0.0.64/26");

    // One too many is told, in the status of the range.
    let (_third, third) = router("127.0.0.73", port);
    let mut leafs = of("leafs");
    reach(&mut leafs, |status| {
        let error = status.last_error.as_deref().unwrap_or_default();
        error.contains("127.0.0.73") && error.contains("listen-limit")
    })
    .await
    .unwrap();
    third.stop(Stop::Restart).await;

    // A range that becomes smaller ends the sessions of those outside of it, and no other.
    session.config.options.listen_range = range("127.0.0.71/32");
    tell.send_replace(Some(programmed(&session)));
    let left = running.wait_for(|book| !book.contains_key("leafs/127.0.0.72"));
    timeout(LIMIT, left).await.unwrap().unwrap();
    reach(&mut second.status, |status| {
        status.notifications_received == 1
    })
    .await
    .unwrap();
    assert_eq!(kept.borrow().since, since);
    assert!(is_up(&kept.borrow()));

    stop.send(Stop::Restart).unwrap();
    timeout(LIMIT, task).await.unwrap().unwrap();
    second.stop(Stop::Restart).await;
}
