//! Good objects of every kind.

mod refusals;

use std::time::Duration;

use super::*;
use crate::k8s::document;
use crate::model::cluster::{
    Family, Forwarding, PeerAsn, Protocol, Requirement, Selector, Service, TrafficPolicy,
};
use crate::model::password::Password;

/// Converts the only object of a text; typing errors count as problems.
fn convert_text(text: &str) -> (Option<Part>, Vec<Problem>) {
    let contents = document::read(text);
    assert_eq!(contents.flaws, [], "{text}");
    let [document] = &contents.documents[..] else {
        panic!("not one object: {text}");
    };
    match Object::read(document.kind, &document.tree) {
        Ok(object) => convert(&object, &Settings::default()),
        Err(error) => {
            let problem = Problem {
                field: error.path,
                message: error.message,
            };
            (None, vec![problem])
        }
    }
}

fn good(text: &str) -> Part {
    let (part, problems) = convert_text(text);
    assert_eq!(problems, [], "{text}");
    part.unwrap()
}

fn metallb(kind: &str, spec: &str) -> String {
    let version = if kind == "BGPPeer" {
        "v1beta2"
    } else {
        "v1beta1"
    };
    format!("apiVersion: metallb.io/{version}\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n")
}

fn pool(spec: &str) -> String {
    metallb("IPAddressPool", spec)
}

fn peer(more: &str) -> String {
    metallb(
        "BGPPeer",
        &format!("{{myASN: 64513, peerASN: 64512, peerAddress: 192.0.2.1{more}}}"),
    )
}

fn service(metadata: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: web{metadata}}}\n\
         spec: {{type: LoadBalancer, ports: [{{port: 80}}]{spec}}}\n"
    )
}

