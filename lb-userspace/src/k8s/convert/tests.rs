//! Good objects of every kind, and MetalLB's table of refusals.

use std::time::Duration;

use super::*;
use crate::k8s::document;
use crate::model::cluster::{
    Family, PeerAsn, Protocol, Requirement, Selector, Service, TrafficPolicy,
};

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

/// Each text is refused with a problem at this field whose message contains this.
fn all_are_refused(rows: &[(String, &str, &str)]) {
    for (text, field, message) in rows {
        let (part, problems) = convert_text(text);
        assert_eq!(part, None, "{text}");
        assert!(
            problems
                .iter()
                .any(|p| p.field == *field && p.message.contains(message)),
            "{text}\nwant {field}: {message}\ngot {problems:#?}"
        );
    }
}

#[test]
fn pools_are_refused_as_metallb_refuses_them() {
    let addresses = |list: &str| pool(&format!("{{addresses: [{list}]}}"));
    let allocation = |text: &str| {
        pool(&format!(
            "{{addresses: [10.0.0.0/24], serviceAllocation: {text}}}"
        ))
    };
    all_are_refused(&[
        (
            addresses(""),
            "spec.addresses",
            "pool has no prefixes defined",
        ),
        (pool("{autoAssign: true}"), "spec.addresses", "is required"),
        (
            addresses("100.200.300.400/24"),
            "spec.addresses[0]",
            "invalid CIDR",
        ),
        (addresses("1.2.3.0/33"), "spec.addresses[0]", "invalid CIDR"),
        (
            addresses("\" 1.2.3.0/24\""),
            "spec.addresses[0]",
            "invalid CIDR",
        ),
        (addresses("1.2.3.4"), "spec.addresses[0]", "invalid CIDR"),
        (
            addresses("10.0.0.0/24, 1.2.3.10-1.2.3.1"),
            "spec.addresses[1]",
            "start IP is after the end IP",
        ),
        (
            addresses("1.2.3.x-1.2.3.9"),
            "spec.addresses[0]",
            "invalid start IP",
        ),
        (
            addresses("1.2.3.1-1.2.3.x"),
            "spec.addresses[0]",
            "invalid end IP",
        ),
        (
            addresses("\"1.2.3.1-2001:db8::1\""),
            "spec.addresses[0]",
            "different families",
        ),
        (
            addresses("10.0.0.0/16, 10.0.0.0/16"),
            "spec.addresses[1]",
            "overlaps with already defined CIDR",
        ),
        (
            addresses("10.0.0.0/8, 10.0.0.0/16"),
            "spec.addresses[1]",
            "overlaps with already defined CIDR \"10.0.0.0/8\"",
        ),
        (
            addresses("10.0.0.7-10.0.0.9, 10.0.0.8/32"),
            "spec.addresses[1]",
            "overlaps",
        ),
        (
            pool("{addresses: [10.0.0.0/24], autoAsign: false}"),
            "spec.autoAsign",
            "unknown field",
        ),
        (
            pool("{addresses: [10.0.0.0/24], autoAssign: \"no\"}"),
            "spec.autoAssign",
            "expected a boolean",
        ),
        (
            allocation("{namespaces: [a, a]}"),
            "spec.serviceAllocation.namespaces[1]",
            "duplicate definition of namespaces field",
        ),
        (
            allocation("{namespaceSelectors: [{matchLabels: {a: b}}, {matchLabels: {a: b}}]}"),
            "spec.serviceAllocation.namespaceSelectors[1]",
            "duplicate definition",
        ),
        (
            allocation("{serviceSelectors: [{}, {}]}"),
            "spec.serviceAllocation.serviceSelectors[1]",
            "duplicate definition",
        ),
        (
            allocation(
                "{serviceSelectors: [{matchExpressions: [{key: a, operator: In, values: [b, b]}]}]}",
            ),
            "spec.serviceAllocation.serviceSelectors[0].matchExpressions[0].values[1]",
            "duplicate definition",
        ),
        (
            allocation("{namespaceSelectors: [{matchExpressions: [{key: a, operator: Is}]}]}"),
            "spec.serviceAllocation.namespaceSelectors[0].matchExpressions[0].operator",
            "invalid namespace label selector",
        ),
        (
            allocation("{serviceSelectors: [{matchLabel: {a: b}}]}"),
            "spec.serviceAllocation.serviceSelectors[0].matchLabel",
            "unknown field",
        ),
    ]);
}

