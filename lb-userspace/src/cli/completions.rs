//! `torline completions` and `torline man`: what is generated from the
//! definition of the command line.

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::builder::PossibleValue;
use clap::{Args, Command, ValueEnum};
use clap_complete::{Shell, generate};

use super::print;
use crate::hcs::module;

/// Arguments of `torline completions`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  torline completions bash
  torline completions zsh
  torline completions fish
  torline completions powershell-module
      The cmdlets of an edge device, for a PowerShell that reaches it by SSH.")]
pub(super) struct Completions {
    /// For whom.
    #[arg(value_name = "SHELL")]
    target: Target,
}

/// Arguments of `torline man`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  torline man /tmp/torline-man")]
pub(super) struct Man {
    /// Where the pages go: torline.1, and one for each command.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

#[derive(Clone, Copy, Debug)]
enum Target {
    Shell(Shell),
    PowerShellModule,
}

impl ValueEnum for Target {
    fn value_variants<'a>() -> &'a [Self] {
        &[
            Self::Shell(Shell::Bash),
            Self::Shell(Shell::Zsh),
            Self::Shell(Shell::Fish),
            Self::PowerShellModule,
        ]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        match self {
            Self::Shell(shell) => shell.to_possible_value(),
            Self::PowerShellModule => Some(PossibleValue::new("powershell-module")),
        }
    }
}

/// Prints completions, or the module.
pub(super) fn show(arguments: &Completions, mut command: Command) -> anyhow::Result<()> {
    let Target::Shell(shell) = arguments.target else {
        return print(&module::text());
    };
    let mut text = Vec::new();
    generate(shell, &mut command, "torline", &mut text);
    print(&String::from_utf8(text).context("completions are not UTF-8")?)
}

/// Writes man pages.
pub(super) fn write_pages(arguments: &Man, command: Command) -> anyhow::Result<()> {
    let directory = &arguments.directory;
    write_all(command, directory)
        .with_context(|| format!("failed to write man pages to {}", directory.display()))
}

fn write_all(command: Command, directory: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(directory)?;
    clap_mangen::generate_to(command, directory)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn completions_know_every_command() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            let mut text = Vec::new();
            generate(shell, &mut Cli::command(), "torline", &mut text);
            let text = String::from_utf8(text).unwrap();
            for command in Cli::command().get_subcommands() {
                assert!(
                    text.contains(command.get_name()),
                    "{shell}: {}",
                    command.get_name()
                );
            }
        }
    }

    #[test]
    fn every_command_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        write_all(Cli::command(), dir.path()).unwrap();
        for page in ["torline.1", "torline-status.1", "torline-peer-set.1"] {
            let text = std::fs::read_to_string(dir.path().join(page)).unwrap();
            assert!(text.contains(".SH SYNOPSIS"), "{page}");
        }
    }
}