fn service_part(metadata: &str, spec: &str) -> Service {
    match good(&service(metadata, spec)) {
        Part::Service(open) => open.service,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_full_peer_is_taken_field_by_field() {
    let text = peer(
        ", peerPort: 1179, sourceAddress: 192.0.2.9, holdTime: 1m30s, keepaliveTime: 30s, \
         connectTime: 5s, routerID: 192.0.2.9, password: secret, ebgpMultiHop: true, \
         dualStackAddressFamily: true, disableMP: true, \
         nodeSelectors: [{matchLabels: {a: b}}, {matchExpressions: [{key: c, operator: DoesNotExist}]}]",
    );
    let Part::Peer(open) = good(&text) else {
        panic!()
    };
    assert_eq!(open.password_secret, None);
    let full = open.peer;
    assert_eq!(full.peer_asn, PeerAsn::Number(64512));
    assert_eq!((full.my_asn, full.peer_port), (64513, 1179));
    assert_eq!(full.hold_time, Some(Duration::from_secs(90)));
    assert_eq!(full.keepalive_time, Some(Duration::from_secs(30)));
    assert_eq!(full.connect_time, Some(Duration::from_secs(5)));
    assert_eq!(full.router_id, Some([192, 0, 2, 9].into()));
    assert_eq!(full.password, Some(Password::new("secret")));
    assert!(full.ebgp_multi_hop && full.dual_stack);
    assert_eq!(
        full.node_selectors,
        [
            Selector(vec![Requirement::In("a".into(), ["b".into()].into())]),
            Selector(vec![Requirement::DoesNotExist("c".into())]),
        ]
    );
    for times in [
        "holdTime: 9s",
        "keepaliveTime: 3s",
        "holdTime: 0s, keepaliveTime: 0s",
    ] {
        good(&peer(&format!(", {times}")));
    }
    good(&peer("").replace("v1beta2", "v1beta1"));
    good(&peer(", nodeSelectors: [{}]"));
}

#[test]
fn a_full_pool_is_taken_field_by_field() {
    let text = pool(
        "{addresses: [10.0.0.9/24, 10.1.0.1-10.1.0.2], autoAssign: false, avoidBuggyIPs: true, \
         serviceAllocation: {priority: 5, namespaces: [a], namespaceSelectors: [{matchLabels: {x: y}}]}}",
    );
    let Part::Pool(pool) = good(&text) else {
        panic!()
    };
    assert!(!pool.auto_assign && pool.avoid_buggy_ips);
    assert_eq!(pool.addresses[0].networks, ["10.0.0.0/24".parse().unwrap()]);
    assert_eq!(pool.addresses[1].text, "10.1.0.1-10.1.0.2");
    assert_eq!(pool.addresses[1].networks.len(), 2);
    let allocation = pool.allocation.unwrap();
    assert_eq!((allocation.priority, allocation.namespaces.len()), (5, 1));
    assert_eq!(allocation.namespace_selectors.len(), 1);
}

#[test]
fn advertisements_and_communities_are_taken_field_by_field() {
    let text = metallb(
        "BGPAdvertisement",
        "{aggregationLength: 24, aggregationLengthV6: 64, localPref: 150, peers: [tor], \
         communities: [\"64512:7\", \"large:1:2:3\", mine], ipAddressPools: [public], \
         nodeSelectors: [{matchLabels: {a: b}}]}",
    );
    let Part::BgpAdvertisement(open) = good(&text) else {
        panic!()
    };
    let advertisement = open.advertisement;
    assert_eq!(
        (
            advertisement.aggregation_length,
            advertisement.aggregation_length_v6
        ),
        (24, 64)
    );
    assert_eq!(advertisement.local_pref, 150);
    let literals = [
        Community::Standard(64512 << 16 | 7),
        Community::Large(1, 2, 3),
    ];
    assert_eq!(advertisement.communities, literals.into());
    assert_eq!(
        open.aliases,
        [("spec.communities[2]".to_owned(), "mine".to_owned())]
    );

    good(&metallb(
        "BGPAdvertisement",
        "{aggregationLength: 32, serviceSelectors: [{}]}",
    ));
    let Part::BgpAdvertisement(open) = good(&metallb("BGPAdvertisement", "{}")) else {
        panic!()
    };
    let lengths = (
        open.advertisement.aggregation_length,
        open.advertisement.aggregation_length_v6,
    );
    assert_eq!(lengths, (32, 128));

    let Part::L2Advertisement(l2) = good(&metallb("L2Advertisement", "{interfaces: [eth0]}"))
    else {
        panic!()
    };
    assert_eq!(l2.interfaces, ["eth0".to_owned()].into());

    let text = metallb(
        "Community",
        "{communities: [{name: mine, value: \"65535:65281\"}]}",
    );
    let aliases = vec![("mine".to_owned(), Community::Standard(0xffff_ff01))];
    assert_eq!(good(&text), Part::Communities(aliases));
    assert_eq!(
        well_known("no-export"),
        Some(Community::Standard(0xffff_ff01))
    );
}

#[test]
fn a_full_service_is_taken_field_by_field() {
    let service = service_part(
        ", labels: {tier: front}, annotations: {metallb.io/address-pool: public, \
         metallb.universe.tf/address-pool: old, metallb.universe.tf/allow-shared-ip: k, \
         metallb.io/loadBalancerIPs: \"203.0.113.9, 2001:db8::9\", torline.io/table-length: \"1024\", \
         torline.io/forwarding: geneve}",
        ", sessionAffinity: ClientIP, externalTrafficPolicy: Local, selector: {b: y, a: x}",
    );
    assert!(service.is_load_balancer && service.client_affinity);
    assert_eq!(service.traffic_policy, TrafficPolicy::Local);
    assert_eq!(service.selector, "a=x,b=y");
    assert_eq!(service.requested_pool.as_deref(), Some("public"));
    assert_eq!(service.sharing_key.as_deref(), Some("k"));
    assert_eq!(service.requested_addresses.unwrap().len(), 2);
    assert_eq!(service.table_length, Some(1024));
    assert_eq!(service.forwarding, Some(Forwarding::Geneve));
    assert_eq!(
        (service.ports[0].port, service.ports[0].protocol),
        (80, Protocol::Tcp)
    );
}

#[test]
fn a_bad_request_for_addresses_is_an_error_of_the_service_alone() {
    for (annotations, spec, message) in [
        (
            "metallb.io/loadBalancerIPs: 1.2.3.4",
            ", loadBalancerIP: 1.2.3.4",
            "can not have both",
        ),
        (
            "metallb.io/loadBalancerIPs: 1.2.3",
            "",
            "\"1.2.3\" is no IP address",
        ),
        (
            "metallb.io/loadBalancerIPs: \"1.2.3.4,1.2.3.5\"",
            "",
            "one of each family",
        ),
        (
            "a: b",
            ", loadBalancerIP: \"1.2.3.4,2001:db8::1\"",
            "one of each family",
        ),
    ] {
        let service = service_part(&format!(", annotations: {{{annotations}}}"), spec);
        let error = service.requested_addresses.unwrap_err();
        assert!(error.contains(message), "{error}");
    }
}

#[test]
fn a_service_of_another_class_is_not_ours() {
    assert!(!service_part("", ", loadBalancerClass: other").is_load_balancer);
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: x}\nspec: {type: ExternalName, externalName: a.b}";
    let Part::Service(open) = good(text) else {
        panic!()
    };
    assert!(!open.service.is_load_balancer);
}

#[test]
fn our_annotations_are_checked_against_the_table() {
    for (annotation, message) in [
        (
            "torline.io/table-length: \"1000\"",
            "a power of two from 1 to 65536",
        ),
        (
            "torline.io/table-lenght: \"1024\"",
            "may have torline.io/table-length",
        ),
        (
            "torline.io/unserved-ports: drop",
            "no effect in this version",
        ),
        ("torline.io/forwarding: snat", "want l2 or geneve"),
        ("torline.io/mac: 02:00:00:00:00:01", "unknown annotation"),
    ] {
        let text = service(&format!(", annotations: {{{annotation}}}"), "");
        let (part, problems) = convert_text(&text);
        assert!(part.is_some(), "a note does not refuse");
        assert_eq!(problems.len(), 1, "{problems:?}");
        let key = annotation.split(": ").next().unwrap();
        assert_eq!(problems[0].field, format!("metadata.annotations[{key}]"));
        assert!(problems[0].message.contains(message), "{problems:?}");
    }
}

#[test]
fn hints_are_followed_where_the_service_says_so_in_one_word_or_another() {
    let follows = |metadata: &str, spec: &str| service_part(metadata, spec).follows_hints;
    let annotated = |name: &str, mode: &str| {
        follows(
            &format!(", annotations: {{service.kubernetes.io/{name}: {mode}}}"),
            "",
        )
    };
    assert!(annotated("topology-mode", "Auto") && annotated("topology-aware-hints", "auto"));
    assert!(!annotated("topology-mode", "Disabled") && !annotated("topology-mode", "\"\""));
    assert!(follows("", ", trafficDistribution: PreferClose"));
    assert!(follows("", ", trafficDistribution: PreferSameZone"));
    assert!(!follows("", "") && !follows("", ", trafficDistribution: Example"));
}

#[test]
fn endpoint_conditions_default_as_the_api_says() {
    let text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: web}}\n\
        addressType: IPv4\n\
        ports: [{name: http, port: 8080}, {name: dns, protocol: UDP, port: 53}, {name: x, protocol: SCTP, port: 9}]\n\
        endpoints:\n\
        - {addresses: [10.0.0.1], nodeName: a, hints: {forZones: [{name: east}, {name: west}]}}\n\
        - {addresses: [10.0.0.2], conditions: {ready: false}}\n\
        - {addresses: [10.0.0.3], conditions: {ready: false, serving: true, terminating: true}}\n";
    let Part::Endpoints(service, endpoints) = good(text) else {
        panic!()
    };
    assert_eq!(service, Some(ObjectName::new("shop", "web")));
    let conditions: Vec<_> = endpoints
        .iter()
        .map(|e| (e.ready, e.serving, e.terminating))
        .collect();
    assert_eq!(
        conditions,
        [
            (true, true, false),
            (false, false, false),
            (false, true, true)
        ]
    );
    assert_eq!(endpoints[0].node.as_deref(), Some("a"));
    let zones = |index: usize| endpoints[index].zones.iter().map(String::as_str);
    assert!(zones(0).eq(["east", "west"]) && zones(1).count() == 0);
    assert_eq!(endpoints[0].ports.len(), 2);
    assert_eq!(endpoints[0].ports[&("dns".to_owned(), Protocol::Udp)], 53);

    let named = text.replace("IPv4", "FQDN");
    assert_eq!(good(&named), Part::Endpoints(service, vec![]));
}

