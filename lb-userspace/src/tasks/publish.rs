//! Says in objects of the API server what this node does and what it could not
//! use.
//!
//! What it says is what the programs hold, not what was asked for. It says so at most once a second, so that
//! a rolling update of many Services is no flood of writes.

mod silence;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::control::Desired;
use super::datapath::Programmed;
use super::sessions::SessionBook;
use super::source::Snapshot;
use crate::k8s::status::{Board, ClusterBoard, Faults, SessionLine, StatusWriter};
use crate::k8s::writer::WriteError;
use crate::model::bfd::BfdState;
use crate::model::intent::{Finding, Intent};
use crate::model::session_status::SessionState;
use crate::net::clock;
use crate::plan::allocate::usage;
use crate::telemetry::chain;
use silence::Silence;

/// Between two rounds at least.
const PAUSE: Duration = Duration::from_secs(1);

/// What the task reads.
#[derive(Debug)]
pub struct Inputs {
    /// The objects.
    pub snapshots: watch::Receiver<Snapshot>,
    /// What is to be, and what is wrong.
    pub desired: watch::Receiver<Arc<Desired>>,
    /// What the programs do.
    pub programmed: watch::Receiver<Option<Programmed>>,
    /// The sessions.
    pub sessions: watch::Receiver<SessionBook>,
    /// Whether this agent speaks for the cluster.
    pub holds_lease: watch::Receiver<bool>,
}

/// Runs until an input ends.
pub async fn run(mut writer: StatusWriter, mut inputs: Inputs) {
    let mut complaints = BTreeMap::new();
    let mut board = Board::default();
    let mut silence = Silence::default();
    let mut ticks = interval(PAUSE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // What is seen is taken at once, what is said waits for the tick.
        tokio::select! {
            _ = ticks.tick() => {}
            seen = writer.changed() => {
                complain(&mut complaints, seen.err().as_slice());
                continue;
            }
        }
        if inputs.programmed.has_changed().is_err() {
            return;
        }
        if inputs.desired.borrow().revision == 0 {
            continue;
        }
        inputs.read(&mut board);
        let errors = writer.write(&board, SystemTime::now()).await;
        complain(&mut complaints, &errors);
        silence.look(&inputs, &mut writer, clock::now()).await;
    }
}

/// How long nobody hears again of what is still wrong.
const REMINDER: Duration = Duration::from_secs(300);

/// Says each complaint, and says it again after a while.
fn complain(said: &mut BTreeMap<String, Instant>, errors: &[WriteError]) {
    let now = clock::now();
    said.retain(|_, at| now.duration_since(*at) < REMINDER);
    for error in errors {
        let text = chain(error).to_string();
        said.entry(text).or_insert_with_key(|text| {
            warn!("{text}; tried again");
            now
        });
    }
}

impl Inputs {
    /// Brings a board up to date.
    fn read(&mut self, board: &mut Board) {
        let was_programmed = self.programmed.has_changed().unwrap_or(false);
        if let Some(programmed) = &*self.programmed.borrow_and_update()
            && was_programmed
            // What is missing then is still served, as the programs know it from before.
            && !programmed.desired.intent.dataplane.is_partial
        {
            announcements(&programmed.desired.intent, board);
        }
        let desired = Arc::clone(&self.desired.borrow());
        let snapshot = self.snapshots.borrow().clone();
        board.faults = faults(&desired.findings, |_| true);
        board.sessions = self.lines(&desired.intent);
        let is_partial = snapshot.cluster.is_partial;
        board.cluster = self.holds_lease.borrow().then(|| ClusterBoard {
            faults: faults(&desired.findings, |kind| kind == "IPAddressPool"),
            // While something of the source is missing, more may be in use than is known.
            pools: match is_partial {
                true => BTreeMap::new(),
                false => usage(&snapshot.cluster.pools, &desired.intent.services),
            },
        });
    }

    fn lines(&self, intent: &Intent) -> Vec<SessionLine> {
        let book = self.sessions.borrow();
        book.values()
            .filter_map(|entry| {
                let status = entry.status.borrow();
                // A peer that was not found yet, or a range of them, has no session to show.
                if status.address.is_unspecified() {
                    return None;
                }
                let session = intent.sessions.get(status.object());
                let vrf = session.and_then(|session| session.config.options.device.clone());
                Some(SessionLine {
                    peer: status.address.to_string(),
                    vrf: vrf.unwrap_or_default(),
                    bgp: bgp_state(status.state),
                    bfd: status
                        .bfd
                        .as_ref()
                        .map_or("N/A", |bfd| bfd_state(bfd.state)),
                })
            })
            .collect()
    }
}

/// Which Services this node announces.
fn announcements(intent: &Intent, board: &mut Board) {
    let Intent {
        dataplane,
        services,
        ..
    } = intent;
    let answers = |addr| {
        let vip = dataplane.vips.get(addr);
        vip.is_some_and(|vip| vip.answer_neighbors)
    };
    let leads = |leader: &Option<String>| leader.as_ref() == Some(&dataplane.node);
    board.layer2 = services
        .iter()
        .filter(|(_, state)| leads(&state.l2_leader) && state.addresses.iter().any(answers))
        .map(|(name, state)| (name.clone(), state.l2_interfaces.clone()))
        .collect();
    board.bgp = services
        .iter()
        .filter(|(_, state)| !state.announced_to.is_empty())
        .map(|(name, state)| (name.clone(), state.announced_to.clone()))
        .collect();
    let gone = dataplane.nodes.iter().filter(|(_, node)| node.is_gone);
    board.gone = gone.map(|(name, _)| name.clone()).collect();
}

/// Kinds of which MetalLB's configuration is made.
const CONFIGURATION: [&str; 7] = [
    "BFDProfile",
    "BGPAdvertisement",
    "BGPPeer",
    "Community",
    "IPAddressPool",
    "L2Advertisement",
    "Secret",
];

/// What is wrong with objects of the configuration, of kinds that `is_wanted`.
fn faults(findings: &BTreeSet<Finding>, is_wanted: impl Fn(&str) -> bool) -> Faults {
    let of_kind: Vec<_> = findings
        .iter()
        .filter(|finding| {
            let kind = finding.object.split(' ').next().unwrap_or_default();
            CONFIGURATION.contains(&kind) && is_wanted(kind)
        })
        .collect();
    let texts = |is_one: fn(&Finding) -> bool| {
        let ones = of_kind.iter().filter(|finding| is_one(finding));
        ones.map(ToString::to_string).collect()
    };
    Faults {
        refused: texts(Finding::is_refusal),
        unread: texts(Finding::is_unread),
    }
}

/// As RFC 4271 §8.2.2 writes it.
const fn bgp_state(state: SessionState) -> &'static str {
    match state {
        SessionState::Idle => "Idle",
        SessionState::Connect => "Connect",
        SessionState::Active => "Active",
        SessionState::OpenSent => "OpenSent",
        SessionState::OpenConfirm => "OpenConfirm",
        SessionState::Established => "Established",
    }
}

/// As RFC 5880 §6.2 writes it.
const fn bfd_state(state: BfdState) -> &'static str {
    match state {
        BfdState::AdminDown => "AdminDown",
        BfdState::Down => "Down",
        BfdState::Init => "Init",
        BfdState::Up => "Up",
    }
}
