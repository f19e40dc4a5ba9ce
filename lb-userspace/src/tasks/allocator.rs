//! Writes the allocation to the API server, on the agent that holds the Lease.
//!
//! A round for every new intent, and one each few seconds for the Lease. While the source is partial, nothing
//! is written, since what looks free may be taken; but whoever holds the Lease keeps it. The holder also makes
//! the Secret with the cluster's keys where there is none.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tokio::time::sleep;
use tracing::{debug, info, warn};

use super::control::Desired;
use super::source::Snapshot;
use crate::k8s::writer::{Assigned, Round, WriteError, Writer};
use crate::model::cluster::Service;
use crate::model::intent::ServiceState;
use crate::model::name::ObjectName;
use crate::model::shared_map::SharedMap;
use crate::net::random;
use crate::telemetry::chain;

/// Runs until an input ends, or it is told to stop; then gives the Lease back.
pub async fn run(
    mut writer: Writer,
    snapshots: watch::Receiver<Snapshot>,
    mut desired: watch::Receiver<Arc<Desired>>,
    holds_lease: watch::Sender<bool>,
    mut stop: oneshot::Receiver<()>,
) {
    let mut complaint = None;
    let mut brief = Brief::default();
    loop {
        let outcome = {
            let snapshot = snapshots.borrow().clone();
            let wanted = Arc::clone(&desired.borrow_and_update());
            let is_of_snapshot = wanted.revision == snapshot.revision && wanted.revision > 0;
            if is_of_snapshot && !snapshot.cluster.is_partial {
                brief.follow(&snapshot, &wanted);
                round(&mut writer, &brief, snapshot.cluster.keys.is_none()).await
            } else {
                writer.keep().await.map(|is_ours| match is_ours {
                    true => Round::Behind,
                    false => Round::NotOurs,
                })
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
            debug!(?round, "allocation");
            let is_ours = *round != Round::NotOurs;
            let changed = holds_lease.send_if_modified(|known| {
                let changed = *known != is_ours;
                *known = is_ours;
                changed
            });
            if changed {
                let what = if is_ours { "taken" } else { "lost" };
                info!("Lease torline {what}");
            }
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

/// Writes the allocation, and the keys where there are none, if the Lease is this agent's.
async fn round(writer: &mut Writer, brief: &Brief, lacks_keys: bool) -> Result<Round, WriteError> {
    let round = writer.round(&brief.seen, &brief.wanted).await?;
    if round != Round::NotOurs && lacks_keys {
        let (flow_key, peer_key) = (random::key(), random::key());
        let keys = flow_key.and_then(|flow_key| Ok((flow_key, peer_key?)));
        match keys {
            Ok((flow_key, peer_key)) => {
                if writer.create_keys(flow_key, peer_key).await? {
                    info!("Secret torline made");
                }
            }
            Err(error) => warn!("no keys for Secret torline: {}", chain(&error)),
        }
    }
    Ok(round)
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
