//! Community: names for BGP communities.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigStatus;

/// The names that a Community defines.
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "Community",
    plural = "communities",
    namespaced,
    status = "ConfigStatus",
    doc = "Names for BGP communities, for use in BGPAdvertisements."
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CommunitySpec {
    /// The names. No name may be defined twice, here or in another Community.
    #[schemars(length(max = 1024))]
    pub communities: Vec<CommunityAlias>,
}

/// A name for a BGP community.
#[derive(JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CommunityAlias {
    /// The name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// The community: `A:B` (RFC 1997), or `large:A:B:C` (RFC 8092).
    #[schemars(
        length(max = 64),
        regex(pattern = "^([0-9]{1,5}:[0-9]{1,5}|large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10})$")
    )]
    pub value: String,
}
