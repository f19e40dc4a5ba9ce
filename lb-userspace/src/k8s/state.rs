//! What an API server would keep about Services, for a source that is a
//! directory.
//!
//! `DIR/.torline/status.yaml` holds the addresses, the pool and the table length that each Service
//! was given, so that they are the same after a restart and on every node. One agent writes it; all
//! read it and compare its digest with what they would write.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::atomic;
use super::document::MAX_FILE_BYTES;
use crate::model::name::ObjectName;

/// Directory of the state file, in the source directory.
pub const STATE_DIRECTORY: &str = ".torline";
const FILE: &str = "status.yaml";
const VERSION: &str = "torline.io/v1";

/// What is kept about all Services.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct State {
    /// By Service.
    pub services: BTreeMap<ObjectName, ServiceRecord>,
}

/// What is kept about a Service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceRecord {
    /// Its addresses, in the order of its status.
    pub addresses: Vec<IpAddr>,
    /// Pool they came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// Number of slots of its tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table_length: Option<u32>,
}

/// The file's form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Contents {
    api_version: String,
    #[serde(default)]
    digest: Option<String>,
    #[serde(default)]
    services: BTreeMap<String, ServiceRecord>,
}

/// Why the state cannot be read.
#[derive(thiserror::Error, Debug)]
pub enum ReadError {
    /// The file cannot be read.
    #[error("failed to read the file")]
    Io(#[source] io::Error),
    /// It is too large.
    #[error("the file is larger than {MAX_FILE_BYTES} bytes")]
    Size,
    /// It is not what was written.
    #[error("not a status file of this version: {0}")]
    Syntax(String),
    /// A Service is not written as `namespace/name`.
    #[error("\"{0}\" is not namespace/name")]
    Name(String),
    /// It was changed by somebody else.
    #[error("the file was edited: remove its line `digest` to have the edit taken")]
    Edited,
}

/// Why the state cannot be written.
#[derive(thiserror::Error, Debug)]
#[error("failed to write {path}")]
pub struct WriteError {
    path: PathBuf,
    source: io::Error,
}

impl State {
    /// SHA-256 over the services, in hexadecimal; equal on every agent that decided the same.
    pub fn digest(&self) -> String {
        let mut hasher = Sha256::new();
        for (name, record) in &self.services {
            let length = record.table_length.map(|length| length.to_string());
            let addresses = record.addresses.iter().map(ToString::to_string);
            let fields = [
                name.to_string(),
                addresses.collect::<Vec<_>>().join(","),
                record.pool.clone().unwrap_or_default(),
                length.unwrap_or_default(),
            ];
            // Names, addresses and numbers hold neither of the two separators.
            hasher.update(fields.join("|").as_bytes());
            hasher.update(b"\n");
        }
        hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The state file of a source directory.
#[derive(Debug)]
pub struct StateFile {
    path: PathBuf,
}

impl StateFile {
    /// The state file of this directory, which need not be there yet.
    pub fn new(directory: &Path) -> Self {
        Self {
            path: directory.join(STATE_DIRECTORY).join(FILE),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state; empty if there is no file.
    ///
    /// # Errors
    ///
    /// [`ReadError`] if there is one that cannot be used.
    pub fn read(&self) -> Result<State, ReadError> {
        let mut text = String::new();
        let file = match File::open(&self.path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(State::default()),
            Err(error) => return Err(ReadError::Io(error)),
        };
        let mut limited = file.take(MAX_FILE_BYTES + 1);
        limited.read_to_string(&mut text).map_err(ReadError::Io)?;
        if text.len() as u64 > MAX_FILE_BYTES {
            return Err(ReadError::Size);
        }
        parse(&text)
    }

    /// Writes the state, unless the file says the same; whether it was written. Readers see the old
    /// file or the new one, never a part, and a crash leaves one of them.
    ///
    /// # Errors
    ///
    /// [`WriteError`] names the file; the old one is as it was.
    pub fn write(&self, state: &State) -> Result<bool, WriteError> {
        if self.read().is_ok_and(|present| present == *state) && self.path.exists() {
            return Ok(false);
        }
        atomic::replace(&self.path, &render(state))
            .map_err(|source| WriteError {
                path: self.path.clone(),
                source,
            })
            .map(|()| true)
    }
}

fn parse(text: &str) -> Result<State, ReadError> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 16,
            max_events: 8_000_000,
            max_nodes: 4_000_000,
            max_anchors: 0,
        },
        with_snippet: false,
    };
    let contents: Contents = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| ReadError::Syntax(error.to_string()))?;
    if contents.api_version != VERSION {
        return Err(ReadError::Syntax(format!("apiVersion is not {VERSION}")));
    }
    let mut state = State::default();
    for (name, record) in contents.services {
        let Some((namespace, short)) = name.split_once('/') else {
            return Err(ReadError::Name(name));
        };
        let name = ObjectName::new(namespace, short);
        state.services.insert(name, record);
    }
    match contents.digest {
        Some(digest) if digest != state.digest() => Err(ReadError::Edited),
        _ => Ok(state),
    }
}

/// The text of the file. Names of objects need no escapes between quotes.
fn render(state: &State) -> String {
    use std::fmt::Write as _;
    let mut text = format!(
        "# Written by torline; what an API server would keep. Stop all agents before editing.\n\
         apiVersion: {VERSION}\ndigest: {}\n",
        state.digest()
    );
    text.push_str(if state.services.is_empty() {
        "services: {}\n"
    } else {
        "services:\n"
    });
    for (name, record) in &state.services {
        let addresses: Vec<_> = record
            .addresses
            .iter()
            .map(|a| format!("\"{a}\""))
            .collect();
        let _ = writeln!(
            text,
            "  \"{name}\":\n    addresses: [{}]",
            addresses.join(", ")
        );
        if let Some(pool) = &record.pool {
            let _ = writeln!(text, "    pool: \"{pool}\"");
        }
        if let Some(length) = record.table_length {
            let _ = writeln!(text, "    tableLength: {length}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn sample() -> State {
        let record = ServiceRecord {
            addresses: vec![
                "203.0.113.10".parse().unwrap(),
                "2001:db8::10".parse().unwrap(),
            ],
            pool: Some("public".to_owned()),
            table_length: Some(1024),
        };
        State {
            services: BTreeMap::from([
                (ObjectName::new("default", "web"), record),
                (
                    ObjectName::new("default", "pending"),
                    ServiceRecord::default(),
                ),
            ]),
        }
    }

    #[test]
    fn a_state_is_read_as_it_was_written_and_written_only_when_it_changes() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::new(directory.path());
        assert_eq!(file.read().unwrap(), State::default());
        assert!(file.write(&sample()).unwrap());
        assert_eq!(file.read().unwrap(), sample());
        assert!(!file.write(&sample()).unwrap());
        assert!(file.write(&State::default()).unwrap());
        assert_eq!(file.read().unwrap(), State::default());
        let names = fs::read_dir(directory.path().join(STATE_DIRECTORY)).unwrap();
        assert_eq!(names.count(), 1, "no temporary file is left");
    }

    #[test]
    fn an_edit_is_refused_until_the_digest_is_removed() {
        let text = render(&sample()).replace("203.0.113.10", "203.0.113.11");
        assert!(matches!(parse(&text), Err(ReadError::Edited)));
        let lines = text.lines().filter(|line| !line.starts_with("digest"));
        let edited = parse(&lines.collect::<Vec<_>>().join("\n")).unwrap();
        assert_ne!(edited, sample());
    }

    #[test]
    fn a_broken_state_file_is_an_error_and_can_be_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let file = StateFile::new(directory.path());
        fs::create_dir(directory.path().join(STATE_DIRECTORY)).unwrap();
        for text in [
            "",
            "{",
            "apiVersion: other/v1\n",
            "apiVersion: torline.io/v1\nservices: {web: {}}",
        ] {
            fs::write(file.path(), text).unwrap();
            assert!(file.read().is_err(), "{text}");
        }
        assert!(file.write(&sample()).unwrap());
        assert_eq!(file.read().unwrap(), sample());
    }
}
