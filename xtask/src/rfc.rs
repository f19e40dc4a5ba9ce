//! `cargo xtask rfc`: what the RFCs ask, the line that does it, the test that
//! shows it.
//!
//! The checklist (`rfc/checklist.txt`) names a line by its text and a test by its name. This verb finds both,
//! and complains if either is gone, so that the index cannot tell of code that there is not.

use std::fmt::Write;
use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

use crate::{sh, tidy};

const CHECKLIST: &str = include_str!("rfc/checklist.txt");
const DOCUMENT: &str = "docs/rfc.md";
const SOURCES: &str = "lb-userspace/src";
const CASES: &str = "tests/interop/matrix/cases.rs";

/// Options of `rfc`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Write nothing; fail if docs/rfc.md is not what would be written.
    #[arg(long)]
    check: bool,
}

/// Runs the verb.
///
/// # Errors
/// A line or a test is not there, or the document is out of date.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if args.check {
        check()?;
    } else {
        let text = document()?;
        fs::write(sh::root().join(DOCUMENT), text).context(DOCUMENT)?;
        eprintln!("wrote {DOCUMENT}");
    }
    Ok(ExitCode::SUCCESS)
}

/// Compares the document with what would be written.
///
/// # Errors
/// As [`main`].
pub(crate) fn check() -> Result<()> {
    let path = sh::root().join(DOCUMENT);
    let present = fs::read_to_string(path).unwrap_or_default();
    if present != document()? {
        bail!("{DOCUMENT} is out of date: run `cargo xtask rfc`");
    }
    Ok(())
}

fn document() -> Result<String> {
    let sections = parse(CHECKLIST)?;
    let sources = tidy::rust_sources(&sh::root())?;
    let (text, missing) = render(&sections, &sources);
    if !missing.is_empty() {
        bail!("xtask/src/rfc/checklist.txt:\n  {}", missing.join("\n  "));
    }
    Ok(text)
}

#[derive(PartialEq, Eq, Debug)]
struct Section<'a> {
    title: &'a str,
    requirements: Vec<Requirement<'a>>,
}

#[derive(PartialEq, Eq, Debug)]
struct Requirement<'a> {
    id: &'a str,
    specification: &'a str,
    asks: &'a str,
    fate: Fate<'a>,
}

#[derive(PartialEq, Eq, Debug)]
enum Fate<'a> {
    Met {
        file: &'a str,
        line: &'a str,
        tests: Vec<&'a str>,
    },
    LeftOut(&'a str),
}

fn parse(text: &str) -> Result<Vec<Section<'_>>> {
    let mut sections: Vec<Section<'_>> = Vec::new();
    let lines = text.lines().map(str::trim_end);
    let mut lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    while let Some(line) = lines.next() {
        if let Some(title) = line.strip_prefix("== ") {
            sections.push(Section {
                title,
                requirements: Vec::new(),
            });
            continue;
        }
        let malformed = || format!("checklist: `{line}`");
        let (id, rest) = line.split_once("  ").with_context(malformed)?;
        let (specification, asks) = rest.split_once("  ").with_context(malformed)?;
        let fate = fate(&mut lines).with_context(malformed)?;
        let section = sections.last_mut().with_context(malformed)?;
        section.requirements.push(Requirement {
            id,
            specification,
            asks,
            fate,
        });
    }
    Ok(sections)
}

/// What follows the first line of a requirement.
fn fate<'a>(lines: &mut impl Iterator<Item = &'a str>) -> Option<Fate<'a>> {
    let mut next = || lines.next()?.trim_start().split_once(' ');
    match next()? {
        ("out", reason) => Some(Fate::LeftOut(reason.trim_start())),
        ("by", place) => {
            let (file, line) = place.split_once(": ")?;
            let ("test", tests) = next()? else {
                return None;
            };
            Some(Fate::Met {
                file: file.trim_start(),
                line,
                tests: tests.split(',').map(str::trim).collect(),
            })
        }
        _ => None,
    }
}

