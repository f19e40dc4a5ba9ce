//! A directory of YAML files as the source of objects.
//!
//! Files that end in `.yaml`, `.yml` or `.json` count, symbolic links to files included, which is how
//! Kubernetes mounts a ConfigMap. Names that begin with a dot are left out, and sub-directories are
//! not entered. A file is read again only if its inode, size or times have changed.
//!
//! Nothing that is wrong with a file takes a good object down: an unreadable directory or file
//! keeps all its objects, and a file with a document that cannot be told from a half-written one
//! keeps the objects it no longer shows. As long as anything is wrong the cluster is marked partial: a
//! restarted agent has no last good objects to fall back on, and must not take absence for removal.

pub mod implied;
pub mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::convert::Settings;
use super::document::{self, Document, MAX_FILE_BYTES};
use super::edit::DirectoryEditor;
use super::index::{Index, Snapshot};
use super::object::{Key, Object};
use super::state::StateFile;
use super::tree::Tree;
use crate::model::intent::Finding;

/// Why a directory cannot be used at all.
#[derive(thiserror::Error, Debug)]
#[error("failed to read directory {path}")]
pub struct OpenError {
    path: PathBuf,
    source: io::Error,
}

/// A directory and what was read from it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    index: Index,
    files: BTreeMap<String, FileState>,
    state: StateSeen,
    /// How pools are announced was left open when everything could last be read.
    is_open: bool,
}

/// What was seen of a file.
#[derive(Debug, Default)]
struct FileState {
    stamp: Option<Stamp>,
    keys: BTreeSet<Key>,
    findings: Vec<Finding>,
}

/// What was seen of the state file.
#[derive(Debug, Default)]
struct StateSeen {
    stamp: Option<Stamp>,
    finding: Option<Finding>,
}

