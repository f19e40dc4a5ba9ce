//! Rules about the source that no compiler checks.
//!
//! Layers, fences around external crates, files with unsafe code, the shape of files, documented commands.
//!
//! Each rule is a function from [`Source`]s to findings, so its tests hand it a few lines of text. The
//! tables the rules go by are source too: the layers in `lb-userspace/src/lib.rs`, the others beside their
//! rule.

use std::{fmt, fs, path::Path};

use anyhow::{Context, Result};

mod code;
mod commands;
mod documents;
mod fences;
mod files;
mod layers;
#[cfg(test)]
mod tests;
mod unsafe_code;

/// A file of the repository.
pub(crate) struct Source {
    /// Relative to the workspace, with slashes.
    path: String,
    text: String,
    /// `text` with comments and the contents of literals blanked out: lines and columns stay.
    code: String,
}

impl Source {
    fn new(path: &str, text: &str) -> Self {
        let code = if is_rust(path) {
            code::only(text)
        } else {
            String::new()
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    /// The lines of code with their numbers, from 1.
    fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.code.lines().enumerate().map(|(i, line)| (i + 1, line))
    }

    fn finding(&self, line: usize, message: impl Into<String>) -> Finding {
        Finding {
            path: self.path.clone(),
            line,
            message: message.into(),
        }
    }
}

/// A rule broken at a place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    path: String,
    line: usize,
    message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.path, self.line, self.message)
    }
}

/// Applies every rule to the repository at `root`.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn run(root: &Path, verbs: &[String]) -> Result<Vec<Finding>> {
    let mut sources = Vec::new();
    read(root, "", &mut sources)?;
    let (rust, other): (Vec<_>, Vec<_>) = sources.into_iter().partition(|s| is_rust(&s.path));
    let mut findings = layers::check(&rust);
    findings.extend(fences::check(&rust));
    findings.extend(files::check(&rust));
    findings.extend(unsafe_code::check(&rust));
    findings.extend(commands::check(&other, verbs));
    findings.extend(documents::check(&other));
    findings.sort();
    Ok(findings)
}

/// Path and text of every Rust source below `root`.
///
/// # Errors
/// When a file cannot be read.
pub(crate) fn rust_sources(root: &Path) -> Result<Vec<(String, String)>> {
    let mut sources = Vec::new();
    read(root, "", &mut sources)?;
    let rust = sources.into_iter().filter(|source| is_rust(&source.path));
    Ok(rust.map(|source| (source.path, source.text)).collect())
}

fn read(root: &Path, dir: &str, sources: &mut Vec<Source>) -> Result<()> {
    let full = root.join(dir);
    let entries =
        fs::read_dir(&full).with_context(|| format!("failed to read {}", full.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if dir.is_empty() {
            name.clone()
        } else {
            format!("{dir}/{name}")
        };
        if entry.file_type()?.is_dir() {
            if name != "target" && name != ".git" {
                read(root, &path, sources)?;
            }
        } else if is_rust(&path) || has_extension(&path, "md") || path.starts_with(".ci/") {
            let text = fs::read_to_string(entry.path())
                .with_context(|| format!("failed to read {path}"))?;
            sources.push(Source::new(&path, &text));
        }
    }
    Ok(())
}

fn is_rust(path: &str) -> bool {
    has_extension(path, "rs")
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path)
        .extension()
        .is_some_and(|found| found == extension)
}
