//! L2Advertisement: which nodes answer ARP and NDP for addresses of pools.

use serde::Deserialize;

use super::LabelSelector;

/// `spec` of an L2Advertisement (v1beta1).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct L2AdvertisementSpec {
    /// Pools by name.
    pub ip_address_pools: Vec<String>,
    /// Pools by label.
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that may answer.
    pub node_selectors: Vec<LabelSelector>,
    /// Interfaces to answer on.
    pub interfaces: Vec<String>,
    /// Services by label.
    pub service_selectors: Vec<LabelSelector>,
    /// Nodes that are preferred among those that may answer.
    pub preferred_node_selectors: Vec<PreferredNodes>,
}

/// A preference for some nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PreferredNodes {
    /// 1 to 100; the weights of all preferences that match a node add up.
    pub weight: i32,
    /// The nodes.
    pub preference: LabelSelector,
}