/// Changes whenever the file does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Stamp {
    inode: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Directory {
    /// Opens a directory; reads no file yet.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it is not there, is no directory, or may not be read.
    pub fn open(path: &Path, settings: Settings) -> Result<Self, OpenError> {
        fs::read_dir(path).map_err(|source| OpenError {
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            path: path.to_owned(),
            index: Index::new(settings),
            files: BTreeMap::new(),
            state: StateSeen::default(),
            is_open: false,
        })
    }

    /// Its state file.
    pub fn state_file(&self) -> StateFile {
        StateFile::new(&self.path)
    }

    /// What changes its files.
    pub fn editor(&self) -> DirectoryEditor {
        DirectoryEditor::new(&self.path)
    }

    /// Reads what has changed. Blocks on the disk: call it where blocking is allowed.
    pub fn read(&mut self) -> Snapshot {
        let mut findings = Vec::new();
        match self.list() {
            Ok(names) => self.read_files(&names),
            Err(error) => findings.push(Finding {
                source: self.path.display().to_string(),
                object: String::new(),
                field: String::new(),
                message: format!(
                    "the directory cannot be read: {error}; the last good state stays in force"
                ),
            }),
        }
        self.read_state();
        findings.extend(self.state.finding.clone());
        let mut snapshot = self.index.snapshot();
        snapshot.cluster.is_partial =
            !findings.is_empty() || self.files.values().any(|file| !file.findings.is_empty());
        // An advertisement may be in what cannot be read.
        if !snapshot.cluster.is_partial {
            self.is_open = implied::is_open(&snapshot.cluster);
        }
        if self.is_open && implied::is_open(&snapshot.cluster) {
            implied::add(&mut snapshot.cluster);
        }
        findings.extend(self.files.values().flat_map(|file| file.findings.clone()));
        snapshot.findings.extend(findings);
        snapshot.findings.sort();
        snapshot
    }

    fn list(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.path)? {
            // A name that is not UTF-8 ends in none of the extensions as far as we are concerned.
            let Ok(name) = entry?.file_name().into_string() else {
                continue;
            };
            let extension = Path::new(&name).extension().and_then(|e| e.to_str());
            if !name.starts_with('.') && matches!(extension, Some("yaml" | "yml" | "json")) {
                names.insert(name);
            }
        }
        Ok(names)
    }

    fn read_files(&mut self, names: &BTreeSet<String>) {
        let gone: Vec<_> = self
            .files
            .keys()
            .filter(|name| !names.contains(*name))
            .cloned()
            .collect();
        for name in gone {
            self.forget(&name);
        }
        for name in names {
            let path = self.path.join(name);
            match fs::metadata(&path) {
                Ok(metadata) if metadata.is_dir() => self.forget(name),
                Ok(metadata) => self.read_file(name, &path, &metadata),
                // Deleted since the directory was listed.
                Err(error) if is_gone(&error, &path) => self.forget(name),
                Err(error) => self.fail(name, &path, &error.to_string()),
            }
        }
    }

    fn read_file(&mut self, name: &str, path: &Path, metadata: &Metadata) {
        let stamp = Stamp::of(metadata);
        let known = self.files.entry(name.to_owned()).or_default();
        if known.stamp == Some(stamp) {
            return;
        }
        match read_text(path, metadata) {
            Ok(text) => {
                self.take(name, path, &text);
                if let Some(file) = self.files.get_mut(name) {
                    file.stamp = Some(stamp);
                }
            }
            Err(message) => self.fail(name, path, &message),
        }
    }

    /// Replaces the objects of a file by those of its new text.
    fn take(&mut self, name: &str, path: &Path, text: &str) {
        let contents = document::read(text);
        let place = |line: u32| format!("{}:{line}", path.display());
        let mut findings: Vec<_> = contents
            .flaws
            .iter()
            .map(|flaw| Finding {
                source: place(flaw.line),
                object: flaw.object.clone(),
                field: flaw.field.clone(),
                message: flaw.message.clone(),
            })
            .collect();
        let mut lines: BTreeMap<Key, u32> = BTreeMap::new();
        for Document { kind, tree } in &contents.documents {
            let (namespace, short) = (metadata(tree, "namespace"), metadata(tree, "name"));
            let key = Key::new(*kind, namespace, short.unwrap_or_default());
            if let Some(first) = lines.get(&key) {
                findings.push(Finding {
                    source: place(tree.line),
                    object: key.to_string(),
                    field: "metadata.name".to_owned(),
                    message: format!(
                        "duplicate definition of {key}: the one at {} counts",
                        place(*first)
                    ),
                });
                continue;
            }
            match Object::read(*kind, tree) {
                Ok(object) => {
                    let place = |field: &str| place(tree.line_of(field));
                    self.index.apply(name, &object, place);
                }
                Err(error) => {
                    let finding = Finding {
                        source: place(error.line),
                        object: key.to_string(),
                        field: error.path,
                        message: error.message,
                    };
                    self.index.reject(name, &key, finding);
                }
            }
            lines.insert(key, tree.line);
        }
        let mut keys: BTreeSet<_> = lines.into_keys().collect();
        let file = self.files.entry(name.to_owned()).or_default();
        if contents.flaws.is_empty() {
            for key in file.keys.difference(&keys) {
                self.index.delete(name, key);
            }
        } else {
            keys.append(&mut file.keys);
        }
        file.keys = keys;
        file.findings = findings;
    }

    /// Notes that a file cannot be read; its objects stay.
    fn fail(&mut self, name: &str, path: &Path, message: &str) {
        let file = self.files.entry(name.to_owned()).or_default();
        file.stamp = None;
        file.findings = vec![Finding {
            source: path.display().to_string(),
            object: String::new(),
            field: String::new(),
            message: format!("the file cannot be read: {message}; its last good objects stay"),
        }];
    }

    fn forget(&mut self, name: &str) {
        if let Some(file) = self.files.remove(name) {
            for key in &file.keys {
                self.index.delete(name, key);
            }
        }
    }

    /// Gives Services what an API server would have kept in their status. What the state file says goes over a
    /// `status` in the object; an annotation of the user's goes over both.
    fn read_state(&mut self) {
        let file = self.state_file();
        let stamp = fs::metadata(file.path()).ok().as_ref().map(Stamp::of);
        if stamp.is_some() && stamp == self.state.stamp {
            return;
        }
        self.state.stamp = stamp;
        self.state.finding = match file.read() {
            Ok(state) => {
                self.index.remember(Arc::new(state.services));
                None
            }
            Err(error) => Some(Finding {
                source: file.path().display().to_string(),
                object: String::new(),
                field: String::new(),
                message: match std::error::Error::source(&error) {
                    Some(cause) => format!("{error}: {cause}"),
                    None => error.to_string(),
                },
            }),
        };
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            inode: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Whether the name is gone, as opposed to a link whose target is not there (yet).
fn is_gone(error: &io::Error, path: &Path) -> bool {
    error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(path).is_err()
}

fn read_text(path: &Path, metadata: &Metadata) -> Result<String, String> {
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    let too_large = || format!("larger than {} MiB: split it", MAX_FILE_BYTES >> 20);
    if metadata.len() > MAX_FILE_BYTES {
        return Err(too_large());
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(too_large());
    }
    String::from_utf8(bytes)
        .ok()
        .ok_or_else(|| "not UTF-8 text".to_owned())
}

fn metadata<'a>(tree: &'a Tree, field: &str) -> Option<&'a str> {
    tree.get("metadata")?.get(field)?.as_str()
}

#[cfg(test)]
mod tests;
