//! `cargo xtask test`: unit tests, then what needs root, counted together.
//!
//! `unit` is every test that lies beside its code, `doc` the examples in the documentation; every other suite
//! is a `[[test]]` of the package `lb-tests` and runs as root, one test at a time, since its tests share
//! the kernel. A test that this machine cannot run prints `SKIP: reason` and returns. A skip never hides: the
//! summary names it, and with `CI` set it fails the run.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, Result};
use serde::Serialize;
use serde_json::Value;

use self::report::Tally;
use crate::{
    build, demo,
    setup::{self, Need},
    sh::{self, Environment},
};

mod report;

/// The package whose tests need root.
const ROOT_PACKAGE: &str = "lb-tests";

/// The suite that holds many connections and can tell about each event.
const BREAKS: &str = "breaks";

/// The suite of the speaker and the routers, and the document that its table is kept in.
const INTEROP: &str = "interop";
const INTEROP_DOCUMENT: &str = "docs/interop.md";

/// The suite of agents at an API server, which has a report of its own too.
const CLUSTER: &str = "cluster";

/// Connections of each family that [`BREAKS`] tries by itself.
const CONNECTIONS: usize = 10_000;

/// How long one test program may run before it is ended, in the words of timeout(1).
const LIMIT: &str = "15m";

/// Options of `test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// `unit`, `doc`, or suites of tests/Cargo.toml; all of them by default.
    suites: Vec<String>,
    /// Also what takes long (sets `TORLINE_TEST_FULL=1`).
    #[arg(long)]
    full: bool,
    /// End with one JSON object on stdout; that of `breaks`, `interop` or `cluster` alone has its rows.
    #[arg(long)]
    json: bool,
    /// Connections of each family that `breaks` tries; 1,000 among other suites, 10,000 alone.
    #[arg(long, value_name = "N")]
    connections: Option<usize>,
    /// Write the table of `interop`, alone, to docs/interop.md.
    #[arg(long)]
    write_docs: bool,
}

impl Args {
    /// The suite that is all there is to do and has a report of its own.
    fn alone(&self) -> Option<&str> {
        match self.suites.as_slice() {
            [suite] if [BREAKS, CLUSTER, INTEROP].contains(&suite.as_str()) => Some(suite),
            _ => None,
        }
    }

    fn wants(&self, suite: &str) -> bool {
        self.suites.is_empty() || self.suites.iter().any(|wanted| wanted == suite)
    }
}

/// One row of the summary.
#[derive(Serialize)]
struct Outcome {
    name: String,
    #[serde(flatten)]
    tally: Tally,
    seconds: f64,
}

/// A test program that cargo built.
struct Program {
    suite: String,
    /// Of the target: a library, a binary, or a test.
    name: String,
    path: PathBuf,
    dir: PathBuf,
    needs_root: bool,
}

