//! `torline doctor`: what of this machine keeps Torline from doing its work,
//! and what to do about it.
//!
//! `probe` looks, `check` judges: the one reads files and asks the kernel, the other is pure.

mod check;
mod probe;

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::{DEFAULT_PIN, Failed, ask, print};
use crate::model::status::Status;
use check::{Finding, Severity};

/// Arguments of `torline doctor`.
#[derive(Args, Debug)]
#[command(
    after_help = "Exit code: 0 all well, 1 something is degraded, 2 something keeps Torline from working.

Examples:
  torline doctor --interface eth0
  torline doctor --json"
)]
pub(super) struct Doctor {
    /// The compute port; that of the agent unless given.
    #[arg(long, value_name = "IF")]
    interface: Option<String>,
    /// Print one line of JSON.
    #[arg(long)]
    json: bool,
    /// Directory of the pins, as `torline run` was given it.
    #[arg(long, value_name = "PATH", default_value = DEFAULT_PIN)]
    pin: PathBuf,
    /// The agent's socket; TORLINE_SOCKET names another than /run/torline/torline.sock, too.
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

#[derive(Serialize)]
struct Report {
    severity: Severity,
    findings: Vec<Finding>,
}

/// Looks, prints, and fails by the worst that was found.
pub(super) fn run(arguments: &Doctor) -> anyhow::Result<()> {
    let socket = arguments.socket.clone();
    let socket = socket.unwrap_or_else(super::switch::default_socket);
    // Without an agent there is as much to look at.
    let status = ask::<Status>(&socket, "/v1/status").ok();
    let interface = arguments.interface.clone().or_else(|| {
        let status = status.as_ref()?;
        Some(status.attach.interface.clone())
    });
    let facts = probe::look(
        Path::new("/"),
        interface.as_deref(),
        &arguments.pin,
        status.as_ref(),
    )?;
    let findings = check::judge(&facts);
    let severity = findings.iter().map(|finding| finding.severity).max();
    let report = Report {
        severity: severity.unwrap_or(Severity::Good),
        findings,
    };
    print(&if arguments.json {
        serde_json::to_string(&report)? + "\n"
    } else {
        render(&report)
    })?;
    match report.severity {
        Severity::Good | Severity::Note => Ok(()),
        Severity::Degraded => Err(Failed(1).into()),
        Severity::Broken => Err(Failed(2).into()),
    }
}

fn render(report: &Report) -> String {
    let lines = report.findings.iter().map(|finding| {
        let advice = match finding.advice.as_str() {
            "" => String::new(),
            advice => format!("          {advice}\n"),
        };
        let word = finding.severity.word();
        format!("{word:<9} {}: {}\n{advice}", finding.subject, finding.state)
    });
    lines.collect()
}
