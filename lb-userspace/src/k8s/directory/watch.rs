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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(20);

    /// Runs `change` and waits until it is seen.
    async fn sees(watch: &mut Watch, what: &str, change: impl FnOnce()) {
        change();
        let seen = timeout(LIMIT, watch.changed()).await;
        assert!(seen.is_ok(), "not seen: {what}");
    }

    #[tokio::test]
    async fn every_way_to_change_a_directory_is_seen() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("source");
        fs::create_dir(&path).unwrap();
        let file = path.join("a.yaml");
        let mut watch = Watch::open(&path).unwrap();
        sees(&mut watch, "new file", || fs::write(&file, "a").unwrap()).await;
        sees(&mut watch, "written file", || {
            fs::write(&file, "b").unwrap()
        })
        .await;
        sees(&mut watch, "renamed over", || {
            fs::write(base.path().join("new"), "c").unwrap();
            fs::rename(base.path().join("new"), &file).unwrap();
        })
        .await;
        sees(&mut watch, "state directory", || {
            fs::create_dir(path.join(".torline")).unwrap()
        })
        .await;
        sees(&mut watch, "state file", || {
            fs::write(path.join(".torline/status.yaml"), "a").unwrap();
        })
        .await;
        sees(&mut watch, "removed file", || {
            fs::remove_file(&file).unwrap()
        })
        .await;
    }

    #[tokio::test]
    async fn a_directory_that_is_removed_and_made_again_is_followed() {
        let base = tempfile::tempdir().unwrap();
        let path = base.path().join("deep/source");
        fs::create_dir_all(&path).unwrap();
        let mut watch = Watch::open(&path).unwrap();
        sees(&mut watch, "removal", || {
            fs::remove_dir_all(base.path().join("deep")).unwrap()
        })
        .await;
        sees(&mut watch, "return", || fs::create_dir_all(&path).unwrap()).await;
        sees(&mut watch, "file in it", || {
            fs::write(path.join("a.yaml"), "a").unwrap()
        })
        .await;
    }

    #[tokio::test]
    async fn a_link_that_is_pointed_elsewhere_is_followed() {
        let base = tempfile::tempdir().unwrap();
        for name in ["one", "two"] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        let path = base.path().join("source");
        symlink("one", &path).unwrap();
        let mut watch = Watch::open(&path).unwrap();
        sees(&mut watch, "swap", || {
            symlink("two", base.path().join("next")).unwrap();
            fs::rename(base.path().join("next"), &path).unwrap();
        })
        .await;
        sees(&mut watch, "file in the new target", || {
            fs::write(base.path().join("two/a.yaml"), "a").unwrap();
        })
        .await;
    }

    #[tokio::test]
    async fn reading_is_no_change() {
        let base = tempfile::tempdir().unwrap();
        fs::write(base.path().join("a.yaml"), "a").unwrap();
        let mut watch = Watch::open(base.path()).unwrap();
        fs::read_dir(base.path()).unwrap().count();
        fs::read(base.path().join("a.yaml")).unwrap();
        assert!(timeout(QUIET * 4, watch.changed()).await.is_err());
    }
}
