//! BFD beside BGP: down when the path is lost, and only then.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::num::NonZeroU8;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use harness::netns::Netns;
use harness::peer::bird::Bird;
use harness::wait;
use lb_userspace::model::bfd::{BfdIntent, BfdProfile, BfdReach, BfdState, BfdStatus};
use lb_userspace::model::intent::{RouteAttributes, SessionIntent};
use lb_userspace::model::session_status::{SessionState, SessionStatus};
use lb_userspace::tasks::bfd::{Bfd, Request, Requests};
use lb_userspace::tasks::bgp::{Peer, Stop};
use tempfile::TempDir;
use tokio::sync::{oneshot, watch};

use crate::lab::{LIMIT, Lab, NODE_V4, NODE_V6, TOR_V4, TOR_V6, intent};

mod bfdd;
mod end;

/// Longer than any test: what ends a session in time is not its hold timer.
const HOLD_TIME: Duration = Duration::from_secs(180);
/// Lets nothing in or out.
const CUT: &str = "table inet cut { \
                   chain out { type filter hook output priority 0; policy drop; }; \
                   chain in { type filter hook input priority 0; policy drop; }; }";

/// Routers get no precedence over ordinary threads: whoever keeps the machine busy does it without any.
static MACHINE: RwLock<()> = RwLock::new(());

fn among_others() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

fn alone() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

fn bfd(interval: u64) -> BfdIntent {
    BfdIntent {
        profile: BfdProfile {
            receive_interval: Duration::from_millis(interval),
            transmit_interval: Duration::from_millis(interval),
            detect_multiplier: NonZeroU8::new(3).expect("three"),
            is_passive: false,
            minimum_ttl: 254,
        },
        reach: BfdReach::SingleHop,
        is_strict: false,
    }
}

/// A session with one route and BFD, to be ended by nothing but BFD.
fn watched(peer: IpAddr, bfd: BfdIntent) -> SessionIntent {
    let mut intent = intent();
    intent.config.peer_address = peer;
    intent.config.hold_time = HOLD_TIME;
    let route = "203.0.113.1/32".parse().expect("a prefix");
    intent.routes.insert(route, RouteAttributes::default());
    intent.bfd = Some(bfd);
    intent
}

/// A router with BFD at 100 ms × 3.
struct Router {
    bird: Bird,
    _dir: TempDir,
    _quiet: RwLockReadGuard<'static, ()>,
}

impl Router {
    fn start(netns: &Netns, local: IpAddr, node: IpAddr, bgp: &str) -> Result<Self> {
        const PACE: &str = "min rx interval 100 ms; min tx interval 100 ms; multiplier 3;";
        let quiet = among_others();
        let dir = tempfile::tempdir()?;
        let mut config = format!(
            "log stderr all;\nrouter id 10.99.0.1;\nprotocol device {{}}\n\
             protocol bfd {{ interface \"*\" {{ {PACE} }}; multihop {{ {PACE} }}; }}\n"
        );
        writeln!(
            config,
            "protocol bgp node {{ local {local} as 65001; neighbor {node} as 65002; passive yes; \
             hold time {}; error wait time 1, 2; {bgp} \
             ipv4 {{ import all; export none; }}; ipv6 {{ import all; export none; }}; }}",
            HOLD_TIME.as_secs()
        )?;
        Ok(Self {
            bird: Bird::start(netns, dir.path(), &config)?,
            _dir: dir,
            _quiet: quiet,
        })
    }

    /// Waits until the line about the node satisfies `wanted`.
    fn await_bfd(&self, node: IpAddr, wanted: impl Fn(&str) -> bool) -> Result<()> {
        wait::until("the router's BFD", LIMIT, || {
            let text = self.bird.show("bfd sessions")?;
            let node = node.to_string();
            let line = text.lines().find(|line| line.starts_with(&node));
            ensure!(line.is_some_and(&wanted), "{text}");
            Ok(())
        })
    }

    fn is_established(&self) -> Result<bool> {
        let sessions = self.bird.sessions()?;
        Ok(sessions
            .iter()
            .any(|session| session.state == "Established"))
    }

    fn await_established(&self, wanted: bool) -> Result<()> {
        wait::until("the router's BGP", LIMIT, || {
            ensure!(self.is_established()? == wanted, "not yet");
            Ok(())
        })
    }
}

