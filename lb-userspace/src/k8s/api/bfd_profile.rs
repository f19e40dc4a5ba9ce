//! BFDProfile: timers of a BFD session.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigStatus;

/// Timers and modes of BFD sessions (RFC 5880).
#[derive(
    CustomResource, JsonSchema, Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize,
)]
#[kube(
    group = "metallb.io",
    version = "v1beta1",
    kind = "BFDProfile",
    root = "BfdProfile",
    plural = "bfdprofiles",
    namespaced,
    status = "ConfigStatus",
    doc = "Timers and modes of the BFD sessions of the BGPPeers that name it.",
    printcolumn(
        name = "Passive Mode",
        type_ = "boolean",
        json_path = ".spec.passiveMode"
    ),
    printcolumn(
        name = "Transmit Interval",
        type_ = "integer",
        json_path = ".spec.transmitInterval"
    ),
    printcolumn(
        name = "Receive Interval",
        type_ = "integer",
        json_path = ".spec.receiveInterval"
    ),
    printcolumn(
        name = "Multiplier",
        type_ = "integer",
        json_path = ".spec.detectMultiplier"
    )
)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct BfdProfileSpec {
    /// Shortest interval between packets that we can receive, in milliseconds; 300 unless set.
    #[schemars(range(min = 10, max = 60_000))]
    pub receive_interval: Option<u32>,
    /// Shortest interval between packets that we want to send, in milliseconds; 300 unless set.
    #[schemars(range(min = 10, max = 60_000))]
    pub transmit_interval: Option<u32>,
    /// Packets that may be lost before the session is down; 3 unless set.
    #[schemars(range(min = 2, max = 255))]
    pub detect_multiplier: Option<u32>,
    /// Interval between echo packets, in milliseconds; 50 unless set.
    #[schemars(range(min = 10, max = 60_000))]
    pub echo_interval: Option<u32>,
    /// Send echo packets (RFC 5880 §6.4).
    pub echo_mode: Option<bool>,
    /// Let the peer speak first (RFC 5880 §6.1).
    pub passive_mode: Option<bool>,
    /// Lowest TTL to accept on a session over several hops; 254 unless set.
    #[schemars(range(min = 1, max = 254))]
    pub minimum_ttl: Option<u32>,
}
