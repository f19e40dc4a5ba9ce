//! What a test program says: shown while it runs, counted when it ends.

use std::{
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::sh;

/// The line by which a test says that this machine cannot run it.
const SKIP: &str = "SKIP: ";

/// A test that could not run here.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Skip {
    pub(crate) test: String,
    pub(crate) reason: String,
}

/// The results of a suite.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<String>,
    pub(crate) skipped: Vec<Skip>,
    /// Marked `#[ignore]`: what takes long or only prints figures, and runs with `--full`.
    pub(crate) left: Vec<Skip>,
}

impl Tally {
    /// Runs a program that speaks libtest's language and adds what it says.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(crate) fn run(&mut self, command: &mut Command) -> Result<()> {
        let line = sh::show(command);
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("failed to start `{line}`"))?;
        let stdout = child
            .stdout
            .take()
            .context("the test program has no stdout")?;
        let failed_before = self.failed.len();
        let mut reader = Reader::default();
        for said in BufReader::new(stdout).split(b'\n') {
            let said = String::from_utf8_lossy(&said?).into_owned();
            if reader.read(&said, self) {
                eprintln!("{said}");
            }
        }
        let status = child.wait()?;
        if !status.success() && self.failed.len() == failed_before {
            // A crash, or the time limit: the test that ran is the one that began and did not end.
            let test = reader
                .running
                .unwrap_or_else(|| "outside any test".to_owned());
            self.failed.push(format!("{test} ({status})"));
        }
        Ok(())
    }
}

/// Where in libtest's output the reader is.
#[derive(Default)]
struct Reader {
    /// Behind `successes:`, where the output of tests that passed is repeated.
    in_successes: bool,
    /// The test whose output that is.
    test: Option<String>,
    /// The test that started last and has no verdict.
    running: Option<String>,
}

impl Reader {
    /// Takes a line; says whether it is worth showing.
    fn read(&mut self, line: &str, tally: &mut Tally) -> bool {
        match line {
            "successes:" => {
                self.in_successes = true;
                return false;
            }
            "failures:" => self.in_successes = false,
            _ if line.starts_with("test result: ") => self.in_successes = false,
            _ => {}
        }
        if self.in_successes {
            let heading = line
                .strip_prefix("---- ")
                .and_then(|line| line.strip_suffix(" stdout ----"));
            if let Some(test) = heading {
                self.test = Some(test.to_owned());
            } else if let (Some(reason), Some(test)) = (line.strip_prefix(SKIP), &self.test) {
                tally.passed = tally.passed.saturating_sub(1);
                tally.skipped.push(Skip {
                    test: test.clone(),
                    reason: reason.to_owned(),
                });
                // One skip per test, however often it says so.
                self.test = None;
            }
            return false;
        }
        // With one thread the verdict may come on a later line than the name.
        let (test, verdict) = match line
            .strip_prefix("test ")
            .and_then(|line| line.split_once(" ... "))
        {
            Some((test, verdict)) => (Some(test.to_owned()), verdict),
            None => (self.running.clone(), line),
        };
        let Some(test) = test else { return true };
        self.running = None;
        match verdict {
            "ok" => tally.passed += 1,
            "FAILED" => tally.failed.push(test),
            _ if verdict.starts_with("ignored") => {
                let reason = verdict
                    .strip_prefix("ignored, ")
                    .unwrap_or("ignored")
                    .to_owned();
                tally.left.push(Skip { test, reason });
            }
            _ => self.running = Some(test),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> (Tally, Vec<&str>) {
        let (mut reader, mut tally) = (Reader::default(), Tally::default());
        let shown = text
            .lines()
            .filter(|line| reader.read(line, &mut tally))
            .collect();
        (tally, shown)
    }

    #[test]
    fn verdicts_are_counted() {
        let (tally, _) = read(
            "running 3 tests\ntest a::b ... ok\ntest c ... FAILED\ntest d ... ignored, needs a switch\n\
             \nfailures:\n\n---- c stdout ----\nboom\n\nfailures:\n    c\n\ntest result: FAILED. 1 passed",
        );
        assert_eq!(tally.passed, 1);
        assert_eq!(tally.failed, ["c"]);
        let skip = Skip {
            test: "d".to_owned(),
            reason: "needs a switch".to_owned(),
        };
        assert_eq!(tally.left, [skip]);
        assert!(tally.skipped.is_empty());
    }

    #[test]
    fn a_test_that_says_skip_counts_as_skipped_and_not_as_passed() {
        let (tally, shown) = read(
            "test a ... ok\ntest b ... ok\n\nsuccesses:\n\n---- a stdout ----\nhello\n\n\
             ---- b stdout ----\nSKIP: no second CPU\nSKIP: no second CPU\n\n\nsuccesses:\n    a\n    b\n\n\
             test result: ok. 2 passed",
        );
        assert_eq!(tally.passed, 1);
        let skip = Skip {
            test: "b".to_owned(),
            reason: "no second CPU".to_owned(),
        };
        assert_eq!(tally.skipped, [skip]);
        assert!(
            !shown.contains(&"hello"),
            "output of tests that passed is noise"
        );
    }

    #[test]
    fn a_test_program_that_dies_is_a_failure() {
        let mut tally = Tally::default();
        tally
            .run(Command::new("sh").args(["-c", "echo 'test a ... ok'; kill -SEGV $$"]))
            .unwrap();
        assert_eq!(tally.passed, 1);
        assert_eq!(tally.failed.len(), 1);
    }
}
