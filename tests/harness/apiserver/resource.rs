//! The resources that there are, and what a URL means.

/// A resource.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Resource {
    pub(super) group: &'static str,
    pub(super) version: &'static str,
    pub(super) plural: &'static str,
    pub(super) kind: &'static str,
    pub(super) is_namespaced: bool,
}

const fn resource(
    group: &'static str,
    version: &'static str,
    plural: &'static str,
    kind: &'static str,
    is_namespaced: bool,
) -> Resource {
    Resource {
        group,
        version,
        plural,
        kind,
        is_namespaced,
    }
}

const METALLB: &str = "metallb.io";

pub(super) const RESOURCES: [Resource; 20] = [
    resource("", "v1", "services", "Service", true),
    resource("", "v1", "nodes", "Node", false),
    resource("", "v1", "namespaces", "Namespace", false),
    resource("", "v1", "secrets", "Secret", true),
    resource("", "v1", "events", "Event", true),
    resource("events.k8s.io", "v1", "events", "Event", true),
    resource("", "v1", "pods", "Pod", true),
    resource(
        "discovery.k8s.io",
        "v1",
        "endpointslices",
        "EndpointSlice",
        true,
    ),
    resource("coordination.k8s.io", "v1", "leases", "Lease", true),
    resource(METALLB, "v1beta1", "ipaddresspools", "IPAddressPool", true),
    resource(METALLB, "v1beta2", "bgppeers", "BGPPeer", true),
    resource(
        METALLB,
        "v1beta1",
        "bgpadvertisements",
        "BGPAdvertisement",
        true,
    ),
    resource(
        METALLB,
        "v1beta1",
        "l2advertisements",
        "L2Advertisement",
        true,
    ),
    resource(METALLB, "v1beta1", "bfdprofiles", "BFDProfile", true),
    resource(METALLB, "v1beta1", "communities", "Community", true),
    resource(
        METALLB,
        "v1beta1",
        "servicel2statuses",
        "ServiceL2Status",
        true,
    ),
    resource(
        METALLB,
        "v1beta1",
        "servicebgpstatuses",
        "ServiceBGPStatus",
        true,
    ),
    resource(
        METALLB,
        "v1beta1",
        "configurationstates",
        "ConfigurationState",
        true,
    ),
    resource(
        "frrk8s.metallb.io",
        "v1beta1",
        "bgpsessionstates",
        "BGPSessionState",
        true,
    ),
    resource(
        "torline.io",
        "v1alpha1",
        "virtualswitches",
        "VirtualSwitch",
        true,
    ),
];

impl Resource {
    pub(super) fn api_version(&self) -> String {
        match self.group {
            "" => self.version.to_owned(),
            group => format!("{group}/{}", self.version),
        }
    }
}

/// What a URL points at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub(super) resource: &'static Resource,
    /// Empty for all, and for what has none.
    pub(super) namespace: String,
    pub(super) name: Option<String>,
    pub(super) is_status: bool,
}

impl Target {
    /// Reads `/api/v1/namespaces/a/services/b/status` and the like.
    pub(super) fn of(path: &str) -> Option<Self> {
        let mut parts = path.split('/').skip(1);
        let (group, version) = match parts.next()? {
            "api" => ("", parts.next()?),
            "apis" => (parts.next()?, parts.next()?),
            _ => return None,
        };
        let rest: Vec<_> = parts.collect();
        let (namespace, rest) = match rest.as_slice() {
            ["namespaces", namespace, rest @ ..] if !matches!(rest, [] | ["status"]) => {
                (*namespace, rest)
            }
            rest => ("", rest),
        };
        let (plural, name, is_status) = match *rest {
            [plural] => (plural, None, false),
            [plural, name] => (plural, Some(name), false),
            [plural, name, "status"] => (plural, Some(name), true),
            _ => return None,
        };
        let resource = RESOURCES.iter().find(|resource| {
            (resource.group, resource.version, resource.plural) == (group, version, plural)
        })?;
        Some(Self {
            resource,
            namespace: namespace.to_owned(),
            name: name.map(str::to_owned),
            is_status,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_an_api_server_reads_them() {
        for (path, plural, namespace, name, is_status) in [
            ("/api/v1/services", "services", "", None, false),
            ("/api/v1/namespaces", "namespaces", "", None, false),
            ("/api/v1/namespaces/a", "namespaces", "", Some("a"), false),
            (
                "/api/v1/namespaces/a/services",
                "services",
                "a",
                None,
                false,
            ),
            (
                "/api/v1/namespaces/a/services/b/status",
                "services",
                "a",
                Some("b"),
                true,
            ),
            (
                "/apis/metallb.io/v1beta2/namespaces/m/bgppeers/p",
                "bgppeers",
                "m",
                Some("p"),
                false,
            ),
        ] {
            let target = Target::of(path).unwrap();
            assert_eq!(target.resource.plural, plural, "{path}");
            assert_eq!(target.namespace, namespace, "{path}");
            assert_eq!(target.name.as_deref(), name, "{path}");
            assert_eq!(target.is_status, is_status, "{path}");
        }
        assert_eq!(Target::of("/api/v1/unheardof"), None);
    }
}
