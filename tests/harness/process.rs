//! Programs that run beside a test and end with it.

use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::netns::Netns;
use crate::wait;

/// A running program; killed when dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    kept: bool,
}

impl Process {
    /// Starts a program in a namespace, in a process group of its own, with its output in a file.
    ///
    /// # Errors
    /// When it cannot be started or the file not be made.
    pub fn start(netns: &Netns, command: &mut Command, log: &Path) -> Result<Self> {
        let log = File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        let child = netns
            .start(command)
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self { child, kept: false })
    }

    /// The process number.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Sends a signal and waits for the end.
    ///
    /// # Errors
    /// When it has not ended after `limit`; it is killed then.
    pub fn stop(mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        self.end(signal, limit)
    }

    /// The same, and keeps its place.
    ///
    /// # Errors
    /// When it has not ended after `limit`.
    pub fn end(&mut self, signal: Signal, limit: Duration) -> Result<ExitStatus> {
        kill(Pid::from_raw(self.child.id().try_into()?), signal)?;
        wait::until("the end of a process", limit, || {
            self.ended()?.context("still running")
        })
    }

    /// Ends it with SIGKILL and waits for the end.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Lets it run on when this process ends.
    pub fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
