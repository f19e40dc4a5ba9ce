//! Cuts the text of a file into objects.
//!
//! Documents are separated before they are parsed, so that a broken one takes none of its
//! neighbours along, and line numbers are those of the file. `kind: List` is taken apart. JSON is
//! read as the YAML that it is.

use serde_saphyr::{Error, Options};

use super::object::{Kind, UnknownKind};
use super::tree::{Tree, Value};

/// Largest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 16 << 20;

/// An object of a kind that Torline reads, not yet typed.
#[derive(Clone, PartialEq, Debug)]
pub struct Document {
    /// Kind.
    pub kind: Kind,
    /// Its fields, with the lines of the file.
    pub tree: Tree,
}

/// Why a part of a file gave no object.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Flaw {
    /// Line of the file, from 1.
    pub line: u32,
    /// `Kind namespace/name`, as far as it can be told.
    pub object: String,
    /// Path of the field, if it is about one.
    pub field: String,
    /// What is wrong and what to do.
    pub message: String,
}

/// What a file holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Contents {
    /// Objects, in the order of the file.
    pub documents: Vec<Document>,
    /// Parts that gave none.
    pub flaws: Vec<Flaw>,
}

/// Reads the text of a file. Objects of kinds that are nobody's business here are left out.
pub fn read(text: &str) -> Contents {
    let mut contents = Contents::default();
    for part in split(text) {
        match parse(part.text) {
            Ok(mut tree) => {
                tree.shift(part.offset);
                collect(tree, None, &mut contents);
            }
            Err(error) => contents.flaws.push(Flaw {
                line: error
                    .location()
                    .map_or(1, |place| u32::try_from(place.line()).unwrap_or(u32::MAX))
                    .saturating_add(part.offset),
                object: guess_object(part.text),
                field: String::new(),
                message: format!("not valid YAML: {}", describe(&error)),
            }),
        }
    }
    contents
}

struct Part<'a> {
    text: &'a str,
    /// Lines of the file before this part.
    offset: u32,
}

/// The documents of a stream, without those that hold nothing but comments and directives.
fn split(text: &str) -> Vec<Part<'_>> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parts = Vec::new();
    let (mut start, mut offset) = (0, 0);
    let (mut position, mut line) = (0, 0);
    for row in text.split_inclusive('\n') {
        if is_marker(row, "---") || is_marker(row, "...") {
            parts.push((start, position, offset));
            // What follows the marker on its line belongs to the next document.
            (start, offset) = (position + 3, line);
        }
        position += row.len();
        line += 1;
    }
    parts.push((start, position, offset));
    parts
        .into_iter()
        .filter_map(|(start, end, offset)| {
            let text = text.get(start..end)?;
            let empty = text
                .lines()
                .map(str::trim_start)
                .all(|row| row.is_empty() || row.starts_with(['#', '%']));
            (!empty).then_some(Part { text, offset })
        })
        .collect()
}

fn is_marker(row: &str, marker: &str) -> bool {
    row.strip_prefix(marker)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']))
}

/// Parses one document within bounds: nesting, aliases and what they expand to.
fn parse(text: &str) -> Result<Tree, Error> {
    let options: Options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            // A level costs up to 30 kB of stack in a debug build.
            max_depth: 32,
            max_events: 8_000_000,
            max_nodes: 4_000_000,
            max_aliases: 10_000,
            max_anchors: 1_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: 100_000,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options)
}

/// The parser's message without its place, which is relative to the document, and without what it
/// tells programmers.
fn describe(error: &Error) -> String {
    let message = error.to_string();
    let end = [" at line ", ", set "]
        .iter()
        .filter_map(|tail| message.find(tail))
        .min()
        .unwrap_or(message.len());
    let line = message.get(..end).unwrap_or(&message);
    line.lines().next().unwrap_or_default().to_owned()
}

