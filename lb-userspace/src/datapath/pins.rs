//! Keeps maps and links in bpffs, so that they outlive the agent.
//!
//! ```text
//! PATH                   locked by the agent that works with it
//! └── v<ABI_VERSION>
//!     ├── CONFIG …       the maps, by name
//!     ├── ingress        link of the ingress program
//!     └── egress-<n>     link of the egress program on the interface with index n
//! ```
//!
//! A map is used again only if it is what the object asks for in every respect. The slot array may have
//! become longer: it is copied, and takes its place before the new programs take theirs.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use aya::maps::{MapData, MapError, MapInfo, MapType};
use aya::programs::links::{FdLink, LinkError, PinnedLink};
use lb_common::abi::{ABI_VERSION, map};
use nix::mount::{MsFlags, mount};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use tracing::{info, warn};

use super::slots::SlotArray;

/// Pin of the link of the ingress program.
pub(super) const INGRESS: &str = "ingress";
const EGRESS: &str = "egress-";
/// Where init mounts the BPF file system.
const BPFFS: &str = "/sys/fs/bpf";
/// A slot array that is being copied; bpffs allows no dot in a name.
const NEW_SLOTS: &str = "SLOTS-new";

/// Why pins cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    /// There is no BPF file system.
    #[error(
        "{path} is not on a BPF file system; mount one (`mount -t bpf bpf /sys/fs/bpf`), or choose \
         another --pin (`none`: the data plane ends with the agent)"
    )]
    NoBpffs {
        /// The directory wanted.
        path: PathBuf,
    },
    /// Another process has the lock.
    #[error(
        "another agent works with the maps pinned in {path}; stop it first, or choose another --pin"
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// An agent with other map layouts left its pins.
    #[error(
        "{path} holds maps and programs of layout version {found}, and this agent has version \
         {ABI_VERSION}: it cannot go on with their connections. `torline detach --pin {path}` \
         removes them; connections through this node end then"
    )]
    Schema {
        /// The directory.
        path: PathBuf,
        /// The other version.
        found: String,
    },
    /// A pinned map is not what the object asks for.
    #[error(
        "the pinned map {path} has {what} {found}, and this agent needs {wanted}; {hint}\
         `torline detach --pin {base}` removes it with all others, and connections through this \
         node end then"
    )]
    Incompatible {
        /// The map.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// As it is.
        found: u64,
        /// As it should be.
        wanted: u64,
        /// Another way out, with a blank after it; empty if there is none.
        hint: String,
        /// Directory of the pins.
        base: PathBuf,
    },
    /// The kernel says nothing about a pinned map.
    #[error("failed to look at the pinned map {path}")]
    Map {
        /// The map.
        path: PathBuf,
        /// The cause.
        #[source]
        source: MapError,
    },
    /// The object is damaged.
    #[error("the kernel programs cannot be read")]
    Object(#[source] aya_obj::ParseError),
    /// A pinned link cannot be opened.
    #[error("failed to open the pinned link {path}")]
    Link {
        /// The link.
        path: PathBuf,
        /// The cause.
        #[source]
        source: LinkError,
    },
    /// A link cannot be pinned.
    #[error("failed to pin a link as {path}")]
    Pin {
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: aya::pin::PinError,
    },
    /// The file system refuses something.
    #[error("failed to {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
}

/// The pins of this agent, which nobody else works with as long as this value lives.
#[derive(Debug)]
pub struct Pins {
    base: PathBuf,
    directory: PathBuf,
    _lock: File,
    /// There was no pin before.
    is_new: bool,
}

impl Pins {
    /// Opens the directory `base`, which is made if need be.
    ///
    /// # Errors
    /// Another agent works with it, an agent of other map layouts left it, or it cannot be made.
    pub fn open(base: &Path) -> Result<Self, PinError> {
        if !is_bpffs(base) && !mount_bpffs(base) {
            return Err(PinError::NoBpffs {
                path: base.to_owned(),
            });
        }
        let lock = lock(base)?;
        let own = version_name();
        if let Some(found) = entries(base)?.into_iter().find(|name| *name != own) {
            return Err(PinError::Schema {
                path: base.to_owned(),
                found: found.trim_start_matches('v').to_owned(),
            });
        }
        let directory = base.join(own);
        let is_new = !directory.exists();
        fs::create_dir_all(&directory).map_err(io_error("make", &directory))?;
        Ok(Self {
            base: base.to_owned(),
            directory,
            _lock: lock,
            is_new,
        })
    }

    /// The directory that was asked for.
    pub fn base(&self) -> &Path {
        &self.base
    }

