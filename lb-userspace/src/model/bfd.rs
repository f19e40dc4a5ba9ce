//! BFD: what a profile asks for, what a session is to do, and how it is.

use std::num::NonZeroU8;
use std::time::{Duration, Instant};

use serde::Serialize;

/// A BFDProfile with its defaults.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BfdProfile {
    /// The shortest interval to receive at.
    pub receive_interval: Duration,
    /// The interval to send at, if the peer can receive that fast.
    pub transmit_interval: Duration,
    /// Packets that may be lost, at least two.
    pub detect_multiplier: NonZeroU8,
    /// Say nothing before the peer does.
    pub is_passive: bool,
    /// The lowest TTL or hop limit to accept from a peer behind routers.
    pub minimum_ttl: u8,
}

/// What BFD is to do for a BGP session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BfdIntent {
    /// Intervals and the rest.
    pub profile: BfdProfile,
    /// How far away the peer is.
    pub reach: BfdReach,
    /// BGP waits until BFD is up.
    pub is_strict: bool,
}

/// How far away the peer is; both ends must agree, since it decides the port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BfdReach {
    /// On the same link.
    SingleHop,
    /// Behind routers.
    MultiHop,
    /// On the same link if an interface here has a network that holds its address.
    AsConnected,
}

/// The states of RFC 5880, as fixed lower-case words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BfdState {
    /// Held down on purpose.
    AdminDown,
    /// The peer is not heard, or does not hear us.
    #[default]
    Down,
    /// The peer is heard.
    Init,
    /// Both hear each other.
    Up,
}

impl BfdState {
    /// The word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AdminDown => "admin_down",
            Self::Down => "down",
            Self::Init => "init",
            Self::Up => "up",
        }
    }
}

/// How BFD beside a BGP session is, now and before.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct BfdReport {
    /// How it is; absent without BFD.
    pub status: Option<BfdStatus>,
    /// How often the path was there and was lost; grows only, so that no loss can be overlooked.
    pub losses: u64,
}

impl BfdReport {
    /// Whether both ends hear each other.
    pub fn is_up(&self) -> bool {
        let state = self.status.as_ref().map(|status| status.state);
        state == Some(BfdState::Up)
    }
}

/// How a BFD session is.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct BfdStatus {
    /// State.
    pub state: BfdState,
    /// When it was entered.
    #[serde(skip)]
    pub since: Instant,
    /// What the peer said last of its own state.
    pub remote_state: BfdState,
    /// Why our state changed last, in the words of RFC 5880 §4.1.
    pub local_diagnostic: &'static str,
    /// The same of the peer.
    pub remote_diagnostic: &'static str,
    /// The longest time between two packets of ours; absent while none are sent.
    pub transmit_interval: Option<Duration>,
    /// How long the peer may be silent; absent before it was heard.
    pub detection_time: Option<Duration>,
    /// The peer may be behind routers.
    pub is_multihop: bool,
    /// How often the path was there and was lost, since the agent started.
    pub losses: u64,
    /// Why nothing can be sent or received.
    pub failure: Option<String>,
}
