//! What became of the scenarios.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

/// The outcome of a scenario.
pub(crate) enum Verdict {
    /// It went as it must.
    Passed,
    /// It did not, and why.
    Failed(String),
    /// It was not tried, and why.
    Skipped(String),
}

impl Verdict {
    /// As the test runner says it.
    pub(crate) const fn word(&self) -> &'static str {
        match self {
            Self::Passed => "ok",
            Self::Failed(_) => "FAILED",
            Self::Skipped(_) => "ignored",
        }
    }
}

/// All outcomes.
#[derive(Serialize)]
pub(crate) struct Report {
    ok: bool,
    server_version: String,
    scenarios: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    result: &'static str,
    reason: Option<String>,
    seconds: f64,
}

impl Report {
    /// Without scenarios, on a server of this version.
    pub(crate) const fn new(server_version: String) -> Self {
        Self {
            ok: true,
            server_version,
            scenarios: Vec::new(),
        }
    }

    /// Adds the outcome of a scenario.
    pub(crate) fn add(&mut self, name: String, verdict: Verdict, took: Duration) {
        let (result, reason) = match verdict {
            Verdict::Passed => ("passed", None),
            Verdict::Failed(reason) => ("failed", Some(reason)),
            Verdict::Skipped(reason) => ("skipped", Some(reason)),
        };
        self.ok &= result != "failed";
        self.scenarios.push(Row {
            name,
            result,
            reason,
            seconds: took.as_secs_f64(),
        });
    }

    /// Whether none failed.
    pub(crate) const fn is_ok(&self) -> bool {
        self.ok
    }

    /// One line of JSON.
    pub(crate) fn json(&self) -> Result<String> {
        Ok(serde_json::to_string(self)?)
    }
}
