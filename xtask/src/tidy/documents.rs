//! Documents that a command writes are there, and say which.

use super::{Finding, Source};

/// Documents, and the words by which each names its command.
const WRITTEN: &[(&str, &str)] = &[
    (
        "docs/interop.md",
        "Written by `cargo xtask test interop --write-docs`",
    ),
    ("docs/rfc.md", "Written by `cargo xtask rfc`"),
];

/// Looks for every document.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    WRITTEN
        .iter()
        .filter_map(|(path, mark)| one(sources, path, mark))
        .collect()
}

fn one(sources: &[Source], path: &str, mark: &str) -> Option<Finding> {
    let finding = |line, message: &str| Finding {
        path: path.to_owned(),
        line,
        message: format!("{message}: {mark}"),
    };
    let Some(source) = sources.iter().find(|source| source.path == path) else {
        return Some(finding(1, "it is not there"));
    };
    (!source.text.contains(mark)).then(|| finding(1, "it does not say"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_no_command_wrote_is_found() {
        let (path, mark) = WRITTEN[0];
        assert_eq!(check(&[]).len(), WRITTEN.len());
        assert!(one(&[Source::new(path, "# By hand")], path, mark).is_some());
        assert!(one(&[Source::new(path, mark)], path, mark).is_none());
    }
}
