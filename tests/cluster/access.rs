//! A right that is missing is named, and the rest goes on.

use anyhow::Result;

use crate::Scenario;
use crate::bench::Bench;
use crate::objects::{node, pool};

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

/// One for each right.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let rights = READ
        .iter()
        .flat_map(|read| [("list", read), ("watch", read)]);
    rights
        .map(|(verb, read)| {
            let (resource, group, kind) = *read;
            Scenario::with_double(
                format!("0 RBAC used: without the right to {verb} {resource}"),
                move |bench| is_named(bench, verb, resource, group, kind),
            )
        })
        .collect()
}

fn is_named(bench: &mut Bench, verb: &str, resource: &str, group: &str, kind: &str) -> Result<()> {
    bench.double()?.refuse(verb, resource);
    bench.apply([node(), pool("public", "203.0.113.0/28")])?;
    bench.start(&[])?;
    let full = if group.is_empty() {
        resource.to_owned()
    } else {
        format!("{resource}.{group}")
    };
    bench.wait_for_finding(kind, &format!("not allowed to {verb} {full} in "))?;
    if verb == "watch" && resource != "services" {
        // A watch that goes on says nothing: only time tells, and once is enough.
        return Ok(());
    }
    bench.double()?.permit(verb, resource);
    bench.wait_for("no finding", |status| {
        let mut findings = status.findings.iter();
        !findings.any(|finding| finding.message.contains("not allowed"))
    })?;
    Ok(())
}
