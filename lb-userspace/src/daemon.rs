//! The composition root: builds adapters, starts tasks, stops them in order.
//!
//! Start: everything that can be refused is refused before a packet is touched, in the order in which a
//! person would want to hear it. Stop: the first signal ends the BGP sessions; a second one exits at once. A
//! router that keeps routes over a restart (RFC 4724) is told nothing and goes on sending, since the programs
//! go on with what is pinned; from any other one, and where the node is cordoned, drained or deleted, or
//! nothing is pinned, the routes are withdrawn, so that it sends elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use lb_common::maps::{Vip, vip_flags};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tracing::{error, info, warn};

use crate::datapath::apply::Tables;
use crate::datapath::attach::{AttachChoice, AttachMode, Present, TcOrder};
use crate::datapath::loader::{self, Options};
use crate::datapath::pins::Pins;
use crate::datapath::{object, privilege};
use crate::k8s::convert;
use crate::k8s::status::Pod;
use crate::model::claim::Neighborhood;
use crate::model::cluster::Forwarding;
use crate::model::intent::{Finding, Intent};
use crate::model::status::PeerStatus;
use crate::net::{interfaces, kernel_vips as served, netlink, unix_http};
use crate::plan;
use crate::plan::layout::{Capacity, Layout, Plan};
use crate::proto::bgp::retention::Past;
use crate::tasks::bfd::Bfd;
use crate::tasks::bgp::Stop;
use crate::tasks::control::{self, Desired};
use crate::tasks::datapath::{Datapath, Inputs};
use crate::tasks::layer2::{self, Layer2};
use crate::tasks::legacy::Legacy;
use crate::tasks::liveness::{self, Members, Prober, States};
use crate::tasks::neighbor::{self, Neighbor};
use crate::tasks::peer::{self, Called, Gossip, Roster, Speaker};
use crate::tasks::report::Report;
use crate::tasks::sessions::Sessions;
use crate::tasks::source::{OpenError, Snapshot, Source as WatchedSource};
use crate::tasks::switches::Switches;
use crate::tasks::{admin, allocator, health, heartbeat, kernel_vips, publish, sweep};
use crate::telemetry::chain;

/// Where objects come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// YAML files in a directory.
    Directory(PathBuf),
    /// The API server that the kubeconfig or the pod names.
    Kubernetes,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory(path) => write!(f, "dir:{}", path.display()),
            Self::Kubernetes => f.write_str("kubernetes"),
        }
    }
}

/// Whether this node's kernel serves the VIPs too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KernelVips {
    /// Look whether kube-proxy runs here.
    #[default]
    Auto,
    /// It does.
    Yes,
    /// It does not.
    No,
}

impl KernelVips {
    fn are_served(self) -> bool {
        match self {
            Self::Auto => served::are_served(),
            Self::Yes => true,
            Self::No => false,
        }
    }
}

/// What becomes of packets for a port of a VIP that nobody serves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum UnservedPorts {
    /// They end without an answer.
    #[default]
    Drop,
    /// TCP is reset, UDP is answered with port unreachable; so many a second, not more.
    Reject,
}

/// What the command line says.
#[derive(Clone, PartialEq, Debug)]
pub struct Settings {
    /// Where objects come from.
    pub source: Source,
    /// Namespace of MetalLB's objects, where the source has namespaces.
    pub namespace: String,
    /// Services of this `spec.loadBalancerClass` are served; without one, those that name none.
    pub load_balancer_class: Option<String>,
    /// Name of this node.
    pub node: String,
    /// The pod that runs the agent, which owns what the agent says of itself.
    pub pod: Option<Pod>,
    /// The compute port.
    pub interface: String,
    /// How to attach.
    pub attach: AttachChoice,
    /// Whether the kernel serves the VIPs too.
    pub kernel_vips: KernelVips,
    /// What answers packets for a VIP that nobody serves.
    pub unserved_ports: UnservedPorts,
    /// How packets get to other nodes where their Service does not say it.
    pub forwarding: Option<Forwarding>,
    /// UDP port of the tunnels between nodes.
    pub geneve_port: u16,
    /// Agents of other nodes, and where to speak to them, besides those that the source names.
    pub members: Called,
    /// Elements of the slot array.
    pub slots: u32,
    /// Where maps and links are pinned; without, the data plane ends with the agent.
    pub pin: Option<PathBuf>,
    /// Where the egress program stands among others.
    pub tc_order: TcOrder,
    /// Socket of the admin API.
    pub socket: PathBuf,
    /// Loopback port of the health checks; 0 for none.
    pub health_port: u16,
}

