//! Loads the programs, with new maps or with those the agent before pinned.

use aya::maps::{MapData, ProgramArray};
use aya::programs::ProgramError;
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::abi::{map, program};
use tracing::{debug, info};

use super::attach::{self, Attachment, TcOrder};
use super::counters::Counters;
use super::events::Events;
use super::flows::{FlowWalk, Flows};
use super::handle::{self, HandleError, KernelTables};
use super::legacy::LegacyTables;
use super::memory;
use super::pins::{PinError, Pins};
use super::sweep::FlowTables;
use crate::plan::layout::Capacity;

/// Why the programs could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The object or one of its maps.
    #[error("failed to load the kernel programs")]
    Object(#[source] EbpfError),
    /// The object has no such program.
    #[error("the kernel programs have no {0}; agent and programs are of different builds")]
    Missing(&'static str),
    /// The kernel refused a program. The verifier's whole log is logged at level `debug`.
    #[error("the kernel refused the program {name}: {reason}")]
    Refused {
        /// Name of the program.
        name: &'static str,
        /// Why, in one line.
        reason: String,
    },
    /// The maps are not what this agent writes.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// The pinned maps cannot be used.
    #[error(transparent)]
    Pins(#[from] PinError),
}

/// The programs and maps of a loaded object, each part to be owned by whoever works with it.
pub struct Loaded {
    /// The maps that steps write.
    pub tables: KernelTables,
    /// How many elements those have.
    pub capacity: Capacity,
    /// The maps that count.
    pub counters: Counters,
    /// The maps that remember flows.
    pub flows: FlowTables,
    /// The maps that remember flows of the kernel's.
    pub legacy: LegacyTables,
    /// The same and the exceptions, to be looked up for other nodes.
    pub known: Flows,
    /// The same, to be gone through.
    pub walk: FlowWalk,
    /// What the programs tell.
    pub events: Events,
    /// The programs and where they sit.
    pub attachment: Attachment,
    /// Kernel memory of all maps, in bytes.
    pub map_bytes: u64,
}

/// How the programs are loaded.
#[derive(Debug)]
pub struct Options {
    /// Elements of the slot array.
    pub slots: u32,
    /// Where maps and links are pinned; without, they end with the agent.
    pub pins: Option<Pins>,
    /// Where the egress program stands among others on an interface.
    pub order: TcOrder,
}

/// Loads the programs. Nothing is attached yet; what is attached already goes on as it is.
///
/// # Errors
/// The object is not of this build, the pinned maps do not fit it, or the kernel refuses it. What was
/// pinned for the first time is removed again.
pub fn load(object: &[u8], options: Options) -> Result<Loaded, LoadError> {
    let Options { slots, pins, order } = options;
    match load_with(object, slots, pins.as_ref(), order) {
        Ok(mut loaded) => {
            loaded.attachment.pins = pins;
            Ok(loaded)
        }
        Err(error) => {
            if let Some(pins) = pins {
                pins.abandon();
            }
            Err(error)
        }
    }
}

fn load_with(
    object: &[u8],
    slots: u32,
    pins: Option<&Pins>,
    order: TcOrder,
) -> Result<Loaded, LoadError> {
    let plan = pins.map(|pins| pins.plan(object, slots)).transpose()?;
    let mut loader = EbpfLoader::new();
    loader.map_max_entries(map::SLOTS, slots);
    for (name, path) in plan.iter().flat_map(|plan| &plan.paths) {
        loader.map_pin_path(name, path.as_path());
    }
    let mut object = loader.load(object).map_err(LoadError::Object)?;
    if let Some(pins) = pins.filter(|_| plan.is_some_and(|plan| plan.longer_slots)) {
        pins.replace_slots()?;
    }
    // Multi-buffer XDP came with Linux 5.18; where it is missing only the linear program loads.
    let ingress = match ingress(&mut object, program::INGRESS) {
        Ok(()) => vec![program::INGRESS, program::INGRESS_LINEAR],
        Err(error) => {
            info!("{error}; going on without multi-buffer frames");
            vec![program::INGRESS_LINEAR]
        }
    };
    self::ingress(&mut object, program::INGRESS_LINEAR)?;
    for name in &ingress {
        let (map, resume) = match *name {
            program::INGRESS => (map::PROGRAMS, program::RESUME),
            _ => (map::PROGRAMS_LINEAR, program::RESUME_LINEAR),
        };
        self::ingress(&mut object, resume)?;
        call(&mut object, map, resume)?;
    }
    attach::egress(&mut object)
        .ok_or(LoadError::Missing(program::EGRESS))?
        .load()
        .map_err(|error| refused(program::EGRESS, &error))?;
    let map_bytes = memory::of_maps(
        object
            .programs()
            .filter_map(|(_, program)| program.info().ok()),
    );
    let capacity = handle::capacity(&object)?;
    let (known, walk) = Flows::take(&mut object)?;
    let flows = FlowTables::take(&mut object)?;
    let tables = KernelTables::take(&mut object)?;
    Ok(Loaded {
        capacity,
        legacy: LegacyTables::take(&mut object, tables.heart())?,
        tables,
        known,
        walk,
        events: Events::take(&mut object)?,
        counters: Counters::take(&mut object)?,
        flows,
        attachment: Attachment::new(object, ingress, order),
        map_bytes,
    })
}

fn ingress(object: &mut Ebpf, name: &'static str) -> Result<(), LoadError> {
    attach::xdp(object, name)
        .ok_or(LoadError::Missing(name))?
        .load()
        .map_err(|error| refused(name, &error))
}

/// Lets an ingress program go on in another. The object keeps the array, which would be emptied otherwise.
fn call(object: &mut Ebpf, map: &'static str, name: &'static str) -> Result<(), LoadError> {
    let program = attach::xdp(object, name).ok_or(LoadError::Missing(name))?;
    let fd = program.fd().map_err(|error| refused(name, &error))?;
    let fd = fd
        .try_clone()
        .map_err(|error| refused(name, &error.into()))?;
    let array = object.map_mut(map).ok_or(HandleError::Missing(map))?;
    let shape = |source| HandleError::Shape { name: map, source };
    let mut programs: ProgramArray<&mut MapData> = array.try_into().map_err(shape)?;
    programs.set(0, &fd, 0).map_err(shape)?;
    Ok(())
}

fn refused(name: &'static str, error: &ProgramError) -> LoadError {
    debug!("{name}: {error}");
    let reason = match error {
        ProgramError::LoadError {
            io_error,
            verifier_log,
        } => match complaint(&verifier_log.to_string()) {
            Some(complaint) => format!("{io_error}: {complaint}"),
            None => io_error.to_string(),
        },
        other => other.to_string(),
    };
    LoadError::Refused { name, reason }
}

/// What the verifier complains about: the last line before its figures.
fn complaint(log: &str) -> Option<&str> {
    const FIGURES: [&str; 4] = ["verification time", "stack depth", "processed", "func#"];
    log.lines()
        .map(str::trim)
        .rfind(|line| !line.is_empty() && !FIGURES.iter().any(|figure| line.starts_with(figure)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_complaint_of_the_verifier_is_found_in_its_log() {
        let log = "4485: (61) r1 = *(u32 *)(r6 +20)\ninvalid write to stack R10 off=-520 size=8\n\
                   verification time 127602 usec\nstack depth 0+512\nprocessed 12051 insns (limit \
                   1000000)\n\n";
        assert_eq!(
            complaint(log),
            Some("invalid write to stack R10 off=-520 size=8")
        );
        assert_eq!(complaint(""), None);
    }
}
