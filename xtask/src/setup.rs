//! `cargo xtask setup`: what this machine lacks, installed or named.
//!
//! `pins` is the table of versions and programs. `toolchain` finds compilers for BPF, `linker` finds or builds
//! bpf-linker, `apt` installs packages without starting daemons. The order of preference for the compiler:
//! a complete one that is there, one that only wants a linker, the distribution's (root only), rustup's
//! download. `XTASK_EBPF_TOOLCHAIN=rustup|distro` leaves one family only.

use std::{
    env,
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};
use clap::ValueEnum;

use self::{
    apt::Apt,
    toolchain::{Origin, Toolchain},
};
use crate::sh::{self, Environment};

mod apt;
mod linker;
mod pins;
mod toolchain;

/// What the machine should be able to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Need {
    /// Compile the programs and the agent.
    Build,
    /// Run every suite.
    Test,
    /// Run every suite but `interop`, which wants routers of every make.
    Lab,
    /// Run the demo.
    Demo,
}

/// Options of `setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only report; exit 1 if something is missing.
    #[arg(long)]
    check: bool,
    /// Set up for this verb only.
    #[arg(long = "for", value_name = "VERB", default_value = "test")]
    need: Need,
}

/// A compiler and a linker for BPF that work together.
pub(crate) struct Ready {
    pub(crate) toolchain: Toolchain,
    pub(crate) linker: PathBuf,
}

/// Runs the verb.
///
/// # Errors
/// When something is missing that cannot be installed.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    let state = State::observe(args.need)?;
    state.report();
    if state.is_complete() {
        return Ok(ExitCode::SUCCESS);
    }
    if args.check {
        return Ok(ExitCode::FAILURE);
    }
    install(&state)?.report();
    Ok(ExitCode::SUCCESS)
}

/// Makes the machine able to do `need`, silently if it already is.
///
/// # Errors
/// When something is missing that cannot be installed.
pub(crate) fn ready(need: Need) -> Result<Ready> {
    let mut state = State::observe(need)?;
    if !state.is_complete() {
        sh::headline("set-up");
        state.report();
        state = install(&state)?;
    }
    let toolchain = state
        .compilers
        .into_iter()
        .next()
        .context("no compiler for BPF")?;
    let linker = state.linker.context("no linker for BPF")?;
    Ok(Ready { toolchain, linker })
}

/// Makes sure that the host's cargo has `subcommand`, which rustup calls `component`.
///
/// # Errors
/// When it is missing and cannot be installed.
pub(crate) fn component(subcommand: &str, component: &str) -> Result<()> {
    let is_here = || sh::output(sh::cargo().args([subcommand, "--version"])).is_some();
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", component]);
    if is_here() || (sh::run(&mut rustup).is_ok() && is_here()) {
        return Ok(());
    }
    let message = format!(
        "`cargo {subcommand}` is missing; run:\n    {}",
        sh::show(&rustup)
    );
    Err(Environment(message).into())
}

/// Makes sure that the BPF compiler has its lints.
///
/// # Errors
/// When they are missing and cannot be installed.
pub(crate) fn clippy(toolchain: &Toolchain) -> Result<()> {
    if toolchain.cargo.with_file_name("cargo-clippy").exists() {
        return Ok(());
    }
    sh::headline("installing clippy for the BPF compiler");
    let by_hand = match &toolchain.origin {
        Origin::Rustup(name) => {
            let args = ["component", "add", "clippy", "--toolchain", name];
            if sh::run(Command::new("rustup").args(args)).is_ok() {
                return Ok(());
            }
            format!("rustup {}", args.join(" "))
        }
        Origin::Distro => {
            let is_here = |set: &&[&str; 4]| apt::is_installed(set[0]);
            let package = pins::COMPILERS
                .iter()
                .find(is_here)
                .map_or("rust-clippy", |set| set[3]);
            let apt = Apt::find().filter(|_| sh::is_root());
            if apt.is_some_and(|apt| apt.install(&[package]).is_ok()) {
                return Ok(());
            }
            format!("sudo apt-get install -y --no-install-recommends {package}")
        }
    };
    Err(Environment(format!(
        "the BPF compiler lacks clippy; run:\n    {by_hand}"
    ))
    .into())
}

/// What is here and what is not.
struct State {
    need: Need,
    family: Option<Family>,
    /// The best first. If `linker` is there, it belongs to the first.
    compilers: Vec<Toolchain>,
    linker: Option<PathBuf>,
    missing: Vec<&'static pins::Program>,
}

impl State {
    fn observe(need: Need) -> Result<Self> {
        let family = Family::from_environment()?;
        let mut compilers = Toolchain::installed();
        compilers.retain(|compiler| family.is_none_or(|family| family.has(compiler)));
        let complete = compilers
            .iter()
            .enumerate()
            .find_map(|(i, compiler)| linker::find(compiler).map(|linker| (i, linker)));
        let linker = complete.map(|(i, linker)| {
            compilers.swap(0, i);
            linker
        });
        let missing = programs(need)
            .filter(|program| sh::which(program.name).is_none())
            .collect();
        Ok(Self {
            need,
            family,
            compilers,
            linker,
            missing,
        })
    }

    fn is_complete(&self) -> bool {
        self.linker.is_some() && self.missing.is_empty()
    }

    fn report(&self) {
        let line = |name: &str, what: Option<String>, why: &str| {
            let state = if what.is_some() { "ok" } else { "missing" };
            let what = what.unwrap_or_default();
            eprintln!("{name:<14} {state:<8} {why:<40} {what}");
        };
        let compiler = self.compilers.first().map(Toolchain::describe);
        line("BPF compiler", compiler, "compiles the kernel programs");
        let linker = self
            .linker
            .as_ref()
            .map(|linker| linker.display().to_string());
        line("bpf-linker", linker, "links them, with the compiler's LLVM");
        for program in programs(self.need) {
            let path = sh::which(program.name).map(|path| path.display().to_string());
            line(program.name, path, program.why);
        }
    }
}

