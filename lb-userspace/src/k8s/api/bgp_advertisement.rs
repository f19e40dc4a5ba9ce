//! BGPAdvertisement: how addresses of pools are announced over BGP.

use serde::Deserialize;

use super::LabelSelector;

/// `spec` of a BGPAdvertisement (v1beta1).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BgpAdvertisementSpec {
    /// Prefix length of IPv4 routes; 32 unless set.
    pub aggregation_length: Option<i32>,
    /// Prefix length of IPv6 routes; 128 unless set.
    pub aggregation_length_v6: Option<i32>,
    /// LOCAL_PREF; 0 leaves it to the router.
    pub local_pref: u32,
    /// `A:B`, `large:A:B:C` or an alias.
    pub communities: Vec<String>,
    /// Pools by name.
    pub ip_address_pools: Vec<String>,
    /// Pools by label.
    pub ip_address_pool_selectors: Vec<LabelSelector>,
    /// Nodes that may be next hop.
    pub node_selectors: Vec<LabelSelector>,
    /// BGPPeers by name.
    pub peers: Vec<String>,
    /// Services by label.
    pub service_selectors: Vec<LabelSelector>,
}
