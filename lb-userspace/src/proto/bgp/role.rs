//! Roles of external peers to each other (RFC 9234).

use std::fmt;

/// What a speaker is to its peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Role {
    /// The peer pays us for transit.
    Provider = 0,
    /// We are the route server of an exchange.
    RouteServer = 1,
    /// The peer is the route server of an exchange.
    RouteServerClient = 2,
    /// We pay the peer for transit; what a node is to its router.
    Customer = 3,
    /// Neither pays.
    Peer = 4,
}

impl Role {
    /// By its number.
    pub const fn from_octet(octet: u8) -> Option<Self> {
        match octet {
            0 => Some(Self::Provider),
            1 => Some(Self::RouteServer),
            2 => Some(Self::RouteServerClient),
            3 => Some(Self::Customer),
            4 => Some(Self::Peer),
            _ => None,
        }
    }

    /// By its name in configurations.
    pub fn from_name(name: &str) -> Option<Self> {
        let roles = (0..=4).filter_map(Self::from_octet);
        roles.into_iter().find(|role| role.name() == name)
    }

    /// Its name in configurations.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::RouteServer => "rs-server",
            Self::RouteServerClient => "rs-client",
            Self::Customer => "customer",
            Self::Peer => "peer",
        }
    }

    /// What the peer must be in return.
    pub const fn counterpart(self) -> Self {
        match self {
            Self::Provider => Self::Customer,
            Self::RouteServer => Self::RouteServerClient,
            Self::RouteServerClient => Self::RouteServer,
            Self::Customer => Self::Provider,
            Self::Peer => Self::Peer,
        }
    }

    /// Whether routes to the peer carry our AS as Only to Customer.
    // RFC 9234 §5: towards a customer, a peer, or a route server's client.
    pub const fn marks_routes(self) -> bool {
        matches!(self, Self::Provider | Self::RouteServer | Self::Peer)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counterparts_are_mutual_and_names_unambiguous() {
        for role in (0..=4).map(|octet| Role::from_octet(octet).unwrap()) {
            assert_eq!(role.counterpart().counterpart(), role);
            assert_eq!(Role::from_name(role.name()), Some(role));
        }
        assert_eq!(Role::from_octet(5), None);
        assert_eq!(Role::from_name("friend"), None);
    }
}
