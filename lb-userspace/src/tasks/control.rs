//! Turns what the source says into what this node is to do.
//!
//! Computes anew when the source changes, when a node goes or comes back, and when one says that it answers for
//! other addresses. Findings are logged once, when
//! they appear and when they are settled. The live node with the lowest
//! name keeps what an API server would keep for a directory: which Service has which address.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::liveness::{self, States};
use super::sessions::{self, SessionBook};
use super::source::Snapshot;
use crate::k8s::directory::implied;
use crate::k8s::state::{ServiceRecord, State, StateFile};
use crate::model::claim::Neighborhood;
use crate::model::cluster::{Cluster, Service};
use crate::model::intent::{Finding, Intent, ServiceState};
use crate::model::name::ObjectName;
use crate::model::shared_map::SharedMap;
use crate::plan;
use crate::proto::liveness::{GRACE, INTERVAL, State as Liveness};
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
    /// From a snapshot, by a planner that computed the one before, if there was one.
    pub fn of(snapshot: &Snapshot, context: &plan::Context, planner: &mut plan::Planner) -> Self {
        let intent = planner.compute(&snapshot.cluster, context);
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

/// What decides whether there is anything to be written to a state file, its present contents included: they are
/// in the Services, and what is wrong with them is in the findings.
#[derive(PartialEq)]
struct Grounds {
    services: SharedMap<ObjectName, Service>,
    states: SharedMap<ObjectName, ServiceState>,
    findings: Vec<Finding>,
}

impl Grounds {
    fn of(snapshot: &Snapshot, intent: &Intent) -> Self {
        Self {
            services: snapshot.cluster.services.clone(),
            states: intent.services.clone(),
            findings: snapshot.findings.clone(),
        }
    }
}

/// How long the first computation waits for all other nodes to be heard: so that an agent which starts while
/// a node is dead does not put it back into its tables.
const FIRST_WORDS: Duration = GRACE.saturating_add(INTERVAL.saturating_mul(2));

/// What the task reads.
#[derive(Debug)]
pub struct Inputs {
    /// The source.
    pub snapshots: watch::Receiver<Snapshot>,
    /// Which nodes live.
    pub states: watch::Receiver<States>,
    /// The BGP sessions.
    pub sessions: watch::Receiver<SessionBook>,
    /// What other nodes answer for.
    pub neighborhood: watch::Receiver<Neighborhood>,
}

/// Runs until an input ends. `state` is where a directory keeps what is decided about its objects; `context`
/// says what the maps held at the start.
pub async fn run(
    mut context: plan::Context,
    state: Option<StateFile>,
    inputs: Inputs,
    output: watch::Sender<Arc<Desired>>,
) {
    let Inputs {
        mut snapshots,
        mut states,
        sessions,
        mut neighborhood,
    } = inputs;
    if snapshots.changed().await.is_err() {
        return;
    }
    hear_others(&context.node, &snapshots, &mut states).await;
    // The peers of a directory that implies how it is announced know our routes.
    let mut is_turned_over = false;
    if neighborhood.changed().await.is_err() {
        return;
    }
    let mut planner = plan::Planner::default();
    let mut kept = None;
    loop {
        let mut snapshot = snapshots.borrow_and_update().clone();
        let turns_over = snapshot.cluster.is_implied && !snapshot.cluster.peers.is_empty();
        is_turned_over &= turns_over;
        if turns_over && !is_turned_over {
            implied::add_layer2(Arc::make_mut(&mut snapshot.cluster));
        }
        let known = states.borrow_and_update().clone();
        context.gone = liveness::gone(&known);
        context.neighborhood = neighborhood.borrow_and_update().clone();
        let desired = block_in_place(|| Desired::of(&snapshot, &context, &mut planner));
        log_findings(&output.borrow().findings, &desired.findings);
        debug!(
            revision = desired.revision,
            services = desired.intent.services.len(),
            frontends = desired.intent.dataplane.frontends.len(),
            sessions = desired.intent.sessions.len(),
            "intent"
        );
        let writes = is_writer(&snapshot.cluster, &context.node, &known);
        if writes && let Some(state) = &state {
            let grounds = Grounds::of(&snapshot, &desired.intent);
            if kept.as_ref() != Some(&grounds) {
                let keep = || {
                    // One that cannot be used is a finding already, and is replaced.
                    let before = state.read().unwrap_or_default();
                    state.write(&to_keep(&desired.intent, before, &snapshot))
                };
                kept = match block_in_place(keep) {
                    Ok(_) => Some(grounds),
                    Err(error) => {
                        warn!("{}", chain(&error));
                        None
                    }
                };
            }
        } else {
            kept = None;
        }
        context.held = answered(&desired.intent);
        output.send_replace(Arc::new(desired));
        let matters = |states: &States| {
            liveness::gone(states) != context.gone
                || is_writer(&snapshot.cluster, &context.node, states) != writes
        };
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            changed = states.wait_for(matters) => if changed.is_err() { return },
            () = sessions::any_established(sessions.clone()), if turns_over && !is_turned_over => {
                info!("a BGP session is up: ARP and NDP are answered no more");
                is_turned_over = true;
            }
            changed = neighborhood.changed() => if changed.is_err() { return },
        }
    }
}

