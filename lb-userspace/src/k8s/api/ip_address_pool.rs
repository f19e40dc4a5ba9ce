//! IPAddressPool: addresses that Services may get.

use serde::Deserialize;

use super::LabelSelector;

/// `spec` of an IPAddressPool (v1beta1).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpAddressPoolSpec {
    /// CIDRs or ranges `first-last`.
    pub addresses: Vec<String>,
    /// Whether Services that ask for nothing may get an address of this pool; true unless set.
    #[serde(default)]
    pub auto_assign: Option<bool>,
    /// Leave out IPv4 addresses that end in .0 or .255.
    #[serde(default, rename = "avoidBuggyIPs")]
    pub avoid_buggy_ips: bool,
    /// Which Services the pool is for.
    #[serde(default)]
    pub service_allocation: Option<ServiceAllocation>,
}

/// Which Services a pool is for.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceAllocation {
    /// Lower goes first; 0 goes last.
    pub priority: i64,
    /// Namespaces by name.
    pub namespaces: Vec<String>,
    /// Namespaces by label.
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services by label.
    pub service_selectors: Vec<LabelSelector>,
}
