//! What a BGP session is doing, for status output.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

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
    /// The peer's address; unspecified for those of a range.
    pub address: IpAddr,
    /// Where the peers of a listen range come from; each has a status of its own, as `BGPPeer/address`.
    pub listen_range: Option<IpNet>,
    /// State.
    pub state: SessionState,
    /// When the state was entered.
    #[serde(skip)]
    pub since: Instant,
    /// Negotiated hold time in seconds; absent before OPENs are exchanged, 0 for none.
    #[serde(rename = "hold_time_seconds")]
    pub hold_time: Option<u64>,
    /// Interval between our KEEPALIVEs in seconds; absent before OPENs are exchanged, 0 for none.
    #[serde(rename = "keepalive_time_seconds")]
    pub keepalive_time: Option<u64>,
    /// The peer's AS, from its OPEN.
    pub peer_asn: Option<u32>,
    /// The peer's router ID, from its OPEN.
    pub peer_router_id: Option<Ipv4Addr>,
    /// The peer's host name, if it says one.
    pub peer_host_name: Option<String>,
    /// Capabilities that both sides offered.
    pub capabilities: Vec<String>,
    /// The peer keeps our routes over a restart (RFC 4724, RFC 9494).
    pub peer_keeps_routes: bool,
    /// Negotiated families.
    pub families: Vec<String>,
    /// Routes that the peer was sent and should hold.
    pub routes: Vec<IpNet>,
    /// The same with the attributes they were sent with.
    #[serde(skip)]
    pub sent: Arc<[SentRoute]>,
    /// What is configured but not announced, and why.
    pub not_announced: Vec<String>,
    /// Times that the session came up.
    pub established_count: u64,
    /// Messages sent.
    pub messages_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Prefixes that the peer announced to us, all refused.
    pub received_refused: u64,
    /// UPDATEs with errors that do not end a session (RFC 7606).
    pub updates_malformed: u64,
    /// NOTIFICATIONs sent.
    pub notifications_sent: u64,
    /// NOTIFICATIONs received.
    pub notifications_received: u64,
    /// The last failure and what to do about it; kept after recovery.
    pub last_error: Option<String>,
    /// BFD beside the session.
    pub bfd: Option<BfdStatus>,
}

/// A route that a peer was sent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SentRoute {
    /// The prefix.
    pub prefix: IpNet,
    /// Its attributes; equal ones are shared.
    pub attributes: Arc<SentAttributes>,
}

/// Attributes as they stand on the wire.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SentAttributes {
    /// NEXT_HOP, or the global address of MP_REACH_NLRI.
    pub next_hop: Option<IpAddr>,
    /// The link-local address behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_local: Option<Ipv6Addr>,
    /// AS_PATH, nearest first; empty within an AS.
    pub as_path: Vec<u32>,
    /// MULTI_EXIT_DISC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub med: Option<u32>,
    /// LOCAL_PREF, within an AS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_pref: Option<u32>,
    /// Communities, `A:B` and large ones `A:B:C`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,
    /// Bytes a second of the link bandwidth community (RFC 10005).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_bandwidth: Option<String>,
    /// Only to Customer (RFC 9234).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_to_customer: Option<u32>,
}

impl SessionStatus {
    /// The status of a session that has not begun.
    pub fn new(peer: String, address: IpAddr, now: Instant) -> Self {
        Self {
            peer,
            address,
            listen_range: None,
            state: SessionState::Idle,
            since: now,
            hold_time: None,
            keepalive_time: None,
            peer_asn: None,
            peer_router_id: None,
            peer_host_name: None,
            capabilities: Vec::new(),
            peer_keeps_routes: false,
            families: Vec::new(),
            routes: Vec::new(),
            sent: Arc::new([]),
            not_announced: Vec::new(),
            established_count: 0,
            messages_sent: 0,
            messages_received: 0,
            received_refused: 0,
            updates_malformed: 0,
            notifications_sent: 0,
            notifications_received: 0,
            last_error: None,
            bfd: None,
        }
    }

    /// Where the peer is, or the peers are.
    pub fn place(&self) -> String {
        match self.listen_range {
            Some(range) => range.to_string(),
            None => self.address.to_string(),
        }
    }

    /// The BGPPeer object.
    pub fn object(&self) -> &str {
        self.peer.split('/').next().unwrap_or_default()
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
