//! Attaches the programs.
//!
//! The ingress program sits on the compute port, the egress program on every interface with a route to
//! clients. With pins the links outlive the agent, and the next one puts its programs into them: no
//! packet meets an interface without them. Without pins the links are owned here alone, and dropping the
//! [`Attachment`] takes the programs off.

mod egress;

use std::collections::BTreeMap;
use std::path::PathBuf;

use aya::Ebpf;
use aya::programs::links::{FdLink, LinkError};
use aya::programs::xdp::XdpLink;
use aya::programs::{
    ProgramError, ProgramInfo, SchedClassifier, Xdp, XdpMode, loaded_links, loaded_programs,
};
use lb_common::abi::program;
use tracing::warn;

use self::egress::EgressLink;
pub use self::egress::remove_filters;
use super::pins::{self, PinError, Pins};

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

/// Where the egress program stands among the programs of others on an interface (tcx).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TcOrder {
    /// Before all that are there when it is attached.
    First,
    /// After them.
    #[default]
    Last,
}

/// An XDP program that an interface carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Present {
    /// Id of the program.
    pub id: u32,
    /// How it is attached.
    pub mode: AttachMode,
}

/// Why a program could not be attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// Somebody else's program is there.
    #[error(
        "{interface} already carries the XDP program {name} (id {id}{}); Torline replaces nobody's \
         program: {advice}",
        link.map(|link| format!(", attached by link {link}")).unwrap_or_default()
    )]
    Occupied {
        /// The compute port.
        interface: String,
        /// The other program's id.
        id: u32,
        /// The other program's name.
        name: String,
        /// The link that holds it there.
        link: Option<u32>,
        /// How to be rid of it.
        advice: String,
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
    /// A link cannot be pinned, or a pinned one not be used.
    #[error(transparent)]
    Pins(#[from] PinError),
    /// A link is of another kind than it should be.
    #[error("the link of {program} cannot be used")]
    Link {
        /// The program.
        program: &'static str,
        /// The cause.
        #[source]
        source: LinkError,
    },
}

/// Where the programs sit.
#[derive(Debug)]
pub struct Attachment {
    object: Ebpf,
    /// Ingress programs that loaded, best first.
    candidates: Vec<&'static str>,
    order: TcOrder,
    pub(super) pins: Option<Pins>,
    ingress: Option<XdpLink>,
    /// Interfaces that carry the egress program, by index.
    egress: BTreeMap<u32, EgressLink>,
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
    /// The program took the place of one that an agent before left there.
    pub replaces: bool,
}

impl Attachment {
    pub(super) fn new(object: Ebpf, candidates: Vec<&'static str>, order: TcOrder) -> Self {
        Self {
            object,
            candidates,
            order,
            pins: None,
            ingress: None,
            egress: BTreeMap::new(),
        }
    }

    /// Removes what this agent pinned, if nothing was pinned before: for a start that is given up.
    pub fn abandon(self) {
        let Self { pins, ingress, .. } = self;
        drop(ingress);
        if let Some(pins) = pins {
            pins.abandon();
        }
    }

    /// Attaches the ingress program. A link held before, to an interface that went away, is let go.
    ///
    /// `present` is the program that the interface carries now.
    ///
    /// # Errors
    /// The interface is occupied, or no allowed mode works.
    pub fn attach_ingress(
        &mut self,
        interface: &str,
        ifindex: u32,
        choice: AttachChoice,
        present: Option<Present>,
    ) -> Result<Attached, AttachError> {
        self.ingress = None;
        let modes: &[AttachMode] = match choice {
            AttachChoice::Auto => &[AttachMode::Native, AttachMode::Generic],
            AttachChoice::Native => &[AttachMode::Native],
            AttachChoice::Generic => &[AttachMode::Generic],
        };
        if let Some(present) = present {
            if !self.is_pinned(present)? {
                return Err(self.occupied(interface, present));
            }
            if modes.contains(&present.mode) {
                return self.replace_ingress(interface, present.mode);
            }
            warn!(
                interface,
                "attached anew for another mode: packets pass by the program meanwhile"
            );
            self.remove_pin(pins::INGRESS)?;
        }
        let mut refusal = None;
        for &mode in modes {
            for &program in &self.candidates {
                let Some(xdp) = xdp(&mut self.object, program) else {
                    continue;
                };
                match attach(xdp, ifindex, mode) {
                    Ok(link) => {
                        self.ingress = Some(self.keep(program, pins::INGRESS, link)?);
                        return Ok(Attached {
                            mode,
                            program,
                            fallback: refusal.filter(|_| mode == AttachMode::Generic),
                            replaces: false,
                        });
                    }
                    Err(source) => refusal = Some(refused(program, interface, mode, source)),
                }
            }
        }
        // `candidates` and `modes` are never empty, so an attempt was made.
        Err(refusal.unwrap_or_else(|| never_tried(interface)))
    }

    /// Puts this agent's program into the link that the one before left pinned.
    fn replace_ingress(
        &mut self,
        interface: &str,
        mode: AttachMode,
    ) -> Result<Attached, AttachError> {
        let mut refusal = None;
        for &program in &self.candidates {
            let pinned = self.pins.as_ref().map(|pins| pins.link(pins::INGRESS));
            let (Some(pinned), Some(xdp)) = (
                pinned.transpose()?.flatten(),
                xdp(&mut self.object, program),
            ) else {
                continue;
            };
            let link = XdpLink::try_from(FdLink::from(pinned))
                .map_err(|source| AttachError::Link { program, source })?;
            match xdp.attach_to_link(link).and_then(|id| xdp.take_link(id)) {
                Ok(link) => {
                    self.ingress = Some(link);
                    return Ok(Attached {
                        mode,
                        program,
                        fallback: None,
                        replaces: true,
                    });
                }
                Err(source) => refusal = Some(refused(program, interface, mode, source)),
            }
        }
        Err(refusal.unwrap_or_else(|| never_tried(interface)))
    }

    /// Whether the program hangs on the link that is pinned.
    fn is_pinned(&self, present: Present) -> Result<bool, AttachError> {
        let Some(pins) = &self.pins else {
            return Ok(false);
        };
        let Some(link) = pins.link(pins::INGRESS)? else {
            return Ok(false);
        };
        let info = FdLink::from(link)
            .info()
            .map_err(|source| AttachError::Link {
                program: program::INGRESS,
                source,
            })?;
        Ok(info.program_id() == present.id)
    }

    fn occupied(&self, interface: &str, present: Present) -> AttachError {
        let name = program_name(present.id);
        let link = loaded_links()
            .filter_map(Result::ok)
            .find(|link| link.program_id() == present.id)
            .map(|link| link.id());
        let base: Option<PathBuf> = self.pins.as_ref().map(|pins| pins.base().to_owned());
        AttachError::Occupied {
            advice: advice(interface, &name, link, base),
            interface: interface.to_owned(),
            id: present.id,
            name,
            link,
        }
    }

    /// Pins a link if there are pins.
    fn keep<L>(&self, program: &'static str, name: &str, link: L) -> Result<L, AttachError>
    where
        L: TryFrom<FdLink, Error = LinkError>,
        FdLink: TryFrom<L, Error = LinkError>,
    {
        let Some(pins) = &self.pins else {
            return Ok(link);
        };
        let wrong = |source| AttachError::Link { program, source };
        let link = pins.pin_link(name, FdLink::try_from(link).map_err(wrong)?)?;
        L::try_from(link).map_err(wrong)
    }

    fn remove_pin(&self, name: &str) -> Result<(), PinError> {
        self.pins.as_ref().map_or(Ok(()), |pins| pins.remove(name))
    }
}

pub(super) fn xdp<'a>(object: &'a mut Ebpf, name: &str) -> Option<&'a mut Xdp> {
    object.program_mut(name)?.try_into().ok()
}

