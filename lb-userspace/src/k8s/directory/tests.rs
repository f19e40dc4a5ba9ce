//! Whole directories: the example, edits, breakage, and size.

use std::os::unix::fs::{PermissionsExt, symlink};

use super::*;
use crate::k8s::state::ServiceRecord;
use crate::k8s::state::State;
use crate::model::name::ObjectName;

fn open(path: &Path) -> Directory {
    Directory::open(path, Settings::default()).unwrap()
}

fn node(name: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n\
         status: {{addresses: [{{type: InternalIP, address: 192.0.2.1}}]}}\n"
    )
}

fn nodes(snapshot: &Snapshot) -> Vec<&str> {
    snapshot.cluster.nodes.keys().map(String::as_str).collect()
}

fn write(directory: &Path, name: &str, text: &str) {
    fs::write(directory.join(name), text).unwrap();
}

#[test]
fn the_example_directory_has_no_findings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/dir");
    let snapshot = open(&path).read();
    assert_eq!(snapshot.findings, []);
    let cluster = snapshot.cluster;
    assert_eq!((cluster.services.len(), cluster.nodes.len()), (5, 2));
    assert_eq!((cluster.pools.len(), cluster.peers.len()), (1, 1));
    assert_eq!(
        (
            cluster.bgp_advertisements.len(),
            cluster.l2_advertisements.len()
        ),
        (1, 1)
    );
    let portal = ObjectName::new("default", "portal");
    assert_eq!(cluster.services[&portal].families.len(), 2);
    assert_eq!(cluster.endpoints[&portal].len(), 4);
}

#[test]
fn edits_additions_and_deletions_are_seen() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut source = open(path);
    assert_eq!(source.read(), Snapshot::default());
    write(path, "a.yaml", &node("a"));
    write(
        path,
        "b.json",
        "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"x\"}}",
    );
    write(path, ".hidden.yaml", &node("hidden"));
    write(path, "notes.txt", &node("text"));
    fs::create_dir(path.join("sub.yaml")).unwrap();
    let snapshot = source.read();
    assert_eq!((nodes(&snapshot), snapshot.findings.len()), (vec!["a"], 0));
    assert!(snapshot.cluster.namespaces.contains_key("x"));
    write(path, "a.yaml", &format!("{}---\n{}", node("b"), node("c")));
    assert_eq!(nodes(&source.read()), ["b", "c"]);
    fs::rename(path.join("a.yaml"), path.join("z.yaml")).unwrap();
    assert_eq!(nodes(&source.read()), ["b", "c"]);
    fs::remove_file(path.join("z.yaml")).unwrap();
    assert!(nodes(&source.read()).is_empty());
}

#[test]
fn a_half_written_file_keeps_what_it_no_longer_shows() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut source = open(path);
    let whole = format!("{}---\n{}", node("a"), node("b"));
    write(path, "a.yaml", &whole);
    source.read();
    write(path, "a.yaml", &whole[..whole.len() - 30]);
    let snapshot = source.read();
    assert_eq!(nodes(&snapshot), ["a", "b"]);
    let [finding] = &snapshot.findings[..] else {
        panic!("{:?}", snapshot.findings)
    };
    assert_eq!(finding.object, "Node");
    let prefix = format!("{}:", path.join("a.yaml").display());
    let line: usize = finding
        .source
        .strip_prefix(&prefix)
        .unwrap()
        .parse()
        .unwrap();
    assert!((6..=9).contains(&line), "{finding}");
    write(path, "a.yaml", &node("a"));
    assert_eq!(nodes(&source.read()), ["a"]);
}

#[test]
fn a_finding_names_file_line_object_and_field() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let pool = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata:\n  name: p\nspec:\n  \
                addresses:\n  - 10.0.0.0/24\n  - 10.0.0.5\n  autoAsign: true\n";
    write(path, "p.yaml", &format!("{}---\n{pool}", node("a")));
    let mut source = open(path);
    let finding = source.read().findings.remove(0);
    let file = path.join("p.yaml").display().to_string();
    assert_eq!(finding.source, format!("{file}:14"));
    assert_eq!(
        (finding.object.as_str(), finding.field.as_str()),
        ("IPAddressPool p", "spec.autoAsign")
    );
    write(
        path,
        "p.yaml",
        &format!(
            "{}---\n{}",
            node("a"),
            pool.replace("  autoAsign: true\n", "")
        ),
    );
    let finding = source.read().findings.remove(0);
    assert_eq!(finding.source, format!("{file}:13"));
    assert_eq!(finding.field, "spec.addresses[1]");
}

