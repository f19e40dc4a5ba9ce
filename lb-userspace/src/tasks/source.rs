//! Reads the source, and reads it again when it changes.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::block_in_place;
use tracing::debug;

use crate::k8s::convert;
use crate::k8s::directory::watch::Watch;
use crate::k8s::directory::{Directory, OpenError};
use crate::k8s::state::StateFile;
use crate::model::cluster::Cluster;
use crate::model::intent::Finding;

/// What the source held when it was read.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Counts up from 1; 0 is nothing read yet.
    pub revision: u64,
    /// The objects.
    pub cluster: Arc<Cluster>,
    /// What is wrong with them.
    pub findings: Vec<Finding>,
}

/// A directory of YAML files, read as often as it changes.
#[derive(Debug)]
pub struct Source {
    directory: Directory,
    revision: u64,
}

impl Source {
    /// Of a directory that exists.
    ///
    /// # Errors
    /// It does not, or may not be read.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let directory = Directory::open(path, convert::Settings::default())?;
        Ok(Self {
            directory,
            revision: 0,
        })
    }

    /// Where the decisions about its objects are kept.
    pub fn state_file(&self) -> StateFile {
        self.directory.state_file()
    }

    /// Reads what changed since the last time.
    pub fn read(&mut self) -> Snapshot {
        let reading = self.directory.read();
        self.revision += 1;
        debug!(
            revision = self.revision,
            findings = reading.findings.len(),
            "source read"
        );
        Snapshot {
            revision: self.revision,
            cluster: Arc::new(reading.cluster),
            findings: reading.findings,
        }
    }

    /// Runs until nobody reads the output. `watch` was opened before, so that no change is missed.
    pub async fn run(mut self, mut watch: Watch, output: watch::Sender<Snapshot>) {
        loop {
            let snapshot = block_in_place(|| self.read());
            output.send_replace(snapshot);
            tokio::select! {
                () = output.closed() => return,
                () = watch.changed() => {}
            }
        }
    }
}
