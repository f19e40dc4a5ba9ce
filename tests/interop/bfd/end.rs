//! BFD alone, between two of ours: farewells, and busy processors.

use std::collections::BTreeMap;
use std::net::{IpAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::netns::Netns;
use harness::wait;
use lb_userspace::model::bfd::{BfdIntent, BfdReport};
use lb_userspace::tasks::bfd::{Bfd, Request};
use nix::net::if_::if_nametoindex;
use tokio::sync::watch;

use super::{alone, bfd};
use crate::lab::{LIMIT, Lab, NODE_V4, NODE_V6, TOR_V4, TOR_V6};

/// One end of a session, without BGP.
pub(super) struct End {
    report: watch::Receiver<BfdReport>,
    intent: Option<watch::Sender<BfdIntent>>,
    thread: Option<JoinHandle<()>>,
}

impl End {
    pub(super) fn start(netns: &Netns, peer: IpAddr, intent: BfdIntent) -> Result<Self> {
        Self::start_at(netns, peer, "", intent)
    }

    /// The same, with a peer behind this interface.
    fn start_at(
        netns: &Netns,
        peer: IpAddr,
        interface: &'static str,
        intent: BfdIntent,
    ) -> Result<Self> {
        let (sender, report) = watch::channel(BfdReport::default());
        let (intent, mut wanted) = watch::channel(intent);
        let thread = netns.spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let bfd = Bfd::start().expect("a thread");
                loop {
                    let request = Request {
                        peer,
                        interface: if_nametoindex(interface).unwrap_or(0),
                        source: None,
                        intent: wanted.borrow_and_update().clone(),
                        report: sender.clone(),
                    };
                    bfd.request(BTreeMap::from([("peer".to_owned(), request)]));
                    if wanted.changed().await.is_err() {
                        break;
                    }
                }
                bfd.stop().await;
            });
        })?;
        Ok(Self {
            report,
            intent: Some(intent),
            thread: Some(thread),
        })
    }

    /// Asks for something else.
    pub(super) fn change(&self, intent: BfdIntent) {
        if let Some(current) = &self.intent {
            current.send_replace(intent);
        }
    }

    /// Waits for a report.
    pub(super) fn await_report(
        &self,
        what: &str,
        wanted: impl Fn(&BfdReport) -> bool,
    ) -> Result<BfdReport> {
        wait::until(what, LIMIT, || {
            let report = self.report.borrow().clone();
            ensure!(wanted(&report), "{report:?}");
            Ok(report)
        })
    }
}

