//! The agent's own BGP speaker on a thread in a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Result, ensure};
use lb_userspace::model::cluster::{Family, PeerAsn};
use lb_userspace::model::intent::{SessionConfig, SessionIntent};
use lb_userspace::model::peer_options::PeerOptions;
use lb_userspace::model::session_status::{SessionState, SessionStatus};
use lb_userspace::proto::bgp::retention::Past;
use lb_userspace::tasks::bgp::listener::{Doors, Invitation};
use lb_userspace::tasks::bgp::{Peer, Stop};
use tokio::sync::{oneshot, watch};

use crate::netns::Netns;
use crate::wait;

/// How long anything that a session does may take.
pub const LIMIT: Duration = Duration::from_secs(15);

/// A session of the agent's; ends silently when dropped.
#[derive(Debug)]
pub struct Speaker {
    intent: watch::Sender<SessionIntent>,
    status: watch::Receiver<SessionStatus>,
    stop: Option<oneshot::Sender<Stop>>,
    thread: Option<JoinHandle<()>>,
}

impl Speaker {
    /// Starts a session in a namespace.
    ///
    /// # Errors
    /// When no thread or runtime is to be had.
    pub fn start(netns: &Netns, intent: SessionIntent) -> Result<Self> {
        Self::start_again(netns, intent, Past::default())
    }

    /// The same, of an agent that was there before.
    ///
    /// # Errors
    /// When no thread or runtime is to be had.
    pub fn start_again(netns: &Netns, intent: SessionIntent, past: Past) -> Result<Self> {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build()?;
        let (sender, receiver) = watch::channel(intent);
        let (stop, mut stopped) = oneshot::channel();
        let (told, status) = std::sync::mpsc::channel();
        let thread = netns.spawn(move || {
            runtime.block_on(async {
                let mut intent = receiver.clone();
                let peer = Peer::spawn_again("tor".to_owned(), receiver, past);
                let _ = told.send(peer.status.clone());
                let mut doors = Doors::default();
                let stop = loop {
                    let config = intent.borrow_and_update().config.clone();
                    doors.follow(std::iter::once(Invitation {
                        name: "tor",
                        config: &config,
                        incoming: &peer.incoming,
                    }));
                    tokio::select! {
                        stop = &mut stopped => break stop.unwrap_or(Stop::Restart),
                        changed = intent.changed() => if changed.is_err() { break Stop::Restart },
                    }
                };
                peer.stop(stop).await;
            });
        })?;
        Ok(Self {
            intent: sender,
            status: status.recv()?,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Starts a session and waits until it is up.
    ///
    /// # Errors
    /// When it does not come up.
    pub fn establish(netns: &Netns, intent: SessionIntent) -> Result<Self> {
        let speaker = Self::start(netns, intent)?;
        speaker.await_state(SessionState::Established)?;
        Ok(speaker)
    }

    /// Changes what it is to do.
    pub fn change(&self, change: impl FnOnce(&mut SessionIntent)) {
        self.intent.send_modify(change);
    }

    /// What it says of itself.
    pub fn status(&self) -> SessionStatus {
        self.status.borrow().clone()
    }

    /// Waits for a status.
    ///
    /// # Errors
    /// When it does not come.
    pub fn await_status(
        &self,
        what: &str,
        wanted: impl Fn(&SessionStatus) -> bool,
    ) -> Result<SessionStatus> {
        wait::until(what, LIMIT, || {
            let status = self.status();
            ensure!(wanted(&status), "{status:?}");
            Ok(status)
        })
    }

    /// Waits for a state.
    ///
    /// # Errors
    /// When it does not come.
    pub fn await_state(&self, state: SessionState) -> Result<SessionStatus> {
        self.await_status(&format!("{state:?}"), |status| status.state == state)
    }

    /// Waits until the last error contains some words.
    ///
    /// # Errors
    /// When it does not.
    pub fn await_error(&self, words: &str) -> Result<SessionStatus> {
        let matches = |status: &SessionStatus| {
            let error = status.last_error.as_ref();
            error.is_some_and(|error| error.contains(words))
        };
        self.await_status(words, matches)
    }

    /// Ends it and waits for the end.
    pub fn stop(mut self, stop: Stop) {
        self.end(stop);
    }

    fn end(&mut self, stop: Stop) {
        if let Some(sender) = self.stop.take() {
            let _ = sender.send(stop);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.end(Stop::Restart);
    }
}

/// AS 65002 with both families to a router in AS 65001, quick timers, and no routes.
pub fn intent(router: IpAddr, next_hops: [IpAddr; 2]) -> SessionIntent {
    SessionIntent {
        config: SessionConfig {
            my_asn: 65002,
            peer_asn: PeerAsn::Number(65001),
            peer_address: router,
            peer_port: 179,
            source_address: None,
            router_id: Ipv4Addr::new(10, 99, 0, 2),
            hold_time: Duration::from_secs(9),
            keepalive_time: None,
            connect_time: Duration::from_secs(1),
            password: None,
            multihop: false,
            families: BTreeSet::from([Family::V4, Family::V6]),
            next_hops: BTreeMap::from(next_hops.map(|addr| (Family::of(addr), addr))),
            host_name: "node".to_owned(),
            options: PeerOptions::default(),
        },
        routes: BTreeMap::new(),
        is_partial: false,
        bfd: None,
        is_draining: false,
    }
}
