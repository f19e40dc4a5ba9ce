//! Adj-RIB-Out: what the peer should hold against what it was sent.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use ipnet::IpNet;

use super::attribute::{Origin, Path};
use super::nlri::Family;
use super::update;

/// Routes to announce, with attributes shared between routes.
pub type Routes = BTreeMap<IpNet, Arc<Attributes>>;

/// Attributes of a route, beyond those that follow from the session.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Attributes {
    /// LOCAL_PREF, sent to internal peers.
    pub local_pref: Option<u32>,
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
    /// Negotiated families, each with its next hop; without one nothing is announced in that family.
    pub next_hops: BTreeMap<Family, Option<IpAddr>>,
}

impl Format {
    fn path(&self, attributes: &Attributes, next_hop: IpAddr) -> Path {
        let local_pref = attributes.local_pref.unwrap_or(DEFAULT_LOCAL_PREF);
        Path {
            origin: Origin::Igp,
            as_path: if self.internal {
                Vec::new()
            } else {
                vec![self.my_asn]
            },
            next_hop,
            med: None,
            local_pref: self.internal.then_some(local_pref),
            communities: attributes.communities.clone(),
            large_communities: attributes.large_communities.clone(),
        }
    }

    fn next_hop(&self, family: Family) -> Option<IpAddr> {
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
    oversized: BTreeSet<IpNet>,
    format: Option<Format>,
}

impl AdjOut {
    /// Replaces the routes to announce; what differs from what was sent goes out.
    pub fn set_desired(&mut self, routes: Routes) {
        self.desired = routes;
        self.recompute();
    }

    /// A session came up: everything goes out, then End-of-RIB for every negotiated family.
    pub fn begin(&mut self, format: Format) {
        self.sent.clear();
        self.end_of_rib = format.next_hops.keys().copied().collect();
        self.format = Some(format);
        self.recompute();
    }

    /// The session is down: the peer holds nothing of ours any more.
    pub fn end(&mut self) {
        self.format = None;
        self.sent.clear();
        self.end_of_rib.clear();
        self.recompute();
    }

    /// A next hop changed: the routes of its family go out again, or are withdrawn if it is gone.
    pub fn set_next_hop(&mut self, family: Family, next_hop: Option<IpAddr>) {
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

    /// Announces everything of a negotiated family again (RFC 2918).
    pub fn resend(&mut self, family: Family) {
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

    /// The next message: withdrawals before announcements, each family's End-of-RIB behind its routes.
    pub fn poll(&mut self) -> Option<Bytes> {
        self.poll_withdrawal()
            .or_else(|| self.poll_announcement())
            // An announcement that does not fit leaves a withdrawal behind.
            .or_else(|| self.poll_withdrawal())
            .or_else(|| self.end_of_rib.pop_first().map(update::end_of_rib))
    }

    /// What the peer was sent and should hold.
    pub const fn sent(&self) -> &Routes {
        &self.sent
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
            let next_hop = format.next_hop(*family.key());
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
                    .entry(Family::of(next_hop))
                    .or_default()
                    .extend(stale);
                self.to_withdraw.retain(|_, prefixes| !prefixes.is_empty());
                self.oversized.append(prefixes);
                group.remove();
                continue;
            };
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
