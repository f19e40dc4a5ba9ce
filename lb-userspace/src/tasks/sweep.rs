//! Walks the flow tables for ever and removes what ended, at a pace that does
//! not depend on their size.

use std::time::Duration;

use tokio::task::block_in_place;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::{debug, warn};

use crate::datapath::sweep::{Backends, FlowKey, FlowTable, FlowTables};
use crate::net::clock;

/// How often a piece of a table is looked at.
const TICK: Duration = Duration::from_millis(100);

/// Entries per tick: a million in 25 seconds, each about a microsecond.
const PIECE: usize = 4096;

/// Runs until dropped.
pub async fn run(mut tables: FlowTables) {
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        for table in &mut tables.v4 {
            sweep(table, &tables.backends, &mut tick).await;
        }
        for table in &mut tables.v6 {
            sweep(table, &tables.backends, &mut tick).await;
        }
    }
}

async fn sweep<K: FlowKey>(table: &mut FlowTable<K>, backends: &Backends, tick: &mut Interval) {
    let mut pass = table.pass(backends);
    loop {
        tick.tick().await;
        match block_in_place(|| pass.step(PIECE, seconds())) {
            Ok(swept) => {
                if swept.removed > 0 {
                    debug!(removed = swept.removed, "flows ended");
                }
                if swept.is_done {
                    return;
                }
            }
            Err(error) => {
                warn!("sweep: {error}");
                return;
            }
        }
    }
}

/// `CLOCK_MONOTONIC` as flows keep it: it takes 136 years of uptime to wrap.
fn seconds() -> u32 {
    (clock::monotonic_nanos() / 1_000_000_000) as u32
}
