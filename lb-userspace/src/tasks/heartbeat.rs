//! Tells the programs every second that the agent lives.
//!
//! On its own, so that a task that plans for long, or hangs, does not make the agent look dead; only the
//! end of the process does.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::datapath::heart::Heart;
use crate::net::clock;
use crate::telemetry::chain;

const PERIOD: Duration = Duration::from_secs(1);

/// Runs until dropped.
pub async fn run(heart: Heart) {
    let mut tick = interval(PERIOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        if let Err(error) = heart.beat(clock::monotonic_nanos()) {
            warn!("heartbeat: {}", chain(&error));
        }
    }
}
