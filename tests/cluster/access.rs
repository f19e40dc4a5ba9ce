//! A right that is missing is named, and the rest goes on.

use anyhow::Result;
use serde_json::json;

use crate::Scenario;
use crate::bench::Bench;
use crate::objects::{endpoints, metallb, node, pool, service};
use crate::rights::Right;

/// What the agent reads: resource, group, and the kind that findings name.
const READ: [(&str, &str, &str); 11] = [
    ("services", "", "Service"),
    ("endpointslices", "discovery.k8s.io", "EndpointSlice"),
    ("nodes", "", "Node"),
    ("namespaces", "", "Namespace"),
    ("secrets", "", "Secret torline"),
    ("ipaddresspools", "metallb.io", "IPAddressPool"),
    ("bgppeers", "metallb.io", "BGPPeer"),
    ("bgpadvertisements", "metallb.io", "BGPAdvertisement"),
    ("l2advertisements", "metallb.io", "L2Advertisement"),
    ("communities", "metallb.io", "Community"),
    ("bfdprofiles", "metallb.io", "BFDProfile"),
];

/// What the agent writes or watches for that: verb, resource, group.
const WRITTEN: [(&str, &str, &str); 15] = [
    ("patch", "services/status", ""),
    ("create", "secrets", ""),
    ("create", "leases", "coordination.k8s.io"),
    ("get", "leases", "coordination.k8s.io"),
    ("list", "servicel2statuses", "metallb.io"),
    ("patch", "servicel2statuses", "metallb.io"),
    ("patch", "servicel2statuses/status", "metallb.io"),
    ("list", "servicebgpstatuses", "metallb.io"),
    ("patch", "servicebgpstatuses", "metallb.io"),
    ("patch", "servicebgpstatuses/status", "metallb.io"),
    ("patch", "configurationstates", "metallb.io"),
    ("patch", "configurationstates/status", "metallb.io"),
    ("patch", "ipaddresspools/status", "metallb.io"),
    ("patch", "bgpsessionstates", "frrk8s.metallb.io"),
    ("patch", "bgpsessionstates/status", "frrk8s.metallb.io"),
];

/// One for each right.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let read = READ
        .iter()
        .flat_map(|read| [("list", read), ("watch", read)]);
    let read = read.map(|(verb, &(resource, group, kind))| {
        let right = right(verb, resource, group);
        Scenario::new(
            format!("0 RBAC used: without the right to {verb} {resource}"),
            move |bench| is_named(bench, &right, kind),
        )
    });
    let written = WRITTEN.iter().map(|&(verb, resource, group)| {
        let right = right(verb, resource, group);
        Scenario::new(
            format!("0 RBAC used: without the right to {verb} {resource}"),
            move |bench| is_logged(bench, &right),
        )
    });
    read.chain(written).collect()
}

fn right(verb: &'static str, resource: &'static str, group: &'static str) -> Right {
    const CLUSTER_WIDE: [&str; 5] = [
        "services",
        "services/status",
        "endpointslices",
        "nodes",
        "namespaces",
    ];
    Right {
        verb,
        resource,
        group,
        is_cluster_wide: CLUSTER_WIDE.contains(&resource),
    }
}

fn full(right: &Right) -> String {
    let Right {
        resource, group, ..
    } = right;
    match (*group, resource.split_once('/')) {
        ("", _) => (*resource).to_owned(),
        (group, Some((plural, subresource))) => format!("{plural}.{group}/{subresource}"),
        (group, None) => format!("{resource}.{group}"),
    }
}

fn is_named(bench: &mut Bench, right: &Right, kind: &str) -> Result<()> {
    let Right { verb, resource, .. } = *right;
    bench.refuse(right)?;
    bench.apply([node(), pool("public", "203.0.113.0/28")])?;
    bench.start(&[])?;
    bench.wait_for_finding(kind, &format!("not allowed to {verb} {} in ", full(right)))?;
    if verb == "watch" && resource != "services" {
        // A watch that goes on says nothing: only time tells, and once is enough.
        return Ok(());
    }
    bench.permit(right)?;
    bench.wait_for("no finding", |status| {
        let mut findings = status.findings.iter();
        !findings.any(|finding| finding.message.contains("not allowed"))
    })?;
    Ok(())
}

fn is_logged(bench: &mut Bench, right: &Right) -> Result<()> {
    let Right { verb, resource, .. } = *right;
    bench.refuse(right)?;
    bench.apply([
        node(),
        pool("public", "203.0.113.0/28"),
        metallb("L2Advertisement", "all", &json!({})),
        metallb("BGPAdvertisement", "all", &json!({})),
        metallb(
            "BGPPeer",
            "router",
            &json!({"myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.1"}),
        ),
        service("web", json!({})),
        endpoints("web", &["10.0.0.1"]),
    ])?;
    bench.start(&[])?;
    let words = match right.group {
        // Written by the Lease, whose messages name no group.
        "coordination.k8s.io" => format!("failed to {verb} {resource}"),
        "" if resource == "services/status" => "failed to update services/status".to_owned(),
        _ => format!("failed to {verb} {}", full(right)),
    };
    bench.wait_for_log(&words)?;
    bench.wait_for_log(&format!("cannot {verb} resource"))
}
