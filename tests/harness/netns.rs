//! Network namespaces that vanish with the test that made them.
//!
//! A namespace is named `torline-<pid>-<lab>-<role>`, so that runs side by side do not meet and `ip netns`
//! shows whose it is. It goes away, with every process in it, when its [`Netns`] is dropped, on panic too,
//! and on SIGINT, SIGTERM or SIGHUP; what a killed run left is removed by the next one. Interfaces outside
//! these namespaces are never touched.
//!
//! Each has its own `/sys` and `/sys/fs/bpf` as well, in a mount namespace that everything entering shares,
//! so that programs in it see their own links and pin their own maps.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, chroot, fchdir};
use tokio::signal::unix::{SignalKind, signal};

const PREFIX: &str = "torline-";
const NETNS_DIR: &str = "/run/netns";
/// Directories of labs, each named like its namespaces up to the role.
const LABS_DIR: &str = "/run/torline-lab";
/// A file of this name in a lab's directory says that the lab is to outlive its process.
const KEPT: &str = "kept";

/// The namespaces of this process, for the signal thread.
static ALIVE: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
static GUARD: Once = Once::new();
static NEXT_LAB: AtomicU32 = AtomicU32::new(1);

/// A namespace of our own.
#[derive(Debug)]
pub struct Netns {
    name: String,
    net: File,
    mounts: Mounts,
}

/// A mount namespace, and this process's root in it, which in a chroot is not the namespace's own.
#[derive(Debug)]
struct Mounts {
    namespace: File,
    root: File,
}

impl Netns {
    /// Makes a namespace that belongs to no lab.
    ///
    /// # Errors
    /// Without root, or when the kernel refuses.
    pub fn new(role: &str) -> Result<Self> {
        Self::in_lab(&next_lab(), role)
    }

    /// Makes the namespace of `role` in `lab` (see [`next_lab`]) with its loopback up.
    ///
    /// # Errors
    /// Without root, when the kernel refuses, or when this process has such a namespace already.
    pub fn in_lab(lab: &str, role: &str) -> Result<Self> {
        GUARD.call_once(|| {
            remove_stale();
            thread::spawn(tear_down_on_signal);
        });
        let name = format!("{}{role}", lab_prefix(lab));
        alive().insert(name.clone());
        Self::create(&name).inspect_err(|_| forget(&name))
    }

    fn create(name: &str) -> Result<Self> {
        run("ip", ["netns", "add", name])?;
        let net = File::open(Path::new(NETNS_DIR).join(name))?;
        let mounts = thread::scope(|scope| joined(scope.spawn(|| mount_namespace(&net))))
            .with_context(|| format!("mount /sys for {name}"))?;
        let netns = Self {
            name: name.to_owned(),
            net,
            mounts,
        };
        netns.run(["ip", "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// Its name, as `ip netns` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs `body` on a thread inside and returns what it returns; a panic in it goes on in the caller.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            joined(scope.spawn(|| {
                switch(&self.net, &self.mounts);
                body()
            }))
        })
    }

    /// Starts a thread inside. Whatever sockets it opens keep the namespace's interfaces alive.
    ///
    /// # Errors
    /// When no file descriptor or thread is to be had.
    pub fn spawn<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<JoinHandle<T>> {
        let (net, mounts) = (self.net.try_clone()?, self.mounts.try_clone()?);
        thread::Builder::new()
            .name(self.name.clone())
            .spawn(move || {
                switch(&net, &mounts);
                body()
            })
    }

    /// Starts a program inside.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(&self, command: &mut Command) -> io::Result<Child> {
        // Nothing is started while a signal tears everything down.
        let _alive = alive();
        self.enter(|| command.spawn())
    }

    /// Runs a program inside to its end and returns what it wrote to standard output.
    ///
    /// # Errors
    /// When it cannot be started or fails; the error has its standard error.
    pub fn run<S: AsRef<OsStr>>(&self, argv: impl IntoIterator<Item = S>) -> Result<String> {
        let mut argv = argv.into_iter();
        let program = argv.next().context("no program")?.as_ref().to_owned();
        let args: Vec<_> = argv.map(|arg| arg.as_ref().to_owned()).collect();
        self.enter(|| run(&program, &args))
            .with_context(|| format!("in {}", self.name))
    }

    /// Runs `ip -batch` inside: one command a line, without the leading `ip`.
    ///
    /// # Errors
    /// When a line fails; those before it have been done.
    pub fn ip(&self, batch: &str) -> Result<()> {
        self.enter(|| feed(Command::new("ip").args(["-force", "-batch", "-"]), batch))
            .with_context(|| format!("ip in {}: {batch}", self.name))
    }

    /// Sets a sysctl, named by its path below `/proc/sys` (`net/ipv4/ip_forward`).
    ///
    /// # Errors
    /// When the kernel does not have it or refuses the value.
    pub fn sysctl(&self, path: &str, value: u32) -> Result<()> {
        let value = value.to_string();
        self.enter(|| fs::write(Path::new("/proc/sys").join(path), value))
            .with_context(|| format!("set {path} in {}", self.name))
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !is_kept(&lab_of(&self.name)) {
            forget(&self.name);
        }
    }
}

