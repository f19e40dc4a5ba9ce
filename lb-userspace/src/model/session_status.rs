//! What a BGP session is doing, for status output.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::Serialize;

use super::bfd::BfdStatus;

/// The states of RFC 4271, as fixed lower-case words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionState {
    /// Not trying.
    #[default]
    Idle,
    /// Connecting.
    Connect,
    /// Waiting to connect again.
    Active,
    /// Waiting for the peer's OPEN.
    OpenSent,
    /// Waiting for the peer's first KEEPALIVE.
    OpenConfirm,
    /// Up.
    Established,
}

/// What a BGP session is doing.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct SessionStatus {
    /// BGPPeer name.
    pub peer: String,
    /// The peer's address.
    pub address: IpAddr,
    /// State.
    pub state: SessionState,
    /// When the state was entered.
    #[serde(skip)]
    pub since: Instant,
    /// Negotiated hold time in seconds; absent before OPENs are exchanged, 0 for none.
    #[serde(rename = "hold_time_seconds")]
    pub hold_time: Option<u64>,
    /// The peer's AS, from its OPEN.
    pub peer_asn: Option<u32>,
    /// The peer's router ID, from its OPEN.
    pub peer_router_id: Option<Ipv4Addr>,
    /// Negotiated families.
    pub families: Vec<String>,
    /// Routes that the peer was sent and should hold.
    pub routes: Vec<IpNet>,
    /// What is configured but not announced, and why.
    pub not_announced: Vec<String>,
    /// Prefixes that the peer announced to us, all refused.
    pub received_refused: u64,
    /// NOTIFICATIONs sent.
    pub notifications_sent: u64,
    /// NOTIFICATIONs received.
    pub notifications_received: u64,
    /// The last failure and what to do about it; kept after recovery.
    pub last_error: Option<String>,
    /// BFD beside the session.
    pub bfd: Option<BfdStatus>,
}

impl SessionStatus {
    /// The status of a session that has not begun.
    pub const fn new(peer: String, address: IpAddr, now: Instant) -> Self {
        Self {
            peer,
            address,
            state: SessionState::Idle,
            since: now,
            hold_time: None,
            peer_asn: None,
            peer_router_id: None,
            families: Vec::new(),
            routes: Vec::new(),
            not_announced: Vec::new(),
            received_refused: 0,
            notifications_sent: 0,
            notifications_received: 0,
            last_error: None,
            bfd: None,
        }
    }

    /// How long the session has been up; none while it is not.
    pub fn uptime(&self, now: Instant) -> Option<Duration> {
        let is_up = self.state == SessionState::Established;
        is_up.then(|| now.saturating_duration_since(self.since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_words_and_uptime_counts_only_while_established() {
        let start = Instant::now();
        let later = start + Duration::from_secs(7);
        let mut status = SessionStatus::new("tor".into(), [10, 0, 0, 1].into(), start);
        assert_eq!(status.uptime(later), None);
        status.state = SessionState::Established;
        assert_eq!(status.uptime(later), Some(Duration::from_secs(7)));

        let json = serde_json::to_value(&status).unwrap();
        assert_eq!(json["state"], "established");
        assert_eq!(json["hold_time_seconds"], serde_json::Value::Null);
        status.state = SessionState::OpenConfirm;
        assert_eq!(
            serde_json::to_value(&status).unwrap()["state"],
            "open_confirm"
        );
    }
}
