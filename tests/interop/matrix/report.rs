//! What the cells came to: a table for people, a document, JSON for programs.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use anyhow::Result;
use comfy_table::{Table, presets};
use harness::peer::Make;
use serde_json::json;

use crate::cases::{Case, Families};

/// All cells.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) cells: Vec<Cell>,
}

/// A case tried with a make of router and some families of routes.
#[derive(Debug)]
pub(crate) struct Cell {
    make: Make,
    version: String,
    case: &'static str,
    about: &'static str,
    pub(crate) families: Families,
    pub(crate) verdict: Verdict,
}

/// How a cell ended.
#[derive(Debug)]
pub(crate) enum Verdict {
    Pass,
    Fail(String),
    /// The router cannot do it, for this reason.
    Unsupported(String),
}

impl Verdict {
    const fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail(_) => "fail",
            Self::Unsupported(_) => "unsupported",
        }
    }

    fn reason(&self) -> Option<&str> {
        match self {
            Self::Pass => None,
            Self::Fail(reason) | Self::Unsupported(reason) => Some(reason),
        }
    }
}

impl Cell {
    /// A cell that was not tried yet.
    pub(crate) fn new(make: Make, version: &str, case: &Case, families: Families) -> Self {
        Self {
            make,
            version: version.to_owned(),
            case: case.name,
            about: case.about,
            families,
            verdict: Verdict::Fail("not tried".to_owned()),
        }
    }

    /// `peer::case::family`.
    pub(crate) fn name(&self) -> String {
        let Self { make, case, .. } = self;
        format!("{}::{case}::{}", make.name(), self.families.name())
    }

    /// What the test runner would say; of what a router cannot do, something that it would not.
    pub(crate) fn line(&self) -> String {
        let name = self.name();
        match &self.verdict {
            Verdict::Pass => format!("test {name} ... ok"),
            Verdict::Fail(_) => format!("test {name} ... FAILED"),
            Verdict::Unsupported(reason) => format!("unsupported: {name}: {reason}"),
        }
    }
}

impl Report {
    /// Whether everything that was tried works.
    pub(crate) fn is_ok(&self) -> bool {
        !self
            .cells
            .iter()
            .any(|cell| matches!(cell.verdict, Verdict::Fail(_)))
    }

    /// One row for each case and family, one column for each make, and what did not pass.
    pub(crate) fn table(&self) -> String {
        let makes = self.makes();
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let columns = makes.iter().map(|make| self.title(*make));
        table.set_header(
            ["case", "family"]
                .map(str::to_owned)
                .into_iter()
                .chain(columns),
        );
        for (case, families) in self.rows() {
            let words = makes.iter().map(|make| self.word(*make, case, families));
            table.add_row([case, families.name()].into_iter().chain(words));
        }
        let mut text = format!("{table}\n");
        for cell in &self.cells {
            if let Some(reason) = cell.verdict.reason() {
                let _ = writeln!(text, "{} {}: {reason}", cell.verdict.word(), cell.name());
            }
        }
        text
    }

    /// The same as a document of the repository.
    pub(crate) fn document(&self) -> String {
        let makes = self.makes();
        let passed = self
            .cells
            .iter()
            .filter(|cell| matches!(cell.verdict, Verdict::Pass));
        let mut text = format!(
            "# Routers that the speaker was tried with\n\n\
             Written by `cargo xtask test interop --write-docs`; do not edit.\n\n\
             The agent's BGP speaker against the routers of Debian's packages, each in a network namespace. {} of {} \
             cells pass. `family` is that of the routes; the session runs over IPv4 unless the case says otherwise. \
             An empty cell: the case needs a switch that this make does not have.\n\n",
            passed.count(),
            self.cells.len()
        );
        let titles: Vec<_> = makes.iter().map(|make| self.title(*make)).collect();
        let _ = writeln!(text, "| case | family | {} |", titles.join(" | "));
        let _ = writeln!(text, "|---|---|{}", "---|".repeat(makes.len()));
        for (case, families) in self.rows() {
            let words: Vec<_> = makes
                .iter()
                .map(|make| self.word(*make, case, families))
                .collect();
            let _ = writeln!(
                text,
                "| `{case}` | {} | {} |",
                families.name(),
                words.join(" | ")
            );
        }
        text += "\n## Cases\n\n";
        let mut told = BTreeSet::new();
        for cell in self.cells.iter().filter(|cell| told.insert(cell.case)) {
            let _ = writeln!(text, "- `{}`: {}.", cell.case, cell.about);
        }
        let mut told = BTreeSet::new();
        let mut reasons = String::new();
        for cell in &self.cells {
            if let (Some(reason), true) =
                (cell.verdict.reason(), told.insert((cell.make, cell.case)))
            {
                let (make, word) = (cell.make.name(), cell.verdict.word());
                let _ = writeln!(reasons, "- {make}, `{}`, {word}: {reason}.", cell.case);
            }
        }
        if !reasons.is_empty() {
            text += "\n## What does not pass\n\n";
            text += &reasons;
        }
        text
    }

    /// The cells as one line.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub(crate) fn json(&self) -> Result<String> {
        let cells = self.cells.iter().map(|cell| {
            json!({
                "peer": cell.make.name(),
                "version": cell.version,
                "case": cell.case,
                "family": cell.families.name(),
                "result": cell.verdict.word(),
                "reason": cell.verdict.reason(),
            })
        });
        let cells: Vec<_> = cells.collect();
        Ok(serde_json::to_string(
            &json!({ "ok": self.is_ok(), "cells": cells }),
        )?)
    }

    fn makes(&self) -> BTreeSet<Make> {
        self.cells.iter().map(|cell| cell.make).collect()
    }

    /// Name and version.
    fn title(&self, make: Make) -> String {
        let version = self.cells.iter().find(|cell| cell.make == make);
        let version = version
            .map(|cell| cell.version.as_str())
            .unwrap_or_default();
        format!("{} {version}", make.name())
    }

    /// Cases and families in the order of the first cell that has them.
    fn rows(&self) -> Vec<(&'static str, Families)> {
        let mut rows = Vec::new();
        for case in crate::cases::ALL {
            for &families in case.families {
                let tried = |cell: &Cell| cell.case == case.name && cell.families == families;
                if self.cells.iter().any(tried) {
                    rows.push((case.name, families));
                }
            }
        }
        rows
    }

    fn word(&self, make: Make, case: &str, families: Families) -> &'static str {
        let mut cells = self.cells.iter();
        let is_it =
            |cell: &&Cell| cell.make == make && cell.case == case && cell.families == families;
        cells
            .find(is_it)
            .map(|cell| cell.verdict.word())
            .unwrap_or_default()
    }
}
