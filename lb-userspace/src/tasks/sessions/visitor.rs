//! Peers that come from a listen range: each gets a session of its own.
//!
//! It is forgotten once the peer has not been connected for a while.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use super::{Running, Sessions, released, unserved};
use crate::model::intent::{SessionConfig, SessionIntent};
use crate::model::session_status::{SessionState, SessionStatus};
use crate::net::bgp_listener::ListenError;
use crate::tasks::bgp::Stop;
use crate::tasks::bgp::listener::Stranger;
use crate::tasks::datapath::Programmed;

/// How long a peer may be away. Longer than the longest back-off, so that one who is refused over and over is
/// not made welcome again each time.
const ABSENCE: Duration = Duration::from_secs(60);

/// A peer of a listen range.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Visitor {
    /// BGPPeer of the range.
    pub(super) range: String,
    /// Where it is.
    pub(super) addr: IpAddr,
}

impl Visitor {
    /// Makes the parameters of a range those of this peer.
    pub(super) const fn narrow(&self, config: &mut SessionConfig) {
        config.peer_address = self.addr;
        config.options.listen_range = None;
    }

    /// Whether a range still takes it in.
    fn is_in(&self, wanted: &BTreeMap<String, SessionIntent>) -> bool {
        let range = wanted.get(&self.range);
        let range = range.and_then(|session| session.config.options.listen_range);
        range.is_some_and(|range| range.network.contains(&self.addr))
    }
}

impl Running {
    /// The BGPPeer, of a session by this name.
    pub(super) fn object<'a>(&'a self, name: &'a str) -> &'a str {
        self.visitor.as_ref().map_or(name, |visitor| &visitor.range)
    }

    /// Whether a session by this name is still configured.
    pub(super) fn is_in(&self, name: &str, wanted: &BTreeMap<String, SessionIntent>) -> bool {
        match &self.visitor {
            Some(visitor) => visitor.is_in(wanted),
            None => wanted.contains_key(name),
        }
    }
}

impl Sessions {
    /// Gives a session to who comes from a listen range, as long as it has room.
    pub(super) fn take_in(&mut self, stranger: Stranger, programmed: &Programmed) {
        let wanted = &programmed.desired.intent.sessions;
        let Stranger {
            range,
            from,
            connection,
        } = stranger;
        let visitor = Visitor { range, addr: from };
        let name = format!("{}/{from}", visitor.range);
        let Some(session) = wanted.get(&visitor.range).filter(|_| visitor.is_in(wanted)) else {
            return;
        };
        if !self.running.contains_key(&name) {
            let limit = session.config.options.listen_range.map(|range| range.limit);
            let limit = limit.unwrap_or_default();
            let of_range = |running: &&Running| {
                let visitor_of = running.visitor.as_ref().map(|visitor| &visitor.range);
                visitor_of == Some(&visitor.range)
            };
            if self.running.values().filter(of_range).count() >= usize::from(limit) {
                if let Some(range) = self.running.get(&visitor.range) {
                    let error = ListenError::Full { from, limit };
                    // Where it is being told already, once is enough.
                    let _ = range.peer.incoming.try_send(Err(error));
                }
                return;
            }
            info!(peer = name, "a peer comes from a listen range");
            let mut first = released(session, programmed, &unserved(programmed), &BTreeMap::new());
            visitor.narrow(&mut first.config);
            self.start(name.clone(), first, Some(visitor));
            if let Some(running) = self.running.get(&name) {
                let status = running.peer.status.clone();
                self.absences.spawn(absence(name.clone(), status));
            }
            self.tell(wanted);
        }
        if let Some(running) = self.running.get(&name) {
            // Where one waits to be taken already, this one is too many.
            let _ = running.peer.incoming.try_send(Ok(connection));
        }
    }

    /// Ends the session of a visitor that does not come back.
    pub(super) async fn forget(&mut self, name: &str, programmed: &Programmed) {
        let Some(running) = self.running.get(name) else {
            return;
        };
        let status = running.peer.status.clone();
        if is_connected(&status.borrow()) {
            self.absences.spawn(absence(name.to_owned(), status));
            return;
        }
        if let Some(running) = self.running.remove(name) {
            info!(peer = name, "a peer of a listen range is gone");
            self.tell(&programmed.desired.intent.sessions);
            running.peer.stop(Stop::Restart).await;
        }
    }
}

const fn is_connected(status: &SessionStatus) -> bool {
    matches!(
        status.state,
        SessionState::OpenSent | SessionState::OpenConfirm | SessionState::Established
    )
}

/// Waits until a visitor has been away for too long; none if its session ends before.
async fn absence(name: String, mut status: watch::Receiver<SessionStatus>) -> Option<String> {
    loop {
        status.wait_for(|status| !is_connected(status)).await.ok()?;
        match timeout(ABSENCE, status.wait_for(is_connected)).await {
            Err(_) => return Some(name),
            Ok(Err(_)) => return None,
            Ok(Ok(_)) => {}
        }
    }
}
