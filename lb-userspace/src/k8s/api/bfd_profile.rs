//! BFDProfile: timers of a BFD session.

use serde::Deserialize;

/// `spec` of a BFDProfile (v1beta1).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BfdProfileSpec {
    /// Receive interval in milliseconds, 10 to 60,000.
    pub receive_interval: Option<u32>,
    /// Transmit interval in milliseconds, 10 to 60,000.
    pub transmit_interval: Option<u32>,
    /// Packets that may be lost, 2 to 255.
    pub detect_multiplier: Option<u32>,
    /// Echo interval in milliseconds, 10 to 60,000.
    pub echo_interval: Option<u32>,
    /// Send echo packets.
    pub echo_mode: Option<bool>,
    /// Let the peer speak first.
    pub passive_mode: Option<bool>,
    /// Lowest TTL to accept on a multihop session, 1 to 254.
    pub minimum_ttl: Option<u32>,
}
