//! What the agent says about itself, put together from what the tasks publish.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use lb_common::drop::DropReason;
use lb_common::maps::{FrontendStats, Node, node_mode};
use tokio::sync::watch;

use super::bfd;
use super::control::Desired;
use super::datapath::Programmed;
use super::liveness::{self, Members};
use super::peer::Roster;
use super::sessions::{self, SessionBook};
use super::source::Snapshot;
use crate::datapath::counters::Counters;
use crate::model::intent::{FrontendName, Intent, ServiceState};
use crate::model::name::ObjectName;
use crate::model::status::{
    AttachStatus, BackendStatus, FindingStatus, FrontendStatus, MemberStatus, MembersStatus,
    NodeStatus, PeerStatus, ServiceStatus, SlotUse, Status,
};
use crate::net::clock;
use crate::plan::layout::{Layout, Table};
use crate::proto::liveness::State;
use crate::proto::members::Seen;

mod peers;

/// Everything there is to tell.
pub struct Report {
    /// Name of this node.
    pub node: String,
    /// The source, as the command line names it.
    pub source: String,
    /// The compute port.
    pub interface: String,
    /// What the source held.
    pub snapshots: watch::Receiver<Snapshot>,
    /// What is to be.
    pub desired: watch::Receiver<Arc<Desired>>,
    /// What the programs do.
    pub programmed: watch::Receiver<Option<Programmed>>,
    /// The sessions.
    pub sessions: watch::Receiver<SessionBook>,
    /// BFD packets that were discarded.
    pub bfd_discards: watch::Receiver<bfd::Discards>,
    /// The other nodes.
    pub members: watch::Receiver<Members>,
    /// The other agents, as gossip has them.
    pub roster: watch::Receiver<Roster>,
    /// What agents told each other about flows.
    pub peer: watch::Receiver<PeerStatus>,
    /// The counters.
    pub counters: Counters,
    /// Kernel memory of all maps, in bytes.
    pub map_bytes: u64,
}

impl Report {
    /// The status now.
    pub fn status(&self) -> Status {
        let programmed = self.programmed.borrow().clone();
        let desired = Arc::clone(&self.desired.borrow());
        let mut status = Status {
            node: self.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            source: self.source.clone(),
            in_sync: self.in_sync(programmed.as_ref()),
            services: services(&desired.intent),
            sessions: sessions::report(&self.sessions.borrow()),
            drops: self.drops(),
            outcomes: self.outcomes(),
            bfd_discards: self.bfd_discards(),
            findings: findings(&desired),
            map_bytes: self.map_bytes,
            peer: *self.peer.borrow(),
            ..Status::default()
        };
        status.attach.interface.clone_from(&self.interface);
        if let Some(programmed) = programmed {
            status.attach = AttachStatus {
                interface: self.interface.clone(),
                ifindex: programmed.ifindex,
                mode: programmed.mode.to_owned(),
            };
            status.frontends = self.frontends(&programmed);
            let members = self.members.borrow();
            status.nodes = nodes(&programmed.layout, &programmed.desired.intent, &members);
            status.slots = SlotUse {
                used: programmed.layout.slots_used(),
                total: programmed.layout.slots_total(),
            };
            status
                .findings
                .extend(programmed.failure.map(|message| FindingStatus {
                    message,
                    ..FindingStatus::default()
                }));
        }
        status
    }

    /// The nodes now.
    pub fn members(&self) -> MembersStatus {
        let cluster = Arc::clone(&self.snapshots.borrow().cluster);
        let known = self.members.borrow().clone();
        let now = clock::now();
        let since = |at: Instant| milliseconds(now.saturating_duration_since(at));
        let roster = self.roster.borrow().clone();
        let member = |name: &String, addresses: &[IpAddr], in_source: bool| {
            let is_self = *name == self.node;
            let listed = roster.get(name).cloned().unwrap_or_default();
            let (state, heard) = known
                .nodes
                .get(name)
                .copied()
                .unwrap_or((State::Unheard, None));
            MemberStatus {
                name: name.clone(),
                addresses: addresses.to_vec(),
                state: liveness::word(if is_self { State::Live } else { state }).to_owned(),
                heartbeat_age_ms: heard.map(|heard| milliseconds(heard.heartbeat_age)),
                heard_ms: heard.map(|heard| since(heard.at)),
                heard_from: heard.map(|heard| heard.from),
                version: Some(listed.version).filter(|version| !version.is_empty()),
                in_source,
                gossip: seen(listed.seen).to_owned(),
                taken_for_gone_by: listed.taken_for_gone_by.into_iter().collect(),
            }
        };
        let named = cluster.nodes.iter();
        let named = named.map(|(name, node)| (name.clone(), member(name, &node.addresses, true)));
        let strangers = roster
            .iter()
            .filter(|(name, _)| !cluster.nodes.contains_key(*name));
        let strangers =
            strangers.map(|(name, listed)| (name.clone(), member(name, &listed.addresses, false)));
        let members: BTreeMap<String, MemberStatus> = named.chain(strangers).collect();
        MembersStatus {
            node: self.node.clone(),
            cut_off: known.is_cut_off,
            router_heard_ms: known.router.map(since),
            lateness_ms: milliseconds(known.lateness),
            members: members.into_values().collect(),
        }
    }

    /// Whether the maps hold what the newest snapshot and the newest verdicts ask for.
    fn in_sync(&self, programmed: Option<&Programmed>) -> bool {
        let newest = self.snapshots.borrow().revision;
        let desired = self.desired.borrow();
        programmed.is_some_and(|programmed| {
            programmed.failure.is_none()
                && programmed.desired.revision == newest
                && Arc::ptr_eq(&programmed.desired, &desired)
        })
    }

