//! BGPAdvertisement: how addresses of pools are announced over BGP.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, LabelSelector, rule};

/// Which addresses are announced over BGP, to whom, and as what.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BGPAdvertisement",
    root = "BgpAdvertisement",
    plural = "bgpadvertisements",
    namespaced,
    status = "ConfigStatus",
    doc = "Announces the addresses of pools to BGP peers.",
    printcolumn(
        name = "IPAddressPools",
        type_ = "string",
        json_path = ".spec.ipAddressPools"
    ),
    printcolumn(
        name = "IPAddressPool Selectors",
        type_ = "string",
        json_path = ".spec.ipAddressPoolSelectors"
    ),
    printcolumn(name = "Peers", type_ = "string", json_path = ".spec.peers"),
    printcolumn(
        name = "Node Selectors",
        type_ = "string",
        json_path = ".spec.nodeSelectors",
        priority = 10
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[schemars(extend("x-kubernetes-validations" = [
rule("!has(self.serviceSelectors) || self.serviceSelectors.size() == 0 || \
     ((!has(self.aggregationLength) || self.aggregationLength == 32) && \
     (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))", "serviceSelectors and aggregationLength are mutually exclusive: with serviceSelectors, \
           aggregationLength has to be 32 and aggregationLengthV6 128"),
]))]
pub struct BgpAdvertisementSpec {
    /// Prefix length of IPv4 routes.
    #[schemars(range(min = 1, max = 32), extend("default" = 32))]
    pub aggregation_length: Option<i32>,
    /// Prefix length of IPv6 routes.
    #[schemars(range(min = 1, max = 128), extend("default" = 128))]
    pub aggregation_length_v6: Option<i32>,
    /// LOCAL_PREF (RFC 4271 §5.1.5) towards peers of our own AS; 0 leaves it to the router.
    #[schemars(range(max = 2_147_483_647))]
    pub local_pref: u32,
    /// Communities of the routes: `A:B`, `large:A:B:C`, or the name of an entry of a Community.
    #[schemars(length(max = 1024), inner(length(max = 253)))]
    pub communities: Vec<String>,
    /// Pools by name. Without this and `ipAddressPoolSelectors`, all pools.
    #[schemars(length(max = 1024), inner(length(max = 253)))]
    pub ip_address_pools: Vec<String>,
    /// Pools by label; any selector may match.
    #[schemars(length(max = 1024))]
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that may be next hop; any selector may match. All nodes unless set.
    #[schemars(length(max = 1024))]
    pub node_selectors: Vec<LabelSelector>,
    /// BGPPeers by name; all unless set.
    #[schemars(length(max = 1024), inner(length(max = 253)))]
    pub peers: Vec<String>,
    /// Services by label; any selector may match. All Services unless set.
    #[schemars(length(max = 1024))]
    pub service_selectors: Vec<LabelSelector>,
}
