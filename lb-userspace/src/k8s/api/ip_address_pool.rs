//! IPAddressPool: addresses that Services may get.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::LabelSelector;

/// What an IPAddressPool holds, and for whom.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "IPAddressPool",
    root = "IpAddressPool",
    plural = "ipaddresspools",
    namespaced,
    status = "IpAddressPoolStatus",
    doc = "Addresses that Services of type LoadBalancer may get.",
    printcolumn(
        name = "Auto Assign",
        type_ = "boolean",
        json_path = ".spec.autoAssign"
    ),
    printcolumn(
        name = "Avoid Buggy IPs",
        type_ = "boolean",
        json_path = ".spec.avoidBuggyIPs"
    ),
    printcolumn(name = "Addresses", type_ = "string", json_path = ".spec.addresses")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct IpAddressPoolSpec {
    /// The addresses: CIDRs (`192.0.2.0/24`) or inclusive ranges (`192.0.2.10-192.0.2.19`), of either
    /// family. No address may be in two of them, nor in two pools.
    #[schemars(
        length(min = 1, max = 1024),
        inner(
            length(max = 96),
            regex(
                pattern = r"^([0-9a-fA-F.:]+/[0-9]{1,3}|\s*[0-9a-fA-F.:]+\s*-\s*[0-9a-fA-F.:]+\s*)$"
            )
        )
    )]
    pub addresses: Vec<String>,
    /// Whether Services that ask for nothing may get an address of this pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = true))]
    pub auto_assign: Option<bool>,
    /// Leave out IPv4 addresses that end in .0 or .255, which some routers refuse.
    #[serde(default, rename = "avoidBuggyIPs")]
    #[schemars(extend("default" = false))]
    pub avoid_buggy_ips: bool,
    /// Which Services the pool is for; all of them unless set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

/// Which Services a pool is for.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ServiceAllocation {
    /// Pools with a lower number are tried first; 0 goes last.
    pub priority: i64,
    /// Namespaces whose Services may use the pool, by name.
    #[schemars(length(max = 1024), inner(length(max = 63)))]
    pub namespaces: Vec<String>,
    /// Namespaces whose Services may use the pool, by label; any selector may match.
    #[schemars(length(max = 1024))]
    pub namespace_selectors: Vec<LabelSelector>,
    /// Services that may use the pool, by label; any selector may match.
    #[schemars(length(max = 1024))]
    pub service_selectors: Vec<LabelSelector>,
}

/// How many addresses of a pool are in use.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct IpAddressPoolStatus {
    /// IPv4 addresses that Services hold.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,
    /// IPv6 addresses that Services hold.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,
    /// IPv4 addresses that are free.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,
    /// IPv6 addresses that are free, at most 9223372036854775807.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,
}
