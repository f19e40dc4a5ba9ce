//! What MetalLB refuses, field by field, and what else cannot be used.

use super::{convert_text, metallb, peer, pool, service};

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
            bare("{myASN: 1, peerASN: 2, interface: a/b}"),
            "spec.interface",
            "network device",
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
        (
            peer(", vrf: a-name-too-long-for-a-device"),
            "spec.vrf",
            "15 characters",
        ),
        (
            peer(", localASN: 0"),
            "spec.localASN",
            "write the AS number",
        ),
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
            service("", ", loadBalancerSourceRanges: [192.0.2.0/24]"),
            "spec.loadBalancerSourceRanges",
            "would serve everybody",
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
        "{myASN: 0, peerAddress: here, holdTime: 1s, routerID: x, vrf: a/b}",
    );
    let (_, problems) = convert_text(&text);
    let fields: Vec<_> = problems.iter().map(|p| p.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "spec.myASN",
            "spec.peerASN",
            "spec.holdTime",
            "spec.peerAddress",
            "spec.routerID",
            "spec.vrf"
        ]
    );
}
