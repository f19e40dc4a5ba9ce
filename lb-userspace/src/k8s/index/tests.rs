//! Last good versions, duplicates, and references between objects.

use proptest::prelude::*;

use super::*;
use crate::k8s::document;

fn object(text: &str) -> Object {
    let contents = document::read(text);
    let document = &contents.documents[0];
    Object::read(document.kind, &document.tree).unwrap()
}

fn metallb(kind: &str, name: &str, spec: &str) -> Object {
    let version = if kind == "BGPPeer" {
        "v1beta2"
    } else {
        "v1beta1"
    };
    object(&format!(
        "apiVersion: metallb.io/{version}\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    ))
}

fn pool(addresses: &str) -> Object {
    named("public", addresses)
}

fn named(pool: &str, addresses: &str) -> Object {
    let spec = format!("{{addresses: [{addresses}]}}");
    metallb("IPAddressPool", pool, &spec)
}

fn secret(kind: &str) -> Object {
    object(&format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: bgp}}\ntype: {kind}\nstringData: {{password: x}}\n"
    ))
}

fn put(index: &mut Index, source: &str, object: &Object) {
    index.apply(source, object, |field| format!("{source}:{field}"));
}

fn messages(snapshot: &Snapshot) -> Vec<String> {
    snapshot.findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_broken_edit_keeps_the_last_good_version_until_the_object_goes() {
    let mut index = Index::default();
    put(&mut index, "a", &pool("10.0.0.0/24"));
    let good = index.snapshot();
    assert_eq!(good.findings, []);

    put(&mut index, "a", &pool("10.0.0.0"));
    let broken = index.snapshot();
    assert_eq!(broken.cluster, good.cluster);
    assert_eq!(broken.findings[0].source, "a:spec.addresses[0]");
    assert_eq!(broken.findings[0].object, "IPAddressPool public");
    assert!(messages(&broken)[0].ends_with("; the last good version stays in force"));

    put(&mut index, "a", &pool("10.1.0.0/24"));
    assert_eq!(index.snapshot().findings, []);
    index.delete("a", &pool("10.1.0.0/24").key());
    assert_eq!(index.snapshot(), Snapshot::default());
}

#[test]
fn the_first_source_by_name_counts_and_the_finding_names_both() {
    let mut index = Index::default();
    put(&mut index, "b", &pool("10.2.0.0/24"));
    put(&mut index, "a", &pool("10.1.0.0/24"));
    let snapshot = index.snapshot();
    assert_eq!(
        snapshot.cluster.pools["public"].addresses[0].text,
        "10.1.0.0/24"
    );
    assert_eq!(
        messages(&snapshot),
        [
            "b:: IPAddressPool public: metadata.name: duplicate definition of IPAddressPool public: \
          the one at a: counts"
        ]
    );
    index.delete("a", &pool("10.1.0.0/24").key());
    let snapshot = index.snapshot();
    assert_eq!(
        snapshot.cluster.pools["public"].addresses[0].text,
        "10.2.0.0/24"
    );
    assert_eq!(snapshot.findings, []);
}

#[test]
fn a_peer_waits_for_its_password_and_then_keeps_it() {
    let mut index = Index::default();
    let spec = "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, passwordSecret: {name: bgp}}";
    put(&mut index, "a", &metallb("BGPPeer", "tor", spec));
    let snapshot = index.snapshot();
    assert!(snapshot.cluster.peers.is_empty());
    assert_eq!(snapshot.findings[0].field, "spec.passwordSecret");
    assert!(
        snapshot.findings[0]
            .message
            .contains("secret ref not found")
    );

    put(&mut index, "a", &secret("Opaque"));
    assert!(messages(&index.snapshot())[0].contains("secret type mismatch"));

    put(&mut index, "a", &secret("kubernetes.io/basic-auth"));
    let snapshot = index.snapshot();
    assert_eq!(snapshot.findings, []);
    assert_eq!(
        snapshot.cluster.peers["tor"].password,
        Some(Password::new("x"))
    );
    assert_eq!(snapshot.cluster.passwords["bgp"], Password::new("x"));

    index.delete("a", &secret("Opaque").key());
    for _ in 0..2 {
        let snapshot = index.snapshot();
        assert_eq!(
            snapshot.cluster.peers["tor"].password,
            Some(Password::new("x"))
        );
        assert!(messages(&snapshot)[0].contains("the last good version stays in force"));
    }
}

#[test]
fn a_peer_waits_for_its_bfd_profile_and_then_keeps_it() {
    let mut index = Index::default();
    let spec = "{myASN: 1, peerASN: 2, peerAddress: 192.0.2.1, bfdProfile: fast}";
    put(&mut index, "a", &metallb("BGPPeer", "tor", spec));
    let snapshot = index.snapshot();
    assert!(snapshot.cluster.peers.is_empty());
    assert_eq!(snapshot.findings[0].field, "spec.bfdProfile");
    let message = &messages(&snapshot)[0];
    assert!(message.contains("referencing non existing bfd profile \"fast\""));

    let fast = metallb("BFDProfile", "fast", "{receiveInterval: 50}");
    put(&mut index, "a", &fast);
    let snapshot = index.snapshot();
    assert_eq!(snapshot.findings, []);
    let profile = snapshot.cluster.peers["tor"].bfd.clone().unwrap();
    assert_eq!(profile.receive_interval.as_millis(), 50);
    assert_eq!(profile.transmit_interval.as_millis(), 300);

    put(
        &mut index,
        "a",
        &metallb("BFDProfile", "fast", "{receiveInterval: 2}"),
    );
    assert_eq!(
        index.snapshot().cluster.peers["tor"].bfd.as_ref(),
        Some(&profile)
    );

    index.delete("a", &fast.key());
    for _ in 0..2 {
        let snapshot = index.snapshot();
        assert_eq!(snapshot.cluster.peers["tor"].bfd.as_ref(), Some(&profile));
        assert!(messages(&snapshot)[0].contains("the last good version stays in force"));
    }
}

#[test]
fn aliases_are_resolved_across_objects() {
    let mut index = Index::default();
    let advertisement = metallb(
        "BGPAdvertisement",
        "all",
        "{communities: [mine, no-export]}",
    );
    put(&mut index, "a", &advertisement);
    let snapshot = index.snapshot();
    assert!(snapshot.cluster.bgp_advertisements.is_empty());
    assert_eq!(snapshot.findings[0].field, "spec.communities[0]");

    put(
        &mut index,
        "a",
        &metallb(
            "Community",
            "c",
            "{communities: [{name: mine, value: \"1:2\"}]}",
        ),
    );
    put(
        &mut index,
        "a",
        &metallb(
            "Community",
            "d",
            "{communities: [{name: mine, value: \"3:4\"}]}",
        ),
    );
    let snapshot = index.snapshot();
    let expected = [
        Community::Standard(1 << 16 | 2),
        Community::Standard(0xffff_ff01),
    ];
    assert_eq!(
        snapshot.cluster.bgp_advertisements["all"].communities,
        expected.into()
    );
    assert_eq!(snapshot.findings.len(), 1);
    assert!(
        snapshot.findings[0]
            .message
            .contains("duplicate definition of community \"mine\"")
    );
}

#[test]
fn endpoints_of_all_slices_are_together_and_give_a_service_its_families() {
    let slice = |name: &str, family: &str, address: &str| {
        object(&format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: {name}, labels: {{kubernetes.io/service-name: web}}}}\n\
             addressType: {family}\nendpoints: [{{addresses: [\"{address}\"]}}]\n"
        ))
    };
    let mut index = Index::default();
    let service = object(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\n\
         spec: {type: LoadBalancer, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}\n",
    );
    put(&mut index, "a", &service);
    put(&mut index, "a", &slice("one", "IPv4", "10.0.0.1"));
    put(&mut index, "b", &slice("two", "IPv6", "fd00::1"));
    let web = ObjectName::new("default", "web");
    let cluster = index.snapshot().cluster;
    assert_eq!(cluster.endpoints[&web].len(), 2);
    assert_eq!(cluster.services[&web].families.len(), 2);
    index.delete("b", &slice("two", "IPv6", "fd00::1").key());
    assert_eq!(index.snapshot().cluster.services[&web].families.len(), 1);
}

#[test]
fn a_pool_that_overlaps_one_in_force_changes_nothing_until_it_is_mended() {
    let mut index = Index::default();
    put(&mut index, "a", &pool("10.0.0.0/24"));
    put(&mut index, "b", &named("zeta", "10.1.0.0/24"));
    let good = index.snapshot();
    assert_eq!(good.findings, []);

    put(&mut index, "0", &named("alpha", "10.0.0.128-10.0.0.130"));
    let snapshot = index.snapshot();
    assert_eq!(snapshot.cluster, good.cluster);
    assert_eq!(
        messages(&snapshot),
        [
            "0:: IPAddressPool alpha: spec.addresses[0]: CIDR \"10.0.0.128-10.0.0.130\" overlaps with \
          already defined CIDR \"10.0.0.0/24\" of IPAddressPool public; it has no effect until then"
        ]
    );
    put(&mut index, "0", &named("alpha", "10.2.0.0/24"));
    let good = index.snapshot();
    assert_eq!((good.cluster.pools.len(), good.findings.len()), (3, 0));

    put(&mut index, "0", &named("alpha", "10.2.0.0/23,10.1.0.0/16"));
    let snapshot = index.snapshot();
    assert_eq!(snapshot.cluster, good.cluster);
    assert_eq!(snapshot.findings[0].field, "spec.addresses[1]");
    assert!(messages(&snapshot)[0].ends_with("the last good version stays in force"));

    index.delete("b", &named("zeta", "10.1.0.0/24").key());
    assert_eq!(index.snapshot().findings, []);
}

#[test]
fn two_pools_may_change_places() {
    let mut index = Index::default();
    for [one, two] in [
        ["10.1.0.0/24", "10.2.0.0/24"],
        ["10.2.0.0/24", "10.1.0.0/24"],
    ] {
        put(&mut index, "a", &named("one", one));
        put(&mut index, "a", &named("two", two));
        let snapshot = index.snapshot();
        assert_eq!(snapshot.findings, []);
        assert_eq!(snapshot.cluster.pools["one"].addresses[0].text, one);
    }
}

/// Something a source says.
#[derive(Clone, Debug)]
enum Word {
    Service(usize, u8),
    /// A slice: which, of which Service, and how many pods.
    Slice(usize, u8, u8, u8),
    Node(usize, u8),
    Broken(usize, u8),
    Gone(usize, Kind, u8),
    Records(Option<u8>),
}

const SOURCES: [&str; 2] = ["a", "b"];

fn word() -> impl Strategy<Value = Word> {
    let source = 0..SOURCES.len();
    let kinds = [Kind::Service, Kind::EndpointSlice, Kind::Node];
    prop_oneof![
        3 => (source.clone(), 0u8..3).prop_map(|(source, name)| Word::Service(source, name)),
        4 => (source.clone(), 0u8..4, 0u8..3, 0u8..3)
            .prop_map(|(source, name, service, pods)| Word::Slice(source, name, service, pods)),
        1 => (source.clone(), 0u8..2).prop_map(|(source, name)| Word::Node(source, name)),
        1 => (source.clone(), 0u8..3).prop_map(|(source, name)| Word::Broken(source, name)),
        2 => (source, proptest::sample::select(kinds.to_vec()), 0u8..4)
            .prop_map(|(source, kind, name)| Word::Gone(source, kind, name)),
        1 => proptest::option::of(0u8..3).prop_map(Word::Records),
    ]
}

fn hear(index: &mut Index, word: &Word) {
    let key = |kind: Kind, name: u8| {
        let letter = match kind {
            Kind::Service => 's',
            Kind::Node => 'n',
            _ => 'e',
        };
        Key::new(kind, None, &format!("{letter}{name}"))
    };
    match word {
        Word::Service(source, name) => {
            let text = format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: s{name}, labels: {{from: \"{source}\"}}}}\n\
                 spec: {{type: LoadBalancer, ports: [{{port: 80}}]}}\n"
            );
            put(index, SOURCES[*source], &object(&text));
        }
        Word::Slice(source, name, service, pods) => {
            let pods: String = (0..*pods)
                .map(|pod| format!("{{addresses: [10.{service}.{name}.{pod}]}},"))
                .collect();
            let text = format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: e{name}, labels: \
                 {{kubernetes.io/service-name: s{service}}}}}\naddressType: IPv4\nendpoints: [{pods}]\n"
            );
            put(index, SOURCES[*source], &object(&text));
        }
        Word::Node(source, name) => {
            let text = format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{name: n{name}, labels: {{from: \"{source}\"}}}}\n"
            );
            put(index, SOURCES[*source], &object(&text));
        }
        Word::Broken(source, name) => {
            let finding = Finding {
                source: SOURCES[*source].to_owned(),
                object: "a Service".to_owned(),
                field: String::new(),
                message: "cannot be read".to_owned(),
            };
            index.reject(SOURCES[*source], &key(Kind::Service, *name), finding);
        }
        Word::Gone(source, kind, name) => index.delete(SOURCES[*source], &key(*kind, *name)),
        Word::Records(service) => {
            let record = ServiceRecord {
                addresses: vec!["203.0.113.1".parse().unwrap()],
                pool: None,
                table_length: Some(64),
            };
            let records =
                service.map(|service| (ObjectName::new("default", format!("s{service}")), record));
            index.remember(Arc::new(records.into_iter().collect()));
        }
    }
}

proptest! {
    #[test]
    fn snapshots_in_between_change_nothing_about_the_last_one(
        words in proptest::collection::vec(word(), 1..40),
    ) {
        let (mut often, mut once) = (Index::default(), Index::default());
        let mut last = Snapshot::default();
        for word in &words {
            hear(&mut often, word);
            hear(&mut once, word);
            last = often.snapshot();
        }
        prop_assert_eq!(last, once.snapshot());
    }
}

#[test]
fn what_did_not_change_is_shared_with_the_snapshot_before() {
    let mut index = Index::default();
    for service in 0..2 {
        hear(&mut index, &Word::Service(0, service));
        hear(&mut index, &Word::Slice(0, service, service, 2));
    }
    let before = index.snapshot().cluster;
    hear(&mut index, &Word::Slice(0, 1, 1, 2));
    let same = index.snapshot().cluster;
    assert!(same.endpoints.is_same(&before.endpoints));
    hear(&mut index, &Word::Slice(0, 1, 1, 1));
    let after = index.snapshot().cluster;
    assert_eq!(after.endpoints.changes(&before.endpoints).len(), 1);
    assert!(after.services.is_same(&before.services));
}
