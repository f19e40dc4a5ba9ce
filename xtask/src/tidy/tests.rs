//! Every rule catches what it is there for, and lets the ordinary pass.

use super::*;

fn lib(table: &str, modules: &str) -> Source {
    let doc: String = table.lines().map(|row| format!("//! {row}\n")).collect();
    let text =
        format!("//! Layers.\n//!\n//! ```text\n//! layer  may use\n{doc}//! ```\n\n{modules}");
    Source::new("lb-userspace/src/lib.rs", &text)
}

fn agent() -> Source {
    lib(
        "model -\nplan model\ntasks model plan",
        "pub mod model;\npub mod plan;\npub mod tasks;\n",
    )
}

fn messages(findings: &[Finding]) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn an_edge_that_the_table_lacks_is_found_wherever_it_is_written() {
    for (text, line) in [
        ("//! x\nuse crate::plan::Step;\n", 2),
        (
            "//! x\nuse crate::{\n    model::Vip,\n    plan::{self, Step},\n};\n",
            4,
        ),
        ("//! x\nfn f() -> crate::plan::Step {}\n", 2),
        ("//! x\npub(crate) use crate::{plan};\n", 2),
    ] {
        let findings = layers::check(&[agent(), Source::new("lb-userspace/src/model/x.rs", text)]);
        assert_eq!(
            messages(&findings),
            [format!(
                "lb-userspace/src/model/x.rs:{line}: layer `model` may not use `plan` \
                 (table in lb-userspace/src/lib.rs)"
            )]
        );
    }
}

#[test]
fn edges_of_the_table_and_words_in_comments_pass() {
    let plan = "//! x\nuse crate::{model::Vip, plan::maglev};\n// crate::tasks\nconst A: &str = \"crate::tasks\";\n";
    let main = "//! x\nuse crate::tasks;\n";
    let sources = [
        agent(),
        Source::new("lb-userspace/src/plan.rs", plan),
        Source::new("lb-userspace/src/main.rs", main),
    ];
    assert_eq!(messages(&layers::check(&sources)), [""; 0]);
}

#[test]
fn the_table_and_the_modules_are_compared_both_ways() {
    let findings = layers::check(&[lib(
        "model -\nghost model",
        "pub mod model;\npub mod plan;\n",
    )]);
    let found = messages(&findings).join("\n");
    assert!(
        found.contains("module `plan` is not in the layer table"),
        "{found}"
    );
    assert!(found.contains("names `ghost`"), "{found}");
}

#[test]
fn climbing_out_of_a_layer_is_refused() {
    let source = Source::new(
        "lb-userspace/src/plan/a.rs",
        "//! x\nuse super::super::tasks::T;\n",
    );
    assert_eq!(layers::check(&[agent(), source]).len(), 1);
}

#[test]
fn a_crate_outside_its_fence_is_found() {
    let text = "//! x\nuse aya::Ebpf;\nuse tokio::{net::TcpStream, sync};\nuse anyhow;\n";
    let findings = fences::check(&[Source::new("lb-userspace/src/plan/a.rs", text)]);
    let lines: Vec<_> = findings.iter().map(|finding| finding.line).collect();
    assert_eq!(lines, [2, 3, 4], "{:?}", messages(&findings));
}

#[test]
fn a_crate_inside_its_fence_passes_and_so_do_names_that_only_look_alike() {
    let inside = Source::new("lb-userspace/src/datapath.rs", "//! x\nuse aya::Ebpf;\n");
    let below = Source::new(
        "lb-userspace/src/datapath/maps.rs",
        "//! x\nuse aya::maps;\n",
    );
    let alike = "//! x\nuse lb_common::aya::X;\nuse aya_log::Y;\nlet aya = 1;\n";
    let alike = Source::new("lb-userspace/src/plan.rs", alike);
    assert_eq!(messages(&fences::check(&[inside, below, alike])), [""; 0]);
    let beside = Source::new(
        "lb-userspace/src/datapath_two.rs",
        "//! x\nuse aya::Ebpf;\n",
    );
    assert_eq!(
        fences::check(&[beside]).len(),
        1,
        "a prefix of the name is not the layer"
    );
}