fn collect(tree: Tree, list_kind: Option<(&str, &str)>, contents: &mut Contents) {
    if tree.value == Value::Null {
        return;
    }
    let flaw = |object: String, field: &str, message: String| Flaw {
        line: tree.line_of(field),
        object,
        field: field.to_owned(),
        message,
    };
    if !matches!(tree.value, Value::Map(_)) {
        let message = "not a Kubernetes object: expected a map with apiVersion, kind, metadata";
        contents
            .flaws
            .push(flaw(String::new(), "", message.to_owned()));
        return;
    }
    let text = |key| tree.get(key).and_then(Tree::as_str);
    let api_version = text("apiVersion").or(list_kind.map(|(version, _)| version));
    let kind = text("kind").or(list_kind.map(|(_, kind)| kind));
    let object = object_name(kind.unwrap_or_default(), &tree);
    let (Some(api_version), Some(kind)) = (api_version, kind) else {
        let field = if api_version.is_none() {
            "apiVersion"
        } else {
            "kind"
        };
        contents
            .flaws
            .push(flaw(object, field, "is required".to_owned()));
        return;
    };
    if let (Some(item_kind), Some(Value::List(_))) = (
        kind.strip_suffix("List"),
        tree.get("items").map(|items| &items.value),
    ) {
        let (api_version, item_kind) = (api_version.to_owned(), item_kind.to_owned());
        // A bare `List` names the kind on each item.
        let inherited = (!item_kind.is_empty()).then_some((&*api_version, &*item_kind));
        for item in take_items(tree) {
            collect(item, inherited, contents);
        }
        return;
    }
    let kind = match Kind::of(api_version, kind) {
        Ok(kind) => kind,
        Err(UnknownKind::Foreign) => return,
        Err(UnknownKind::Refused(message)) => {
            contents.flaws.push(flaw(object, "apiVersion", message));
            return;
        }
    };
    let name = tree
        .get("metadata")
        .and_then(|metadata| metadata.get("name"))
        .and_then(Tree::as_str)
        .unwrap_or_default();
    if let Err(message) = check_name(name) {
        contents.flaws.push(flaw(object, "metadata.name", message));
        return;
    }
    contents.documents.push(Document { kind, tree });
}

fn take_items(tree: Tree) -> Vec<Tree> {
    let Value::Map(entries) = tree.value else {
        return Vec::new();
    };
    entries
        .into_iter()
        .find(|entry| entry.key == "items")
        .map(|entry| match entry.value.value {
            Value::List(items) => items,
            _ => Vec::new(),
        })
        .unwrap_or_default()
}

/// A DNS subdomain (RFC 1123), which every kind here wants; it is safe to print.
fn check_name(name: &str) -> Result<(), String> {
    if name.is_empty() {
        return Err("missing name".to_owned());
    }
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    if name.len() > 253 || !name.chars().all(allowed) {
        return Err(
            "not a name: want at most 253 lower-case letters, digits, '-' and '.'".to_owned(),
        );
    }
    Ok(())
}

fn object_name(kind: &str, tree: &Tree) -> String {
    let metadata = |key| {
        tree.get("metadata")
            .and_then(|metadata| metadata.get(key))
            .and_then(Tree::as_str)
    };
    join(kind, metadata("namespace"), metadata("name"))
}

fn join(kind: &str, namespace: Option<&str>, name: Option<&str>) -> String {
    match (namespace, name) {
        (_, None) => kind.to_owned(),
        (None, Some(name)) => format!("{kind} {name}"),
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
    }
}

/// What the object of a document that cannot be parsed seems to be, from the usual places.
fn guess_object(text: &str) -> String {
    let find = |prefix: &str| {
        text.lines()
            .filter_map(|row| row.strip_prefix(prefix))
            .map(|value| value.trim().trim_matches(['"', '\'']))
            .find(|value| !value.is_empty() && value.is_ascii() && value.len() <= 253)
    };
    find("kind:").map_or_else(String::new, |kind| {
        join(kind, find("  namespace:"), find("  name:"))
    })
}

#[cfg(test)]
mod tests;
