//! What a session looks like from outside, and why it failed.

use std::io;
use std::sync::Arc;

use tokio::sync::watch;

use crate::model::session_status::{SentAttributes, SentRoute, SessionState, SessionStatus};
use crate::net::bgp_socket::DialError;
use crate::proto::bgp::adj_out::{AdjOut, Attributes};
use crate::proto::bgp::attribute::Path;
use crate::proto::bgp::fsm::State;
use crate::proto::bgp::nlri::Family;
use crate::proto::bgp::session::{Session, Withheld};

/// Brings a status up to date with its session; readers are woken if something changed.
pub(super) fn publish(session: &Session, generation: &mut u64, to: &watch::Sender<SessionStatus>) {
    let adj_out = session.adj_out();
    let sent = (*generation != adj_out.generation()).then(|| sent_routes(adj_out));
    *generation = adj_out.generation();
    to.send_if_modified(|status| {
        // Thousands of routes are not copied to see that they are the same.
        let routes = std::mem::take(&mut status.routes);
        let before = status.clone();
        describe(session, status);
        let mut changed = *status != before;
        status.routes = match sent {
            None => routes,
            Some(sent) => {
                changed = true;
                let routes = sent.iter().map(|route| route.prefix).collect();
                status.sent = sent.into();
                routes
            }
        };
        changed
    });
}

fn describe(session: &Session, status: &mut SessionStatus) {
    let negotiated = session.negotiated();
    status.hold_time = negotiated.map(|n| n.hold_time.as_secs());
    status.keepalive_time = negotiated.map(|n| n.keepalive_time.as_secs());
    status.peer_asn = negotiated.map(|n| n.peer_asn);
    status.peer_router_id = negotiated.map(|n| n.peer_router_id);
    status.peer_host_name = negotiated.and_then(|n| n.host_name.clone());
    let families = negotiated.iter().flat_map(|n| &n.families);
    status.families = families.map(ToString::to_string).collect();
    let capabilities = negotiated.iter().flat_map(|n| &n.capabilities);
    status.capabilities = capabilities.map(|code| capability(*code)).collect();
    let restart = negotiated.map(|n| n.restart).unwrap_or_default();
    status.peer_keeps_routes = restart.keeps;
    status.not_announced = not_announced(session);
    let counters = session.counters();
    status.established_count = counters.established;
    status.messages_sent = counters.messages_sent;
    status.messages_received = counters.messages_received;
    status.received_refused = counters.received_refused;
    status.updates_malformed = counters.treated_as_withdraw + counters.attributes_discarded;
    status.notifications_sent = counters.notifications_sent;
    status.notifications_received = counters.notifications_received;
}

/// What the peer was sent. Equal attributes are one allocation, since thousands of routes share them.
fn sent_routes(adj_out: &AdjOut) -> Vec<SentRoute> {
    let mut rendered: Vec<(*const Attributes, Family, Arc<SentAttributes>)> = Vec::new();
    let mut routes = Vec::with_capacity(adj_out.sent().len());
    for (prefix, attributes) in adj_out.sent() {
        let family = Family::of(prefix.addr());
        let key = Arc::as_ptr(attributes);
        let known = rendered.iter().rev().take(8);
        let known = known
            .filter(|(at, of, _)| *at == key && *of == family)
            .map(|(.., attributes)| Arc::clone(attributes))
            .next();
        let attributes = known.unwrap_or_else(|| {
            let path = adj_out.path(family, attributes);
            let attributes = Arc::new(path.as_ref().map(render).unwrap_or_default());
            rendered.push((key, family, Arc::clone(&attributes)));
            attributes
        });
        routes.push(SentRoute {
            prefix: *prefix,
            attributes,
        });
    }
    routes
}

fn render(path: &Path) -> SentAttributes {
    let standard = path.communities.iter();
    let standard = standard.map(|value| format!("{}:{}", value >> 16, value & 0xffff));
    let large = path.large_communities.iter();
    let large = large.map(|(a, b, c)| format!("{a}:{b}:{c}"));
    let bandwidth = path.extended_communities.iter().find_map(|community| {
        let &[_, 4, _, _, a, b, c, d] = community else {
            return None;
        };
        Some(f32::from_be_bytes([a, b, c, d]).to_string())
    });
    SentAttributes {
        next_hop: Some(path.next_hop),
        link_local: path.link_local,
        as_path: path.as_path.clone(),
        med: path.med,
        local_pref: path.local_pref,
        communities: standard.chain(large).collect(),
        link_bandwidth: bandwidth,
        only_to_customer: path.only_to_customer,
    }
}

/// What people call a capability.
fn capability(code: u8) -> String {
    match code {
        1 => "multiprotocol".to_owned(),
        2 => "route-refresh".to_owned(),
        5 => "extended-next-hop".to_owned(),
        6 => "extended-message".to_owned(),
        9 => "role".to_owned(),
        64 => "graceful-restart".to_owned(),
        65 => "4-octet-as".to_owned(),
        70 => "enhanced-refresh".to_owned(),
        71 => "long-lived-graceful-restart".to_owned(),
        73 => "host-name".to_owned(),
        code => code.to_string(),
    }
}

fn not_announced(session: &Session) -> Vec<String> {
    let withheld = session.withheld().map(|(family, why)| match why {
        Withheld::NotOffered => format!("{family}: the peer does not offer it on this session"),
        Withheld::NoNextHop => {
            format!("{family}: this node has no address of that family as next hop")
        }
    });
    let oversized = session.adj_out().oversized().iter();
    let oversized =
        oversized.map(|prefix| format!("{prefix}: its communities do not fit into a message"));
    withheld.chain(oversized).collect()
}

pub(super) const fn session_state(state: State) -> SessionState {
    match state {
        State::Idle => SessionState::Idle,
        State::Connect => SessionState::Connect,
        State::Active => SessionState::Active,
        State::OpenSent => SessionState::OpenSent,
        State::OpenConfirm => SessionState::OpenConfirm,
        State::Established => SessionState::Established,
    }
}

/// A failed dial, its cause, and what to do about it.
pub(super) fn explain(error: &DialError) -> String {
    let (source, hint) = match error {
        DialError::Option {
            option: "SO_BINDTODEVICE",
            source,
        } => (source, "; spec.vrf must name a device of this node"),
        DialError::Option { source, .. } | DialError::Gone(source) => (source, ""),
        DialError::Source { source, .. } => {
            (source, "; sourceAddress must be an address of this node")
        }
        DialError::Connect { source, .. } => (
            source,
            match source.kind() {
                io::ErrorKind::ConnectionRefused => {
                    "; is BGP running there and is this node configured as neighbour?"
                }
                io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
                    "; is there a route to it? A peer more than one hop away needs ebgpMultiHop"
                }
                io::ErrorKind::TimedOut => "; is it reachable, with the same password?",
                io::ErrorKind::AddrNotAvailable => "; this node has no address to reach it from",
                _ => "",
            },
        ),
    };
    // The kernel's words without Rust's "(os error 111)".
    let text = source.to_string();
    let cause = text
        .split(" (os error")
        .next()
        .unwrap_or(&text)
        .to_lowercase();
    format!("{error}: {cause}{hint}")
}
