//! Brings the programs to what is desired, and tells them every second that the agent lives.
//!
//! Owns the maps that steps write, the layout that says what they hold, and the places where the programs
//! are attached. A step that fails stays in front of the next plan and is tried again every second.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info, warn};

use super::control::Desired;
use crate::datapath::apply::{Applier, Tables};
use crate::datapath::loader::{AttachChoice, Attached, Attachment};
use crate::model::intent::FrontendName;
use crate::model::segment::Segment;
use crate::net::clock;
use crate::plan::layout::{Layout, Settings};
use crate::telemetry::chain;

/// How often the programs hear that the agent lives, and failed steps are tried again.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What the programs do by now.
#[derive(Clone, Debug)]
pub struct Programmed {
    /// What was asked for.
    pub desired: Arc<Desired>,
    /// What the maps hold.
    pub layout: Arc<Layout>,
    /// Frontends that are not as they should be, and why.
    pub refused: Vec<(FrontendName, String)>,
    /// Why some of it is not in the maps yet.
    pub failure: Option<String>,
    /// The compute port on which the ingress program sits.
    pub ifindex: u32,
    /// How it sits there.
    pub mode: &'static str,
}

/// What the task reads.
#[derive(Debug)]
pub struct Inputs {
    /// What is to be.
    pub desired: watch::Receiver<Arc<Desired>>,
    /// The compute port and its neighbours.
    pub segment: watch::Receiver<Segment>,
    /// Interfaces with a route to clients, name by index.
    pub egress: watch::Receiver<BTreeMap<u32, String>>,
}

/// The task's own things.
#[derive(Debug)]
pub struct Datapath<T> {
    applier: Applier<T>,
    attachment: Attachment,
    layout: Arc<Layout>,
    settings: Settings,
    choice: AttachChoice,
    attached: Option<Attached>,
    ifindex: u32,
    failure: Option<String>,
}

impl<T: Tables> Datapath<T> {
    /// With programs attached to `ifindex`, and empty maps that the layout describes.
    pub fn new(
        tables: T,
        attachment: Attachment,
        layout: Layout,
        settings: Settings,
        choice: AttachChoice,
        (attached, ifindex): (Attached, u32),
    ) -> Self {
        Self {
            applier: Applier::new(tables),
            attachment,
            layout: Arc::new(layout),
            settings,
            choice,
            attached: Some(attached),
            ifindex,
            failure: None,
        }
    }

    /// Runs until the inputs end.
    pub async fn run(mut self, mut inputs: Inputs, output: watch::Sender<Option<Programmed>>) {
        let mut heartbeat = interval(HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.set_egress(&inputs.egress.borrow_and_update().clone());
        loop {
            tokio::select! {
                changed = inputs.desired.changed() => if changed.is_err() { return },
                changed = inputs.segment.changed() => if changed.is_err() { return },
                changed = inputs.egress.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = inputs.egress.borrow_and_update().clone();
                    self.set_egress(&wanted);
                    continue;
                }
                _ = heartbeat.tick() => {
                    if let Err(error) = self.applier.beat(clock::monotonic_nanos()) {
                        warn!("heartbeat: {}", chain(&error));
                    }
                    // A step that is refused again and again is no reason to be taken for dead.
                    if self.failure.is_none() {
                        continue;
                    }
                }
            }
            let desired = Arc::clone(&inputs.desired.borrow_and_update());
            let segment = inputs.segment.borrow_and_update().clone();
            // Before the source was read once there is nothing to program.
            if desired.revision == 0 {
                continue;
            }
            self.follow(&segment);
            // Planning and writing take long for ten thousand Services: other tasks go elsewhere.
            let programmed = block_in_place(|| self.program(desired, &segment));
            output.send_replace(Some(programmed));
        }
    }

    fn program(&mut self, desired: Arc<Desired>, segment: &Segment) -> Programmed {
        let (plan, layout) = self
            .layout
            .plan(&desired.intent.dataplane, segment, self.settings);
        let count = plan.steps.len();
        let (layout, failure) = match self.applier.run(plan.steps, clock::monotonic_nanos()) {
            Ok(()) => (layout, None),
            Err(failed) => {
                let text = chain(&failed);
                (layout.with_pending(failed.remaining), Some(text))
            }
        };
        debug!(revision = desired.revision, steps = count, "programmed");
        match (&self.failure, &failure) {
            (previous, Some(text)) if previous.as_ref() != Some(text) => error!("{text}"),
            (Some(_), None) => info!("the maps take writes again"),
            _ => {}
        }
        self.failure.clone_from(&failure);
        self.layout = Arc::new(layout);
        Programmed {
            desired,
            layout: Arc::clone(&self.layout),
            refused: plan.refused,
            failure,
            ifindex: self.ifindex,
            mode: self
                .attached
                .as_ref()
                .map_or("none", |attached| attached.mode.name()),
        }
    }

    /// Attaches to the compute port again when it was made anew, as a driver reload does.
    fn follow(&mut self, segment: &Segment) {
        if segment.ifindex == 0 || (segment.ifindex == self.ifindex && self.attached.is_some()) {
            return;
        }
        let attempt =
            self.attachment
                .attach_ingress(&segment.interface, segment.ifindex, self.choice, None);
        self.ifindex = segment.ifindex;
        self.attached = match attempt {
            Ok(attached) => {
                info!(interface = segment.interface, ifindex = segment.ifindex, mode = %attached.mode,
                      "attached to the new interface");
                Some(attached)
            }
            Err(error) => {
                error!("{}", chain(&error));
                None
            }
        };
    }

    fn set_egress(&mut self, wanted: &BTreeMap<u32, String>) {
        for failure in self.attachment.set_egress(wanted) {
            warn!("{}", chain(&failure));
        }
    }
}