#[test]
fn an_object_twice_in_one_file_is_told_and_the_first_counts() {
    let directory = tempfile::tempdir().unwrap();
    let second = node("a").replace("192.0.2.1", "192.0.2.2");
    write(
        directory.path(),
        "a.yaml",
        &format!("{}---\n{second}", node("a")),
    );
    let snapshot = open(directory.path()).read();
    assert_eq!(
        snapshot.cluster.nodes["a"].addresses[0].to_string(),
        "192.0.2.1"
    );
    assert!(snapshot.findings[0].message.contains("a.yaml:1 counts"));
}

#[test]
fn what_cannot_be_read_keeps_its_objects() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("source");
    fs::create_dir(&path).unwrap();
    write(&path, "a.yaml", &node("a"));
    let mut source = open(&path);
    source.read();

    fs::write(path.join("a.yaml"), b"\xff\xfe").unwrap();
    let snapshot = source.read();
    assert_eq!(nodes(&snapshot), ["a"]);
    assert!(snapshot.findings[0].message.contains("not UTF-8"));

    let large = File::create(path.join("a.yaml")).unwrap();
    large.set_len(MAX_FILE_BYTES + 1).unwrap();
    assert!(
        source.read().findings[0]
            .message
            .contains("larger than 16 MiB")
    );

    fs::rename(&path, directory.path().join("away")).unwrap();
    let snapshot = source.read();
    assert_eq!(nodes(&snapshot), ["a"]);
    assert!(
        snapshot
            .findings
            .iter()
            .any(|f| f.message.contains("the directory cannot be read"))
    );

    fs::create_dir(&path).unwrap();
    write(&path, "b.yaml", &node("b"));
    let snapshot = source.read();
    assert_eq!((nodes(&snapshot), snapshot.findings.len()), (vec!["b"], 0));
    assert!(Directory::open(&path.join("b.yaml"), Settings::default()).is_err());
}

#[test]
fn a_mounted_config_map_is_followed_through_its_links() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    for (version, name) in [("..1", "a"), ("..2", "b")] {
        fs::create_dir(path.join(version)).unwrap();
        write(&path.join(version), "node.yaml", &node(name));
    }
    symlink("..1", path.join("..data")).unwrap();
    symlink("..data/node.yaml", path.join("node.yaml")).unwrap();
    let mut source = open(path);
    assert_eq!(nodes(&source.read()), ["a"]);
    symlink("..2", path.join("..data_tmp")).unwrap();
    fs::rename(path.join("..data_tmp"), path.join("..data")).unwrap();
    assert_eq!(nodes(&source.read()), ["b"]);
    fs::remove_file(path.join("..data")).unwrap();
    let snapshot = source.read();
    assert_eq!((nodes(&snapshot), snapshot.findings.len()), (vec!["b"], 1));
}

#[test]
fn the_state_file_gives_services_their_addresses() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    write(
        path,
        "web.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {type: LoadBalancer, ports: [{port: 80}]}\n\
         status: {loadBalancer: {ingress: [{ip: 203.0.113.1}]}}\n",
    );
    let mut source = open(path);
    let web = ObjectName::new("default", "web");
    let addresses =
        |snapshot: &Snapshot| snapshot.cluster.services[&web].status_addresses[0].to_string();
    assert_eq!(addresses(&source.read()), "203.0.113.1");
    let record = ServiceRecord {
        addresses: vec!["203.0.113.9".parse().unwrap()],
        pool: Some("public".to_owned()),
        table_length: Some(512),
    };
    let state = State {
        services: [(web.clone(), record)].into(),
    };
    source.state_file().write(&state).unwrap();
    let snapshot = source.read();
    assert_eq!(addresses(&snapshot), "203.0.113.9");
    assert_eq!(snapshot.cluster.services[&web].table_length, Some(512));
    fs::write(source.state_file().path(), "broken: [").unwrap();
    let snapshot = source.read();
    assert_eq!(addresses(&snapshot), "203.0.113.9");
    assert!(
        snapshot.findings[0]
            .source
            .ends_with(".torline/status.yaml")
    );
}

