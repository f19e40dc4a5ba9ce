//! Reads the source, and reads it again when it changes.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::block_in_place;
use tracing::{debug, info, warn};

use crate::k8s::api_server::{ApiServer, ConnectError, Reading};
use crate::k8s::convert::Settings;
use crate::k8s::directory::watch::{Watch, WatchError};
use crate::k8s::directory::{self, Directory};
use crate::k8s::edit::Editor;
use crate::k8s::index;
use crate::k8s::state::StateFile;
use crate::k8s::status::{Pod, StatusWriter};
use crate::k8s::writer::Writer;
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

/// Why there is no source.
#[derive(thiserror::Error, Debug)]
pub enum OpenError {
    /// The directory cannot be read.
    #[error(transparent)]
    Directory(directory::OpenError),
    /// It cannot be watched.
    #[error(transparent)]
    Watch(WatchError),
    /// It is not said where the API server is.
    #[error(transparent)]
    ApiServer(ConnectError),
}

/// What keeps a list away.
#[derive(thiserror::Error, Debug)]
#[error("{0}")]
pub struct ReadError(Finding);

/// Where objects come from, read as often as they change.
pub struct Source {
    origin: Origin,
    revision: u64,
    /// What was said before there was anything to read.
    awaited: BTreeSet<Finding>,
}

enum Origin {
    /// YAML files, and what tells of changes. The watch was opened before the first reading, so that no
    /// change is missed.
    Directory(Box<(Directory, Watch)>),
    ApiServer(Box<ApiServer>),
}

impl Source {
    /// A directory that exists.
    ///
    /// # Errors
    /// It does not, or may not be read or watched.
    pub fn directory(path: &Path, settings: Settings) -> Result<Self, OpenError> {
        let directory = Directory::open(path, settings).map_err(OpenError::Directory)?;
        let watch = Watch::open(path).map_err(OpenError::Watch)?;
        Ok(Self::of(Origin::Directory(Box::new((directory, watch)))))
    }

    /// The API server that the kubeconfig or the pod names; MetalLB's objects are those of `namespace`.
    ///
    /// # Errors
    /// Neither names one. Whether it answers is not asked.
    pub async fn api_server(
        namespace: &str,
        settings: Settings,
        seed: u64,
    ) -> Result<Self, OpenError> {
        let server = ApiServer::connect(namespace, settings, seed).await;
        let server = server.map_err(OpenError::ApiServer)?;
        Ok(Self::of(Origin::ApiServer(Box::new(server))))
    }

    fn of(origin: Origin) -> Self {
        Self {
            origin,
            revision: 0,
            awaited: BTreeSet::new(),
        }
    }

    /// Where the decisions about its objects are kept, if that is a file.
    pub fn state_file(&self) -> Option<StateFile> {
        match &self.origin {
            Origin::Directory(parts) => Some(parts.0.state_file()),
            Origin::ApiServer(_) => None,
        }
    }

    /// What writes such decisions to an API server, for the agent of `node`.
    pub fn writer(&self, node: &str) -> Option<Writer> {
        match &self.origin {
            Origin::Directory(_) => None,
            Origin::ApiServer(server) => Some(server.writer(node)),
        }
    }

    /// What says on an API server what this node does; `pod` runs its agent.
    pub fn status_writer(&self, node: &str, pod: Option<&Pod>) -> Option<StatusWriter> {
        match &self.origin {
            Origin::Directory(_) => None,
            Origin::ApiServer(server) => Some(server.status_writer(node, pod)),
        }
    }

    /// What changes its objects.
    pub fn editor(&self) -> Editor {
        match &self.origin {
            Origin::Directory(parts) => Editor::Directory(parts.0.editor()),
            Origin::ApiServer(server) => Editor::ApiServer(server.editor()),
        }
    }

    /// Reads what there is now: of a directory at once, of an API server when all lists have come.
    ///
    /// # Errors
    /// Something keeps a list away.
    pub async fn read(&mut self) -> Result<Snapshot, ReadError> {
        loop {
            match &mut self.origin {
                Origin::Directory(parts) => {
                    let reading = block_in_place(|| parts.0.read());
                    return Ok(self.snapshot(reading));
                }
                Origin::ApiServer(server) => match server.next().await {
                    Reading::Settled(reading) => return Ok(self.snapshot(*reading)),
                    Reading::Waiting(findings) => {
                        if let Some(finding) = findings.into_iter().next() {
                            return Err(ReadError(finding));
                        }
                    }
                },
            }
        }
    }

    /// Runs until nobody reads the output.
    pub async fn run(mut self, output: watch::Sender<Snapshot>) {
        loop {
            let reading = match &mut self.origin {
                Origin::Directory(parts) => {
                    let (directory, watch) = &mut **parts;
                    if self.revision > 0 {
                        tokio::select! {
                            () = output.closed() => return,
                            () = watch.changed() => {}
                        }
                    }
                    Some(block_in_place(|| directory.read()))
                }
                Origin::ApiServer(server) => tokio::select! {
                    () = output.closed() => return,
                    reading = server.next() => match reading {
                        Reading::Settled(reading) => Some(*reading),
                        Reading::Waiting(findings) => {
                            log_awaited(&mut self.awaited, findings);
                            None
                        }
                    },
                },
            };
            if let Some(reading) = reading {
                let snapshot = self.snapshot(reading);
                output.send_replace(snapshot);
            }
        }
    }

    fn snapshot(&mut self, reading: index::Snapshot) -> Snapshot {
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
}

/// Says once what keeps the first reading away; findings of readings are logged where they are used.
fn log_awaited(known: &mut BTreeSet<Finding>, findings: Vec<Finding>) {
    let findings = BTreeSet::from_iter(findings);
    for finding in findings.difference(known) {
        warn!("{finding}");
    }
    for finding in known.difference(&findings) {
        info!("settled: {finding}");
    }
    *known = findings;
}