#[test]
fn peers_are_refused_as_metallb_refuses_them() {
    let bare = |spec: &str| metallb("BGPPeer", spec);
    let selector = |text: &str| {
        peer(&format!(
            ", nodeSelectors: [{{matchExpressions: [{text}]}}]"
        ))
    };
    all_are_refused(&[
        (
            bare("{myASN: 1, peerASN: 2, peerAddress: 1.2.3.400}"),
            "spec.peerAddress",
            "invalid BGPPeer address",
        ),
        (
            bare("{myASN: 0, peerASN: 2, peerAddress: 1.2.3.4}"),
            "spec.myASN",
            "missing local ASN",
        ),
        (
            bare("{myASN: 4294967296, peerASN: 2, peerAddress: 1.2.3.4}"),
            "spec.myASN",
            "out of range",
        ),
        (
            bare("{myASN: 1, peerAddress: 1.2.3.4}"),
            "spec.peerASN",
            "missing peer ASN and dynamicASN",
        ),
        (
            peer(", dynamicASN: internal"),
            "spec.dynamicASN",
            "both peer ASN and dynamicASN specified",
        ),
        (
            bare("{myASN: 1, dynamicASN: any, peerAddress: 1.2.3.4}"),
            "spec.dynamicASN",
            "invalid dynamicASN",
        ),
        (
            bare("{myASN: 1, peerASN: 1, peerAddress: 1.2.3.4, ebgpMultiHop: true}"),
            "spec.ebgpMultiHop",
            "invalid ebgp-multihop parameter set for an ibgp peer",
        ),
        (
            bare("{myASN: 1, peerASN: 2}"),
            "spec.peerAddress",
            "no Address or Interface",
        ),
        (
            peer(", interface: eth0"),
            "spec.interface",
            "both Address and Interface",
        ),
        (
            bare("{myASN: 1, peerASN: 2, interface: eth0}"),
            "spec.interface",
            "not there yet",
        ),
        (
            peer(", holdTime: 30s, keepaliveTime: 90s"),
            "spec.keepaliveTime",
            "must be lower than holdTime",
        ),
        (
            peer(", holdTime: 1s"),
            "spec.holdTime",
            "invalid hold time: must be 0 or >=3s",
        ),
        (
            peer(", holdTime: 90"),
            "spec.holdTime",
            "found a number: put it in quotes",
        ),
        (
            peer(", holdTime: ninety"),
            "spec.holdTime",
            "invalid duration",
        ),
        (
            peer(", connectTime: 1500ms"),
            "spec.connectTime",
            "whole seconds",
        ),
        (
            peer(", connectTime: 0s"),
            "spec.connectTime",
            "whole seconds",
        ),
        (peer(", peerPort: 20000"), "spec.peerPort", "1 to 16384"),
        (
            peer(", routerID: 1.2.3.x"),
            "spec.routerID",
            "invalid router ID",
        ),
        (
            peer(", routerID: 0.0.0.0"),
            "spec.routerID",
            "invalid router ID",
        ),
        (
            peer(", sourceAddress: here"),
            "spec.sourceAddress",
            "invalid source IP",
        ),
        (
            selector("{operator: Exists}"),
            "spec.nodeSelectors[0].matchExpressions[0].key",
            "invalid node label selector",
        ),
        (
            selector("{key: a}"),
            "spec.nodeSelectors[0].matchExpressions[0].operator",
            "invalid node label selector",
        ),
        (
            selector("{key: a, operator: Gt}"),
            "spec.nodeSelectors[0].matchExpressions[0].operator",
            "invalid node label selector",
        ),
        (
            selector("{key: a, operator: In, values: []}"),
            "spec.nodeSelectors[0].matchExpressions[0].values",
            "at least one value",
        ),
        (
            selector("{key: a, operator: In, values: [b, b]}"),
            "spec.nodeSelectors[0].matchExpressions[0].values[1]",
            "duplicate",
        ),
        (
            peer(
                ", nodeSelectors: [{matchLabels: {a: b}}, {matchExpressions: [{key: a, operator: In, values: [b]}]}]",
            ),
            "spec.nodeSelectors[1]",
            "duplicate definition",
        ),
        (
            peer(", password: x, passwordSecret: {name: y}"),
            "spec.passwordSecret",
            "can not have both",
        ),
        (peer(", vrf: red"), "spec.vrf", "not there yet"),
        (peer(", localASN: 5"), "spec.localASN", "not there yet"),
    ]);
}

