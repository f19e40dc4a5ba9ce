//! The shape of a file: header, length, name, and tests that do not sleep.

use super::{Finding, Source};

const HEADER_COLUMNS: usize = 80;

const LINES: usize = 700;

/// Names that say nothing about what lies in the file.
const BANNED_STEMS: &[&str] = &[
    "util", "utils", "helper", "helpers", "misc", "common", "manager", "handler", "impl", "base",
    "data", "info", "wrapper",
];

/// Calls that make a test wait for time instead of for a condition.
const SLEEPS: &[&str] = &["thread::sleep", "time::sleep", "sleep_until"];

/// The one place that turns waiting for a condition into waiting for time.
const MAY_SLEEP: &[&str] = &["tests/harness/wait.rs"];

/// Checks every file by itself.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    sources.iter().flat_map(one).collect()
}

fn one(source: &Source) -> Vec<Finding> {
    let mut findings = Vec::new();
    let first = source.text.lines().next().unwrap_or_default();
    if !first.starts_with("//! ") {
        findings.push(source.finding(1, "the first line is not `//! …`: say what lies here"));
    } else if first.chars().count() > HEADER_COLUMNS {
        let message = format!("the first line is longer than {HEADER_COLUMNS} columns");
        findings.push(source.finding(1, message));
    }
    let lines = source.text.lines().count();
    if lines > LINES {
        let message =
            format!("{lines} lines, more than {LINES}: split it into `foo.rs` and `foo/…`");
        findings.push(source.finding(lines, message));
    }
    let name = source.path.rsplit('/').next().unwrap_or_default();
    let stem = name.trim_end_matches(".rs");
    if stem == "mod" {
        findings.push(source.finding(1, "`foo/mod.rs` is written `foo.rs`"));
    }
    if BANNED_STEMS.contains(&stem)
        || stem
            .split('_')
            .any(|word| ["util", "utils"].contains(&word))
    {
        findings.push(source.finding(
            1,
            format!("`{stem}` says nothing: name the file by what it is"),
        ));
    }
    if !MAY_SLEEP.contains(&source.path.as_str()) {
        let mut is_test = source.path.starts_with("tests/") || name == "tests.rs";
        for (line, text) in source.lines() {
            is_test |= text.trim() == "#[cfg(test)]";
            if is_test && SLEEPS.iter().any(|sleep| text.contains(sleep)) {
                let message = "a test waits for a condition with a limit, it does not sleep";
                findings.push(source.finding(line, message));
            }
        }
    }
    findings
}