    fn frontends(&self, programmed: &Programmed) -> Vec<FrontendStatus> {
        let refusal = |name: &FrontendName| {
            let mut refused = programmed.refused.iter();
            refused
                .find(|(refused, _)| refused == name)
                .map(|(_, reason)| reason.clone())
        };
        let served = programmed.layout.frontends().map(|(name, table)| {
            let stats = self.counters.frontend(table.value().id);
            FrontendStatus {
                refused: refusal(name),
                ..frontend(name, table, stats.unwrap_or_default())
            }
        });
        let absent = programmed
            .refused
            .iter()
            .filter(|(name, _)| programmed.layout.frontend(name).is_none());
        served
            .chain(absent.map(|(name, reason)| FrontendStatus {
                name: name.to_string(),
                service: service_of(&programmed.desired.intent, name),
                refused: Some(reason.clone()),
                ..FrontendStatus::default()
            }))
            .collect()
    }

    fn bfd_discards(&self) -> BTreeMap<String, u64> {
        let counts = self.bfd_discards.borrow();
        let counts = counts.iter().map(|(reason, count)| (*reason, *count));
        counts
            .map(|(reason, count)| (reason.to_owned(), count))
            .collect()
    }

    fn outcomes(&self) -> BTreeMap<String, u64> {
        let counts = self.counters.outcomes().unwrap_or_default();
        counts
            .into_iter()
            .map(|(outcome, count)| (outcome.name().to_owned(), count))
            .collect()
    }

    fn drops(&self) -> BTreeMap<String, u64> {
        let counts = self.counters.drops().unwrap_or_default();
        counts
            .into_iter()
            .map(|(number, count)| (reason(number), count))
            .collect()
    }
}

/// The word for what gossip says.
const fn seen(seen: Seen) -> &'static str {
    match seen {
        Seen::Alive => "alive",
        Seen::Suspect => "suspect",
        Seen::Down => "down",
        Seen::Unknown => "unknown",
    }
}

fn reason(number: u32) -> String {
    DropReason::ALL
        .iter()
        .find(|reason| **reason as u32 == number)
        .map_or_else(|| number.to_string(), |reason| reason.name().to_owned())
}

fn services(intent: &Intent) -> Vec<ServiceStatus> {
    let services = intent.services.iter();
    services.map(|(name, state)| service(name, state)).collect()
}

fn service(name: &ObjectName, state: &ServiceState) -> ServiceStatus {
    ServiceStatus {
        name: name.to_string(),
        addresses: state.addresses.clone(),
        pool: state.pool.clone(),
        error: state.allocation_error.clone(),
        frontends: state.frontends.iter().map(ToString::to_string).collect(),
        announced_to: state.announced_to.iter().cloned().collect(),
        l2_leader: state.l2_leader.clone(),
        not_announced: state.not_announced.clone(),
    }
}

fn service_of(intent: &Intent, name: &FrontendName) -> String {
    intent
        .dataplane
        .frontends
        .get(name)
        .map(|frontend| frontend.service.to_string())
        .unwrap_or_default()
}

fn frontend(name: &FrontendName, table: &Table, stats: FrontendStats) -> FrontendStatus {
    FrontendStatus {
        name: name.to_string(),
        service: table.service().to_string(),
        table_length: table.length(),
        digest: table.digest().to_owned(),
        refused: None,
        backends: table
            .members()
            .map(|(_, member, slots)| BackendStatus {
                address: member.addr.to_string(),
                port: member.port,
                node: member.node.to_string(),
                weight: member.weight,
                slots,
                state: match member.weight {
                    0 if table.intent().is_chosen_elsewhere(member.addr, member.port) => {
                        "elsewhere"
                    }
                    0 => "draining",
                    _ => "active",
                }
                .to_owned(),
            })
            .collect(),
        packets: stats.packets,
        bytes: stats.bytes,
        flows: stats.flows,
        delivered: stats.delivered,
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn nodes(layout: &Layout, intent: &Intent, members: &Members) -> Vec<NodeStatus> {
    layout
        .nodes()
        .map(|(name, _, node)| NodeStatus {
            name: name.to_owned(),
            mode: mode(node).to_owned(),
            state: liveness::word(
                members
                    .nodes
                    .get(name)
                    .map_or(State::Unheard, |(state, _)| *state),
            )
            .to_owned(),
            mac: mac(node),
            addresses: intent
                .dataplane
                .nodes
                .get(name)
                .map(|peer| peer.addresses.clone())
                .unwrap_or_default(),
        })
        .collect()
}

fn mode(node: &Node) -> &'static str {
    match node.mode {
        node_mode::L2 => "l2",
        node_mode::GENEVE => "geneve",
        _ => "unreachable",
    }
}

fn mac(node: &Node) -> Option<String> {
    if node.mode != node_mode::L2 {
        return None;
    }
    let [head, middle, _] = node.ethernet.map(|word| word.raw().to_ne_bytes());
    let [a, b, c, d] = head;
    let [e, f, ..] = middle;
    Some(lb_common::addr::Mac([a, b, c, d, e, f]).to_string())
}

fn findings(desired: &Desired) -> Vec<FindingStatus> {
    let findings = desired.findings.iter();
    findings
        .map(|finding| FindingStatus {
            source: finding.source.clone(),
            object: finding.object.clone(),
            field: finding.field.clone(),
            message: finding.message.clone(),
        })
        .collect()
}
