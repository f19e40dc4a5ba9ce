//! What the agent says about its BGP peers and what they were sent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::Report;
use crate::model::intent::Intent;
use crate::model::name::ObjectName;
use crate::model::peer_report::{PeerReport, PeersReport, RouteReport, RoutesReport};
use crate::model::session_status::SessionStatus;
use crate::net::clock;
use crate::tasks::bgp::tap::Tap;
use crate::tasks::sessions;

impl Report {
    /// The peers now.
    pub fn peers(&self) -> PeersReport {
        let book = self.sessions.borrow();
        PeersReport {
            node: self.node.clone(),
            peers: book
                .values()
                .map(|entry| describe(&entry.status.borrow()))
                .collect(),
        }
    }

    /// What the sessions of a peer do, message by message.
    pub fn tap(&self, peer: &str) -> Option<Tap> {
        let book = self.sessions.borrow();
        book.get(peer).map(|entry| entry.tap.clone())
    }

    /// What the peers were sent, and for which Services.
    pub fn routes(&self) -> RoutesReport {
        let book = self.sessions.borrow();
        let desired = self.desired.borrow();
        let owners = Owners::new(&desired.intent);
        let routes = book.values().flat_map(|entry| {
            let status = entry.status.borrow();
            let sent = status.sent.iter().map(|route| RouteReport {
                peer: status.peer.clone(),
                prefix: route.prefix.to_string(),
                attributes: (*route.attributes).clone(),
                services: owners.of(status.object(), route.prefix),
            });
            sent.collect::<Vec<_>>()
        });
        RoutesReport {
            node: self.node.clone(),
            routes: routes.collect(),
        }
    }
}

/// The Services at each address that are announced to somebody.
struct Owners<'a>(BTreeMap<IpAddr, Vec<(&'a ObjectName, &'a BTreeSet<String>)>>);

impl<'a> Owners<'a> {
    fn new(intent: &'a Intent) -> Self {
        let mut owners: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (name, service) in &intent.services {
            for addr in &service.addresses {
                let at = owners.entry(*addr).or_default();
                at.push((name, &service.announced_to));
            }
        }
        Self(owners)
    }

    fn of(&self, peer: &str, prefix: IpNet) -> Vec<String> {
        let within = self.0.range(prefix.network()..=prefix.broadcast());
        within
            .flat_map(|(_, owners)| owners)
            .filter(|(_, peers)| peers.contains(peer))
            .map(|(name, _)| name.to_string())
            .collect()
    }
}

fn describe(status: &SessionStatus) -> PeerReport {
    let since = clock::now().saturating_duration_since(status.since);
    PeerReport {
        peer: status.peer.clone(),
        address: status.place(),
        state: sessions::state(status.state).to_owned(),
        since_seconds: since.as_secs(),
        asn: status.peer_asn,
        router_id: status.peer_router_id,
        host_name: status.peer_host_name.clone(),
        hold_time_seconds: status.hold_time,
        keepalive_time_seconds: status.keepalive_time,
        families: status.families.clone(),
        capabilities: status.capabilities.clone(),
        keeps_routes: status.peer_keeps_routes,
        routes: status.routes.len(),
        not_announced: status.not_announced.clone(),
        established_count: status.established_count,
        messages_sent: status.messages_sent,
        messages_received: status.messages_received,
        notifications_sent: status.notifications_sent,
        notifications_received: status.notifications_received,
        received_refused: status.received_refused,
        updates_malformed: status.updates_malformed,
        last_error: status.last_error.clone(),
    }
}
