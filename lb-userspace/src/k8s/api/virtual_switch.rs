//! VirtualSwitch: ports of the nodes, by the names that an edge device gives
//! them, and what they are for.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{ConfigStatus, rule};

/// The ports, and what the switch is enabled for.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "torline.io",
    version = "v1alpha1",
    kind = "VirtualSwitch",
    plural = "virtualswitches",
    namespaced,
    status = "ConfigStatus",
    doc = "A switch on one or several ports of each node. BGPPeers and IPAddressPools with the label \
           torline.io/switch belong to it.",
    printcolumn(name = "Ports", type_ = "string", json_path = ".spec.ports[*].alias"),
    printcolumn(name = "Enabled For", type_ = "string", json_path = ".spec.enabledFor")
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VirtualSwitchSpec {
    /// The ports.
    #[schemars(length(min = 1, max = 64))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("self.all(a, self.exists_one(b, b.alias == a.alias))", "duplicate alias"),
rule("self.all(a, self.exists_one(b, b.interface == a.interface))", "duplicate interface"),
]))]
    pub ports: Vec<Port>,
    /// What the switch is for: `compute` for Services, `storage` for traffic between nodes, `mgmt` for the
    /// device's own interfaces.
    #[schemars(length(max = 3))]
    #[schemars(extend("items" = json!({"type": "string", "enum": ["compute", "storage", "mgmt"]})))]
    pub enabled_for: Vec<String>,
}

/// A port.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Port {
    /// What the device calls it: `Port2`.
    #[schemars(length(min = 1, max = 63))]
    pub alias: String,
    /// What the kernel calls it: `eth1`.
    #[schemars(length(min = 1, max = 15))]
    pub interface: String,
}
