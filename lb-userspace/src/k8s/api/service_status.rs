//! ServiceL2Status and ServiceBGPStatus: which node announces a Service, and
//! how.
//!
//! The announcing node writes one object for each Service; nobody edits them.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rule;

/// Nothing: all there is to say stands in the status.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ServiceL2Status",
    plural = "servicel2statuses",
    namespaced,
    status = "ServiceL2StatusStatus",
    doc = "Says which node answers ARP and NDP for a Service.",
    printcolumn(name = "Allocated Node", type_ = "string", json_path = ".status.node"),
    printcolumn(
        name = "Service Name",
        type_ = "string",
        json_path = ".status.serviceName"
    ),
    printcolumn(
        name = "Service Namespace",
        type_ = "string",
        json_path = ".status.serviceNamespace"
    )
)]
pub struct ServiceL2StatusSpec {}

/// Who answers for a Service.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceL2StatusStatus {
    /// Node that answers.
    #[schemars(length(max = 253))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("self == oldSelf", "Value is immutable"),
]))]
    pub node: String,
    /// Name of the Service.
    #[schemars(length(max = 253))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("self == oldSelf", "Value is immutable"),
]))]
    pub service_name: String,
    /// Namespace of the Service.
    #[schemars(length(max = 253))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("self == oldSelf", "Value is immutable"),
]))]
    pub service_namespace: String,
    /// Interfaces it answers on; none stands for all.
    #[schemars(length(max = 1024))]
    pub interfaces: Vec<InterfaceReference>,
}

/// An interface of a node.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct InterfaceReference {
    /// Its name.
    #[schemars(length(max = 15))]
    pub name: String,
}

/// Nothing: all there is to say stands in the status.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "ServiceBGPStatus",
    root = "ServiceBgpStatus",
    plural = "servicebgpstatuses",
    namespaced,
    status = "ServiceBgpStatusStatus",
    doc = "Says to which BGP peers a node announces a Service.",
    printcolumn(name = "Node", type_ = "string", json_path = ".status.node"),
    printcolumn(
        name = "Service Name",
        type_ = "string",
        json_path = ".status.serviceName"
    ),
    printcolumn(
        name = "Service Namespace",
        type_ = "string",
        json_path = ".status.serviceNamespace"
    )
)]
pub struct ServiceBgpStatusSpec {}

/// To whom a node announces a Service.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceBgpStatusStatus {
    /// Node that announces.
    #[schemars(length(max = 253))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("self == oldSelf", "Value is immutable"),
]))]
    pub node: String,
    /// Name of the Service.
    #[schemars(length(max = 253))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("self == oldSelf", "Value is immutable"),
]))]
    pub service_name: String,
    /// Namespace of the Service.
    #[schemars(length(max = 253))]
    #[schemars(extend("x-kubernetes-validations" = [
rule("self == oldSelf", "Value is immutable"),
]))]
    pub service_namespace: String,
    /// Names of the BGPPeers that the Service is announced to, sorted.
    #[schemars(length(max = 1024), inner(length(max = 253)))]
    pub peers: Vec<String>,
}
