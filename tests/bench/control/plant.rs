//! One size, measured: the tasks of the agent between an index and the maps.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::program::object_path;
use lb_common::addr::Mac;
use lb_userspace::datapath::attach::{AttachChoice, TcOrder};
use lb_userspace::datapath::loader::{self, Options};
use lb_userspace::k8s::convert::Settings as ConvertSettings;
use lb_userspace::k8s::index::Index;
use lb_userspace::k8s::object::Object;
use lb_userspace::model::claim::Neighborhood;
use lb_userspace::model::name::ObjectName;
use lb_userspace::model::segment::Segment;
use lb_userspace::model::status::PeerStatus;
use lb_userspace::plan;
use lb_userspace::plan::layout::{Capacity, Layout, Settings};
use lb_userspace::proto::liveness::State;
use lb_userspace::tasks::control::{self, Desired};
use lb_userspace::tasks::datapath::{Datapath, Inputs, Programmed};
use lb_userspace::tasks::legacy::Legacy;
use lb_userspace::tasks::liveness::Members;
use lb_userspace::tasks::peer::{self, Called, Gossip, Roster, Speaker};
use lb_userspace::tasks::sessions::SessionBook;
use lb_userspace::tasks::source::Snapshot;
use nix::net::if_::if_nametoindex;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

use crate::cluster::{self, ENDPOINTS, INTERFACE, NODES};
use crate::memory;
use crate::report::Row;

/// Longest wait for the maps to follow.
const LIMIT: Duration = Duration::from_secs(120);

/// Room for 10,000 tables of 1,024 slots.
const SLOTS: u32 = 1 << 24;

/// How long nothing happens while the idle agent is watched.
const IDLE: Duration = Duration::from_secs(5);

/// Measures with so many Services.
pub(crate) fn measure(services: u32, changes: u32) -> Result<Row> {
    let runtime = Runtime::new()?;
    runtime.block_on(async {
        let mut plant = Plant::start()?;
        let mut row = Row {
            services,
            endpoints: services * ENDPOINTS,
            map_bytes: plant.map_bytes,
            slot_bytes: u64::from(SLOTS) * 8,
            ..Row::default()
        };
        plant.fill(&mut row, services).await?;
        row.resident_cold_bytes = memory::resident()?;
        let mut times = Vec::new();
        for change in 0..changes {
            times.push(plant.change(services, change).await?);
        }
        times.sort_unstable();
        row.changes = changes;
        row.change_p50_ms = milliseconds(percentile(&times, 50));
        row.change_p99_ms = milliseconds(percentile(&times, 99));
        row.change_max_ms = milliseconds(percentile(&times, 100));
        row.resident_bytes = memory::resident()?;
        let (began, busy) = (Instant::now(), memory::busy()?);
        sleep(IDLE).await;
        let busy = memory::busy()? - busy;
        row.idle_share = busy.as_secs_f64() / began.elapsed().as_secs_f64();
        block_in_place(|| plant.stages(&mut row));
        Ok(row)
    })
}

/// The tasks between an index and the maps.
struct Plant {
    index: Index,
    revision: u64,
    snapshots: watch::Sender<Snapshot>,
    programmed: watch::Receiver<Option<Programmed>>,
    segment: watch::Sender<Segment>,
    context: plan::Context,
    map_bytes: u64,
    _egress: watch::Sender<BTreeMap<u32, String>>,
    _states: watch::Sender<BTreeMap<String, State>>,
    _members: watch::Sender<Members>,
    _neighborhood: watch::Sender<Neighborhood>,
    _sessions: watch::Sender<SessionBook>,
}

impl Plant {
    /// Loads the programs, attaches them, and starts the tasks.
    fn start() -> Result<Self> {
        let path = object_path();
        let object =
            fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
        let options = Options {
            slots: SLOTS,
            pins: None,
            order: TcOrder::default(),
        };
        let mut loaded = loader::load(&object, options)?;
        let ifindex = if_nametoindex(INTERFACE)?;
        let attached =
            loaded
                .attachment
                .attach_ingress(INTERFACE, ifindex, AttachChoice::Auto, None)?;
        let context = plan::Context {
            node: cluster::node(0),
            interface: INTERFACE.to_owned(),
            ..plan::Context::default()
        };
        let (snapshots, snapshot_in) = watch::channel(Snapshot::default());
        let alive = (1..NODES).map(|node| (cluster::node(node), State::Live));
        let (states, state_in) = watch::channel(alive.collect());
        let (desired_out, desired) = watch::channel(Arc::new(Desired::default()));
        let (programmed_out, programmed) = watch::channel(None);
        let (segment, segment_in) = watch::channel(of_segment(ifindex));
        let (egress, egress_in) = watch::channel(BTreeMap::new());
        let (members, member_in) = watch::channel(Members::default());
        let (council, planned) = peer::channel();
        let roster = watch::channel(Roster::new()).0;
        let gossip = Gossip::new(context.node.clone(), Called::new(), roster);
        let speaker = Speaker::new(context.node.clone(), loaded.known, loaded.walk, gossip);
        let speaker_inputs = peer::Inputs {
            desired: desired.clone(),
            programmed: programmed.clone(),
            segment: segment_in.clone(),
            members: member_in,
            changes: planned,
        };
        let (events, peer_out) = (loaded.events, watch::channel(PeerStatus::default()).0);
        tokio::spawn(async move { speaker.run(events, speaker_inputs, peer_out).await });
        let (neighborhood, neighborhood_in) = watch::channel(Neighborhood::default());
        neighborhood.send_replace(Neighborhood::default());
        let (sessions, session_in) = watch::channel(SessionBook::new());
        let control_inputs = control::Inputs {
            snapshots: snapshot_in,
            states: state_in,
            sessions: session_in,
            neighborhood: neighborhood_in,
        };
        tokio::spawn(control::run(
            context.clone(),
            None,
            control_inputs,
            desired_out,
        ));
        let datapath = Datapath::new(
            loaded.tables,
            loaded.attachment,
            loaded.capacity,
            Settings::default(),
            AttachChoice::Auto,
            (attached, ifindex),
        );
        let inputs = Inputs {
            desired,
            segment: segment_in,
            egress: egress_in,
            council,
            legacy: Legacy::new(loaded.legacy),
        };
        tokio::spawn(datapath.run(inputs, programmed_out));
        Ok(Self {
            index: Index::new(ConvertSettings::default()),
            revision: 0,
            snapshots,
            programmed,
            segment,
            context,
            map_bytes: loaded.map_bytes,
            _egress: egress,
            _states: states,
            _members: members,
            _neighborhood: neighborhood,
            _sessions: sessions,
        })
    }