#[test]
fn an_unreadable_directory_is_an_error_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    assert!(Directory::open(&directory.path().join("missing"), Settings::default()).is_err());
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert!(Directory::open(directory.path(), Settings::default()).is_ok());
}

#[test]
#[ignore = "long: reads 100,000 endpoints; prints the times, to be read in a release build"]
fn ten_thousand_services_are_all_read() {
    let directory = tempfile::tempdir().unwrap();
    for file in 0..20 {
        let mut text = String::new();
        for n in file * 500..(file + 1) * 500 {
            text.push_str(&format!(
                "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: s{n}\nspec:\n  type: LoadBalancer\n  \
                 ports:\n  - port: 80\n---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
                 metadata:\n  name: s{n}-x\n  labels:\n    kubernetes.io/service-name: s{n}\n\
                 addressType: IPv4\nports:\n- port: 8080\nendpoints:\n"
            ));
            for pod in 0..10 {
                let address = std::net::Ipv4Addr::from(0x0a00_0000 + n * 10 + pod);
                text.push_str(&format!(
                    "- addresses:\n  - {address}\n  nodeName: node-{pod}\n  conditions:\n    ready: true\n"
                ));
            }
        }
        write(directory.path(), &format!("{file:02}.yaml"), &text);
    }
    let mut source = open(directory.path());
    let mut timed = |what: &str| {
        let start = std::time::Instant::now();
        let snapshot = source.read();
        println!("{what}: {:?}", start.elapsed());
        assert_eq!(
            (snapshot.cluster.services.len(), snapshot.findings.len()),
            (10_000, 0)
        );
        assert_eq!(
            snapshot
                .cluster
                .endpoints
                .values()
                .map(Vec::len)
                .sum::<usize>(),
            100_000
        );
    };
    timed("first reading");
    timed("nothing changed");
    let path = directory.path().join("07.yaml");
    fs::write(&path, fs::read_to_string(&path).unwrap() + "\n").unwrap();
    timed("one of 20 files changed");
}

#[test]
fn without_advertisements_pools_are_announced_at_layer_2_or_to_the_first_peer() {
    const POOL: &str = "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: p}\n\
                        spec: {addresses: [203.0.113.0/24]}\n";
    const PEER: &str = "apiVersion: metallb.io/v1beta2\nkind: BGPPeer\nmetadata: {name: tor}\n\
                        spec: {myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1}\n";
    const ADVERTISEMENT: &str = "apiVersion: metallb.io/v1beta1\nkind: BGPAdvertisement\n\
                                 metadata: {name: some}\nspec: {ipAddressPools: [other]}\n";
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let mut source = open(path);
    let mut implied = || {
        let cluster = source.read().cluster;
        let (bgp, layer2) = (&cluster.bgp_advertisements, &cluster.l2_advertisements);
        (cluster.is_implied, bgp.len(), layer2.len())
    };
    write(path, "peer.yaml", PEER);
    assert_eq!(implied(), (false, 0, 0), "there is nothing to announce");
    write(path, "pool.yaml", POOL);
    assert_eq!(implied(), (true, 1, 0));
    fs::remove_file(path.join("peer.yaml")).unwrap();
    assert_eq!(implied(), (true, 0, 1));
    write(path, "advertisement.yaml", ADVERTISEMENT);
    assert_eq!(implied(), (false, 1, 0));

    fs::remove_file(path.join("advertisement.yaml")).unwrap();
    write(path, "broken.yaml", "kind: {");
    assert_eq!(
        implied(),
        (false, 0, 0),
        "one may be in what cannot be read"
    );
    fs::remove_file(path.join("broken.yaml")).unwrap();
    assert_eq!(implied(), (true, 0, 1));
    write(path, "broken.yaml", "kind: {");
    assert_eq!(implied(), (true, 0, 1), "as it was");
}