/// A name for a set of namespaces that no other set of this process has.
pub fn next_lab() -> String {
    NEXT_LAB.fetch_add(1, Ordering::Relaxed).to_string()
}

/// What the names of a lab's namespaces begin with, in this process.
pub fn lab_prefix(lab: &str) -> String {
    format!("{PREFIX}{}-{lab}-", std::process::id())
}

/// Makes the directory of a lab, for files that go when its namespaces go.
///
/// # Errors
/// When the file system refuses.
pub fn make_dir(lab: &str) -> io::Result<PathBuf> {
    let dir = Path::new(LABS_DIR).join(lab_of(&lab_prefix(lab)));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

/// Removes the directory of a lab of this process, unless it is kept.
pub fn remove_dir(lab: &str) {
    let lab = lab_of(&lab_prefix(lab));
    if !is_kept(&lab) {
        let _ = fs::remove_dir_all(Path::new(LABS_DIR).join(lab));
    }
}

/// Lets the namespaces of a lab, the processes in them and its directory outlive this process;
/// [`remove_kept`] removes them.
///
/// # Errors
/// When the mark cannot be written.
pub fn keep(lab: &str) -> io::Result<()> {
    fs::write(make_dir(lab)?.join(KEPT), "")?;
    let prefix = lab_prefix(lab);
    alive().retain(|name| !name.starts_with(&prefix));
    Ok(())
}

/// Removes every lab of this name that was kept, whichever process made it; returns how many namespaces.
pub fn remove_kept(lab: &str) -> usize {
    let kept =
        |name: &String| is_kept(&lab_of(name)) && lab_of(name).split('-').nth(2) == Some(lab);
    let names: Vec<_> = names().filter(kept).collect();
    remove_all(&names);
    names.len()
}

/// Runs a program to its end, here, and returns what it wrote to standard output.
fn run<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    args: impl IntoIterator<Item = S>,
) -> Result<String> {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null());
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    succeeded(&command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs a program to its end, here, with `input` on its standard input.
fn feed(command: &mut Command, input: &str) -> Result<()> {
    let pipe = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = pipe.spawn().with_context(|| format!("start {command:?}"))?;
    let mut stdin = child.stdin.take().context("no pipe")?;
    io::Write::write_all(&mut stdin, input.as_bytes())?;
    drop(stdin);
    succeeded(command, &child.wait_with_output()?)
}

fn succeeded(command: &Command, output: &Output) -> Result<()> {
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}: {}", output.status, stderr.trim());
    }
    Ok(())
}

/// Gives the calling thread, which must be about to end, mounts with the `/sys` that belongs to `net`.
fn mount_namespace(net: &File) -> Result<Mounts> {
    setns(net, CloneFlags::CLONE_NEWNET)?;
    unshare(CloneFlags::CLONE_NEWNS)?;
    let namespace = File::open("/proc/thread-self/ns/mnt")?;
    let mounts = Mounts {
        namespace,
        root: File::open("/")?,
    };
    let none = None::<&str>;
    // Mounts made outside later (the next namespace's file) are still seen here; ours are not seen there.
    // That is said of the namespace's own root, which entering it leads to.
    setns(&mounts.namespace, CloneFlags::CLONE_NEWNS)?;
    mount(none, "/", none, MsFlags::MS_SLAVE | MsFlags::MS_REC, none)?;
    mounts.enter()?;
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), none)?;
    mount(
        Some("bpf"),
        "/sys/fs/bpf",
        Some("bpf"),
        MsFlags::empty(),
        none,
    )?;
    Ok(mounts)
}

