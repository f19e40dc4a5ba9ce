//! Brings the programs to what is desired.
//!
//! Owns the maps that steps write, the layout that says what they hold, and the places where the programs
//! are attached. The layout is read from the maps when the first intent is there: until then whatever an
//! agent before put into them stays. A step that fails stays in front of the next plan; it is tried again
//! every second, and so is a program that could not be attached.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::block_in_place;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{debug, error, info};

use super::control::Desired;
use super::legacy::Legacy;
use super::peer::Council;
use crate::datapath::apply::{self, Tables};
use crate::datapath::attach::{AttachChoice, Attached, Attachment};
use crate::datapath::handle::TableError;
use crate::model::intent::FrontendName;
use crate::model::segment::Segment;
use crate::net::clock;
use crate::plan::layout::{Capacity, Layout, Settings};
use crate::plan::step::Step;
use crate::telemetry::chain;

/// How often failed steps are tried again.
const RETRY: Duration = Duration::from_secs(1);

/// What the programs do by now.
#[derive(Clone, Debug)]
pub struct Programmed {
    /// What was asked for.
    pub desired: Arc<Desired>,
    /// What the maps hold.
    pub layout: Arc<Layout>,
    /// Frontends that are not as they should be, and why.
    pub refused: Vec<(FrontendName, String)>,
    /// Why some of it is not in the maps yet, or a program not in its place.
    pub failure: Option<String>,
    /// The compute port on which the ingress program sits.
    pub ifindex: u32,
    /// How it sits there.
    pub mode: &'static str,
}

/// Why nothing of an intent was done.
#[derive(Debug, thiserror::Error)]
enum ProgramError<E: Error + 'static> {
    #[error("failed to read the maps")]
    Dump(#[source] E),
    #[error("failed to leave connections to the kernel")]
    Legacy(#[from] TableError),
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
    /// Hears of changes before they are made.
    pub council: Council,
    /// What the kernel serves already.
    pub legacy: Legacy,
}

/// The task's own things.
#[derive(Debug)]
pub struct Datapath<T> {
    tables: T,
    attachment: Attachment,
    capacity: Capacity,
    /// Not known before the first intent.
    layout: Option<Arc<Layout>>,
    settings: Settings,
    choice: AttachChoice,
    attached: Option<Attached>,
    ifindex: u32,
    /// Why the ingress program is not on the compute port.
    detached: Option<String>,
    /// Why replies leave by some interface with the pod's address.
    untranslated: Option<String>,
    failure: Option<String>,
}

impl<T: Tables> Datapath<T> {
    /// With programs attached to `ifindex`, and maps of that capacity.
    pub fn new(
        tables: T,
        attachment: Attachment,
        capacity: Capacity,
        settings: Settings,
        choice: AttachChoice,
        (attached, ifindex): (Attached, u32),
    ) -> Self {
        Self {
            tables,
            attachment,
            capacity,
            layout: None,
            settings,
            choice,
            attached: Some(attached),
            ifindex,
            detached: None,
            untranslated: None,
            failure: None,
        }
    }

    /// Runs until the inputs end.
    pub async fn run(mut self, mut inputs: Inputs, output: watch::Sender<Option<Programmed>>) {
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let egress = inputs.egress.borrow_and_update().clone();
        self.set_egress(&egress);
        loop {
            tokio::select! {
                changed = inputs.desired.changed() => if changed.is_err() { return },
                changed = inputs.segment.changed() => if changed.is_err() { return },
                changed = inputs.egress.changed() => if changed.is_err() { return },
                _ = retry.tick() => if self.failure.is_none() { continue },
            }
            let egress = inputs.egress.borrow_and_update().clone();
            self.set_egress(&egress);
            let desired = Arc::clone(&inputs.desired.borrow_and_update());
            let segment = inputs.segment.borrow_and_update().clone();
            // Before the source was read once there is nothing to program.
            if desired.revision == 0 {
                continue;
            }
            self.follow(&segment);
            match self.program(desired, &segment, &inputs).await {
                Ok(programmed) => {
                    output.send_replace(Some(programmed));
                }
                Err(error) => self.note_failure(Some(chain(&error))),
            }
        }
    }

    /// # Errors
    /// The maps cannot be read, and so not be planned for; or what the kernel serves would break.
    async fn program(
        &mut self,
        desired: Arc<Desired>,
        segment: &Segment,
        inputs: &Inputs,
    ) -> Result<Programmed, ProgramError<T::Error>> {
        let intent = &desired.intent.dataplane;
        let now = clock::monotonic_nanos();
        // Planning and writing take long for ten thousand Services: other tasks go elsewhere.
        let (before, mut plan, next) = block_in_place(|| {
            let before = match &self.layout {
                Some(layout) => Arc::clone(layout),
                None => {
                    let dump = self.tables.dump().map_err(ProgramError::Dump)?;
                    Arc::new(Layout::restore(self.capacity, dump, intent))
                }
            };
            let seconds = (now / 1_000_000_000) as u32;
            let (plan, next) = before.plan(intent, segment, self.settings, seconds);
            Ok::<_, ProgramError<T::Error>>((before, plan, Arc::new(next)))
        })?;
        let heritage = inputs.council.consult(&before, &next).await;
        let mut next = Arc::unwrap_or_clone(next);
        next.inherit(&mut plan, &heritage);
        let count = plan.steps.len();
        let legacy = &inputs.legacy;
        let is_known = self.settings.kernel_knows_vips;
        block_in_place(|| legacy.begin(&before, &next, is_known))?;
        legacy.mark(&mut plan.steps);
        let (layout, failure) = block_in_place(|| self.apply(plan.steps, next, legacy));
        debug!(revision = desired.revision, steps = count, "programmed");
        let failure = failure
            .or_else(|| self.detached.clone())
            .or_else(|| self.untranslated.clone());
        self.note_failure(failure.clone());
        let layout = Arc::new(layout);
        self.layout = Some(Arc::clone(&layout));
        Ok(Programmed {
            desired,
            layout,
            refused: plan.refused,
            failure,
            ifindex: self.ifindex,
            mode: self
                .attached
                .as_ref()
                .map_or("none", |attached| attached.mode.name()),
        })
    }

    /// Takes the steps to a layout, and those that end what they began. Returns what the maps hold then, and why
    /// not all of it was done.
    fn apply(
        &mut self,
        steps: Vec<Step>,
        next: Layout,
        legacy: &Legacy,
    ) -> (Layout, Option<String>) {
        let now = clock::monotonic_nanos();
        let mut outcome = apply::run(&mut self.tables, steps, now);
        if outcome.is_ok() {
            match legacy.settle(&next) {
                Ok(steps) => outcome = apply::run(&mut self.tables, steps, now),
                Err(error) => return (next, Some(chain(&error))),
            }
        }
        match outcome {
            Ok(()) => (next, None),
            Err(failed) => {
                let text = chain(&failed);
                (next.with_pending(failed.remaining), Some(text))
            }
        }
    }

    fn note_failure(&mut self, failure: Option<String>) {
        match (&self.failure, &failure) {
            (previous, Some(text)) if previous.as_ref() != Some(text) => error!("{text}"),
            (Some(_), None) => info!("maps and programs are as they should be again"),
            _ => {}
        }
        self.failure = failure;
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
                self.detached = None;
                Some(attached)
            }
            Err(error) => {
                self.detached = Some(chain(&error));
                None
            }
        };
    }

    /// What is in its place already stays.
    fn set_egress(&mut self, wanted: &BTreeMap<u32, String>) {
        let failures = self.attachment.set_egress(wanted);
        self.untranslated = failures.first().map(|failure| chain(failure));
    }
}
