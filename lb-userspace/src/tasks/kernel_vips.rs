//! Looks for kube-proxy until it is there: at boot it may start after the
//! agent.
//!
//! What it serves by then are no connections to take over: the programs were there before.

use std::future::pending;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::datapath::heart::Heart;
use crate::net::kernel_vips;
use crate::telemetry::chain;

/// How often to look: a few short processes each time.
const PERIOD: Duration = Duration::from_secs(10);

/// Runs until dropped.
pub async fn run(heart: Heart) {
    loop {
        sleep(PERIOD).await;
        if !spawn_blocking(kernel_vips::are_served)
            .await
            .unwrap_or(false)
        {
            continue;
        }
        match heart.set_kernel_knows_vips() {
            Ok(()) => {
                info!(
                    "the kernel serves the VIPs too: what is too hard for the programs goes there"
                );
                return pending().await;
            }
            Err(error) => warn!("{}", chain(&error)),
        }
    }
}
