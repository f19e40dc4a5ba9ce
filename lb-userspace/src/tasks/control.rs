//! Turns what the source says into what this node is to do.
//!
//! Findings are logged once, when they appear and when they are settled. The live node with the lowest
//! name keeps what an API server would keep for a directory: which Service has which address.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::block_in_place;
use tracing::{debug, info, warn};

use super::source::Snapshot;
use crate::k8s::state::{ServiceRecord, State, StateFile};
use crate::model::cluster::Cluster;
use crate::model::intent::{Finding, Intent, ServiceState};
use crate::plan;
use crate::telemetry::chain;

/// What this node is to do.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Desired {
    /// The snapshot it comes from; 0 is none.
    pub revision: u64,
    /// The intent.
    pub intent: Intent,
    /// What is wrong, with single objects and with them together.
    pub findings: BTreeSet<Finding>,
}

impl Desired {
    /// From a snapshot.
    pub fn of(snapshot: &Snapshot, context: &plan::Context) -> Self {
        let intent = plan::compute(&snapshot.cluster, context);
        let findings = snapshot
            .findings
            .iter()
            .chain(&intent.findings)
            .cloned()
            .collect();
        Self {
            revision: snapshot.revision,
            intent,
            findings,
        }
    }
}

/// Runs until the source ends.
pub async fn run(
    context: plan::Context,
    state: StateFile,
    mut snapshots: watch::Receiver<Snapshot>,
    output: watch::Sender<Arc<Desired>>,
) {
    while snapshots.changed().await.is_ok() {
        let snapshot = snapshots.borrow_and_update().clone();
        let desired = block_in_place(|| Desired::of(&snapshot, &context));
        log_findings(&output.borrow().findings, &desired.findings);
        debug!(
            revision = desired.revision,
            services = desired.intent.services.len(),
            frontends = desired.intent.dataplane.frontends.len(),
            sessions = desired.intent.sessions.len(),
            "intent"
        );
        if is_writer(&snapshot.cluster, &context.node)
            && let Err(error) = block_in_place(|| state.write(&to_keep(&desired.intent)))
        {
            warn!("{}", chain(&error));
        }
        output.send_replace(Arc::new(desired));
    }
}

fn log_findings(before: &BTreeSet<Finding>, after: &BTreeSet<Finding>) {
    for finding in after.difference(before) {
        warn!("{finding}");
    }
    for finding in before.difference(after) {
        info!("settled: {finding}");
    }
}

/// What is to be the same after a restart, and on every node.
fn to_keep(intent: &Intent) -> State {
    let record = |service: &ServiceState| ServiceRecord {
        addresses: service.addresses.clone(),
        pool: service.pool.clone(),
        table_length: service.table_length,
    };
    let services = intent.services.iter();
    State {
        services: services
            .map(|(name, service)| (name.clone(), record(service)))
            .collect(),
    }
}

/// Whether this node is the ready one with the lowest name. Where none is known to be ready, this node
/// is the only one that can tell it runs.
fn is_writer(cluster: &Cluster, node: &str) -> bool {
    cluster
        .nodes
        .iter()
        .find(|(_, candidate)| candidate.ready)
        .is_none_or(|(lowest, _)| lowest == node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Node;

    #[test]
    fn the_ready_node_with_the_lowest_name_writes() {
        let node = |ready| Node {
            ready,
            ..Node::default()
        };
        let mut cluster = Cluster::default();
        assert!(is_writer(&cluster, "b"));

        cluster.nodes = [
            ("a".to_owned(), node(false)),
            ("b".to_owned(), node(true)),
            ("c".to_owned(), node(true)),
        ]
        .into();
        assert!(!is_writer(&cluster, "a"));
        assert!(is_writer(&cluster, "b"));
        assert!(!is_writer(&cluster, "c"));
    }
}