impl Settings {
    /// Room for 4,096 Services of ten backends at the usual 1,024 slots; 32 MiB.
    pub const DEFAULT_SLOTS: u32 = 1 << 22;

    async fn open_source(&self) -> Result<WatchedSource, OpenError> {
        let convert = convert::Settings {
            load_balancer_class: self.load_balancer_class.clone(),
        };
        match &self.source {
            Source::Directory(path) => WatchedSource::directory(path, convert),
            Source::Kubernetes => {
                // Agents that start together do not ask together.
                let mut hasher = DefaultHasher::new();
                self.node.hash(&mut hasher);
                WatchedSource::api_server(&self.namespace, convert, hasher.finish()).await
            }
        }
    }

    fn context(&self) -> plan::Context {
        plan::Context {
            node: self.node.clone(),
            interface: self.interface.clone(),
            ..plan::Context::default()
        }
    }

    fn layout(&self) -> plan::layout::Settings {
        plan::layout::Settings {
            kernel_knows_vips: self.kernel_vips.are_served(),
            reject_unserved: self.unserved_ports == UnservedPorts::Reject,
            locates: true,
            geneve_port: self.geneve_port,
            forwarding: self.forwarding,
        }
    }
}

/// What would be done.
#[derive(Debug)]
pub struct Rehearsal {
    /// What this node is to do.
    pub intent: Intent,
    /// The writes, in their order.
    pub plan: Plan,
    /// What is wrong with the objects.
    pub findings: BTreeSet<Finding>,
}