#[test]
fn a_node_gives_addresses_conditions_and_annotations() {
    let text = "apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  labels:\n    \
        node.kubernetes.io/exclude-from-external-load-balancers:\n    \
        topology.kubernetes.io/zone: east\n  annotations:\n    \
        torline.io/mac: 02:00:5e:10:00:01\n    torline.io/weight: \"3\"\n\
        status:\n  addresses:\n  - {type: Hostname, address: n}\n  - {type: InternalIP, address: 192.0.2.1}\n  \
        conditions:\n  - {type: Ready, status: Unknown}\n  - {type: NetworkUnavailable, status: \"True\"}\n";
    let Part::Node(node) = good(text) else {
        panic!()
    };
    assert_eq!(
        node.addresses,
        ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]
    );
    assert_eq!(node.mac.unwrap().to_string(), "02:00:5e:10:00:01");
    assert_eq!(node.weight, Some(3));
    assert_eq!(node.zone(), Some("east"));
    assert!(node.excluded && !node.ready && node.network_unavailable);
    assert_eq!(Family::of(node.addresses[0]), Family::V4);
}

#[test]
fn secrets_give_keys_and_passwords_and_never_print_them() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: torline}}\ndata: {{flow-key: {key}, peer-key: {key}}}\n"
    );
    let Part::Secret(SecretPart::Keys(keys)) = good(&text) else {
        panic!()
    };
    assert_eq!(keys.flow_key[31], 31);

    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: bgp}\ntype: kubernetes.io/basic-auth\n\
        stringData: {password: hunter2}\n";
    let part = good(text);
    assert_eq!(
        part,
        Part::Secret(SecretPart::Password(Password::new("hunter2")))
    );
    assert!(!format!("{part:?}").contains("hunter2"));

    let number = peer(", password: 12345");
    let (_, problems) = convert_text(&number);
    assert!(!problems[0].message.contains("12345"), "{problems:?}");
}