    /// Decides, for every map of the object, where it is pinned.
    ///
    /// # Errors
    /// A map that is pinned is not what the object and `slots`, the length of the slot array, ask for.
    pub(super) fn plan(&self, object: &[u8], slots: u32) -> Result<MapPins, PinError> {
        let object = aya_obj::Object::parse(object).map_err(PinError::Object)?;
        let leftover = self.directory.join(NEW_SLOTS);
        if leftover.exists() {
            fs::remove_file(&leftover).map_err(io_error("remove", &leftover))?;
        }
        let mut plan = MapPins {
            paths: Vec::new(),
            longer_slots: false,
        };
        for (name, wanted) in &object.maps {
            // Sections of global data are maps too; they belong to one build of the programs.
            if name.starts_with('.') {
                continue;
            }
            let path = self.directory.join(name);
            let mut pin = path.clone();
            if path.exists() {
                let info = MapInfo::from_pin(&path).map_err(|source| PinError::Map {
                    path: path.clone(),
                    source,
                })?;
                let length = if name == map::SLOTS {
                    slots
                } else {
                    wanted.max_entries()
                };
                if name == map::SLOTS && info.max_entries() < length {
                    plan.longer_slots = true;
                    pin = leftover.clone();
                }
                self.compare(&path, &info, wanted, length)?;
            }
            plan.paths.push((name.clone(), pin));
        }
        Ok(plan)
    }

    fn compare(
        &self,
        path: &Path,
        found: &MapInfo,
        wanted: &aya_obj::Map,
        length: u32,
    ) -> Result<(), PinError> {
        let kind = found.map_type().map_err(|source| PinError::Map {
            path: path.to_owned(),
            source,
        })?;
        let is_slots = path.file_name().is_some_and(|name| name == map::SLOTS);
        // The kernel rounds the size of a ring, and a longer slot array is copied.
        let skips_length = kind == MapType::RingBuf || (is_slots && found.max_entries() < length);
        let mut hint = String::new();
        if is_slots {
            hint = format!("`--slots {}` goes on with it; ", found.max_entries());
        }
        let pairs = [
            ("type", u64::from(kind as u32), u64::from(wanted.map_type())),
            (
                "a key of size",
                u64::from(found.key_size()),
                u64::from(wanted.key_size()),
            ),
            (
                "a value of size",
                u64::from(found.value_size()),
                u64::from(wanted.value_size()),
            ),
            (
                "flags",
                u64::from(found.map_flags()),
                u64::from(wanted.map_flags()),
            ),
            (
                "a number of elements of",
                u64::from(found.max_entries()),
                if skips_length {
                    u64::from(found.max_entries())
                } else {
                    u64::from(length)
                },
            ),
        ];
        match pairs.into_iter().find(|(_, found, wanted)| found != wanted) {
            None => Ok(()),
            Some((what, found, wanted)) => Err(PinError::Incompatible {
                path: path.to_owned(),
                what,
                found,
                wanted,
                hint,
                base: self.base.clone(),
            }),
        }
    }

    /// Fills the longer slot array from the one in use and puts it in its place. The programs that run go
    /// on with the old one, which nobody writes any more.
    pub(super) fn replace_slots(&self) -> Result<(), PinError> {
        let (from, to) = (
            self.directory.join(map::SLOTS),
            self.directory.join(NEW_SLOTS),
        );
        let array = |path: &Path| {
            let wrong = |source| PinError::Map {
                path: path.to_owned(),
                source,
            };
            let data = MapData::from_pin(path).map_err(wrong)?;
            let length = data.info().map_err(wrong)?.max_entries();
            SlotArray::map(data.fd(), length).map_err(io_error("map", path))
        };
        let (old, new) = (array(&from)?, array(&to)?);
        for index in 0..old.len() {
            if let Some(slot) = old.load(index) {
                new.store(index, slot);
            }
        }
        info!(from = old.len(), to = new.len(), "the slot array grew");
        fs::rename(&to, &from).map_err(io_error("rename", &to))
    }

    /// Opens a pinned link, if there is one.
    pub(super) fn link(&self, name: &str) -> Result<Option<PinnedLink>, PinError> {
        let path = self.directory.join(name);
        if !path.exists() {
            return Ok(None);
        }
        match PinnedLink::from_pin(&path) {
            Ok(link) => Ok(Some(link)),
            Err(source) => Err(PinError::Link { path, source }),
        }
    }

