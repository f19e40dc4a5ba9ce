//! The files that may contain `unsafe`, and no others.

use super::{Finding, Source};

/// Each wraps one thing that Rust cannot check, and exports only what is safe to call.
const FILES: &[&str] = &[
    "lb-ebpf/src/frame.rs",
    "lb-ebpf/src/kernel.rs",
    "lb-ebpf/src/maps.rs",
    "lb-userspace/src/datapath/pod.rs",
    "lb-userspace/src/datapath/batch.rs",
    "lb-userspace/src/datapath/slots.rs",
    "lb-userspace/src/net/tcp_md5.rs",
    "lb-userspace/src/net/ttl_security.rs",
    "tests/harness/pass.rs",
    "tests/harness/program.rs",
];

/// The attribute that opens such a file.
const EXPECTATION: &str = "#![expect(unsafe_code,";

/// Compares both ways: what is unsafe is listed, and what is listed is unsafe.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    compare(sources, FILES)
}

pub(super) fn compare(sources: &[Source], list: &[&str]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for source in sources {
        let is_listed = list.contains(&source.path.as_str());
        let first = source.lines().find(|(_, text)| has_word(text, "unsafe"));
        match (first, is_listed) {
            (Some((line, _)), false) => {
                findings.push(source.finding(line, "unsafe in a file that is not listed for it"));
            }
            (None, true) => findings.push(source.finding(1, "listed as unsafe, but contains none")),
            (Some(_), true) if !squeezed(&source.code).contains(&squeezed(EXPECTATION)) => {
                findings.push(source.finding(1, format!("lacks `{EXPECTATION} reason = …)]`")));
            }
            (Some(_), true) | (None, false) => {}
        }
    }
    for path in list
        .iter()
        .filter(|path| !sources.iter().any(|source| source.path == **path))
    {
        let message = "listed as unsafe, but there is no such file".to_owned();
        findings.push(Finding {
            path: (*path).to_owned(),
            line: 1,
            message,
        });
    }
    findings
}

fn has_word(text: &str, word: &str) -> bool {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .any(|found| found == word)
}

fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}