#[test]
fn a_file_says_what_it_is_in_one_short_line() {
    let long = format!("//! {}\n", "x".repeat(80));
    for text in ["use std::fmt;\n", "// x\n", &long, ""] {
        assert_eq!(
            files::check(&[Source::new("a/b.rs", text)]).len(),
            1,
            "{text:?}"
        );
    }
    assert!(files::check(&[Source::new("a/b.rs", "//! Short.\n")]).is_empty());
}

#[test]
fn files_are_short_and_named_by_what_they_are() {
    let long = "//! x\n".to_owned() + &"fn f() {}\n".repeat(700);
    for (path, text) in [
        ("a/b.rs", long.as_str()),
        ("a/mod.rs", "//! x\n"),
        ("a/utils.rs", "//! x\n"),
        ("a/net_util.rs", "//! x\n"),
    ] {
        assert_eq!(files::check(&[Source::new(path, text)]).len(), 1, "{path}");
    }
}

#[test]
fn tests_do_not_sleep() {
    let sleep = "//! x\nfn f() { std::thread::sleep(d); }\n";
    let inline = "//! x\n#[cfg(test)]\nmod tests {\n    tokio::time::sleep(d).await;\n}\n";
    for (path, text, findings) in [
        ("tests/netns/arp.rs", sleep, 1),
        ("a/foo/tests.rs", sleep, 1),
        ("a/foo.rs", inline, 1),
        ("a/foo.rs", sleep, 0),
        ("tests/harness/wait.rs", sleep, 0),
    ] {
        assert_eq!(
            files::check(&[Source::new(path, text)]).len(),
            findings,
            "{path}"
        );
    }
}

#[test]
fn unsafe_files_and_their_list_are_compared_both_ways() {
    let open = "//! x\n#![expect(unsafe_code, reason = \"mmap\")]\nunsafe { f() }\n";
    let sources = [
        Source::new("a/listed.rs", open),
        Source::new("a/bare.rs", "//! x\nunsafe { f() }\n"),
        Source::new("a/safe.rs", "//! x\n#![forbid(unsafe_code)]\n// unsafe\n"),
        Source::new("a/stale.rs", "//! x\n"),
        Source::new("a/surprise.rs", "//! x\nunsafe impl Pod for X {}\n"),
    ];
    let list = ["a/listed.rs", "a/bare.rs", "a/stale.rs", "a/gone.rs"];
    let findings = unsafe_code::compare(&sources, &list);
    let paths: Vec<_> = findings
        .iter()
        .map(|finding| finding.path.as_str())
        .collect();
    assert_eq!(
        paths,
        ["a/bare.rs", "a/stale.rs", "a/surprise.rs", "a/gone.rs"]
    );
}

#[test]
fn documents_name_verbs_that_exist() {
    let verbs = ["demo".to_owned(), "test".to_owned()];
    let text = "Run `cargo xtask demo`, then\n    cargo xtask polish --all\nAll of `cargo xtask` …, cargo xtask --help\n";
    let findings = commands::check(&[Source::new("README.md", text)], &verbs);
    assert_eq!(
        messages(&findings),
        ["README.md:2: `cargo xtask polish` does not exist"]
    );
}

#[test]
fn ci_runs_verbs_only() {
    let verbs = ["test".to_owned()];
    let text = "#!/bin/sh\nset -eu\ncargo xtask test\ncargo clippy\n";
    let findings = commands::check(&[Source::new(".ci/run", text)], &verbs);
    assert_eq!(
        messages(&findings),
        [".ci/run:4: CI runs `cargo xtask` verbs and nothing else"]
    );
}

#[test]
fn what_is_no_code_is_blanked_and_all_else_keeps_its_place() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b /* c */ d */ e", "a                   e"),
        (r#"f("a\"b", x)"#, "f(      , x)"),
        (r##"f(r#"a"b"#, x)"##, "f(        , x)"),
        (r"'\'' 'a' 'static b'x'", "         'static b   "),
        ("for\"x\"", "for   "),
    ] {
        assert_eq!(code::only(text), code, "{text}");
    }
}