    /// Pins a link, in place of what is pinned under that name.
    pub(super) fn pin_link(&self, name: &str, link: FdLink) -> Result<FdLink, PinError> {
        let path = self.directory.join(name);
        if path.exists() {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
        match link.pin(&path) {
            Ok(link) => Ok(link.into()),
            Err(source) => Err(PinError::Pin { path, source }),
        }
    }

    /// Indices of the interfaces for which the link of an egress program is pinned.
    pub(super) fn egress(&self) -> Result<Vec<u32>, PinError> {
        let names = entries(&self.directory)?;
        let indices = names.iter().filter_map(|name| name.strip_prefix(EGRESS));
        Ok(indices.filter_map(|index| index.parse().ok()).collect())
    }

    /// Removes the pin of a link; the program is taken off once nobody holds the link.
    pub(super) fn remove(&self, name: &str) -> Result<(), PinError> {
        match self.link(name)? {
            None => Ok(()),
            Some(link) => {
                let path = self.directory.join(name);
                link.unpin().map(drop).map_err(io_error("remove", &path))
            }
        }
    }

    /// Removes what was pinned by a start that did not succeed, unless there was something before it.
    pub fn abandon(self) {
        if self.is_new
            && let Err(error) = clear(&self.directory).and_then(|_| remove_dir(&self.base))
        {
            let error: &dyn std::error::Error = &error;
            warn!(error, "pins of the start that was given up are left");
        }
    }
}

/// Whether a path, or what there is of it, lies on a BPF file system.
fn is_bpffs(path: &Path) -> bool {
    let existing = path.ancestors().find(|path| path.exists());
    existing
        .and_then(|path| statfs(path).ok())
        .is_some_and(|stat| stat.filesystem_type() == BPF_FS_MAGIC)
}

/// Mounts a BPF file system at its usual place, as init does at boot, if `path` is to be there. `ip netns
/// exec` and many containers come without one; what is pinned in theirs ends with their mounts.
fn mount_bpffs(path: &Path) -> bool {
    let place = Path::new(BPFFS);
    let none = None::<&str>;
    let is_mounted = path.starts_with(place)
        && mount(Some("bpf"), place, Some("bpf"), MsFlags::empty(), none).is_ok();
    if is_mounted {
        warn!("mounted a BPF file system on {BPFFS}, where there was none");
    }
    is_mounted
}

/// Name of the link of the egress program on an interface.
pub(super) fn egress_name(index: u32) -> String {
    format!("{EGRESS}{index}")
}

/// Where the maps of an object are pinned.
#[derive(Debug)]
pub(super) struct MapPins {
    /// Path by name of the map.
    pub(super) paths: Vec<(String, PathBuf)>,
    /// [`Pins::replace_slots`] is to be called once the maps are there.
    pub(super) longer_slots: bool,
}

/// Removes all that is pinned in `base`, of whatever version: links first, which takes the programs off.
/// The number of pins removed.
///
/// # Errors
/// An agent works with them, or the file system refuses.
pub fn remove_all(base: &Path) -> Result<usize, PinError> {
    if !base.exists() {
        return Ok(0);
    }
    let _lock = lock(base)?;
    let mut removed = 0;
    for version in entries(base)? {
        removed += clear(&base.join(version))?;
    }
    remove_dir(base)?;
    Ok(removed)
}

/// Removes the pins of one version and their directory.
fn clear(directory: &Path) -> Result<usize, PinError> {
    let mut names = entries(directory)?;
    names.sort_by_key(|name| !is_link(name));
    for name in &names {
        let path = directory.join(name);
        if is_link(name) {
            // Whoever closes a link last takes the program off: done by this process, it is done now.
            let link = PinnedLink::from_pin(&path).map_err(|source| PinError::Link {
                path: path.clone(),
                source,
            })?;
            link.unpin().map_err(io_error("remove", &path))?;
        } else {
            fs::remove_file(&path).map_err(io_error("remove", &path))?;
        }
    }
    remove_dir(directory)?;
    Ok(names.len())
}

fn is_link(name: &str) -> bool {
    name == INGRESS || name.starts_with(EGRESS)
}

/// Makes a directory and locks it. The lock goes with the process.
fn lock(base: &Path) -> Result<File, PinError> {
    loop {
        fs::create_dir_all(base).map_err(io_error("make", base))?;
        let directory = File::open(base).map_err(io_error("open", base))?;
        match directory.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(PinError::Locked {
                    path: base.to_owned(),
                });
            }
            Err(TryLockError::Error(source)) => return Err(io_error("lock", base)(source)),
        }
        let inode = |metadata: io::Result<fs::Metadata>| metadata.ok().map(|m| m.ino());
        // `torline detach` may have removed it between the two calls.
        if inode(directory.metadata()) == inode(fs::metadata(base)) {
            return Ok(directory);
        }
    }
}

fn version_name() -> String {
    format!("v{ABI_VERSION}")
}

fn entries(directory: &Path) -> Result<Vec<String>, PinError> {
    let failed = |source| io_error("read", directory)(source);
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        // Names that are not UTF-8 are not ours, and make `remove_dir` fail.
        names.extend(entry.map_err(failed)?.file_name().into_string().ok());
    }
    Ok(names)
}

fn remove_dir(path: &Path) -> Result<(), PinError> {
    fs::remove_dir(path).map_err(io_error("remove", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PinError {
    move |source| PinError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