/// The document, and what could not be found.
fn render(sections: &[Section<'_>], sources: &[(String, String)]) -> (String, Vec<String>) {
    let mut missing = Vec::new();
    let mut body = String::new();
    let mut left_out = String::new();
    let (mut met, mut out) = (0, 0);
    for section in sections {
        // Writing to a string cannot fail, here and below.
        let _ = write!(
            body,
            "\n## {}\n\n| | specification | what it asks | enforced by | shown by |\n|---|---|---|---|---|\n",
            section.title
        );
        for requirement in &section.requirements {
            let Requirement {
                id,
                specification,
                asks,
                fate,
            } = requirement;
            match fate {
                Fate::LeftOut(reason) => {
                    out += 1;
                    let _ = writeln!(left_out, "| {id} | {specification} | {asks} | {reason} |");
                }
                Fate::Met { file, line, tests } => {
                    met += 1;
                    let path = format!("{SOURCES}/{file}");
                    if !has_line(sources, &path, line) {
                        missing.push(format!("{id}: no line of {path} has `{line}`"));
                    }
                    let shown: Vec<_> = tests
                        .iter()
                        .map(|test| match place_of(sources, test) {
                            Some(path) => format!("[`{}`](../{path})", test.replace('_', " ")),
                            None => {
                                missing.push(format!("{id}: no test, or two, by the name {test}"));
                                String::new()
                            }
                        })
                        .collect();
                    let line = line.replace('|', "\\|");
                    let _ = writeln!(
                        body,
                        "| {id} | {specification} | {asks} | [`{file}`](../{path}): `{line}` | {} |",
                        shown.join(", ")
                    );
                }
            }
        }
    }
    let head = format!(
        "# What the RFCs ask, and where it is done\n\nWritten by `cargo xtask rfc` from \
         `xtask/src/rfc/checklist.txt`; do not edit. Of {} requirements for a speaker that only advertises \
         {met} are met, and {out} are left out for a reason.\n\n## Left out\n\n| | specification | what it \
         asks | why not |\n|---|---|---|---|\n{left_out}",
        met + out
    );
    (head + &body, missing)
}

fn has_line(sources: &[(String, String)], path: &str, line: &str) -> bool {
    let source = sources.iter().find(|(found, _)| found == path);
    source.is_some_and(|(_, text)| text.lines().any(|found| found.contains(line)))
}

/// The only file with a test of that name.
fn place_of<'a>(sources: &'a [(String, String)], test: &str) -> Option<&'a str> {
    if let Some(case) = test.strip_prefix("interop:") {
        return has_line(sources, CASES, &format!("name: \"{case}\"")).then_some(CASES);
    }
    let head = format!("fn {test}(");
    let mut places = sources.iter().filter(|(_, text)| is_tested(text, &head));
    let (path, _) = places.next()?;
    places.next().is_none().then_some(path)
}

/// Whether a text has a function that opens like this, with `test` in an attribute above it, or within
/// `proptest!`.
fn is_tested(text: &str, head: &str) -> bool {
    let Some((before, _)) = text.split_once(head) else {
        return false;
    };
    let above = before.rsplit('\n').skip(1);
    let mut attributes = above.take_while(|line| {
        let line = line.trim_start();
        line.starts_with("#[") || line.starts_with("//")
    });
    attributes.any(|line| line.contains("test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "# A comment.\n\n== Header\n\nH1  RFC 1 §2  Something.\n  by    a.rs: let x = 1;\n  \
                        test  it_does, interop:med\nH2  -  More.\n  out   No need.\n";

    fn sources(code: &str, tests: &str) -> Vec<(String, String)> {
        vec![
            (format!("{SOURCES}/a.rs"), code.to_owned()),
            ("tests/b.rs".to_owned(), tests.to_owned()),
            (CASES.to_owned(), "        name: \"med\",\n".to_owned()),
        ]
    }

    #[test]
    fn a_requirement_is_shown_with_its_line_and_its_tests() {
        let sections = parse(LIST).unwrap();
        let test = "/// About it.\n#[tokio::test]\nasync fn it_does() {}\n";
        let (text, missing) = render(&sections, &sources("    let x = 1;\n", test));
        assert_eq!(missing, [""; 0]);
        assert!(text.contains("Of 2 requirements"), "{text}");
        assert!(
            text.contains("`let x = 1;` | [`it does`](../tests/b.rs), [`interop:med`]"),
            "{text}"
        );
        assert!(text.contains("| H2 | - | More. | No need. |"), "{text}");
    }

    #[test]
    fn a_line_or_a_test_that_is_gone_is_said() {
        let sections = parse(LIST).unwrap();
        let (_, missing) = render(&sections, &sources("let x = 2;", "fn it_does() {}"));
        assert_eq!(missing.len(), 2, "{missing:?}");
        assert!(missing[0].contains("let x = 1;") && missing[1].contains("it_does"));
    }

    #[test]
    fn what_is_not_understood_is_quoted() {
        let error = parse("== X\nH1  RFC 1  Something.\n  from  a.rs\n").unwrap_err();
        assert!(error.to_string().contains("H1  RFC 1"), "{error}");
    }
}