pub(super) fn egress(object: &mut Ebpf) -> Option<&mut SchedClassifier> {
    object.program_mut(program::EGRESS)?.try_into().ok()
}

fn refused(
    program: &'static str,
    interface: &str,
    mode: AttachMode,
    source: ProgramError,
) -> AttachError {
    AttachError::Refused {
        program,
        interface: interface.to_owned(),
        mode,
        source,
    }
}

fn never_tried(interface: &str) -> AttachError {
    refused(
        program::INGRESS,
        interface,
        AttachMode::Native,
        ProgramError::NotLoaded,
    )
}

/// How to be rid of a program that is in the way. Names in the kernel have 15 characters.
fn advice(interface: &str, name: &str, link: Option<u32>, base: Option<PathBuf>) -> String {
    let is_ours = !name.is_empty() && program::INGRESS.starts_with(name);
    match (is_ours, link) {
        (true, link) => {
            let place = base.map_or_else(
                || "`--pin none` looks for no pins".to_owned(),
                |base| format!("nothing in {} holds it", base.display()),
            );
            let link = link.map_or_else(
                || format!("`ip link set dev {interface} xdp off`"),
                |link| format!("`bpftool link detach id {link}`"),
            );
            format!(
                "it is an agent's, but {place}. Stop the agent that runs here, or run `torline detach` \
                 with the --pin of the one that ran; if the BPF file system was mounted anew, {link} \
                 removes it"
            )
        }
        (false, Some(link)) => {
            format!("stop what put it there, or remove it (`bpftool link detach id {link}`)")
        }
        (false, None) => {
            format!("remove it (`ip link set dev {interface} xdp off`, or stop what put it there)")
        }
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
    fn an_orphan_of_ours_is_told_from_the_program_of_somebody_else() {
        let base = Some(PathBuf::from("/sys/fs/bpf/torline"));
        let ours = advice("eth0", "torline_ingress", Some(7), base.clone());
        assert!(
            ours.contains("nothing in /sys/fs/bpf/torline holds it"),
            "{ours}"
        );
        assert!(ours.contains("bpftool link detach id 7"), "{ours}");
        let foreign = advice("eth0", "xdp_dispatcher", Some(7), base.clone());
        assert!(foreign.starts_with("stop what put it there"), "{foreign}");
        let foreign = advice("eth0", "cil_xdp_entry", None, base);
        assert!(
            foreign.contains("ip link set dev eth0 xdp off"),
            "{foreign}"
        );
    }
}
