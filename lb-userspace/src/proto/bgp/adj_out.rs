//! Adj-RIB-Out: what the peer should hold against what it was sent.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;

use super::attribute::{self, Origin, Path};
use super::nlri::Family;
use super::refresh::{self, Subtype};
use super::update;

/// Routes to announce, with attributes shared between routes.
pub type Routes = BTreeMap<IpNet, Arc<Attributes>>;

/// Attributes of a route, beyond those that follow from the session.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Attributes {
    /// LOCAL_PREF, sent to internal peers.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// How often our AS stands in AS_PATH beyond once, to external peers.
    pub prepend: u8,
    /// Bytes a second behind this route, for the link bandwidth community.
    pub link_bandwidth: Option<u64>,
    /// Communities (RFC 1997).
    pub communities: BTreeSet<u32>,
    /// Large communities (RFC 8092).
    pub large_communities: BTreeSet<(u32, u32, u32)>,
}

/// LOCAL_PREF of a route that asks for none.
const DEFAULT_LOCAL_PREF: u32 = 100;

/// How routes look on one established session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Format {
    /// Our AS.
    pub my_asn: u32,
    /// The session is internal.
    pub internal: bool,
    /// AS numbers have four octets.
    pub four_octet_as: bool,
    /// Routes carry our AS as Only to Customer (RFC 9234 §5).
    pub only_to_customer: bool,
    /// Refreshes are marked (RFC 7313).
    pub enhanced_refresh: bool,
    /// Negotiated families, each with its next hop; without one nothing is announced in that family.
    pub next_hops: BTreeMap<Family, Option<NextHop>>,
}

/// Where packets for a route go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NextHop {
    /// The address; `::` beside a link-local one where there is no global one.
    pub addr: IpAddr,
    /// Our link-local address, where the peer is on the same link (RFC 2545 §3).
    pub link_local: Option<Ipv6Addr>,
}

impl From<IpAddr> for NextHop {
    fn from(addr: IpAddr) -> Self {
        Self {
            addr,
            link_local: None,
        }
    }
}

impl Format {
    fn path(&self, attributes: &Attributes, next_hop: NextHop) -> Path {
        let local_pref = attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
        let bandwidth = attributes.link_bandwidth;
        Path {
            origin: Origin::Igp,
            // RFC 4271 §5.1.2: our AS towards external peers, nothing towards internal ones.
            as_path: if self.internal {
                Vec::new()
            } else {
                vec![self.my_asn; 1 + usize::from(attributes.prepend)]
            },
            next_hop: next_hop.addr,
            link_local: next_hop.link_local,
            med: attributes.med,
            // RFC 4271 §5.1.5: always towards internal peers, never towards external ones.
            local_pref: self.internal.then_some(local_pref),
            communities: attributes.communities.clone(),
            extended_communities: bandwidth
                .map(|bytes| attribute::link_bandwidth(self.my_asn, bytes))
                .into_iter()
                .collect(),
            large_communities: attributes.large_communities.clone(),
            only_to_customer: (self.only_to_customer && !self.internal).then_some(self.my_asn),
        }
    }

    fn next_hop(&self, family: Family) -> Option<NextHop> {
        self.next_hops.get(&family).copied().flatten()
    }
}

/// The routes of one session. Only the latest wish is kept, however slow the peer reads.
#[derive(Debug, Default)]
pub struct AdjOut {
    desired: Routes,
    sent: Routes,
    to_withdraw: BTreeMap<Family, BTreeSet<IpNet>>,
    to_announce: BTreeMap<Family, BTreeMap<Arc<Attributes>, BTreeSet<IpNet>>>,
    end_of_rib: BTreeSet<Family>,
    is_partial: bool,
    /// Families that the peer wants again.
    to_refresh: BTreeSet<Family>,
    /// Families being sent again, to be marked when done.
    refreshing: BTreeSet<Family>,
    oversized: BTreeSet<IpNet>,
    format: Option<Format>,
    generation: u64,
}

impl AdjOut {
    /// Replaces the routes to announce; what differs from what was sent goes out.
    pub fn set_desired(&mut self, routes: Routes) {
        self.desired = routes;
        self.recompute();
    }

    /// Whether routes may be missing from what is desired. While they may, the peer hears no End-of-RIB, since
    /// one that helps us over a restart would drop what is missing.
    pub const fn set_partial(&mut self, is_partial: bool) {
        self.is_partial = is_partial;
    }

    /// A session came up: everything goes out, then End-of-RIB for every negotiated family.
    pub fn begin(&mut self, format: Format) {
        self.sent.clear();
        self.generation += 1;
        self.end_of_rib = format.next_hops.keys().copied().collect();
        self.to_refresh.clear();
        self.refreshing.clear();
        self.format = Some(format);
        self.recompute();
    }

    /// The session is down: the peer holds nothing of ours any more.
    pub fn end(&mut self) {
        self.format = None;
        self.generation += 1;
        self.sent.clear();
        self.end_of_rib.clear();
        self.to_refresh.clear();
        self.refreshing.clear();
        self.recompute();
    }

    /// A next hop changed: the routes of its family go out again, or are withdrawn if it is gone.
    pub fn set_next_hop(&mut self, family: Family, next_hop: Option<NextHop>) {
        let Some(Entry::Occupied(mut current)) =
            self.format.as_mut().map(|f| f.next_hops.entry(family))
        else {
            return;
        };
        if current.insert(next_hop) != next_hop {
            self.recompute();
            self.resend(family);
        }
    }

    /// The peer asks for everything of a family again (RFC 2918 §4). Nothing happens for a family that was not
    /// negotiated; requests that come while one waits are one.
    pub fn refresh(&mut self, family: Family) {
        if (self.format.as_ref()).is_some_and(|format| format.next_hops.contains_key(&family)) {
            self.to_refresh.insert(family);
        }
    }

