//! Loads the programs and attaches them.
//!
//! The ingress program sits on the compute port, the egress program on every interface with a route to
//! clients. Links are owned here: dropping the [`Attachment`] takes the programs off, and the maps go
//! with the last handle to them.

use std::collections::BTreeMap;

use aya::maps::{MapData, ProgramArray};
use aya::programs::tc::{
    self, NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError,
};
use aya::programs::xdp::XdpLink;
use aya::programs::{
    LinkOrder, ProgramError, ProgramInfo, SchedClassifier, Xdp, XdpMode, loaded_programs,
};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfError, EbpfLoader};
use lb_common::abi::{map, program};
use tracing::{debug, info};

use super::counters::Counters;
use super::handle::{self, HandleError, KernelTables};
use super::memory;
use super::sweep::FlowTables;
use crate::plan::layout::Capacity;

/// Linux 6.6 has tcx: tc programs by link, without a qdisc.
const TCX_SINCE: KernelVersion = KernelVersion::new(6, 6, 0);

/// How the ingress program is to be attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AttachChoice {
    /// In the driver, else generic.
    #[default]
    Auto,
    /// In the driver or not at all.
    Native,
    /// After the driver made an skb.
    Generic,
}

/// How the ingress program is attached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// After the driver made an skb: slow, and for want of anything better.
    Generic,
}

impl AttachMode {
    /// As status and logs show it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl std::fmt::Display for AttachMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

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
}

/// Why a program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Somebody else's program is there.
    #[error(
        "{interface} already carries the XDP program {name} (id {id}); Torline replaces nobody's \
         program: remove it (`ip link set dev {interface} xdp off`, or stop what put it there)"
    )]
    Occupied {
        /// The compute port.
        interface: String,
        /// The other program's id.
        id: u32,
        /// The other program's name.
        name: String,
    },
    /// The kernel or the driver refused every way that was allowed.
    #[error("failed to attach {program} to {interface} ({mode} mode)")]
    Refused {
        /// The program.
        program: &'static str,
        /// The interface.
        interface: String,
        /// The mode tried last.
        mode: AttachMode,
        /// The cause.
        #[source]
        source: ProgramError,
    },
    /// The egress program could not be attached.
    #[error("failed to attach {} to {interface}", program::EGRESS)]
    Egress {
        /// The interface.
        interface: String,
        /// The cause.
        #[source]
        source: ProgramError,
    },
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
    /// The programs and where they sit.
    pub attachment: Attachment,
    /// Kernel memory of all maps, in bytes.
    pub map_bytes: u64,
}

/// Loads the programs, with `slots` elements in the slot array. Nothing is attached yet.
///
/// # Errors
/// The object is not of this build, or the kernel refuses it.
pub fn load(object: &[u8], slots: u32) -> Result<Loaded, LoadError> {
    let mut object = EbpfLoader::new()
        .map_max_entries(map::SLOTS, slots)
        .load(object)
        .map_err(LoadError::Object)?;
    // Multi-buffer XDP came with Linux 5.18; where it is missing only the linear program loads.
    let ingress = match ingress(&mut object, program::INGRESS) {
        Ok(()) => vec![program::INGRESS, program::INGRESS_LINEAR],
        Err(error) => {
            info!("{error}; going on without multi-buffer frames");
            vec![program::INGRESS_LINEAR]
        }
    };
    if ingress.contains(&program::INGRESS_LINEAR) {
        self::ingress(&mut object, program::INGRESS_LINEAR)?;
    }
    for name in &ingress {
        let (map, resume) = match *name {
            program::INGRESS => (map::PROGRAMS, program::RESUME),
            _ => (map::PROGRAMS_LINEAR, program::RESUME_LINEAR),
        };
        self::ingress(&mut object, resume)?;
        call(&mut object, map, resume)?;
    }
    let egress = egress(&mut object)?;
    egress
        .load()
        .map_err(|error| refused(program::EGRESS, &error))?;
    let map_bytes = memory::of_maps(
        object
            .programs()
            .filter_map(|(_, program)| program.info().ok()),
    );
    Ok(Loaded {
        capacity: handle::capacity(&object)?,
        tables: KernelTables::take(&mut object)?,
        counters: Counters::take(&mut object)?,
        flows: FlowTables::take(&mut object)?,
        attachment: Attachment {
            object,
            candidates: ingress,
            ingress: None,
            egress: BTreeMap::new(),
        },
        map_bytes,
    })
}

fn ingress(object: &mut Ebpf, name: &'static str) -> Result<(), LoadError> {
    xdp(object, name)
        .ok_or(LoadError::Missing(name))?
        .load()
        .map_err(|error| refused(name, &error))
}

/// Lets an ingress program go on in another. The object keeps the array, which would be emptied otherwise.
fn call(object: &mut Ebpf, map: &'static str, name: &'static str) -> Result<(), LoadError> {
    let program = xdp(object, name).ok_or(LoadError::Missing(name))?;
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

fn xdp<'a>(object: &'a mut Ebpf, name: &str) -> Option<&'a mut Xdp> {
    object.program_mut(name)?.try_into().ok()
}

fn egress(object: &mut Ebpf) -> Result<&mut SchedClassifier, LoadError> {
    object
        .program_mut(program::EGRESS)
        .and_then(|program| program.try_into().ok())
        .ok_or(LoadError::Missing(program::EGRESS))
}

