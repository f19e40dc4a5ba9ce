//! Writes the allocation to the API server, on the agent that holds the Lease.
//!
//! A round for every new intent, and one each few seconds for the Lease. While the source is partial, nothing
//! is written: what looks free may be taken.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::control::Desired;
use super::source::Snapshot;
use crate::k8s::writer::{Assigned, Round, Writer};
use crate::model::cluster::Service;
use crate::model::intent::ServiceState;
use crate::model::name::ObjectName;
use crate::model::shared_map::SharedMap;
use crate::telemetry::chain;

/// Runs until an input ends, or it is told to stop; then gives the Lease back.
pub async fn run(
    mut writer: Writer,
    snapshots: watch::Receiver<Snapshot>,
    mut desired: watch::Receiver<Arc<Desired>>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut was_ours = false;
    let mut complaint = None;
    let mut brief = Brief::default();
    loop {
        let outcome = {
            let snapshot = snapshots.borrow().clone();
            let wanted = Arc::clone(&desired.borrow_and_update());
            let is_of_snapshot = wanted.revision == snapshot.revision && wanted.revision > 0;
            if is_of_snapshot && !snapshot.cluster.is_partial {
                brief.follow(&snapshot, &wanted);
                writer.round(&brief.seen, &brief.wanted).await
            } else {
                Ok(Round::Behind)
            }
        };
        let text = outcome.as_ref().err().map(|error| chain(error).to_string());
        if let Some(text) = &text
            && complaint.as_ref() != Some(text)
        {
            warn!("{text}; tried again");
        }
        complaint = text;
        if let Ok(round) = &outcome {
            let is_ours = match round {
                Round::NotOurs => false,
                Round::Behind => was_ours,
                Round::Written(_) => true,
            };
            if is_ours != was_ours {
                let what = if is_ours { "taken" } else { "lost" };
                info!("Lease torline {what}");
            }
            was_ours = is_ours;
            debug!(?round, "allocation");
        }
        tokio::select! {
            changed = desired.changed() => if changed.is_err() { break },
            () = sleep(Writer::INTERVAL) => {}
            _ = &mut stop => break,
        }
    }
    if let Err(error) = writer.release().await {
        warn!("{}", chain(&error));
    }
}

/// What a round is about; put together when it is another one.
#[derive(Default)]
struct Brief {
    services: SharedMap<ObjectName, Service>,
    states: SharedMap<ObjectName, ServiceState>,
    seen: BTreeMap<ObjectName, Vec<IpAddr>>,
    wanted: BTreeMap<ObjectName, Assigned>,
}

impl Brief {
    fn follow(&mut self, snapshot: &Snapshot, desired: &Desired) {
        let services = &snapshot.cluster.services;
        let states = &desired.intent.services;
        if self.services.is_same(services) && self.states.is_same(states) {
            return;
        }
        let seen = services
            .iter()
            .map(|(name, service)| (name.clone(), service.status_addresses.clone()));
        let wanted = states.iter().map(|(name, state)| {
            let service = services.get(name);
            let assigned = Assigned {
                addresses: state.addresses.clone(),
                pool: state.pool.clone(),
                table_length: state.table_length,
                error: state.allocation_error.clone(),
                is_misread: service.is_some_and(|service| service.requested_addresses.is_err()),
            };
            (name.clone(), assigned)
        });
        *self = Self {
            services: services.clone(),
            states: states.clone(),
            seen: seen.collect(),
            wanted: wanted.collect(),
        };
    }
}
