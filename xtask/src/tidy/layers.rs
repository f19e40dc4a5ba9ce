//! Which module of the agent may use which.
//!
//! The table in `lb-userspace/src/lib.rs` is the rule.

use std::collections::BTreeMap;

use super::{Finding, Source};

const CRATE: &str = "lb-userspace/src/";

/// What each layer may use.
type Table<'a> = BTreeMap<&'a str, Vec<&'a str>>;

/// Rejects every `crate::<layer>` that the table does not allow, and a table that is not about the modules
/// there are.
pub(crate) fn check(sources: &[Source]) -> Vec<Finding> {
    let Some(root) = sources.iter().find(|s| s.path == format!("{CRATE}lib.rs")) else {
        return Vec::new();
    };
    let table = table(&root.text);
    let mut findings = about_the_table(root, &table);
    for source in sources {
        let Some(layer) = layer_of(&source.path) else {
            continue;
        };
        for (line, used) in uses(&source.code) {
            let allowed = table
                .get(layer)
                .is_some_and(|allowed| allowed.contains(&used));
            if used != layer && table.contains_key(used) && !allowed {
                let message =
                    format!("layer `{layer}` may not use `{used}` (table in {CRATE}lib.rs)");
                findings.push(source.finding(line, message));
            }
        }
        for (line, _) in source
            .lines()
            .filter(|(_, text)| text.contains("super::super"))
        {
            findings.push(source.finding(line, "write `crate::…`: `super::super` hides the layer"));
        }
    }
    findings
}

/// Reads the block that begins with `layer  may use`.
fn table(text: &str) -> Table<'_> {
    let doc = text.lines().map_while(|line| line.strip_prefix("//!"));
    let rows = doc
        .skip_while(|line| !line.trim_start().starts_with("layer "))
        .skip(1);
    rows.map(str::trim)
        .take_while(|line| !line.starts_with("```"))
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?, words.filter(|word| *word != "-").collect()))
        })
        .collect()
}

fn about_the_table(root: &Source, table: &Table<'_>) -> Vec<Finding> {
    let modules: Vec<_> = root
        .lines()
        .filter_map(|(line, text)| {
            let text = text.trim().strip_prefix("pub ").unwrap_or(text.trim());
            Some((line, text.strip_prefix("mod ")?.strip_suffix(';')?))
        })
        .collect();
    let mut findings = Vec::new();
    for (line, module) in &modules {
        if !table.contains_key(module) {
            findings.push(root.finding(
                *line,
                format!("module `{module}` is not in the layer table"),
            ));
        }
    }
    for name in table.keys().chain(table.values().flatten()) {
        if !modules.iter().any(|(_, module)| module == name) {
            findings.push(root.finding(
                1,
                format!("the layer table names `{name}`, which is no module"),
            ));
        }
    }
    findings
}

/// The layer a file belongs to; `lib.rs` and `main.rs` belong to none.
fn layer_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix(CRATE)?;
    let first = inside.split('/').next()?;
    let layer = first.strip_suffix(".rs").unwrap_or(first);
    (layer != "lib" && layer != "main").then_some(layer)
}

/// Every first segment behind `crate::`, with its line; `crate::{a, b::c}` has two.
fn uses(code: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let line = code[..at].matches('\n').count() + 1;
        let after = &code[at + path.len()..];
        match after.strip_prefix('{') {
            None => found.extend(word(after).map(|word| (line, word))),
            Some(group) => found.extend(members(group).map(|(lines, word)| (line + lines, word))),
        }
    }
    found
}

/// The first segments in a group, up to the brace that closes it, each with the line breaks before it.
fn members(group: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut depth = 1;
    let mut starts = vec![0];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 1 => starts.push(at + 1),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    starts.into_iter().filter_map(move |start| {
        let member = group[start..].trim_start();
        let lines = group[..group.len() - member.len()].matches('\n').count();
        word(member).map(|word| (lines, word))
    })
}

fn word(text: &str) -> Option<&str> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    (end > 0).then(|| &text[..end])
}