#[test]
fn advertisements_are_refused_as_metallb_refuses_them() {
    let bgp = |spec: &str| metallb("BGPAdvertisement", spec);
    let l2 = |spec: &str| metallb("L2Advertisement", spec);
    let twice = "[{matchLabels: {a: b}}, {matchLabels: {a: b}}]";
    let mut rows = vec![
        (
            bgp("{aggregationLength: 34}"),
            "spec.aggregationLength",
            "invalid aggregation length 34 for IPv4",
        ),
        (
            bgp("{aggregationLength: 0}"),
            "spec.aggregationLength",
            "invalid aggregation length 0",
        ),
        (
            bgp("{aggregationLengthV6: 129}"),
            "spec.aggregationLengthV6",
            "for IPv6",
        ),
        (
            bgp("{communities: [\"99999999:1\"]}"),
            "spec.communities[0]",
            "invalid community value",
        ),
        (
            bgp("{communities: [\"1:99999999\"]}"),
            "spec.communities[0]",
            "invalid community value",
        ),
        (
            bgp("{communities: [\"lar:1:2:3\"]}"),
            "spec.communities[0]",
            "invalid community value",
        ),
        (
            bgp("{communities: [\"1:2\", \"1:2\"]}"),
            "spec.communities[1]",
            "duplicate definition of community",
        ),
        (
            bgp("{peers: [a, a]}"),
            "spec.peers[1]",
            "duplicate definition of peer",
        ),
        (
            bgp("{aggregationLength: 24, serviceSelectors: [{}]}"),
            "spec.aggregationLength",
            "mutually exclusive",
        ),
        (
            bgp("{aggregationLengthV6: 64, serviceSelectors: [{}]}"),
            "spec.aggregationLengthV6",
            "mutually exclusive",
        ),
        (
            l2("{preferredNodeSelectors: [{weight: 0, preference: {}}]}"),
            "spec.preferredNodeSelectors[0].weight",
            "1 to 100",
        ),
        (
            l2(
                "{preferredNodeSelectors: [{weight: 1, preference: {matchExpressions: [{key: a, operator: Is}]}}]}",
            ),
            "spec.preferredNodeSelectors[0].preference.matchExpressions[0].operator",
            "invalid node label selector",
        ),
        (l2("{interface: [eth0]}"), "spec.interface", "unknown field"),
    ];
    for kind in [&bgp as &dyn Fn(&str) -> String, &l2] {
        rows.extend([
            (
                kind("{ipAddressPools: [a, a]}"),
                "spec.ipAddressPools[1]",
                "duplicate definition of ipAddressPool",
            ),
            (
                kind(&format!("{{ipAddressPoolSelectors: {twice}}}")),
                "spec.ipAddressPoolSelectors[1]",
                "duplicate definition",
            ),
            (
                kind(&format!("{{nodeSelectors: {twice}}}")),
                "spec.nodeSelectors[1]",
                "duplicate definition",
            ),
            (
                kind(&format!("{{serviceSelectors: {twice}}}")),
                "spec.serviceSelectors[1]",
                "duplicate definition",
            ),
        ]);
    }
    all_are_refused(&rows);
}

#[test]
fn communities_are_refused_as_metallb_refuses_them() {
    let value = |text: &str| {
        metallb(
            "Community",
            &format!("{{communities: [{{name: a, value: \"{text}\"}}]}}"),
        )
    };
    let field = "spec.communities[0].value";
    all_are_refused(&[
        (value("1234"), field, "invalid community value"),
        (value("65536:1"), field, "invalid community value"),
        (value("1:65536"), field, "invalid community value"),
        (value("lar:1:2:3"), field, "invalid community value"),
        (value("large:1:2"), field, "invalid community value"),
        (
            value("large:1:2:4294967296"),
            field,
            "invalid community value",
        ),
        (
            metallb(
                "Community",
                "{communities: [{name: a, value: \"1:1\"}, {name: a, value: \"1:2\"}]}",
            ),
            "spec.communities[1]",
            "duplicate definition of community",
        ),
    ]);
}

