//! The kinds of group `metallb.io`, field by field as MetalLB defines them, and
//! the one of `torline.io`.
//!
//! Each kind has its own file with the type of its `spec`. Fields nobody knows are refused, as
//! `kubectl apply` refuses them: a misspelt `nodeSelector` must not mean "all nodes".

#![expect(
    clippy::duplicated_attributes,
    reason = "printer columns of one kind have types in common"
)]

mod bfd_profile;
mod bgp_advertisement;
mod bgp_peer;
mod bgp_session_state;
mod community;
mod configuration_state;
mod ip_address_pool;
mod l2_advertisement;
mod label_selector;
mod service_status;
mod virtual_switch;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use bfd_profile::{BfdProfile, BfdProfileSpec};
pub use bgp_advertisement::{BgpAdvertisement, BgpAdvertisementSpec};
pub use bgp_peer::{BgpPeer, BgpPeerSpec, BgpPeerV1beta1, BgpPeerV1beta1Spec, SecretReference};
pub use bgp_session_state::{BgpSessionState, BgpSessionStateSpec, BgpSessionStateStatus};
pub use community::{Community, CommunityAlias, CommunitySpec};
pub use configuration_state::{
    ConfigurationState, ConfigurationStateSpec, ConfigurationStateStatus,
};
pub use ip_address_pool::{
    IpAddressPool, IpAddressPoolSpec, IpAddressPoolStatus, ServiceAllocation,
};
pub use l2_advertisement::{L2Advertisement, L2AdvertisementSpec, PreferredNodes};
pub use label_selector::{LabelSelector, LabelSelectorRequirement};
pub use service_status::{
    InterfaceReference, ServiceBgpStatus, ServiceBgpStatusSpec, ServiceBgpStatusStatus,
    ServiceL2Status, ServiceL2StatusSpec, ServiceL2StatusStatus,
};
pub use virtual_switch::{Port, VirtualSwitch, VirtualSwitchSpec};

/// Nothing: no state is kept for this kind.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ConfigStatus {}

/// A MetalLB object with the given `spec`.
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resource<S> {
    /// Group and version.
    #[serde(default)]
    pub api_version: String,
    /// Kind.
    #[serde(default)]
    pub kind: String,
    /// Name, namespace, labels and annotations.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What the user wants.
    pub spec: S,
    /// What MetalLB noted on the object; not read.
    #[serde(default)]
    pub status: Option<IgnoredAny>,
}

/// A rule of `x-kubernetes-validations`: a CEL expression, and what to tell where it does not hold.
fn rule(rule: &str, message: &str) -> Value {
    json!({ "rule": rule, "message": message })
}