/// Reads the source once and says what would be done, to empty maps.
///
/// # Errors
/// The source or netlink cannot be read.
pub async fn rehearse(settings: &Settings) -> anyhow::Result<Rehearsal> {
    let (netlink, _changes) = netlink::connect()?;
    let snapshot = settings.open_source().await?.read().await?;
    let desired = Desired::of(
        &snapshot,
        &settings.context(),
        &mut plan::Planner::default(),
    );
    let nodes = neighbor::peers(&desired);
    let view = neighbor::look(&netlink, &settings.interface, &nodes).await?;
    if view.segment.ifindex == 0 {
        warn!(
            interface = settings.interface,
            "there is no such interface here: no node can be reached by it"
        );
    }
    let Desired {
        intent, findings, ..
    } = desired;
    let layout = Layout::new(Capacity {
        slots: settings.slots,
        ..Capacity::default()
    });
    let (plan, _) = layout.plan(&intent.dataplane, &view.segment, settings.layout(), 0);
    Ok(Rehearsal {
        intent,
        plan,
        findings,
    })
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// Something is missing or in the way; nothing was changed then.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let mut signals = Signals::new()?;
    let source = settings.open_source().await?;
    privilege::check()?;
    let (netlink, changes) = netlink::connect()?;
    let Some(link) = netlink.link(&settings.interface).await? else {
        bail!(
            "there is no interface {}; `ip -br link` lists those there are",
            settings.interface
        );
    };
    if link.mac.is_none() {
        bail!(
            "{} is no Ethernet interface; Torline forwards on Ethernet only",
            link.name
        );
    }
    let listener = unix_http::Listener::bind(&settings.socket)?;
    let health = match settings.health_port {
        0 => None,
        port => Some(health::bind(port).await?),
    };
    let object = object::embedded().context(
        "this binary was built without its kernel programs; build it with `cargo xtask build`",
    )?;
    let options = Options {
        slots: settings.slots,
        pins: settings.pin.as_deref().map(Pins::open).transpose()?,
        order: settings.tc_order,
    };
    let mut loaded = loader::load(object, options)?;
    let attached = match loaded.attachment.attach_ingress(
        &link.name,
        link.index,
        settings.attach,
        link.xdp.map(present),
    ) {
        Ok(attached) => attached,
        Err(error) => {
            loaded.attachment.abandon();
            return Err(error.into());
        }
    };
    if let Some(reason) = &attached.fallback {
        warn!(
            "{}; running in generic mode, which is several times slower",
            chain(reason)
        );
    }
    info!(
        interface = link.name,
        ifindex = link.index,
        mode = %attached.mode,
        program = attached.program,
        replaces = attached.replaces,
        "attached"
    );

    // A program that sat there before, with its maps, forwarded all the while.
    let past = Past {
        restarted: attached.replaces,
        forwarding: attached.replaces,
    };
    let view = neighbor::look(&netlink, &settings.interface, &BTreeSet::new()).await?;
    let (snapshot_out, snapshots) = watch::channel(Snapshot::default());
    let (desired_out, desired) = watch::channel(Arc::new(Desired::default()));
    let (segment_out, segment) = watch::channel(view.segment);
    let (egress_out, egress) = watch::channel(view.egress);
    let (states_out, states) = watch::channel(States::new());
    let (members_out, members) = watch::channel(Members::default());
    let (programmed_out, programmed) = watch::channel(None);
    let (book_out, book) = watch::channel(BTreeMap::new());
    let (peer_out, peer_status) = watch::channel(PeerStatus::default());
    let (roster_out, roster) = watch::channel(Roster::new());
    let (neighborhood_out, neighborhood) = watch::channel(Neighborhood::default());
    let (council, planned) = peer::channel();
    let (stop_sessions, sessions_stop) = oneshot::channel();
    let bfd = Bfd::start().context("failed to start the thread of BFD")?;

    let report = Report {
        node: settings.node.clone(),
        source: settings.source.to_string(),
        interface: settings.interface.clone(),
        snapshots: snapshots.clone(),
        desired: desired.clone(),
        programmed: programmed.clone(),
        sessions: book.clone(),
        bfd_discards: bfd.discards.clone(),
        members: members.clone(),
        roster,
        peer: peer_status,
        counters: loaded.counters,
        map_bytes: loaded.map_bytes,
    };
    let switches = Switches::new(
        &settings.node,
        Path::new(interfaces::SYSFS),
        snapshots.clone(),
        book.clone(),
        source.editor(),
    );
    let layout = settings.layout();
    let legacy = Legacy::new(loaded.legacy);
    let heart = loaded.tables.heart();
    let context = plan::Context {
        held: held(&loaded.tables)?,
        ..settings.context()
    };
    let layer2 = Layer2::new(
        settings.node.clone(),
        settings.interface.clone(),
        context.held.clone(),
    );
    let layer2_inputs = layer2::Inputs {
        snapshots: snapshots.clone(),
        programmed: programmed.clone(),
        segment: segment.clone(),
        states: states.clone(),
        members: members.clone(),
    };
    let datapath = Datapath::new(
        loaded.tables,
        loaded.attachment,
        loaded.capacity,
        layout,
        settings.attach,
        (attached, link.index),
    );
    let inputs = Inputs {
        desired: desired.clone(),
        segment: segment.clone(),
        egress,
        council,
        legacy: legacy.clone(),
    };
    let gossip = Gossip::new(settings.node.clone(), settings.members.clone(), roster_out);
    let speaker = Speaker::new(settings.node.clone(), loaded.known, loaded.walk, gossip);
    let speaker_inputs = peer::Inputs {
        desired: desired.clone(),
        programmed: programmed.clone(),
        segment: segment.clone(),
        members,
        changes: planned,
    };
    let events = loaded.events;

    let mut tasks = JoinSet::new();
    let state = source.state_file();
    let (stop_allocator, allocator_stop) = oneshot::channel();
    let (lease_out, holds_lease) = watch::channel(false);
    let allocator = source.writer(&settings.node).map(|writer| {
        let (snapshots, desired) = (snapshots.clone(), desired.clone());
        let run = allocator::run(writer, snapshots, desired, lease_out, allocator_stop);
        tokio::spawn(run)
    });
    if let Some(writer) = source.status_writer(&settings.node, settings.pod.as_ref()) {
        let inputs = publish::Inputs {
            snapshots: snapshots.clone(),
            desired: desired.clone(),
            programmed: programmed.clone(),
            sessions: book.clone(),
            holds_lease,
        };
        tasks.spawn(publish::run(writer, inputs));
    }
    let control_inputs = control::Inputs {
        snapshots: snapshots.clone(),
        states,
        sessions: book.clone(),
        neighborhood,
    };
    tasks.spawn(control::run(context, state, control_inputs, desired_out));
    tasks.spawn(layer2.run(layer2_inputs, neighborhood_out));
    let prober = Prober::new(settings.node.clone(), netlink.clone());
    let last_snapshot = snapshots.clone();
    let prober_inputs = liveness::Inputs {
        snapshots,
        segment,
        sessions: book,
    };
    let prober_outputs = liveness::Outputs {
        states: states_out,
        members: members_out,
    };
    tasks.spawn_blocking(move || {
        if let Err(error) = prober.run_here(prober_inputs, &prober_outputs) {
            error!("other nodes cannot be probed: {error}");
        }
    });
    tasks.spawn(source.run(snapshot_out));
    tasks.spawn(Neighbor::new(netlink, settings.interface.clone()).run(
        changes,
        desired,
        segment_out,
        egress_out,
    ));
    tasks.spawn(datapath.run(inputs, programmed_out));
    tasks.spawn(async move {
        if let Err(error) = speaker.run(events, speaker_inputs, peer_out).await {
            error!("what the programs tell cannot be read: {error}");
        }
    });
    if settings.kernel_vips == KernelVips::Auto && !layout.kernel_knows_vips {
        tasks.spawn(kernel_vips::run(heart.clone()));
    }
    tasks.spawn(heartbeat::run(heart));
    tasks.spawn(sweep::run(loaded.flows));
    tasks.spawn(legacy.run(programmed.clone()));
    tasks.spawn(admin::run(listener, Arc::new(report), Arc::new(switches)));
    if let Some(health) = health {
        tasks.spawn(health::run(health, programmed.clone()));
    }
    let sessions = tokio::spawn(Sessions::new(book_out, past, bfd).run(programmed, sessions_stop));

    let outcome = tokio::select! {
        () = signals.next() => Ok(()),
        ended = tasks.join_next() => Err(anyhow!("a task of the agent ended: {ended:?}")),
    };
    let stop = last_words(&settings, &last_snapshot.borrow());
    info!(?stop, "stopping; a second signal exits at once");
    // A task that is gone has nothing to stop.
    let _ = stop_sessions.send(stop);
    let _ = stop_allocator.send(());
    tokio::select! {
        _ = sessions => {}
        () = signals.next() => warn!("second signal: peers are not told"),
    }
    if let Some(allocator) = allocator {
        tokio::select! {
            _ = allocator => {}
            () = signals.next() => warn!("second signal: the Lease runs out by itself"),
        }
    }
    // The programs go with the task that owns them, unless they are pinned.
    tasks.shutdown().await;
    match &settings.pin {
        Some(pin) => {
            info!(pin = %pin.display(), "stopped; the programs go on: `torline detach` ends them")
        }
        None => info!("stopped"),
    }
    outcome
}