/// Runs the verb.
///
/// # Errors
/// When set-up or a compiler fails, or a suite does not exist.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if args.write_docs && args.alone() != Some(INTEROP) {
        let message = "--write-docs goes with `cargo xtask test interop`, and no other suite";
        return Err(Environment(message.to_owned()).into());
    }
    let ready = setup::ready(match args.wants(INTEROP) {
        true => Need::Test,
        false => Need::Lab,
    })?;
    let object = build::object(&ready, None)?;
    let agent = build::agent(false, None)?;
    sh::headline("test programs");
    let programs = compile()?;
    let mut suites = vec!["unit".to_owned(), "doc".to_owned()];
    suites.extend(
        programs
            .iter()
            .filter(|p| p.needs_root)
            .map(|p| p.suite.clone()),
    );
    if let Some(unknown) = args.suites.iter().find(|suite| !suites.contains(suite)) {
        let message = format!("no suite `{unknown}`; there are: {}", suites.join(" "));
        return Err(Environment(message).into());
    }
    if let Some(suite) = args.alone() {
        let program = programs.iter().find(|program| program.suite == suite);
        return become_suite(program.context("no program")?, args, &object, &agent);
    }
    suites.retain(|suite| args.wants(suite));

    let mut outcomes = Vec::new();
    for suite in suites {
        sh::headline(&suite);
        let start = Instant::now();
        let mut tally = Tally::default();
        if suite == "doc" {
            let mut cargo = sh::cargo();
            cargo.args(["test", "--doc"]);
            tally.run(&mut cargo)?;
        }
        for program in programs.iter().filter(|program| program.suite == suite) {
            eprintln!("-- {}", program.name);
            let mut command = command(program)?;
            command
                .env("TORLINE_BPF_OBJECT", &object)
                .env("TORLINE_BIN", &agent);
            if let (BREAKS, Some(connections)) = (program.suite.as_str(), args.connections) {
                command.arg(format!("--connections={connections}"));
            }
            if args.full {
                command
                    .env("TORLINE_TEST_FULL", "1")
                    .arg("--include-ignored");
            }
            tally.run(&mut command)?;
        }
        outcomes.push(Outcome {
            name: suite,
            tally,
            seconds: start.elapsed().as_secs_f64(),
        });
    }
    let ok = summarise(&outcomes, args.json)?;
    Ok(if ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Becomes a suite that has a report of its own.
fn become_suite(program: &Program, args: &Args, object: &Path, agent: &Path) -> Result<ExitCode> {
    let mut command = demo::as_root(program.path.as_os_str())?;
    if program.suite == BREAKS {
        let connections = args.connections.unwrap_or(CONNECTIONS);
        command.arg(format!("--connections={connections}"));
    }
    if args.write_docs {
        let root = program.dir.parent().context("no workspace")?;
        command.arg("--write-docs").arg(root.join(INTEROP_DOCUMENT));
    }
    command
        .args(args.json.then_some("--json"))
        .current_dir(&program.dir)
        .env("TORLINE_BPF_OBJECT", object)
        .env("TORLINE_BIN", agent);
    sh::become_program(&mut command)
}

/// Compiles every test and says what came out.
fn compile() -> Result<Vec<Program>> {
    let mut cargo = sh::cargo();
    cargo
        .args([
            "test",
            "--no-run",
            "--all-targets",
            "--message-format=json-render-diagnostics",
        ])
        .stderr(Stdio::inherit());
    let out = cargo.output().context("failed to start cargo")?;
    if !out.status.success() {
        anyhow::bail!("`{}` failed ({})", sh::show(&cargo), out.status);
    }
    let messages = String::from_utf8(out.stdout).context("cargo's messages are not UTF-8")?;
    let mut programs: Vec<_> = messages
        .lines()
        .filter_map(|line| program(&serde_json::from_str(line).ok()?))
        .collect();
    // The programs in the kernel first: what they get wrong, everything above gets wrong too.
    programs.sort_by_key(|program| (program.needs_root, program.suite != "prog"));
    Ok(programs)
}

/// The test program that a message of cargo's is about, if it is about one.
fn program(message: &Value) -> Option<Program> {
    let is_test = message["profile"]["test"].as_bool()?;
    let path = PathBuf::from(message["executable"].as_str()?);
    let dir = Path::new(message["manifest_path"].as_str()?)
        .parent()?
        .to_path_buf();
    let kind = message["target"]["kind"][0].as_str()?;
    let needs_root = kind == "test"
        && message["package_id"]
            .as_str()?
            .contains(&format!("/tests#{ROOT_PACKAGE}@"));
    let name = message["target"]["name"].as_str()?;
    let suite = if needs_root { name } else { "unit" }.to_owned();
    let name = name.to_owned();
    is_test.then_some(Program {
        suite,
        name,
        path,
        dir,
        needs_root,
    })
}

fn command(program: &Program) -> Result<Command> {
    let mut command = if program.needs_root {
        // Not in a group of its own: Ctrl-C reaches the tests, which clean up.
        let mut command = demo::as_root(OsStr::new("timeout"))?;
        command
            .args(["--foreground", "--kill-after=10s", LIMIT])
            .arg(&program.path);
        command.arg("--test-threads=1");
        command
    } else {
        Command::new(&program.path)
    };
    command
        .arg("--show-output")
        .current_dir(&program.dir)
        .env("CARGO_MANIFEST_DIR", &program.dir);
    Ok(command)
}

/// Prints the table and says whether all is well.
fn summarise(outcomes: &[Outcome], json: bool) -> Result<bool> {
    let sum = |count: fn(&Tally) -> usize| outcomes.iter().map(|o| count(&o.tally)).sum::<usize>();
    let (passed, failed) = (sum(|t| t.passed), sum(|t| t.failed.len()));
    let skipped = sum(|t| t.skipped.len());
    sh::headline("summary");
    eprintln!(
        "{:<12} {:>7} {:>7} {:>8} {:>9}",
        "suite", "passed", "failed", "skipped", "seconds"
    );
    for Outcome {
        name,
        tally,
        seconds,
    } in outcomes
    {
        let (failed, skipped) = (tally.failed.len(), tally.skipped.len());
        eprintln!(
            "{name:<12} {:>7} {failed:>7} {skipped:>8} {seconds:>9.1}",
            tally.passed
        );
    }
    let seconds: f64 = outcomes.iter().map(|outcome| outcome.seconds).sum();
    eprintln!(
        "{:<12} {passed:>7} {failed:>7} {skipped:>8} {seconds:>9.1}",
        "all"
    );
    for Outcome { name, tally, .. } in outcomes {
        for test in &tally.failed {
            eprintln!("FAILED {name}: {test}");
        }
        for skip in &tally.skipped {
            eprintln!("SKIPPED {name}: {} ({})", skip.test, skip.reason);
        }
    }
    let left = sum(|t| t.left.len());
    if left > 0 {
        eprintln!("{left} long tests are left to `cargo xtask test --full`");
    }
    let skips_fail = env::var_os("CI").is_some_and(|ci| !ci.is_empty());
    let ok = failed == 0 && (skipped == 0 || !skips_fail);
    if json {
        let result = serde_json::json!({
            "ok": ok, "passed": passed, "failed": failed, "skipped": skipped, "suites": outcomes,
        });
        println!("{}", serde_json::to_string(&result)?);
    }
    Ok(ok)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn artifact(package: &str, kind: &str, test: bool) -> Value {
        json!({
            "reason": "compiler-artifact",
            "package_id": package,
            "manifest_path": "/w/tests/Cargo.toml",
            "target": { "kind": [kind], "name": "prog" },
            "profile": { "test": test },
            "executable": "/w/target/debug/deps/prog-1",
        })
    }

    #[test]
    fn a_test_target_of_the_root_package_is_a_suite_of_its_own() {
        let program = program(&artifact(
            "path+file:///w/tests#lb-tests@0.1.0",
            "test",
            true,
        ))
        .unwrap();
        assert_eq!((program.suite.as_str(), program.needs_root), ("prog", true));
        assert_eq!(program.dir, Path::new("/w/tests"));
    }

    #[test]
    fn tests_beside_their_code_belong_to_unit_and_need_no_root() {
        for (package, kind) in [
            ("path+file:///w/lb-common#0.1.0", "lib"),
            ("path+file:///w/tests#lb-tests@0.1.0", "lib"),
        ] {
            let program = program(&artifact(package, kind, true)).unwrap();
            assert_eq!(
                (program.suite.as_str(), program.needs_root),
                ("unit", false)
            );
        }
    }

    #[test]
    fn what_is_no_test_program_is_left_out() {
        assert!(program(&artifact("path+file:///w/xtask#0.1.0", "bin", false)).is_none());
        assert!(program(&json!({ "reason": "build-finished", "success": true })).is_none());
    }
}
