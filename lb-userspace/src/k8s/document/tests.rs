//! Splitting, lines, lists, and hostile input.

use proptest::prelude::*;

use super::*;
use crate::k8s::object::Object;

const THREE: &str = "\
# a comment
apiVersion: v1
kind: Namespace
metadata:
  name: first
---
apiVersion: v1
kind: Namespace
metadata:
  name: [broken
---
# another
apiVersion: v1
kind: Namespace
metadata:
  name: third
  labels:
    a: 1
...
---
";

#[test]
fn a_broken_document_takes_no_other_along_and_lines_are_those_of_the_file() {
    let contents = read(THREE);
    assert_eq!(contents.documents.len(), 2);
    let third = &contents.documents[1].tree;
    assert_eq!(third.line_of("metadata.name"), 16);
    assert_eq!(third.line_of("metadata.labels.a"), 18);
    assert_eq!(third.line_of("metadata.labels.missing"), 17);
    let error = Object::read(Kind::Namespace, third).unwrap_err();
    assert_eq!((error.line, error.path.as_str()), (18, "metadata.labels.a"));
    let [flaw] = &contents.flaws[..] else {
        panic!("{:?}", contents.flaws)
    };
    assert!((7..=11).contains(&flaw.line), "{flaw:?}");
    assert_eq!(flaw.object, "Namespace [broken");
    assert!(flaw.message.starts_with("not valid YAML: "), "{flaw:?}");
    assert!(!flaw.message.contains("line"), "{flaw:?}");
}

#[test]
fn lists_are_taken_apart() {
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata: {name: a}\n\
                - apiVersion: v1\n  kind: ConfigMap\n  metadata: {name: b}\n";
    let contents = read(list);
    assert_eq!((contents.documents.len(), contents.flaws.len()), (1, 0));
    assert_eq!(contents.documents[0].tree.line, 4);
    let typed = "{\"apiVersion\": \"v1\", \"kind\": \"NodeList\",\n\t\"items\": [{\"metadata\": {\"name\": \"a\"}}]}";
    let contents = read(typed);
    assert_eq!(contents.flaws, []);
    assert_eq!(contents.documents[0].kind, Kind::Node);
}

#[test]
fn what_is_no_object_says_what_it_lacks() {
    for (text, line, field, message) in [
        ("- a\n", 1, "", "not a Kubernetes object"),
        ("kind: Node\n", 1, "apiVersion", "is required"),
        ("apiVersion: v1\n", 1, "kind", "is required"),
        (
            "apiVersion: v1\nkind: Node\n",
            1,
            "metadata.name",
            "missing name",
        ),
        (
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: \"a\\e[2J\"\n",
            4,
            "metadata.name",
            "not a name",
        ),
        (
            "apiVersion: metallb.io/v1beta1\nkind: IPAddresPool\nmetadata: {name: a}\n",
            1,
            "apiVersion",
            "no such kind",
        ),
        (
            "apiVersion: metallb.io/v1alpha1\nkind: BGPPeer\nmetadata: {name: a}\n",
            1,
            "apiVersion",
            "is read as metallb.io/v1beta2",
        ),
        (
            "apiVersion: v1\nkind: Node\nkind: Node\n",
            3,
            "",
            "not valid YAML",
        ),
    ] {
        let contents = read(text);
        let [flaw] = &contents.flaws[..] else {
            panic!("{text}: {:?}", contents.flaws)
        };
        assert_eq!((flaw.line, flaw.field.as_str()), (line, field), "{flaw:?}");
        assert!(flaw.message.contains(message), "{flaw:?}");
    }
    for text in [
        "",
        "---\n# nothing\n---\n",
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n",
    ] {
        assert_eq!(read(text), Contents::default(), "{text}");
    }
}

#[test]
fn bombs_are_refused() {
    let deep = format!("a: {}{}", "[".repeat(10_000), "]".repeat(10_000));
    let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..12 {
        let refs = vec![format!("*a{}", n - 1); 10].join(", ");
        laughs.push_str(&format!("a{n}: &a{n} [{refs}]\n"));
    }
    let nested = "- ".repeat(5_000);
    // Half of what a thread has by default: the deepest nesting allowed must leave room.
    let thread = std::thread::Builder::new().stack_size(1 << 20);
    let flaws = move || [deep, laughs, nested].map(|text| read(&text).flaws.len());
    assert_eq!(thread.spawn(flaws).unwrap().join().unwrap(), [1, 1, 1]);
}

const GOOD: &str = include_str!("../../../../deploy/examples/dir/bgp.yaml");

fn convert_all(text: &str) {
    for document in read(text).documents {
        if let Ok(object) = Object::read(document.kind, &document.tree) {
            crate::k8s::convert::convert(&object, &Default::default());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,200}|[-:{}\\[\\]&*!|>'\"%@a-c \n\t]{0,200}") {
        convert_all(&text);
    }

    #[test]
    fn a_mutated_file_is_read_without_a_panic(
        edits in prop::collection::vec((0..GOOD.len(), 0..12_usize, "[-:{}\\[\\]&*#0-9a. \n\"]{0,6}"), 1..4)
    ) {
        let mut bytes = GOOD.as_bytes().to_vec();
        for (at, length, text) in edits {
            let at = at.min(bytes.len());
            let end = (at + length).min(bytes.len());
            bytes.splice(at..end, text.bytes());
        }
        convert_all(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn every_field_of_a_tree_has_a_line_of_the_file(path in "[a-z.\\[\\]0-9]{0,30}") {
        for document in read(GOOD).documents {
            let line = document.tree.line_of(&path) as usize;
            prop_assert!(line >= 1 && line <= GOOD.lines().count());
        }
    }
}
