//! L2Advertisement: which nodes answer ARP and NDP for addresses of pools.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{ConfigStatus, LabelSelector};

/// Which addresses are announced at layer 2, and from where.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "L2Advertisement",
    plural = "l2advertisements",
    namespaced,
    status = "ConfigStatus",
    doc = "Announces the addresses of pools by ARP and NDP.",
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
    printcolumn(name = "Interfaces", type_ = "string", json_path = ".spec.interfaces"),
    printcolumn(
        name = "Node Selectors",
        type_ = "string",
        json_path = ".spec.nodeSelectors",
        priority = 10
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct L2AdvertisementSpec {
    /// Pools by name. Without this and `ipAddressPoolSelectors`, all pools.
    #[schemars(length(max = 1024), inner(length(max = 253)))]
    pub ip_address_pools: Vec<String>,
    /// Pools by label; any selector may match.
    #[schemars(length(max = 1024))]
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that may answer; any selector may match. All nodes unless set.
    #[schemars(length(max = 1024))]
    pub node_selectors: Vec<LabelSelector>,
    /// Interfaces to answer on; all unless set.
    #[schemars(length(max = 1024), inner(length(max = 15)))]
    pub interfaces: Vec<String>,
    /// Services by label; any selector may match. All Services unless set.
    #[schemars(length(max = 1024))]
    pub service_selectors: Vec<LabelSelector>,
    /// Nodes that are preferred among those that may answer.
    #[schemars(length(max = 1024))]
    pub preferred_node_selectors: Vec<PreferredNodes>,
}

/// A preference for some nodes.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreferredNodes {
    /// 1 to 100; the weights of all preferences that match a node add up.
    #[schemars(range(min = 1, max = 100))]
    pub weight: i32,
    /// The nodes.
    pub preference: LabelSelector,
}
