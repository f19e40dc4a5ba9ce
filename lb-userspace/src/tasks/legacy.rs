//! Takes over from whoever served the VIPs in this kernel, without breaking a
//! connection.
//!
//! ```text
//!  frontends are written      connections are noted        none is left, or 15 minutes
//!  ────▶ all of theirs is left to the kernel ───▶ those are left to it ─────▶ nothing is
//! ```
//!
//! [`Legacy`] is asked before and after frontends are written. The programs note what they see in between, so
//! that a connection that begins while the kernel's are read is not lost. So it is with the first frontends,
//! and with later ones to which the kernel has connections by then: any other later frontend is new to
//! everybody, or was ours before. From then on the kernel's connections are read every few seconds, and those
//! that ended are ours if they come back.
//!
//! Each node does this for what its own kernel tracks: a packet of such a connection that the router sends to
//! another node than before finds nothing there.

use std::collections::BTreeSet;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lb_common::maps::{Frontend, frontend_flags};
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::datapath::Programmed;
use crate::datapath::handle::TableError;
use crate::datapath::legacy::{Flows, LegacyTables};
use crate::model::cluster::Protocol;
use crate::model::intent::FrontendName;
use crate::net::clock;
use crate::net::ctnetlink::{self, Connection, ConntrackError};
use crate::plan::layout::Layout;
use crate::plan::step::Step;
use crate::telemetry::chain;

/// How often the kernel's connections are read.
const PERIOD: Duration = Duration::from_secs(2);
/// The same, as a multiple of the time that reading them takes.
const SHARE: u32 = 10;
/// How often they are read again at once where they changed meanwhile.
const ATTEMPTS: usize = 3;

/// What the kernel serves: a handle, of which there may be many.
#[derive(Clone)]
pub struct Legacy(Arc<Mutex<State>>);

struct State {
    tables: LegacyTables,
    /// There were frontends in the maps.
    has_served: bool,
    /// The frontends that bear the flag, beside others that do not.
    flagged: BTreeSet<FrontendName>,
}

impl Legacy {
    /// With the maps that say which flows are left to the kernel.
    pub fn new(tables: LegacyTables) -> Self {
        Self(Arc::new(Mutex::new(State {
            tables,
            has_served: false,
            flagged: BTreeSet::new(),
        })))
    }

    /// The maps are about to change: what the kernel serves of new frontends goes on there until
    /// [`Self::settle`]. May read all of the kernel's connections.
    ///
    /// # Errors
    /// The change would break them.
    pub fn begin(
        &self,
        before: &Layout,
        next: &Layout,
        kernel_knows_vips: bool,
    ) -> Result<(), TableError> {
        let (is_known, has_served) = {
            let mut state = self.lock();
            // An agent before did not come to their end.
            let unsettled = before.frontends().filter(|(_, table)| {
                let flags = table.value().flags;
                flags & frontend_flags::ADOPT != 0
            });
            state.flagged.extend(unsettled.map(|(name, _)| *name));
            state.has_served |= before.frontends().next().is_some();
            let has_served = state.has_served;
            state.has_served |= next.frontends().next().is_some();
            let is_known = kernel_knows_vips || state.tables.kernel_knows_vips();
            (is_known, has_served)
        };
        let new = next.frontends().map(|(name, _)| *name);
        let new: BTreeSet<_> = new.filter(|name| before.frontend(name).is_none()).collect();
        if new.is_empty() || !is_known {
            return Ok(());
        }
        if !has_served {
            return self.lock().tables.adopt();
        }
        let mut served = BTreeSet::new();
        let read = attempt(|| {
            ctnetlink::connections(|connection| {
                let frontend = frontend(&connection).filter(|name| new.contains(name));
                served.extend(frontend.filter(|_| connection.is_served));
            })
        });
        if let Err(error) = read {
            // What was found is right all the same.
            warn!("{}; connections that it serves may break", chain(&error));
        }
        if served.is_empty() {
            return Ok(());
        }
        let mut state = self.lock();
        state.tables.adopt_flagged()?;
        state.flagged.extend(served);
        Ok(())
    }

    /// Puts the flag into the steps that write a frontend, where it belongs.
    pub fn mark(&self, steps: &mut [Step]) {
        let state = self.lock();
        for step in steps {
            if let Step::SetFrontend { name, frontend } = step {
                frontend.flags &= !frontend_flags::ADOPT;
                if state.flagged.contains(name) {
                    frontend.flags |= frontend_flags::ADOPT;
                }
            }
        }
    }

