//! Documented commands exist, and CI runs documented commands only.

use super::{Finding, Source};

/// Rejects `cargo xtask <verb>` with a verb there is not, and anything else than `cargo xtask` in CI.
pub(crate) fn check(sources: &[Source], verbs: &[String]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        for (line, text) in source
            .text
            .lines()
            .enumerate()
            .map(|(i, text)| (i + 1, text))
        {
            for verb in commands(text).filter(|verb| !verbs.iter().any(|known| known == verb)) {
                findings.push(source.finding(line, format!("`cargo xtask {verb}` does not exist")));
            }
            if source.path.starts_with(".ci/") && !may_stand_in_ci(text) {
                findings.push(source.finding(line, "CI runs `cargo xtask` verbs and nothing else"));
            }
        }
    }
    findings
}

/// The words behind each `cargo xtask`; placeholders and prose are none.
fn commands(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("cargo xtask ")
        .filter_map(|(at, found)| {
            let after = &text[at + found.len()..];
            let end = after
                .find(|c: char| !c.is_ascii_lowercase() && c != '-')
                .unwrap_or(after.len());
            let verb = &after[..end];
            // In prose the name of the command is closed by a backquote: no verb follows.
            (!verb.is_empty() && !verb.starts_with('-')).then_some(verb)
        })
}

fn may_stand_in_ci(line: &str) -> bool {
    let line = line.trim();
    let is_shell = line.is_empty() || line.starts_with('#') || line.starts_with("set -");
    is_shell
        || line.starts_with("cargo xtask ")
        || line == "cd \"$(dirname \"$0\")/..\""
        || line == "export CI=1"
}
