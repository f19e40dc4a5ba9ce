//! Tells when something in a directory has changed.
//!
//! inotify watches the directory, its state directory, and its parent, so that a directory that is
//! removed and made again, or a link that is pointed elsewhere, is followed. Many changes become
//! one; what has changed is for the reader to find out.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout, timeout_at};

use crate::k8s::state::STATE_DIRECTORY;

/// Changes closer together than this count as one.
const QUIET: Duration = Duration::from_millis(50);
/// A directory that never is quiet is reported this long after its first change.
const PATIENCE: Duration = Duration::from_millis(500);
/// A directory that is missing is looked for this often.
const RETRY: Duration = Duration::from_secs(1);

/// Why a directory cannot be watched.
#[derive(thiserror::Error, Debug)]
#[error("failed to watch {path}")]
pub struct WatchError {
    path: PathBuf,
    source: notify::Error,
}

/// Watches a directory.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    watcher: INotifyWatcher,
    changes: mpsc::Receiver<()>,
    directory: Armed,
    state: Armed,
}

/// A watch on a path, and the inode it is on.
#[derive(Debug)]
struct Armed {
    path: PathBuf,
    inode: Option<(u64, u64)>,
}

impl Watch {
    /// Starts to watch. Whatever changes from here on makes [`Watch::changed`] return.
    ///
    /// # Errors
    ///
    /// [`WatchError`] if the directory is not there or the system's limit of watches is reached
    /// (`fs.inotify.max_user_watches`, `fs.inotify.max_user_instances`).
    pub fn open(path: &Path) -> Result<Self, WatchError> {
        let wrong = |source| WatchError {
            path: path.to_owned(),
            source,
        };
        let path = std::path::absolute(path).map_err(|error| wrong(notify::Error::io(error)))?;
        // One slot: a change that is already waiting to be seen stands for all after it.
        let (sender, changes) = mpsc::channel(1);
        let below = path.clone();
        let report = move |event: notify::Result<Event>| {
            if event.map_or(true, |event| is_change(&event, &below)) {
                let _ = sender.try_send(());
            }
        };
        let mut watcher = INotifyWatcher::new(report, notify::Config::default()).map_err(wrong)?;
        if let Some(parent) = path.parent() {
            watcher
                .watch(parent, RecursiveMode::NonRecursive)
                .map_err(wrong)?;
        }
        let mut watch = Self {
            directory: Armed::new(path.clone()),
            state: Armed::new(path.join(STATE_DIRECTORY)),
            path: path.clone(),
            watcher,
            changes,
        };
        watch.directory.arm(&mut watch.watcher).map_err(wrong)?;
        // The state directory need not be there yet.
        let _ = watch.state.arm(&mut watch.watcher);
        Ok(watch)
    }

    /// Waits until something has changed since the last call, and then until it is quiet.
    pub async fn changed(&mut self) {
        loop {
            let missing = self.directory.inode.is_none();
            let change = self.changes.recv();
            if missing {
                // The parent may be gone as well, and then no event says that it is back.
                let _ = timeout(RETRY, change).await;
                if self.rearm() {
                    return;
                }
            } else {
                change.await;
                self.settle().await;
                self.rearm();
                return;
            }
        }
    }

    async fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while let Ok(Ok(Some(()))) = timeout_at(deadline, timeout(QUIET, self.changes.recv())).await
        {
        }
    }

    /// Follows the directory to where its path leads; whether it is there.
    fn rearm(&mut self) -> bool {
        if let Some(parent) = self.path.parent() {
            // Watching the same inode again changes nothing.
            let _ = self.watcher.watch(parent, RecursiveMode::NonRecursive);
        }
        let there = self.directory.arm(&mut self.watcher).is_ok();
        let _ = self.state.arm(&mut self.watcher);
        there
    }
}

impl Armed {
    const fn new(path: PathBuf) -> Self {
        Self { path, inode: None }
    }

    fn arm(&mut self, watcher: &mut INotifyWatcher) -> notify::Result<()> {
        let inode = inode(&self.path);
        if let (Ok(inode), Some(armed)) = (&inode, self.inode)
            && *inode == armed
        {
            return Ok(());
        }
        if self.inode.take().is_some() {
            let _ = watcher.unwatch(&self.path);
        }
        let inode = inode.map_err(notify::Error::io)?;
        watcher.watch(&self.path, RecursiveMode::NonRecursive)?;
        self.inode = Some(inode);
        Ok(())
    }
}

fn inode(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Whether an event is about the directory and not made by reading it.
fn is_change(event: &Event, directory: &Path) -> bool {
    let read = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
        EventKind::Access(_) => true,
        _ => false,
    };
    !read
        && (event.need_rescan()
            || event.paths.is_empty()
            || event.paths.iter().any(|path| path.starts_with(directory)))
}