    /// The maps hold that layout: notes what connections the kernel has to its new frontends. Where it does not
    /// tell there is nothing to wait for. Returns the steps with which those frontends are served.
    ///
    /// # Errors
    /// They are not to be served yet.
    pub fn settle(&self, layout: &Layout) -> Result<Vec<Step>, TableError> {
        let wanted: BTreeSet<_> = {
            let state = self.lock();
            match state.tables.is_adopting() {
                true => layout.frontends().map(|(name, _)| *name).collect(),
                false => state.flagged.clone(),
            }
        };
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut flows = Flows::default();
        let read = attempt(|| {
            ctnetlink::connections(|connection| {
                let is_wanted = connection.is_served && !connection.has_ended;
                if is_wanted && frontend(&connection).is_some_and(|name| wanted.contains(&name)) {
                    note(&mut flows, &connection);
                }
            })
        });
        if let Err(error) = read {
            warn!("{}; connections that it serves may break", chain(&error));
        }
        let mut state = self.lock();
        let refused = state.tables.settle(&flows, seconds())?;
        info!(
            connections = flows.len(),
            "left to the kernel until they end, 15 minutes at most"
        );
        if refused > 0 {
            warn!(
                refused,
                "there is no room for more connections of the kernel: they break"
            );
        }
        let flagged = std::mem::take(&mut state.flagged);
        let tables = flagged
            .into_iter()
            .filter_map(|name| Some((name, *layout.frontend(&name)?.value())));
        let steps = tables.map(|(name, value)| Step::SetFrontend {
            name,
            frontend: Frontend {
                flags: value.flags & !frontend_flags::ADOPT,
                ..value
            },
        });
        Ok(steps.collect())
    }

    /// Follows what is left to the kernel, until dropped.
    pub async fn run(self, mut programmed: watch::Receiver<Option<Programmed>>) {
        loop {
            let mut before = Reading::default();
            let mut rest = PERIOD;
            while self.lock().tables.is_active() {
                sleep(rest).await;
                let start = Instant::now();
                block_in_place(|| self.sweep(&mut before));
                rest = PERIOD.max(start.elapsed() * SHARE);
            }
            if programmed.changed().await.is_err() {
                return pending().await;
            }
        }
    }

    /// Takes away what ended: what neither this reading found nor the one before, which may have passed over it.
    fn sweep(&self, before: &mut Reading) {
        let held = match self.lock().tables.flows() {
            Ok(held) => held,
            Err(error) => return warn!("{}", chain(&error)),
        };
        let mut live = Flows::default();
        let read = attempt(|| {
            ctnetlink::connections(|connection| {
                let (source, destination) = (connection.source, connection.destination);
                let is_held = held.contains(source, destination, connection.protocol);
                if is_held && !connection.has_ended {
                    note(&mut live, &connection);
                }
            })
        });
        if let Err(error) = read {
            debug!("{}", chain(&error));
            // As long as the kernel does not tell, only time takes connections away.
            live.extend(&held);
        }
        before.live.extend(&live);
        let swept = self.lock().sweep(before);
        if let Err(error) = swept {
            warn!("{}", chain(&error));
        }
        *before = Reading { held, live };
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panicked with the lock held had begun or settled, or had not: both are good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was left to the kernel, and what of it the kernel had.
#[derive(Default)]
struct Reading {
    held: Flows,
    live: Flows,
}

impl State {
    /// Takes away what was held and did not live; ends it all once nothing is left.
    fn sweep(&mut self, reading: &Reading) -> Result<(), TableError> {
        let swept = self.tables.sweep(&reading.held, &reading.live, seconds())?;
        if swept.cut_off > 0 {
            warn!(
                connections = swept.cut_off,
                "no longer left to the kernel: they are cut off"
            );
        }
        if swept.left == 0 && self.flagged.is_empty() && !self.tables.is_adopting() {
            self.tables.end()?;
            info!("no connection is left to the kernel any more");
        }
        Ok(())
    }
}

impl fmt::Debug for Legacy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Legacy(..)")
    }
}

/// The frontend to which a connection would be, if there is one.
fn frontend(connection: &Connection) -> Option<FrontendName> {
    let mut protocols = [Protocol::Tcp, Protocol::Udp].into_iter();
    Some(FrontendName {
        addr: connection.destination.ip(),
        port: connection.destination.port(),
        protocol: protocols.find(|protocol| protocol.number() == connection.protocol)?,
    })
}

fn note(flows: &mut Flows, connection: &Connection) {
    flows.insert(
        connection.source,
        connection.destination,
        connection.protocol,
    );
}

/// Reads again what changed meanwhile. What is read twice is noted once.
fn attempt(mut read: impl FnMut() -> Result<(), ConntrackError>) -> Result<(), ConntrackError> {
    let mut outcome = read();
    for _ in 1..ATTEMPTS {
        if !matches!(outcome, Err(ConntrackError::Interrupted)) {
            break;
        }
        outcome = read();
    }
    outcome
}

/// `CLOCK_MONOTONIC` as the programs note it: it takes 136 years of uptime to wrap.
fn seconds() -> u32 {
    (clock::monotonic_nanos() / 1_000_000_000) as u32
}