/// Waits until something is known of every other node, or for as long as that can take.
async fn hear_others(
    node: &str,
    snapshots: &watch::Receiver<Snapshot>,
    states: &mut watch::Receiver<States>,
) {
    let nodes = snapshots.borrow().cluster.nodes.clone();
    let others: Vec<_> = nodes
        .iter()
        .filter(|(name, other)| *name != node && !other.addresses.is_empty())
        .map(|(name, _)| name)
        .collect();
    let all = states.wait_for(|states| {
        let mut of_others = others.iter().map(|name| states.get(*name));
        of_others.all(|state| state.is_some_and(|state| *state != Liveness::Unheard))
    });
    // Either is fine: nobody is waited for any longer.
    let _ = timeout(FIRST_WORDS, all).await;
}

fn log_findings(before: &BTreeSet<Finding>, after: &BTreeSet<Finding>) {
    for finding in after.difference(before) {
        warn!("{finding}");
    }
    for finding in before.difference(after) {
        info!("settled: {finding}");
    }
}

/// The addresses that this node is to answer ARP and NDP for.
fn answered(intent: &Intent) -> BTreeSet<IpAddr> {
    let vips = intent.dataplane.vips.iter();
    vips.filter(|(_, vip)| vip.answer_neighbors)
        .map(|(addr, _)| *addr)
        .collect()
}

/// What is to be the same after a restart, and on every node.
/// What is decided, with what was kept before of Services that cannot be read or used now: their addresses are
/// theirs when the mistake is mended.
fn to_keep(intent: &Intent, before: State, snapshot: &Snapshot) -> State {
    let record = |service: &ServiceState| ServiceRecord {
        addresses: service.addresses.clone(),
        pool: service.pool.clone(),
        table_length: service.table_length,
    };
    let refusals = snapshot.findings.iter().filter(|found| found.is_refusal());
    let refused: BTreeSet<&str> = refusals.map(|found| found.object.as_str()).collect();
    let is_missed = |name: &ObjectName| {
        snapshot.cluster.is_partial || refused.contains(format!("Service {name}").as_str())
    };
    let mut services = before.services;
    services.retain(|name, _| is_missed(name));
    let decided = intent.services.iter();
    services.extend(decided.map(|(name, service)| (name.clone(), record(service))));
    State { services }
}

/// Whether this node is the ready one with the lowest name, of those whose agent lives. Where none is known to
/// be ready, this node is the only one that can tell it runs.
fn is_writer(cluster: &Cluster, node: &str, states: &States) -> bool {
    let is_away = |name: &String| {
        let state = states.get(name);
        state.is_some_and(|state| matches!(state, Liveness::Gone | Liveness::AgentAway))
    };
    cluster
        .nodes
        .iter()
        .find(|(name, candidate)| candidate.ready && !is_away(name))
        .is_none_or(|(lowest, _)| lowest == node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::Node;

    #[test]
    fn what_was_kept_of_a_service_stays_until_it_is_known_to_be_gone() {
        let name = |name| ObjectName::new("default", name);
        let record = |last: u8| ServiceRecord {
            addresses: vec![[203, 0, 113, last].into()],
            ..ServiceRecord::default()
        };
        let before = || State {
            services: [(name("a"), record(1)), (name("b"), record(2))].into(),
        };
        let mut intent = Intent::default();
        let decided = ServiceState {
            addresses: record(3).addresses,
            ..ServiceState::default()
        };
        intent.services.insert(name("a"), decided);
        let mut snapshot = Snapshot::default();
        let kept = |snapshot: &Snapshot| {
            let kept = to_keep(&intent, before(), snapshot).services;
            assert_eq!(kept[&name("a")], record(3));
            kept.get(&name("b")).cloned()
        };
        assert_eq!(kept(&snapshot), None);
        snapshot.findings = vec![Finding {
            source: String::new(),
            object: "Service default/b".to_owned(),
            field: "spec".to_owned(),
            message: format!("wrong; {}", Finding::WITHOUT_EFFECT),
        }];
        assert_eq!(kept(&snapshot), Some(record(2)));
        snapshot.findings.clear();
        Arc::make_mut(&mut snapshot.cluster).is_partial = true;
        assert_eq!(kept(&snapshot), Some(record(2)));
    }

    #[test]
    fn the_ready_node_with_the_lowest_name_writes() {
        let node = |ready| Node {
            ready,
            ..Node::default()
        };
        let mut cluster = Cluster::default();
        let mut states = States::new();
        assert!(is_writer(&cluster, "b", &states));

        cluster.nodes = [
            ("a".to_owned(), node(false)),
            ("b".to_owned(), node(true)),
            ("c".to_owned(), node(true)),
        ]
        .into();
        let writers = |states: &States| {
            let names = ["a", "b", "c"].into_iter();
            names
                .filter(|name| is_writer(&cluster, name, states))
                .collect::<Vec<_>>()
        };
        assert_eq!(writers(&states), ["b"]);
        for (state, writer) in [
            (Liveness::Live, "b"),
            (Liveness::Unheard, "b"),
            (Liveness::AgentAway, "c"),
            (Liveness::Gone, "c"),
        ] {
            states.insert("b".to_owned(), state);
            assert!(writers(&states).contains(&writer), "{state:?}");
        }
    }
}
