//! Logging: to standard error, as text or as JSON, filtered by `RUST_LOG`.
//!
//! Levels: `error` means the agent stops, `warn` somebody should look, `info` a state changed, `debug` a
//! branch was taken, `trace` a packet. Log lines are for people; programs read the status.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::TryInitError;

/// How log lines are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// For a terminal or the journal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging. Without `RUST_LOG` everything from `info` on is written.
///
/// # Errors
/// A second call: there is one log per process.
pub fn start(format: Format) -> Result<(), TryInitError> {
    use tracing_subscriber::util::SubscriberInitExt;

    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,netlink_proto=warn"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match format {
        Format::Text => builder.finish().try_init(),
        Format::Json => builder.json().finish().try_init(),
    }
}

/// An error and its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