/// Where the programs sit.
#[derive(Debug)]
pub struct Attachment {
    object: Ebpf,
    /// Ingress programs that loaded, best first.
    candidates: Vec<&'static str>,
    ingress: Option<XdpLink>,
    /// Interfaces that carry the egress program, by index.
    egress: BTreeMap<u32, EgressLink>,
}

#[derive(Debug)]
struct EgressLink {
    interface: String,
    _link: SchedClassifierLink,
}

/// How the ingress program came to be attached.
#[derive(Debug)]
pub struct Attached {
    /// The mode.
    pub mode: AttachMode,
    /// The program.
    pub program: &'static str,
    /// Why native mode was given up.
    pub fallback: Option<AttachError>,
}

impl Attachment {
    /// Attaches the ingress program. A link held before, to an interface that went away, is let go.
    ///
    /// `foreign` is the id of a program that the interface carries now.
    ///
    /// # Errors
    /// The interface is occupied, or no allowed mode works.
    pub fn attach_ingress(
        &mut self,
        interface: &str,
        ifindex: u32,
        choice: AttachChoice,
        foreign: Option<u32>,
    ) -> Result<Attached, AttachError> {
        self.ingress = None;
        if let Some(id) = foreign {
            return Err(AttachError::Occupied {
                interface: interface.to_owned(),
                id,
                name: program_name(id),
            });
        }
        let modes: &[AttachMode] = match choice {
            AttachChoice::Auto => &[AttachMode::Native, AttachMode::Generic],
            AttachChoice::Native => &[AttachMode::Native],
            AttachChoice::Generic => &[AttachMode::Generic],
        };
        let mut refusal = None;
        for &mode in modes {
            for &program in &self.candidates {
                let Some(xdp) = xdp(&mut self.object, program) else {
                    continue;
                };
                match attach(xdp, ifindex, mode) {
                    Ok(link) => {
                        self.ingress = Some(link);
                        return Ok(Attached {
                            mode,
                            program,
                            fallback: refusal.filter(|_| mode == AttachMode::Generic),
                        });
                    }
                    Err(source) => {
                        refusal = Some(AttachError::Refused {
                            program,
                            interface: interface.to_owned(),
                            mode,
                            source,
                        });
                    }
                }
            }
        }
        // `candidates` and `modes` are never empty, so an attempt was made.
        Err(refusal.unwrap_or(AttachError::Refused {
            program: program::INGRESS,
            interface: interface.to_owned(),
            mode: AttachMode::Native,
            source: ProgramError::NotLoaded,
        }))
    }

    /// Puts the egress program on exactly these interfaces (name by index); returns what failed.
    ///
    /// An interface that went away needs no detaching, and its link is dropped.
    pub fn set_egress(&mut self, wanted: &BTreeMap<u32, String>) -> Vec<AttachError> {
        self.egress
            .retain(|index, held| wanted.get(index) == Some(&held.interface));
        let mut failures = Vec::new();
        for (&index, interface) in wanted {
            if self.egress.contains_key(&index) {
                continue;
            }
            match self.attach_egress(interface) {
                Ok(link) => {
                    let interface = interface.clone();
                    self.egress.insert(
                        index,
                        EgressLink {
                            interface,
                            _link: link,
                        },
                    );
                }
                Err(source) => failures.push(AttachError::Egress {
                    interface: interface.clone(),
                    source,
                }),
            }
        }
        failures
    }

    /// Names of the interfaces that carry the egress program.
    pub fn egress_interfaces(&self) -> impl Iterator<Item = &str> {
        self.egress.values().map(|link| link.interface.as_str())
    }

    fn attach_egress(&mut self, interface: &str) -> Result<SchedClassifierLink, ProgramError> {
        let tcx = KernelVersion::current().is_ok_and(|version| version >= TCX_SINCE);
        let options = if tcx {
            TcAttachOptions::TcxOrder(LinkOrder::default())
        } else {
            prepare_clsact(interface)?;
            TcAttachOptions::Netlink(NlOptions::default())
        };
        // `load` found it, so it is there.
        let Ok(program) = egress(&mut self.object) else {
            return Err(ProgramError::NotLoaded);
        };
        let id = program.attach_with_options(interface, TcAttachType::Egress, options)?;
        program.take_link(id)
    }
}

/// A clsact qdisc without a filter that an agent killed earlier left behind.
fn prepare_clsact(interface: &str) -> Result<(), TcError> {
    match tc::qdisc_add_clsact(interface) {
        Ok(()) => return Ok(()),
        // Somebody's qdisc serves as well; `attach` fails where it is of another kind.
        Err(TcError::NetlinkError(_) | TcError::AlreadyAttached) => {}
        Err(other) => return Err(other),
    }
    match tc::qdisc_detach_program(interface, TcAttachType::Egress, program::EGRESS) {
        Err(TcError::IoError(error)) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn attach(xdp: &mut Xdp, ifindex: u32, mode: AttachMode) -> Result<XdpLink, ProgramError> {
    let flags = match mode {
        AttachMode::Native => XdpMode::Driver,
        AttachMode::Generic => XdpMode::Skb,
    };
    let id = xdp.attach_to_if_index(ifindex, flags)?;
    xdp.take_link(id)
}

/// The name under which the kernel knows a program.
fn program_name(id: u32) -> String {
    loaded_programs()
        .filter_map(Result::ok)
        .find(|program| program.id() == id)
        .as_ref()
        .and_then(ProgramInfo::name_as_str)
        .filter(|name| !name.is_empty())
        .unwrap_or("without a name")
        .to_owned()
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
