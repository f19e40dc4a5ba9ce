//! What an intent means to the session and to its socket.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::model::cluster::{Community, Family, PeerAsn};
use crate::model::intent::{RouteAttributes, SessionConfig};
use crate::model::peer_options::{Connect, PeerRole};
use crate::net::bgp_socket::{DialOptions, SocketOptions};
use crate::net::tcp_md5::Md5Key;
use crate::proto::bgp::adj_out::{Attributes, Routes};
use crate::proto::bgp::negotiation::{Config, ExpectedAs, Options};
use crate::proto::bgp::nlri;
use crate::proto::bgp::retention::Retention;
use crate::proto::bgp::role::Role;

/// TTL towards an external peer that is one hop away.
const ONE_HOP: u8 = 1;

const fn wire_family(family: Family) -> nlri::Family {
    match family {
        Family::V4 => nlri::Family::Ipv4Unicast,
        Family::V6 => nlri::Family::Ipv6Unicast,
    }
}

pub(super) fn session_config(config: &SessionConfig) -> Config {
    Config {
        my_asn: config.my_asn,
        peer_asn: match config.peer_asn {
            PeerAsn::Number(asn) => ExpectedAs::Number(asn),
            PeerAsn::Internal => ExpectedAs::Internal,
            PeerAsn::External => ExpectedAs::External,
        },
        router_id: config.router_id,
        hold_time: config.hold_time,
        keepalive_time: config.keepalive_time,
        connect_time: config.connect_time,
        families: config.families.iter().copied().map(wire_family).collect(),
        next_hops: config
            .next_hops
            .iter()
            .map(|(&family, &addr)| (wire_family(family), addr))
            .collect(),
        options: Options {
            passive: config.options.connect == Connect::Passive,
            delay_open: config.options.delay_open,
            role: config.options.role.map(wire_role),
            retention: config.options.restart_profile.map(|profile| Retention {
                restart_time: profile.restart_time(),
                stale_time: profile.stale_time(),
            }),
            host_name: config.host_name.clone(),
        },
    }
}

const fn wire_role(role: PeerRole) -> Role {
    match role {
        PeerRole::Provider => Role::Provider,
        PeerRole::RouteServer => Role::RouteServer,
        PeerRole::RouteServerClient => Role::RouteServerClient,
        PeerRole::Customer => Role::Customer,
        PeerRole::Peer => Role::Peer,
    }
}

/// GRACEFUL_SHUTDOWN (RFC 8326 §4).
const GRACEFUL_SHUTDOWN: u32 = 0xffff_0000;

/// Equal attributes become one allocation, since thousands of routes share them. On a `shutdown` the peer is
/// told to prefer anything else.
pub(super) fn session_routes(routes: &BTreeMap<IpNet, RouteAttributes>, shutdown: bool) -> Routes {
    let mut interned: BTreeSet<Arc<Attributes>> = BTreeSet::new();
    let mut intern = |route: &RouteAttributes| {
        let mut attributes = Attributes {
            local_pref: route.local_pref,
            med: route.med,
            prepend: route.prepend,
            link_bandwidth: route.link_bandwidth,
            ..Attributes::default()
        };
        if shutdown {
            attributes.communities.insert(GRACEFUL_SHUTDOWN);
            attributes.local_pref = Some(0);
        }
        for community in &route.communities {
            match *community {
                Community::Standard(value) => _ = attributes.communities.insert(value),
                Community::Large(a, b, c) => _ = attributes.large_communities.insert((a, b, c)),
            }
        }
        match interned.get(&attributes) {
            Some(known) => known.clone(),
            None => {
                let shared = Arc::new(attributes);
                interned.insert(shared.clone());
                shared
            }
        }
    };
    routes
        .iter()
        .map(|(prefix, route)| (prefix.trunc(), intern(route)))
        .collect()
}

pub(super) const fn peer_address(config: &SessionConfig) -> SocketAddr {
    SocketAddr::new(config.peer_address, config.peer_port)
}

/// Whether going over from one to the other takes another session: another OPEN, or another connection.
pub(super) fn needs_new_session(before: &SessionConfig, after: &SessionConfig) -> bool {
    let connection = |config| {
        let mut options = dial_options(config);
        options.socket.user_timeout = None;
        options
    };
    before.options.interface != after.options.interface
        || session_config(before).needs_new_open(&session_config(after))
        || connection(before) != connection(after)
}

pub(super) fn dial_options(config: &SessionConfig) -> DialOptions {
    DialOptions {
        peer: peer_address(config),
        source: config.source_address,
        socket: socket_options(config),
    }
}

pub(super) fn socket_options(config: &SessionConfig) -> SocketOptions {
    let is_external = match config.peer_asn {
        PeerAsn::Number(asn) => asn != config.my_asn,
        PeerAsn::Internal => false,
        PeerAsn::External => true,
    };
    let security = config.options.ttl_security;
    let one_hop = (is_external && !config.multihop).then_some(ONE_HOP);
    SocketOptions {
        // RFC 5082 §3: who may be so many hops away sends with the highest, and takes what lost no more.
        ttl: security.map(|_| u8::MAX).or(one_hop),
        least_ttl: security.map(|hops| u8::MAX - (hops - 1)),
        // As long as the send hold time: the hold timer is to notice first, and to say so.
        user_timeout: (!config.hold_time.is_zero()).then(|| config.hold_time * 2),
        device: config.options.device.clone(),
        md5_key: config
            .password
            .as_ref()
            .map(|password| Md5Key::new(password.expose())),
    }
}
