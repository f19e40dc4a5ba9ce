//! What the README tells a reader to type, typed: its section on namespaces.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use harness::agent;
use harness::machine;

const SECTION: &str = "### By hand, in namespaces\n";

/// What the README's client has as addresses.
const CLIENT: [&str; 2] = ["198.51.100.7", "2001:db8:7::7"];

/// Namespaces by the README's names, seen by nobody else.
const BEFORE: &str = "set -e
mkdir -p /run/netns
mount -t tmpfs none /run/netns
";

/// What a reader does meanwhile.
const WAIT: &str = "
until for x in a b; do
  $TORLINE status --json --socket /tmp/node-$x.sock 2> /dev/null | grep -q established || false
done; do sleep 0.1; done
hops() { ip -n tor $1 route show proto bird | grep -c 'nexthop via'; }
until [ $(hops -4) = 8 ] && [ $(hops -6) = 4 ]; do sleep 0.1; done
for x in a b; do
  until [ $(ip netns exec pod-$x ss -Hltun | grep -cE ':(8080|8443|5353) ') = 3 ]; do sleep 0.1; done
done
$TORLINE status --json --socket /tmp/node-a.sock
";

/// The shell blocks of the section.
fn blocks() -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let readme = fs::read_to_string(root.join("README.md")).unwrap();
    let (_, section) = readme.split_once(SECTION).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1);
    blocks
        .map(|rest| rest.split("```").next().unwrap().to_owned())
        .collect()
}

/// The blocks in a row, asking only once the agents are up; `torline` is the one under test, and files go
/// to `dir`.
fn script(blocks: &[String], dir: &Path) -> String {
    let mut script = BEFORE.to_owned();
    for block in blocks {
        script.push_str(block);
        if block.contains("torline run") {
            script.push_str(WAIT);
        }
    }
    script
        .replace("target/release/torline", "$TORLINE")
        .replace("/tmp/", &format!("{}/", dir.display()))
}

#[test]
fn every_service_answers_a_reader_who_types_what_the_readme_says() {
    if !machine::can_test_with(&[("curl", "curl"), ("python3", "python3")]) {
        return;
    }
    let blocks = blocks();
    let dir = tempfile::tempdir().unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    // Whatever the script starts ends with it, and its namespaces are in no other file system.
    let output = Command::new("timeout")
        .args(["--kill-after=5", "60"])
        .args(["unshare", "--net", "--mount", "--pid", "--mount-proc"])
        .args([
            "--fork",
            "--kill-child",
            "bash",
            "-c",
            &script(&blocks, dir.path()),
        ])
        .env("TORLINE", agent::binary().unwrap())
        .current_dir(root)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{log}");

    let status = said.lines().find(|line| line.starts_with('{')).unwrap();
    let status: agent::Status = serde_json::from_str(status).unwrap();
    let asked: BTreeSet<_> = status
        .frontends
        .iter()
        .map(|frontend| match frontend.name.strip_suffix("/udp") {
            Some(name) => format!("/dev/udp/{}", name.replacen(':', "/", 1)),
            None => format!("http://{}/", frontend.name.trim_end_matches("/tcp")),
        })
        .collect();
    assert_eq!(asked.len(), 7, "{asked:?}");
    for address in &asked {
        let is_asked = blocks.iter().any(|block| block.contains(address));
        assert!(is_asked, "the README asks nobody at {address}");
    }
    let answers: Vec<_> = said.lines().filter(|line| line.contains(" saw ")).collect();
    let are_kept = answers
        .iter()
        .all(|answer| CLIENT.iter().any(|client| answer.ends_with(client)));
    assert!(answers.len() == asked.len() && are_kept, "{said}{log}");
}