    fn resend(&mut self, family: Family) {
        if self
            .format
            .as_ref()
            .is_none_or(|format| format.next_hop(family).is_none())
        {
            return;
        }
        let groups = self.to_announce.entry(family).or_default();
        for (prefix, attributes) in self
            .desired
            .iter()
            .filter(|(p, _)| Family::of(p.addr()) == family)
        {
            if !self.oversized.contains(prefix) {
                groups
                    .entry(attributes.clone())
                    .or_default()
                    .insert(*prefix);
            }
        }
    }

    /// The next message: withdrawals before announcements, each family's End-of-RIB behind its routes, then
    /// what the peer asked for again.
    pub fn poll(&mut self) -> Option<Bytes> {
        loop {
            let message = self
                .poll_withdrawal()
                .or_else(|| self.poll_announcement())
                // An announcement that does not fit leaves a withdrawal behind.
                .or_else(|| self.poll_withdrawal())
                .or_else(|| self.poll_end_of_rib())
                .or_else(|| self.poll_refreshed());
            if message.is_some() {
                return message;
            }
            // RFC 7313 §4.1: not before End-of-RIB.
            let ready = |family: &Family| !self.end_of_rib.contains(family);
            let family = self.to_refresh.iter().copied().find(ready)?;
            self.to_refresh.remove(&family);
            self.resend(family);
            if self.format.as_ref().is_some_and(|f| f.enhanced_refresh) {
                self.refreshing.insert(family);
                return Some(refresh::encode(family, Subtype::Begin));
            }
        }
    }

    fn poll_end_of_rib(&mut self) -> Option<Bytes> {
        if self.is_partial {
            return None;
        }
        self.end_of_rib.pop_first().map(update::end_of_rib)
    }

    fn poll_refreshed(&mut self) -> Option<Bytes> {
        let family = self.refreshing.pop_first()?;
        Some(refresh::encode(family, Subtype::End))
    }

    /// Whether every negotiated family's End-of-RIB is out.
    pub fn is_complete(&self) -> bool {
        self.format.is_some() && self.end_of_rib.is_empty()
    }

    /// What the peer was sent and should hold.
    pub const fn sent(&self) -> &Routes {
        &self.sent
    }

    /// Another number whenever what the peer was sent changed.
    pub const fn generation(&self) -> u64 {
        self.generation
    }

    /// How a route with these attributes looks on the wire; none while there is no session.
    pub fn path(&self, family: Family, attributes: &Attributes) -> Option<Path> {
        let format = self.format.as_ref()?;
        Some(format.path(attributes, format.next_hop(family)?))
    }

    /// Routes whose attributes do not fit into a message; they are not announced.
    pub const fn oversized(&self) -> &BTreeSet<IpNet> {
        &self.oversized
    }

    fn poll_withdrawal(&mut self) -> Option<Bytes> {
        let mut entry = self.to_withdraw.first_entry()?;
        let family = *entry.key();
        let prefixes = entry.get_mut();
        let (message, count) = update::withdraw(family, prefixes.iter())?;
        self.generation += 1;
        for _ in 0..count {
            if let Some(prefix) = prefixes.pop_first() {
                self.sent.remove(&prefix);
            }
        }
        if prefixes.is_empty() {
            entry.remove();
        }
        Some(message)
    }

    fn poll_announcement(&mut self) -> Option<Bytes> {
        let format = self.format.as_ref()?;
        loop {
            let mut family = self.to_announce.first_entry()?;
            let family_of_group = *family.key();
            let next_hop = format.next_hop(family_of_group);
            let (Some(next_hop), Some(mut group)) = (next_hop, family.get_mut().first_entry())
            else {
                family.remove();
                continue;
            };
            let path = format.path(group.key(), next_hop);
            let attributes = group.key().clone();
            let prefixes = group.get_mut();
            let Some((message, count)) =
                update::announce(&path, format.four_octet_as, prefixes.iter())
            else {
                // What the peer holds of these is outdated, and its successor cannot be told.
                let stale = prefixes
                    .iter()
                    .filter(|prefix| self.sent.contains_key(prefix))
                    .copied();
                self.to_withdraw
                    .entry(family_of_group)
                    .or_default()
                    .extend(stale);
                self.to_withdraw.retain(|_, prefixes| !prefixes.is_empty());
                self.oversized.append(prefixes);
                group.remove();
                continue;
            };
            self.generation += 1;
            for _ in 0..count {
                if let Some(prefix) = prefixes.pop_first() {
                    self.sent.insert(prefix, attributes.clone());
                }
            }
            if prefixes.is_empty() {
                group.remove();
            }
            return Some(message);
        }
    }

    fn recompute(&mut self) {
        self.to_withdraw.clear();
        self.to_announce.clear();
        self.oversized.clear();
        let Some(format) = &self.format else {
            return;
        };
        let may_send = |prefix: &IpNet| format.next_hop(Family::of(prefix.addr())).is_some();
        for prefix in self.sent.keys() {
            if !(self.desired.contains_key(prefix) && may_send(prefix)) {
                let family = Family::of(prefix.addr());
                self.to_withdraw.entry(family).or_default().insert(*prefix);
            }
        }
        for (prefix, attributes) in &self.desired {
            if may_send(prefix) && self.sent.get(prefix) != Some(attributes) {
                let family = self
                    .to_announce
                    .entry(Family::of(prefix.addr()))
                    .or_default();
                family
                    .entry(attributes.clone())
                    .or_default()
                    .insert(*prefix);
            }
        }
    }
}

#[cfg(test)]
mod tests;