/// The addresses that programs which were there before answer for.
fn held(tables: &impl Tables) -> anyhow::Result<BTreeSet<IpAddr>> {
    let answers = |vip: &Vip| vip.flags & vip_flags::ANSWER_NEIGHBORS != 0;
    let vips = tables.dump().context("failed to read the maps")?.vips;
    let held = vips.into_iter().filter(|(_, vip)| answers(vip));
    Ok(held.map(|(addr, _)| addr).collect())
}

/// How sessions end: so that peers keep our routes if they can, since the programs go on; but for good where they
/// do not, and where the node is to carry nothing any more.
fn last_words(settings: &Settings, snapshot: &Snapshot) -> Stop {
    let cluster = &snapshot.cluster;
    match cluster.nodes.get(&settings.node) {
        Some(node) if node.is_draining || node.is_cordoned => {
            Stop::Drain(format!("node {} is drained", settings.node))
        }
        None if !cluster.is_partial && snapshot.revision > 0 => {
            Stop::Drain(format!("node {} is gone from the cluster", settings.node))
        }
        _ if settings.pin.is_none() => Stop::Drain("torline stops".to_owned()),
        _ => Stop::RestartOrDrain("torline stops".to_owned()),
    }
}

fn present(xdp: netlink::XdpProgram) -> Present {
    Present {
        id: xdp.id,
        mode: if xdp.is_generic {
            AttachMode::Generic
        } else {
            AttachMode::Native
        },
    }
}

/// The signals that stop the agent.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