#[test]
fn core_objects_are_refused_where_they_cannot_be_used() {
    let secret = |data: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: torline}}\ndata: {{{data}}}\n")
    };
    let slice = |text: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
             metadata: {{name: s, labels: {{kubernetes.io/service-name: web}}}}\n{text}\n"
        )
    };
    all_are_refused(&[
        (
            service("", ", ports: []").replace("ports: [{port: 80}], ", ""),
            "spec.ports",
            "at least one port",
        ),
        (
            service("", ", ipFamilyPolicy: Both"),
            "spec.ipFamilyPolicy",
            "SingleStack",
        ),
        (
            service("", ", externalTrafficPolicy: Remote"),
            "spec.externalTrafficPolicy",
            "Cluster or Local",
        ),
        (
            service("", ", ipFamilies: [IPv4, IPv5]"),
            "spec.ipFamilies[1]",
            "IPv4 or IPv6",
        ),
        (
            service("", "").replace("port: 80", "port: 80000"),
            "spec.ports[0].port",
            "1 to 65535",
        ),
        (
            service("", "").replace("{port: 80}", "{port: 80}, {port: 81}"),
            "spec.ports[1].name",
            "is required",
        ),
        (
            service("", "").replace("{port: 80}", "{name: a, port: 80}, {name: b, port: 80}"),
            "spec.ports[1].port",
            "duplicate port 80/tcp",
        ),
        (
            service(", labels: {a: 1}", ""),
            "metadata.labels.a",
            "put it in quotes",
        ),
        (
            slice("addressType: IPv4\nendpoints: [{addresses: [\"2001:db8::1\"]}]"),
            "endpoints[0].addresses[0]",
            "no IPv4 address",
        ),
        (
            slice("addressType: IP\nendpoints: []"),
            "addressType",
            "IPv4, IPv6 or FQDN",
        ),
        (secret(""), "data.flow-key", "exactly 32 bytes"),
        (
            secret("flow-key: aGVsbG8=, peer-key: aGVsbG8="),
            "data.peer-key",
            "exactly 32 bytes",
        ),
    ]);
}

#[test]
fn all_problems_of_an_object_are_told_at_once() {
    let text = metallb(
        "BGPPeer",
        "{myASN: 0, peerAddress: here, holdTime: 1s, routerID: x, vrf: red}",
    );
    let (_, problems) = convert_text(&text);
    let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.myASN",
            "spec.peerASN",
            "spec.holdTime",
            "spec.vrf",
            "spec.peerAddress",
            "spec.routerID"
        ]
    );
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
    assert_eq!(full.password.as_deref(), Some("secret"));
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
         metallb.io/loadBalancerIPs: \"203.0.113.9, 2001:db8::9\", torline.io/table-length: \"1024\"}",
        ", sessionAffinity: ClientIP, externalTrafficPolicy: Local, selector: {b: y, a: x}",
    );
    assert!(service.is_load_balancer && service.client_affinity);
    assert_eq!(service.traffic_policy, TrafficPolicy::Local);
    assert_eq!(service.selector, "a=x,b=y");
    assert_eq!(service.requested_pool.as_deref(), Some("public"));
    assert_eq!(service.sharing_key.as_deref(), Some("k"));
    assert_eq!(service.requested_addresses.unwrap().len(), 2);
    assert_eq!(service.table_length, Some(1024));
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
        ("torline.io/forwarding: geneve", "no effect in this version"),
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
fn endpoint_conditions_default_as_the_api_says() {
    let text = "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\n\
        metadata: {name: s, namespace: shop, labels: {kubernetes.io/service-name: web}}\n\
        addressType: IPv4\n\
        ports: [{name: http, port: 8080}, {name: dns, protocol: UDP, port: 53}, {name: x, protocol: SCTP, port: 9}]\n\
        endpoints:\n\
        - {addresses: [10.0.0.1], nodeName: a}\n\
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
    assert_eq!(endpoints[0].ports.len(), 2);
    assert_eq!(endpoints[0].ports[&("dns".to_owned(), Protocol::Udp)], 53);

    let named = text.replace("IPv4", "FQDN");
    assert_eq!(good(&named), Part::Endpoints(service, vec![]));
}

#[test]
fn a_node_gives_addresses_conditions_and_annotations() {
    let text = "apiVersion: v1\nkind: Node\nmetadata:\n  name: n\n  labels:\n    \
        node.kubernetes.io/exclude-from-external-load-balancers:\n  annotations:\n    \
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
        Part::Secret(SecretPart::Password("hunter2".to_owned()))
    );
    assert!(!format!("{part:?}").contains("hunter2"));

    let number = peer(", password: 12345");
    let (_, problems) = convert_text(&number);
    assert!(!problems[0].message.contains("12345"), "{problems:?}");
}
