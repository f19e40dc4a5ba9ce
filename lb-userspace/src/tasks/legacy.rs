//! Takes over from whoever served the VIPs in this kernel, without breaking a
//! connection.
//!
//! ```text
//!  first start     frontends are there        connections are noted        none is left, or 15 minutes
//!  ──────────▶ all is left to the kernel ───▶ those are left to it ─────▶ nothing is
//! ```
//!
//! In between the kernel's connections are read every few seconds, and those that ended are ours if they
//! come back. The programs note what they see during the first step, so that a connection that begins while
//! the others are read is not lost. Each node does this for what its own kernel tracks: a packet of such a
//! connection that the router sends to another node than before finds nothing there.

use std::collections::HashSet;
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use tracing::{debug, info, warn};

use super::datapath::Programmed;
use crate::datapath::legacy::{Flows, LegacyTables};
use crate::net::clock;
use crate::net::ctnetlink::{self, ConntrackError};
use crate::telemetry::chain;

/// How often the kernel's connections are read.
const PERIOD: Duration = Duration::from_secs(2);
/// The same, as a multiple of the time that reading them takes.
const SHARE: u32 = 10;
/// How often they are read again at once where they changed meanwhile.
const ATTEMPTS: usize = 3;

/// Runs until dropped.
pub async fn run(mut tables: LegacyTables, mut programmed: watch::Receiver<Option<Programmed>>) {
    if tables.is_adopting() {
        let Some(frontends) = frontends(&mut programmed).await else {
            return;
        };
        while tables.is_adopting() {
            block_in_place(|| settle(&mut tables, &frontends));
            if tables.is_adopting() {
                sleep(PERIOD).await;
            }
        }
    }
    drop(programmed);
    let mut live = tables.flows().unwrap_or_default();
    let mut rest = PERIOD;
    while tables.is_active() {
        sleep(rest).await;
        let start = Instant::now();
        block_in_place(|| sweep(&mut tables, &mut live));
        rest = PERIOD.max(start.elapsed() * SHARE);
    }
    pending().await
}

/// Address, port and protocol of each frontend, once they are in the maps.
async fn frontends(programmed: &mut watch::Receiver<Option<Programmed>>) -> Option<Frontends> {
    let programmed = programmed.wait_for(Option::is_some).await.ok()?;
    let intent = &programmed.as_ref()?.desired.intent.dataplane;
    let names = intent.frontends.keys();
    Some(
        names
            .map(|name| ((name.addr, name.port).into(), name.protocol.number()))
            .collect(),
    )
}

type Frontends = HashSet<(SocketAddr, u8)>;

/// Notes what connections the kernel has. Where it does not tell there is nothing to wait for.
fn settle(tables: &mut LegacyTables, frontends: &Frontends) {
    let read = || {
        let mut flows = Flows::default();
        ctnetlink::connections(|connection| {
            let frontend = (connection.destination, connection.protocol);
            if connection.is_served && !connection.has_ended && frontends.contains(&frontend) {
                flows.insert(
                    connection.source,
                    connection.destination,
                    connection.protocol,
                );
            }
        })?;
        Ok(flows)
    };
    let flows = attempt(read).unwrap_or_else(|error| {
        warn!("{}; connections that it serves may break", chain(&error));
        Flows::default()
    });
    match tables.settle(&flows, seconds()) {
        Ok(refused) => {
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
        }
        Err(error) => warn!("{}", chain(&error)),
    }
}

/// Takes away what ended. A connection has not if it is in `live`, where those of the reading before are: one
/// that is missing once may have been passed over.
fn sweep(tables: &mut LegacyTables, live: &mut Flows) {
    let before = match tables.flows() {
        Ok(held) => held,
        Err(error) => return warn!("{}", chain(&error)),
    };
    let read = || {
        let mut flows = Flows::default();
        ctnetlink::connections(|connection| {
            let (source, destination) = (connection.source, connection.destination);
            let protocol = connection.protocol;
            if !connection.has_ended && before.contains(source, destination, protocol) {
                flows.insert(source, destination, protocol);
            }
        })?;
        Ok(flows)
    };
    let now = match attempt(read) {
        Ok(flows) => flows,
        Err(error) => {
            debug!("{}", chain(&error));
            // As long as the kernel does not tell, only time takes connections away.
            before
        }
    };
    match tables.sweep(&now, live, seconds()) {
        Ok(swept) => {
            if swept.cut_off > 0 {
                warn!(
                    connections = swept.cut_off,
                    "no longer left to the kernel: they are cut off"
                );
            }
            if swept.left == 0 {
                info!("no connection is left to the kernel any more");
            }
        }
        Err(error) => warn!("{}", chain(&error)),
    }
    *live = now;
}

fn attempt(read: impl Fn() -> Result<Flows, ConntrackError>) -> Result<Flows, ConntrackError> {
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
