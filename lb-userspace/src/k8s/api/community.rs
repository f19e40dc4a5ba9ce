//! Community: names for BGP communities.

use serde::Deserialize;

/// `spec` of a Community (v1beta1).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CommunitySpec {
    /// The names.
    pub communities: Vec<CommunityAlias>,
}

/// A name for a BGP community.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct CommunityAlias {
    /// The name.
    pub name: String,
    /// `A:B` or `large:A:B:C`.
    pub value: String,
}