fn programs(need: Need) -> impl Iterator<Item = &'static pins::Program> {
    let wanted = move |at: &Need| *at == Need::Build || *at == need;
    pins::PROGRAMS
        .iter()
        .filter(move |program| program.needs.iter().any(wanted))
}

/// Where the compiler may come from, if the user restricts it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Rustup,
    Distro,
}

impl Family {
    fn from_environment() -> Result<Option<Self>> {
        match env::var("XTASK_EBPF_TOOLCHAIN").as_deref() {
            Err(_) | Ok("") => Ok(None),
            Ok("rustup") => Ok(Some(Self::Rustup)),
            Ok("distro") => Ok(Some(Self::Distro)),
            Ok(other) => Err(Environment(format!(
                "XTASK_EBPF_TOOLCHAIN is `{other}`; it may be `rustup` or `distro`"
            ))
            .into()),
        }
    }

    fn has(self, compiler: &Toolchain) -> bool {
        (compiler.origin == Origin::Distro) == (self == Self::Distro)
    }
}

/// Installs what `state` lacks and looks again.
fn install(state: &State) -> Result<State> {
    let apt = Apt::find();
    // First what cannot be got around: a minute of compiling before "you are not root" helps nobody.
    let mut packages: Vec<_> = state
        .missing
        .iter()
        .map(|program| program.package)
        .collect();
    packages.dedup();
    if !packages.is_empty() {
        install_programs(apt.as_ref(), &packages)?;
    }
    if state.compilers.is_empty() {
        install_compiler(apt.as_ref(), state.family)?;
    }

    let mut state = State::observe(state.need)?;
    if state.linker.is_none() {
        let compiler = state.compilers.first().ok_or_else(|| {
            Environment("what was installed does not contain a compiler for BPF".to_owned())
        })?;
        let about = format!("building bpf-linker {} (about a minute)", pins::BPF_LINKER);
        sh::headline(&about);
        state.linker = Some(linker::install(compiler).map_err(|error| {
            Environment(format!(
                "bpf-linker is missing and could not be built: {error:#}\nby hand:\n    {}",
                sh::show(&linker::install_command(compiler))
            ))
        })?);
    }
    if let Some(program) = state.missing.first() {
        let (name, package) = (program.name, program.package);
        let message = format!("`{name}` is still missing though package {package} is installed");
        return Err(Environment(message).into());
    }
    Ok(state)
}

fn install_programs(apt: Option<&Apt>, packages: &[&str]) -> Result<()> {
    let by_hand = format!(
        "apt-get install -y --no-install-recommends {}",
        packages.join(" ")
    );
    let refuse = |why: String| Err(Environment(why).into());
    match apt {
        None => refuse(format!(
            "this is not Debian or Ubuntu: install what these packages hold there, then run this again:\n    {}",
            packages.join(" ")
        )),
        Some(_) if !sh::is_root() => refuse(format!(
            "installing packages needs root; run:\n    sudo {by_hand}"
        )),
        Some(apt) => {
            sh::headline(&format!("installing {}", packages.join(" ")));
            apt.install(packages)
                .or_else(|error| refuse(format!("{error:#}\nby hand:\n    {by_hand}")))
        }
    }
}

fn install_compiler(apt: Option<&Apt>, family: Option<Family>) -> Result<()> {
    let mut refusals = Vec::new();
    if family != Some(Family::Rustup) {
        match install_distro_compiler(apt) {
            Ok(()) => return Ok(()),
            Err(error) => refusals.push(format!("the distribution's: {error:#}")),
        }
    }
    if family != Some(Family::Distro) {
        match install_nightly() {
            Ok(()) => return Ok(()),
            Err(error) => refusals.push(format!("rustup's: {error:#}")),
        }
    }
    Err(Environment(format!(
        "no compiler for BPF can be had here\n  {}",
        refusals.join("\n  ")
    ))
    .into())
}

fn install_distro_compiler(apt: Option<&Apt>) -> Result<()> {
    let apt = apt.context("this is not Debian or Ubuntu")?;
    let all = pins::COMPILERS.iter();
    if !sh::is_root() {
        let packages = pins::COMPILERS
            .first()
            .map(|set| set.join(" "))
            .unwrap_or_default();
        anyhow::bail!(
            "needs root; run `sudo apt-get install -y --no-install-recommends {packages}`"
        );
    }
    apt.refresh();
    let is_new = |package: &str| {
        apt.candidate(package)
            .is_some_and(|version| toolchain::at_least(&version, pins::RUST))
    };
    let set = all
        .into_iter()
        .find(|set| set.iter().all(|package| is_new(package)))
        .with_context(|| format!("no package has Rust {} or newer", pins::RUST))?;
    sh::headline(&format!("installing {}", set.join(" ")));
    apt.install(set)
}

fn install_nightly() -> Result<()> {
    let args = [
        "toolchain",
        "install",
        pins::NIGHTLY,
        "--profile=minimal",
        "--component=rust-src",
    ];
    let Some(rustup) = sh::which("rustup") else {
        anyhow::bail!(
            "rustup is not installed; run `curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y`, \
             then `rustup {}`",
            args.join(" ")
        );
    };
    sh::headline(&format!("downloading {}", pins::NIGHTLY));
    sh::run(Command::new(rustup).args(args).arg("--no-self-update"))
}