impl Mounts {
    /// Moves the calling thread to these mounts.
    fn enter(&self) -> nix::Result<()> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNS)?;
        fchdir(&self.root)?;
        chroot(".")
    }

    fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            namespace: self.namespace.try_clone()?,
            root: self.root.try_clone()?,
        })
    }
}

/// Moves the calling thread into the two namespaces.
#[expect(
    clippy::expect_used,
    reason = "a thread outside its namespace must not go on"
)]
fn switch(net: &File, mounts: &Mounts) {
    setns(net, CloneFlags::CLONE_NEWNET).expect("enter the network namespace");
    // A mount namespace can be entered only by a thread whose root and working directory are its own.
    unshare(CloneFlags::CLONE_FS).expect("leave the shared working directory");
    let here = std::env::current_dir();
    mounts.enter().expect("enter the mount namespace");
    if let Ok(here) = here {
        std::env::set_current_dir(here).expect("go back to the working directory");
    }
}

fn joined<T>(thread: thread::ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|payload| resume_unwind(payload))
}

fn alive() -> MutexGuard<'static, BTreeSet<String>> {
    ALIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Names of all namespaces of ours, of any process.
fn names() -> impl Iterator<Item = String> {
    let entries = fs::read_dir(NETNS_DIR).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| owner_of(name).is_some())
}

/// The process that made a namespace, by its name.
fn owner_of(name: &str) -> Option<u32> {
    name.strip_prefix(PREFIX)?.split('-').next()?.parse().ok()
}

/// The name up to the role: prefix, process, lab.
fn lab_of(name: &str) -> String {
    name.split('-').take(3).collect::<Vec<_>>().join("-")
}

/// Whether a lab, named as [`lab_of`] does, is to outlive its process.
fn is_kept(lab: &str) -> bool {
    Path::new(LABS_DIR).join(lab).join(KEPT).exists()
}

fn remove_stale() {
    let is_dead = |pid| !Path::new(&format!("/proc/{pid}")).exists();
    let stale = |name: &String| owner_of(name).is_some_and(is_dead) && !is_kept(&lab_of(name));
    remove_all(&names().filter(stale).collect::<Vec<_>>());
}

/// Removes namespaces and the directories of their labs.
fn remove_all(names: &[String]) {
    for name in names {
        remove(name);
        let _ = fs::remove_dir_all(Path::new(LABS_DIR).join(lab_of(name)));
    }
}

/// Removes a namespace of this process.
fn forget(name: &str) {
    remove(name);
    alive().remove(name);
}

/// Kills what runs in a namespace and deletes it. Goes on where something is gone already.
fn remove(name: &str) {
    if let Ok(namespace) = fs::metadata(Path::new(NETNS_DIR).join(name)) {
        for pid in processes_in(namespace.ino()) {
            let _ = kill(pid, Signal::SIGKILL);
        }
        let _ = run("ip", ["netns", "del", name]);
    }
}

/// Processes, other than this one, whose network namespace has the inode number.
fn processes_in(namespace: u64) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse::<u32>().ok()?;
            let inside = fs::metadata(entry.path().join("ns/net")).ok()?.ino() == namespace;
            (inside && pid != std::process::id())
                .then(|| i32::try_from(pid).ok().map(Pid::from_raw))?
        })
        .collect()
}

/// Waits for a signal to end, removes what this process made, and ends as the signal would have.
fn tear_down_on_signal() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build();
    let Ok(runtime) = runtime else { return };
    let caught = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        io::Result::Ok(tokio::select! {
            _ = interrupt.recv() => Signal::SIGINT,
            _ = terminate.recv() => Signal::SIGTERM,
            _ = hangup.recv() => Signal::SIGHUP,
        })
    });
    if let Ok(signal) = caught {
        // Held to the end, so that the other threads begin nothing that would be left behind.
        let alive = alive();
        remove_all(&alive.iter().cloned().collect::<Vec<_>>());
        std::process::exit(128 + signal as i32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_who_made_it_and_for_which_lab() {
        assert_eq!(owner_of("torline-42-demo-node-a"), Some(42));
        assert_eq!(lab_of("torline-42-demo-node-a"), "torline-42-demo");
        assert_eq!(owner_of("torline-demo"), None);
        assert_eq!(owner_of("other-42-demo-x"), None);
    }
}
