//! What a BGPPeer may ask for beyond the ordinary; most of it by annotation.

use std::fmt;
use std::time::Duration;

use ipnet::IpNet;

/// What a BGPPeer may ask for beyond the ordinary.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PeerOptions {
    /// How long the peer is asked to keep our routes over a restart; absent means not at all.
    pub restart_profile: Option<RestartProfile>,
    /// Who makes the connection.
    pub connect: Connect,
    /// Where we listen, if we do; absent means port 179.
    pub listen_port: Option<u16>,
    /// The peer is at most so many hops away, and packets from farther off are dropped (RFC 5082).
    pub ttl_security: Option<u8>,
    /// What we are to the peer (RFC 9234).
    pub role: Option<PeerRole>,
    /// The peer is whoever is a router on this interface; its address is found out.
    pub interface: Option<String>,
    /// VRF device of the session.
    pub device: Option<String>,
    /// How long routes stay with GRACEFUL_SHUTDOWN before they are withdrawn; absent means five seconds.
    pub drain_wait: Option<Duration>,
    /// The peers are whoever connects from there.
    pub listen_range: Option<ListenRange>,
    /// How long the peer's OPEN is awaited before ours is sent (RFC 4271 §8.1.1, DelayOpen); absent means not
    /// at all.
    pub delay_open: Option<Duration>,
}

/// Where peers that are not configured one by one may come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenRange {
    /// Their addresses.
    pub network: IpNet,
    /// How many there may be at a time.
    pub limit: u16,
}

impl ListenRange {
    /// The limit where none is given.
    pub const LIMIT: u16 = 100;
}

/// Who makes the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Connect {
    /// We do, and nobody else.
    #[default]
    Active,
    /// The peer does.
    Passive,
    /// Whoever is first.
    Both,
}

impl Connect {
    /// Every word for it, in annotations.
    pub const WORDS: &[&str] = &["active", "passive", "both"];

    /// From its word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "active" => Some(Self::Active),
            "passive" => Some(Self::Passive),
            "both" => Some(Self::Both),
            _ => None,
        }
    }

    /// Whether we accept connections.
    pub const fn listens(self) -> bool {
        matches!(self, Self::Passive | Self::Both)
    }
}

/// How long a peer is asked to keep routes whose speaker is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RestartProfile {
    /// Two minutes (RFC 4724): for peers that see a dead node by BFD.
    Graceful,
    /// Fifteen seconds, then as a last resort for five minutes (RFC 9494).
    Brief,
    /// As a last resort only, for five minutes: a dead node gets no traffic while another one lives.
    LastResort,
}

impl RestartProfile {
    /// Every word for it, in annotations; `none` is none.
    pub const WORDS: &[&str] = &["graceful", "brief", "last-resort", "none"];

    /// From its word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "graceful" => Some(Self::Graceful),
            "brief" => Some(Self::Brief),
            "last-resort" => Some(Self::LastResort),
            _ => None,
        }
    }

    /// For how long routes stay as good as ever.
    pub const fn restart_time(self) -> Duration {
        match self {
            Self::Graceful => Duration::from_secs(120),
            Self::Brief => Duration::from_secs(15),
            Self::LastResort => Duration::ZERO,
        }
    }

    /// For how long after that they stay as a last resort.
    pub const fn stale_time(self) -> Duration {
        match self {
            Self::Graceful => Duration::ZERO,
            Self::Brief | Self::LastResort => Duration::from_secs(300),
        }
    }
}

/// What we are to the peer (RFC 9234).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerRole {
    /// The peer pays us.
    Provider,
    /// We are a route server.
    RouteServer,
    /// The peer is a route server.
    RouteServerClient,
    /// We pay the peer.
    Customer,
    /// Neither pays.
    Peer,
}

impl PeerRole {
    /// Every word for it, in annotations.
    pub const WORDS: &[&str] = &["provider", "rs-server", "rs-client", "customer", "peer"];

    /// From its word.
    pub fn from_word(word: &str) -> Option<Self> {
        match word {
            "provider" => Some(Self::Provider),
            "rs-server" => Some(Self::RouteServer),
            "rs-client" => Some(Self::RouteServerClient),
            "customer" => Some(Self::Customer),
            "peer" => Some(Self::Peer),
            _ => None,
        }
    }
}

impl fmt::Display for Connect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Active => "active",
            Self::Passive => "passive",
            Self::Both => "both",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_has_its_meaning() {
        for word in Connect::WORDS {
            assert_eq!(&Connect::from_word(word).unwrap().to_string(), word);
        }
        assert!(
            PeerRole::WORDS
                .iter()
                .all(|word| PeerRole::from_word(word).is_some())
        );
        let profiles = RestartProfile::WORDS.iter();
        let known = profiles.filter_map(|word| RestartProfile::from_word(word));
        assert_eq!(known.count(), RestartProfile::WORDS.len() - 1);
    }
}