    /// Takes all objects, as they stand in the lists, and waits for the maps.
    async fn fill(&mut self, row: &mut Row, services: u32) -> Result<()> {
        let mut taking = Duration::ZERO;
        // One object at a time is there beside the index: the memory that is measured is the index's.
        let objects = cluster::surroundings().chain((0..services).flat_map(|number| {
            [
                cluster::service_object(number),
                cluster::slice_object(number, ENDPOINTS),
            ]
        }));
        for object in objects {
            let object = object?;
            let began = Instant::now();
            self.take(&object);
            taking += began.elapsed();
        }
        let began = Instant::now();
        self.publish();
        row.index_ms = milliseconds(taking + began.elapsed());
        let programmed = self.follow().await?;
        row.cold_ms = milliseconds(taking + began.elapsed());
        let frontends = programmed.layout.frontends().count();
        ensure!(
            frontends == services as usize && programmed.refused.is_empty(),
            "{frontends} frontends for {services} Services"
        );
        row.slots_used = programmed.layout.slots_used();
        Ok(())
    }

    /// Takes an endpoint from a Service or gives it back; the time until the last slot was written.
    async fn change(&mut self, services: u32, number: u32) -> Result<Duration> {
        let service = (number / 2).wrapping_mul(2_654_435_761) % services;
        let endpoints = ENDPOINTS - 1 + number % 2;
        let object = cluster::slice_object(service, endpoints)?;
        let began = Instant::now();
        self.take(&object);
        self.publish();
        let programmed = self.follow().await?;
        let elapsed = began.elapsed();
        let (namespace, name) = cluster::service(service);
        let name = ObjectName::new(namespace, name);
        let state = programmed.desired.intent.services.get(&name);
        let frontend = state.and_then(|state| state.frontends.first());
        let table = frontend.and_then(|frontend| programmed.layout.frontend(frontend));
        let members = table.context("the Service has no table")?.members().count();
        ensure!(members == endpoints as usize, "{name}: {members} members");
        Ok(elapsed)
    }

    fn take(&mut self, object: &Object) {
        self.index.apply("", object, |_| String::new());
    }

    fn publish(&mut self) {
        self.revision += 1;
        let reading = self.index.snapshot();
        self.snapshots.send_replace(Snapshot {
            revision: self.revision,
            cluster: Arc::new(reading.cluster),
            findings: reading.findings,
        });
    }

    /// Waits until the maps hold what was published last.
    async fn follow(&mut self) -> Result<Programmed> {
        let revision = self.revision;
        let done = self.programmed.wait_for(|programmed| {
            let programmed = programmed.as_ref();
            programmed.is_some_and(|programmed| programmed.desired.revision == revision)
        });
        let programmed = timeout(LIMIT, done)
            .await
            .context("the maps do not follow")??;
        let programmed = programmed.clone().context("nothing programmed")?;
        ensure!(programmed.failure.is_none(), "{:?}", programmed.failure);
        Ok(programmed)
    }

    /// Times the parts of a cold start one by one, from nothing.
    fn stages(&self, row: &mut Row) {
        let snapshot = self.snapshots.borrow().clone();
        let began = Instant::now();
        let intent = plan::compute(&snapshot.cluster, &self.context);
        row.compute_ms = milliseconds(began.elapsed());
        let capacity = Capacity {
            slots: SLOTS,
            backends: 1 << 20,
            ..Capacity::default()
        };
        let segment = self.segment.borrow();
        let began = Instant::now();
        let (plan, _) =
            Layout::new(capacity).plan(&intent.dataplane, &segment, Settings::default(), 1);
        row.tables_ms = milliseconds(began.elapsed());
        row.steps = plan.steps.len();
    }
}

fn of_segment(ifindex: u32) -> Segment {
    let peers = (1..NODES).map(|node| {
        let mac = Mac([2, 0, 0, 0, 0, node as u8]);
        (cluster::address(node).addr(), mac)
    });
    Segment {
        interface: INTERFACE.to_owned(),
        ifindex,
        mac: Mac([2, 0, 0, 0, 1, 0]),
        mtu: 1_500,
        addresses: vec![cluster::address(0)],
        neighbors: peers.collect(),
        ..Segment::default()
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// The smallest time that so many in a hundred of the sorted ones do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100);
    let time = sorted.get(rank.saturating_sub(1));
    time.copied().unwrap_or_default()
}