/// What is under test: BGP and BFD on the node, joined as the agent joins them.
struct Speaker {
    intent: watch::Sender<SessionIntent>,
    status: watch::Receiver<SessionStatus>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Speaker {
    fn start(node: &Netns, intent: SessionIntent) -> Result<Self> {
        let (intent, mut wanted) = watch::channel(intent);
        let follower = intent.subscribe();
        let (stop, mut stopped) = oneshot::channel();
        let (told, status) = std::sync::mpsc::channel();
        let thread = node.spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let bfd = Bfd::start().expect("a thread");
                let peer = Peer::spawn("tor".to_owned(), follower);
                let _ = told.send(peer.status.clone());
                loop {
                    bfd.request(requests(&wanted.borrow_and_update(), &peer));
                    tokio::select! {
                        changed = wanted.changed() => if changed.is_err() { break },
                        _ = &mut stopped => break,
                    }
                }
                peer.stop(Stop::Drain("bye".to_owned())).await;
                bfd.stop().await;
            });
        })?;
        Ok(Self {
            intent,
            status: status.recv()?,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Starts it and waits until BGP and BFD are up.
    fn establish(node: &Netns, intent: SessionIntent) -> Result<Self> {
        let speaker = Self::start(node, intent)?;
        speaker.await_up()?;
        Ok(speaker)
    }

    fn status(&self) -> SessionStatus {
        self.status.borrow().clone()
    }

    fn bfd(&self) -> Result<BfdStatus> {
        let status = self.status();
        status.bfd.ok_or_else(|| anyhow::anyhow!("no BFD"))
    }

    fn await_status(&self, what: &str, wanted: impl Fn(&SessionStatus) -> bool) -> Result<()> {
        wait::until(what, LIMIT, || {
            let status = self.status();
            ensure!(wanted(&status), "{status:?}");
            Ok(())
        })
    }

    fn await_bfd(&self, what: &str, wanted: impl Fn(&BfdStatus) -> bool) -> Result<()> {
        self.await_status(what, |status| status.bfd.as_ref().is_some_and(&wanted))
    }

    fn await_up(&self) -> Result<()> {
        self.await_bfd("BFD up", |bfd| bfd.state == BfdState::Up)?;
        self.await_status("BGP up", |status| status.state == SessionState::Established)
    }

    fn end(&mut self) {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.end();
    }
}

fn requests(intent: &SessionIntent, peer: &Peer) -> Requests {
    let request = intent.bfd.clone().map(|bfd| Request {
        peer: intent.config.peer_address,
        interface: 0,
        source: intent.config.source_address,
        intent: bfd,
        report: peer.bfd.clone(),
    });
    request
        .map(|request| ("tor".to_owned(), request))
        .into_iter()
        .collect()
}

fn a_lost_path_ends_bgp(tor: IpAddr, node: IpAddr, bgp: &str, bfd: BfdIntent) -> Result<()> {
    let lab = Lab::new()?;
    let router = Router::start(&lab.tor, tor, node, bgp)?;
    let mut intent = watched(tor, bfd);
    intent.config.multihop = bgp.contains("multihop");
    let speaker = Speaker::establish(&lab.node, intent)?;
    router.await_bfd(node, |line| line.contains("Up"))?;
    router.await_established(true)?;

    lab.tor.run(["nft", CUT])?;
    speaker.await_status("the end of BGP", |status| {
        status.state != SessionState::Established
    })?;
    let status = speaker.status();
    let error = status.last_error.unwrap_or_default();
    ensure!(error.contains("BFD: the path"), "{error}");
    let bfd = speaker.bfd()?;
    ensure!(bfd.losses == 1, "{bfd:?}");
    ensure!(bfd.local_diagnostic == "detection_time_expired", "{bfd:?}");
    router.await_established(false)?;

    lab.tor.run(["nft", "delete table inet cut"])?;
    speaker.await_up()?;
    router.await_established(true)?;
    ensure!(speaker.bfd()?.losses == 1);
    Ok(())
}

#[test]
fn a_lost_path_ends_bgp_over_ipv4_long_before_its_hold_time() -> Result<()> {
    a_lost_path_ends_bgp(TOR_V4, NODE_V4, "bfd on;", bfd(50))
}

#[test]
fn a_lost_path_ends_bgp_over_ipv6_long_before_its_hold_time() -> Result<()> {
    a_lost_path_ends_bgp(TOR_V6, NODE_V6, "bfd on;", bfd(50))
}

#[test]
fn a_lost_path_over_several_hops_ends_bgp_long_before_its_hold_time() -> Result<()> {
    let mut multihop = BfdIntent {
        reach: BfdReach::MultiHop,
        ..bfd(50)
    };
    // What this router sends over several hops begins with 64.
    multihop.profile.minimum_ttl = 60;
    a_lost_path_ends_bgp(TOR_V4, NODE_V4, "multihop 2; bfd on;", multihop)
}

#[test]
fn intervals_change_while_both_stay_up() -> Result<()> {
    let lab = Lab::new()?;
    let router = Router::start(&lab.tor, TOR_V4, NODE_V4, "bfd on;")?;
    let speaker = Speaker::establish(&lab.node, watched(TOR_V4, bfd(100)))?;
    let since = speaker.status().since;
    for interval in [400, 20, 1500, 100] {
        speaker
            .intent
            .send_modify(|intent| intent.bfd = Some(bfd(interval)));
        // Neither side sends faster than the other receives.
        let slower = Duration::from_millis(interval.max(100));
        let agreed = |bfd: &BfdStatus| {
            bfd.transmit_interval == Some(slower) && bfd.detection_time == Some(slower * 3)
        };
        speaker.await_bfd("the intervals", agreed)?;
        let timeout = format!("{:.3}", (slower * 3).as_secs_f64());
        router.await_bfd(NODE_V4, |line| {
            line.contains("Up") && line.ends_with(&timeout)
        })?;
    }
    let status = speaker.status();
    ensure!(status.since == since, "BGP was reset");
    ensure!(speaker.bfd()?.losses == 0);
    Ok(())
}

#[test]
fn the_router_is_told_when_bfd_is_wanted_no_more() -> Result<()> {
    let lab = Lab::new()?;
    let router = Router::start(&lab.tor, TOR_V4, NODE_V4, "bfd on;")?;
    let speaker = Speaker::establish(&lab.node, watched(TOR_V4, bfd(2000)))?;
    speaker.await_bfd("the interval", |bfd| {
        bfd.transmit_interval == Some(Duration::from_secs(2))
    })?;
    let detection_time = Duration::from_secs(2) * 3;
    router.await_bfd(NODE_V4, |line| line.ends_with("6.000"))?;
    let end = Instant::now();
    speaker.intent.send_modify(|intent| intent.bfd = None);
    speaker.await_status("no BFD", |status| status.bfd.is_none())?;
    router.await_bfd(NODE_V4, |line| line.contains("Down"))?;
    ensure!(end.elapsed() < detection_time / 2, "it had to find out");
    Ok(())
}

#[test]
fn a_router_that_seems_too_far_is_refused_and_the_reason_told() -> Result<()> {
    let lab = Lab::new()?;
    let _router = Router::start(&lab.tor, TOR_V4, NODE_V4, "multihop 2; bfd on;")?;
    let far = BfdIntent {
        reach: BfdReach::MultiHop,
        ..bfd(50)
    };
    let mut intent = watched(TOR_V4, far);
    intent.config.multihop = true;
    let speaker = Speaker::start(&lab.node, intent)?;
    speaker.await_bfd("the reason", |bfd| {
        let failure = bfd.failure.as_ref();
        failure.is_some_and(|failure| failure.contains("TTL 64, and minimumTtl is 254"))
    })?;
    speaker.await_bfd("BFD down", |bfd| bfd.state == BfdState::Down)
}

#[test]
fn a_strict_session_waits_for_the_routers_bfd() -> Result<()> {
    let lab = Lab::new()?;
    let router = Router::start(&lab.tor, TOR_V4, NODE_V4, "")?;
    let strict = BfdIntent {
        is_strict: true,
        ..bfd(50)
    };
    let speaker = Speaker::start(&lab.node, watched(TOR_V4, strict))?;
    speaker.await_status("the reason", |status| {
        let error = status.last_error.as_ref();
        error.is_some_and(|error| error.contains("waiting for BFD"))
    })?;
    ensure!(!router.is_established()?);
    drop(router);
    let router = Router::start(&lab.tor, TOR_V4, NODE_V4, "bfd on;")?;
    speaker.await_up()?;
    router.await_established(true)
}

#[test]
fn a_router_without_bfd_is_spoken_to_all_the_same() -> Result<()> {
    let lab = Lab::new()?;
    let router = Router::start(&lab.tor, TOR_V4, NODE_V4, "")?;
    let speaker = Speaker::start(&lab.node, watched(TOR_V4, bfd(50)))?;
    router.await_established(true)?;
    ensure!(speaker.bfd()?.state == BfdState::Down);
    Ok(())
}
