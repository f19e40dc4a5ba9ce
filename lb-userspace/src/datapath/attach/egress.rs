//! Attaches the egress program: tcx links, or clsact filters on older kernels.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use aya::programs::links::FdLink;
use aya::programs::tc::{
    self, NlOptions, SchedClassifierLink, TcAttachOptions, TcAttachType, TcError,
};
use aya::programs::{LinkOrder, ProgramError, SchedClassifier};
use aya::util::KernelVersion;
use lb_common::abi::program;

use super::{AttachError, Attachment, TcOrder, egress};
use crate::datapath::pins::{self, Pins};

/// Linux 6.6 has tcx: tc programs by link, without a qdisc.
const TCX_SINCE: KernelVersion = KernelVersion::new(6, 6, 0);

#[derive(Debug)]
pub(super) struct EgressLink {
    interface: String,
    /// Nothing where the program is a filter that is to outlive the agent.
    link: Option<SchedClassifierLink>,
}

impl Attachment {
    /// Puts the egress program on exactly these interfaces (name by index); returns what failed.
    ///
    /// An interface that went away needs no detaching, and its link is dropped.
    pub fn set_egress(&mut self, wanted: &BTreeMap<u32, String>) -> Vec<AttachError> {
        let mut failures = Vec::new();
        self.egress.retain(|index, held| {
            let stays = wanted.get(index) == Some(&held.interface);
            if !stays && held.link.is_none() {
                // The filter went with the interface, or goes now.
                let _ = remove_filter(&held.interface);
            }
            stays
        });
        let pinned = self.pins.as_ref().map(Pins::egress).transpose();
        match pinned {
            Ok(indices) => {
                for index in indices.into_iter().flatten() {
                    if !wanted.contains_key(&index)
                        && let Err(error) = self.remove_pin(&pins::egress_name(index))
                    {
                        failures.push(error.into());
                    }
                }
            }
            Err(error) => failures.push(error.into()),
        }
        for (&index, interface) in wanted {
            if self.egress.contains_key(&index) {
                continue;
            }
            match self.attach_egress(index, interface) {
                Ok(link) => {
                    let interface = interface.clone();
                    self.egress.insert(index, EgressLink { interface, link });
                }
                Err(error) => failures.push(error),
            }
        }
        failures
    }

    /// Names of the interfaces that carry the egress program.
    pub fn egress_interfaces(&self) -> impl Iterator<Item = &str> {
        self.egress.values().map(|link| link.interface.as_str())
    }

    fn attach_egress(
        &mut self,
        index: u32,
        interface: &str,
    ) -> Result<Option<SchedClassifierLink>, AttachError> {
        let failed = |source| AttachError::Egress {
            interface: interface.to_owned(),
            source,
        };
        if !has_tcx() {
            prepare_clsact(interface).map_err(|error| failed(error.into()))?;
            let options = TcAttachOptions::Netlink(NlOptions::default());
            let link = self.attach_new_egress(interface, options).map_err(failed)?;
            if self.pins.is_none() {
                return Ok(Some(link));
            }
            // A filter has no link that could be pinned: it stays unless it is removed.
            std::mem::forget(link);
            return Ok(None);
        }
        let name = pins::egress_name(index);
        if let Some(link) = self.replace_egress(&name, interface)? {
            return Ok(Some(link));
        }
        let options = TcAttachOptions::TcxOrder(match self.order {
            TcOrder::First => LinkOrder::first(),
            TcOrder::Last => LinkOrder::last(),
        });
        let link = self.attach_new_egress(interface, options).map_err(failed)?;
        self.keep(program::EGRESS, &name, link).map(Some)
    }

    /// Puts this agent's program into a pinned link, if that still is on the interface.
    fn replace_egress(
        &mut self,
        name: &str,
        interface: &str,
    ) -> Result<Option<SchedClassifierLink>, AttachError> {
        let failed = |source| AttachError::Egress {
            interface: interface.to_owned(),
            source,
        };
        let wrong = |source| AttachError::Link {
            program: program::EGRESS,
            source,
        };
        let pinned = self.pins.as_ref().map(|pins| pins.link(name));
        let Some(pinned) = pinned.transpose()?.flatten() else {
            return Ok(None);
        };
        let link = FdLink::from(pinned);
        let id = link.info().map_err(wrong)?.program_id();
        let (_, present) =
            SchedClassifier::query_tcx(interface, TcAttachType::Egress).map_err(failed)?;
        if !present.iter().any(|program| program.id() == id) {
            return Ok(None);
        }
        let link = SchedClassifierLink::try_from(link).map_err(wrong)?;
        let program = egress(&mut self.object).ok_or_else(|| failed(ProgramError::NotLoaded))?;
        let id = program.attach_to_link(link).map_err(failed)?;
        program.take_link(id).map(Some).map_err(failed)
    }

    fn attach_new_egress(
        &mut self,
        interface: &str,
        options: TcAttachOptions,
    ) -> Result<SchedClassifierLink, ProgramError> {
        // `load` found it, so it is there.
        let program = egress(&mut self.object).ok_or(ProgramError::NotLoaded)?;
        let id = program.attach_with_options(interface, TcAttachType::Egress, options)?;
        program.take_link(id)
    }
}

fn has_tcx() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= TCX_SINCE)
}

/// A clsact qdisc without a filter that an agent killed earlier left behind.
fn prepare_clsact(interface: &str) -> Result<(), TcError> {
    match tc::qdisc_add_clsact(interface) {
        Ok(()) => return Ok(()),
        // Somebody's qdisc serves as well; `attach` fails where it is of another kind.
        Err(TcError::NetlinkError(_) | TcError::AlreadyAttached) => {}
        Err(other) => return Err(other),
    }
    remove_filter(interface)
}

fn remove_filter(interface: &str) -> Result<(), TcError> {
    match tc::qdisc_detach_program(interface, TcAttachType::Egress, program::EGRESS) {
        Err(TcError::IoError(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Takes the egress program off every interface of a kernel without tcx, where no pinned link holds it.
///
/// # Errors
/// The interfaces cannot be listed, or a filter not be removed.
pub fn remove_filters() -> Result<(), TcError> {
    if has_tcx() {
        return Ok(());
    }
    for entry in fs::read_dir("/sys/class/net").map_err(TcError::IoError)? {
        let name = entry.map_err(TcError::IoError)?.file_name();
        if let Some(interface) = name.to_str() {
            remove_filter(interface)?;
        }
    }
    Ok(())
}