fn annotated(kind: &str, annotations: &str, spec: &str) -> String {
    let name = "metadata: {name: x";
    let with = format!("{name}, annotations: {{{annotations}}}");
    metallb(kind, spec).replacen(name, &with, 1)
}

#[test]
fn what_metallbs_objects_cannot_say_is_said_by_annotation() {
    use crate::model::peer_options::{Connect, PeerRole, RestartProfile};

    let text = annotated(
        "BGPPeer",
        "torline.io/restart-profile: last-resort, torline.io/connect: both, torline.io/listen-port: '1179', \
         torline.io/ttl-security: '1', torline.io/role: customer, torline.io/drain-wait: '9'",
        "{myASN: 1, localASN: 3, peerASN: 2, peerAddress: 192.0.2.1, vrf: red, enableGracefulRestart: true}",
    );
    let Part::Peer(open) = good(&text) else {
        panic!("no peer");
    };
    let options = open.peer.options;
    assert_eq!(open.peer.local_asn, Some(3));
    assert_eq!(options.restart_profile, Some(RestartProfile::LastResort));
    assert_eq!(
        (options.connect, options.listen_port),
        (Connect::Both, Some(1179))
    );
    assert_eq!(options.ttl_security, Some(1));
    assert_eq!(options.role, Some(PeerRole::Customer));
    assert_eq!(options.drain_wait, Some(Duration::from_secs(9)));
    assert_eq!(options.device.as_deref(), Some("red"));

    let text = annotated(
        "BGPAdvertisement",
        "torline.io/med: '0', torline.io/prepend: '3', torline.io/link-bandwidth: '1250000'",
        "{}",
    );
    let Part::BgpAdvertisement(open) = good(&text) else {
        panic!("no advertisement");
    };
    assert_eq!(open.advertisement.med, Some(0));
    assert_eq!(open.advertisement.prepend, 3);
    assert_eq!(open.advertisement.link_bandwidth, Some(1_250_000));
}

#[test]
fn graceful_restart_without_bfd_is_warned_about() {
    let (part, problems) = convert_text(&peer(", enableGracefulRestart: true"));
    let Some(Part::Peer(open)) = part else {
        panic!("refused");
    };
    assert!(open.peer.options.restart_profile.is_some());
    assert_eq!(problems[0].field, "spec.enableGracefulRestart");
    assert!(problems[0].message.contains("a node that died"));
}

#[test]
fn a_peer_may_be_whoever_is_behind_an_interface() {
    let Part::Peer(open) = good(&metallb(
        "BGPPeer",
        "{myASN: 1, dynamicASN: external, interface: eth1}",
    )) else {
        panic!("no peer");
    };
    assert_eq!(open.peer.options.interface.as_deref(), Some("eth1"));
    assert!(open.peer.peer_address.is_unspecified());
}

#[test]
fn a_peer_may_be_whoever_comes_from_a_range() {
    let range = "torline.io/listen-range: 192.0.2.77/24";
    let text = annotated(
        "BGPPeer",
        &format!("{range}, torline.io/listen-limit: '9', torline.io/delay-open: '5'"),
        "{myASN: 1, dynamicASN: external, sourceAddress: 192.0.2.1}",
    );
    let Part::Peer(open) = good(&text) else {
        panic!("no peer");
    };
    let options = open.peer.options;
    let taken = options.listen_range.unwrap();
    assert_eq!(
        (taken.network.to_string().as_str(), taken.limit),
        ("192.0.2.0/24", 9)
    );
    assert!(open.peer.peer_address.is_unspecified() && options.connect.listens());
    assert_eq!(options.delay_open, Some(Duration::from_secs(5)));

    for (annotations, spec, message) in [
        (
            range,
            "peerAddress: 192.0.2.1",
            "in place of spec.peerAddress",
        ),
        (range, "sourceAddress: '2001:db8::1'", "other family"),
        (
            "torline.io/listen-range: here",
            "",
            "want a prefix like 192.0.2.0/24",
        ),
        (
            "torline.io/listen-range: 192.0.2.0/24, torline.io/connect: active",
            "",
            "connects to this node",
        ),
        (
            "torline.io/listen-limit: '2'",
            "peerAddress: 192.0.2.1",
            "no effect without",
        ),
    ] {
        let spec = format!("{{myASN: 1, peerASN: 2, {spec}}}");
        let (_, problems) = convert_text(&annotated("BGPPeer", annotations, &spec));
        let told = problems
            .iter()
            .any(|problem| problem.message.contains(message));
        assert!(told, "{annotations} {spec}: {problems:?}");
    }
}
