//! The kinds of group `metallb.io`, field by field as MetalLB defines them.
//!
//! Each kind has its own file with the type of its `spec`. Fields nobody knows are refused, as
//! `kubectl apply` refuses them: a misspelt `nodeSelector` must not mean "all nodes".

mod bfd_profile;
mod bgp_advertisement;
mod bgp_peer;
mod community;
mod ip_address_pool;
mod l2_advertisement;
mod label_selector;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;

pub use bfd_profile::BfdProfileSpec;
pub use bgp_advertisement::BgpAdvertisementSpec;
pub use bgp_peer::{BgpPeerSpec, SecretReference};
pub use community::{CommunityAlias, CommunitySpec};
pub use ip_address_pool::{IpAddressPoolSpec, ServiceAllocation};
pub use l2_advertisement::{L2AdvertisementSpec, PreferredNodes};
pub use label_selector::{LabelSelector, LabelSelectorRequirement};

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
