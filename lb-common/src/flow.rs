//! The flow tables: which there are, when an entry is over, how long it stays.
//!
//! A flow has two entries, forward and reverse. Both carry state and time, so that each is judged alone:
//! whoever sweeps removes an entry by its own stamps and need not find its twin, whose key may by then
//! belong to another flow.

use crate::maps::{Flow, flow_state};
use crate::wire::protocol;

/// One of the flow tables of an address family.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlowTable {
    /// TCP whose handshake is open: evicts.
    HalfOpen,
    /// Established TCP: refuses when full.
    Established,
    /// UDP that the pod has not answered: evicts.
    Unanswered,
    /// UDP that the pod answered: refuses when full.
    Udp,
}

impl FlowTable {
    /// Whether an entry may have to give way to another.
    pub const fn evicts(self) -> bool {
        matches!(self, Self::HalfOpen | Self::Unanswered)
    }

    /// Where flows of an IP protocol begin.
    #[inline(always)]
    pub(crate) const fn of_new(ip_protocol: u8) -> Self {
        if ip_protocol == protocol::UDP {
            Self::Unanswered
        } else {
            Self::HalfOpen
        }
    }

    /// Where flows of an IP protocol go once both sides were heard.
    #[inline(always)]
    pub(crate) const fn of_lasting(ip_protocol: u8) -> Self {
        if ip_protocol == protocol::UDP {
            Self::Udp
        } else {
            Self::Established
        }
    }
}

/// Seconds without a packet after which a half-open flow no longer holds its reverse entry.
pub const HALF_OPEN_TIMEOUT: u32 = 30;
/// Seconds without a packet after which an established flow is forgotten: five days, as nf_conntrack.
pub const ESTABLISHED_TIMEOUT: u32 = 432_000;
/// The same once one side sent FIN.
pub const HALF_CLOSED_TIMEOUT: u32 = 3_600;
/// The same once both sides sent FIN.
pub const CLOSED_TIMEOUT: u32 = 120;
/// The same once either side sent RST.
pub const RESET_TIMEOUT: u32 = 10;
/// Seconds without a packet after which a UDP flow that the pod never answered is forgotten.
pub const UDP_TIMEOUT: u32 = 30;
/// The same once the pod answered: what `nf_conntrack_udp_timeout` is unless set, which is the shortest
/// time after which the kernel may masquerade the pod's next datagram.
pub const UDP_ANSWERED_TIMEOUT: u32 = 30;

/// Any of these makes a SYN the beginning of a new flow.
pub const CLOSING: u16 = flow_state::CLIENT_FIN | flow_state::POD_FIN | flow_state::RESET;

const BOTH_FIN: u16 = flow_state::CLIENT_FIN | flow_state::POD_FIN;

/// Whether nothing but copies is to come: both sides sent FIN, or one RST.
pub(crate) const fn is_closed(state: u16) -> bool {
    state & BOTH_FIN == BOTH_FIN || state & flow_state::RESET != 0
}

/// Seconds that an entry may be idle which is not of the half-open table.
pub const fn timeout(state: u16, ip_protocol: u8) -> u32 {
    if ip_protocol == protocol::UDP {
        return if state & flow_state::ANSWERED != 0 {
            UDP_ANSWERED_TIMEOUT
        } else {
            UDP_TIMEOUT
        };
    }
    if state & flow_state::RESET != 0 {
        RESET_TIMEOUT
    } else if state & BOTH_FIN == BOTH_FIN {
        CLOSED_TIMEOUT
    } else if state & BOTH_FIN != 0 {
        HALF_CLOSED_TIMEOUT
    } else {
        ESTABLISHED_TIMEOUT
    }
}

/// Whether an entry that is not of the half-open table was idle for too long.
///
/// `now` is in seconds of `CLOCK_MONOTONIC`, as [`Flow::seen`].
pub const fn expired(flow: &Flow, ip_protocol: u8, now: u32) -> bool {
    // A packet may be seen between the reading of the clock and the look at the entry.
    now.saturating_sub(flow.seen) > timeout(flow.state, ip_protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(state: u16) -> Flow {
        Flow {
            state,
            seen: 1_000,
            ..Flow::default()
        }
    }

    #[test]
    fn each_state_has_its_timeout() {
        for (state, ip_protocol, limit) in [
            (0, protocol::TCP, ESTABLISHED_TIMEOUT),
            (flow_state::CLIENT_FIN, protocol::TCP, HALF_CLOSED_TIMEOUT),
            (flow_state::POD_FIN, protocol::TCP, HALF_CLOSED_TIMEOUT),
            (BOTH_FIN, protocol::TCP, CLOSED_TIMEOUT),
            (BOTH_FIN | flow_state::RESET, protocol::TCP, RESET_TIMEOUT),
            (0, protocol::UDP, UDP_TIMEOUT),
            (flow_state::ANSWERED, protocol::UDP, UDP_ANSWERED_TIMEOUT),
        ] {
            assert!(!expired(&flow(state), ip_protocol, 1_000 + limit));
            assert!(expired(&flow(state), ip_protocol, 1_001 + limit));
        }
    }

    #[test]
    fn a_flow_seen_after_the_clock_was_read_is_not_expired() {
        assert!(!expired(&flow(flow_state::RESET), protocol::TCP, 999));
    }
}