impl Drop for End {
    fn drop(&mut self) {
        drop(self.intent.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[test]
fn a_farewell_is_no_loss_and_a_passive_end_answers() -> Result<()> {
    let lab = Lab::new()?;
    let mut passive = bfd(50);
    passive.profile.is_passive = true;
    let quiet = End::start(&lab.tor, NODE_V6, passive)?;
    let loud = End::start(&lab.node, TOR_V6, bfd(50))?;
    for end in [&quiet, &loud] {
        end.await_report("both up", BfdReport::is_up)?;
    }
    drop(loud);
    let left = quiet.await_report("one left", |report| !report.is_up())?;
    ensure!(left.losses == 0, "{left:?}");
    Ok(())
}

#[test]
fn ends_with_link_local_addresses_come_up() -> Result<()> {
    let lab = Lab::new()?;
    let addresses = ["fe80::a", "fe80::b"];
    for (netns, address) in [&lab.tor, &lab.node].into_iter().zip(addresses) {
        netns.ip(&format!("addr add {address}/64 dev uplink nodad"))?;
    }
    let [tor, node] = addresses;
    let ends = [
        End::start_at(&lab.tor, node.parse()?, "uplink", bfd(50))?,
        End::start_at(&lab.node, tor.parse()?, "uplink", bfd(50))?,
    ];
    for end in &ends {
        end.await_report("both up", BfdReport::is_up)?;
    }
    Ok(())
}

/// Programs that want all the time there is, four for each processor.
struct BusyLoops(Vec<std::process::Child>);

impl BusyLoops {
    fn start() -> Result<Self> {
        let count = 4 * std::thread::available_parallelism()?.get();
        let mut loops = Self(Vec::new());
        for _ in 0..count {
            let mut command = Command::new("sh");
            command.args(["-c", "while :; do :; done"]);
            loops.0.push(command.stdin(Stdio::null()).spawn()?);
        }
        Ok(loops)
    }
}

impl Drop for BusyLoops {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Two ends at 50 ms × 3, both up.
fn pair(lab: &Lab) -> Result<[End; 2]> {
    let ends = [
        End::start(&lab.tor, NODE_V4, bfd(50))?,
        End::start(&lab.node, TOR_V4, bfd(50))?,
    ];
    for end in &ends {
        end.await_report("both up", |report| {
            let detection_time = report.status.as_ref().and_then(|bfd| bfd.detection_time);
            report.is_up() && detection_time == Some(Duration::from_millis(150))
        })?;
    }
    Ok(ends)
}

/// Lets the time pass; an error if either end loses the other in it.
fn hold(ends: &[End; 2], time: Duration) -> Result<()> {
    let start = Instant::now();
    wait::until("the time to pass", time + LIMIT, || {
        for end in ends {
            let report = end.report.borrow().clone();
            if report.losses > 0 {
                return Ok(Err(report));
            }
        }
        ensure!(start.elapsed() >= time, "not yet");
        Ok(Ok(()))
    })?
    .map_err(|report| anyhow::anyhow!("lost after {:?}: {report:?}", start.elapsed()))
}

fn nothing_is_lost_on_a_busy_node(time: Duration) -> Result<()> {
    let _alone = alone();
    let lab = Lab::new()?;
    let ends = pair(&lab)?;
    let _loops = BusyLoops::start()?;
    hold(&ends, time)
}

/// Somebody on the link who sends as fast as one thread can.
struct Flood {
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Flood {
    fn start(netns: &Netns, target: IpAddr, ttl: u32, payload: [u8; 24]) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let thread = netns.spawn(move || {
            let socket = UdpSocket::bind("0.0.0.0:0").expect("a socket");
            socket.set_ttl(ttl).expect("a TTL");
            let mut sent = 0;
            while !over.load(Ordering::Relaxed) {
                sent += u64::from(socket.send_to(&payload, (target, 3784)).is_ok());
            }
            sent
        })?;
        Ok(Self {
            is_over,
            thread: Some(thread),
        })
    }

    fn end(mut self) -> u64 {
        self.is_over.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        thread.and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_flood_of_garbage_from_the_link_breaks_nothing() -> Result<()> {
    let _alone = alone();
    let lab = Lab::new()?;
    let ends = pair(&lab)?;
    // Well formed, from the peer's address, with all that can be known without having seen a packet.
    let mut up = [0; 24];
    up[..4].copy_from_slice(&[0x20, 0xc0, 3, 24]);
    up[4..12].fill(0x5a);
    for (ttl, payload) in [(64, up), (255, up)] {
        let flood = Flood::start(&lab.tor, NODE_V4, ttl, payload)?;
        let outcome = hold(&ends, Duration::from_secs(3));
        let sent = flood.end();
        outcome.with_context(|| format!("{sent} packets with TTL {ttl}"))?;
        ensure!(sent > 1000, "{sent} packets are no flood");
    }
    Ok(())
}

#[test]
fn four_busy_loops_per_processor_break_nothing() -> Result<()> {
    nothing_is_lost_on_a_busy_node(Duration::from_secs(10))
}

#[test]
#[ignore = "long: keeps every processor busy for a minute"]
fn four_busy_loops_per_processor_break_nothing_for_a_minute() -> Result<()> {
    nothing_is_lost_on_a_busy_node(Duration::from_secs(60))
}
