//! Every object that a source holds, and the cluster they make up.
//!
//! The index neither reads nor watches: it is told. It keeps the last good version of each object,
//! whatever a later version says, until the object is deleted. Where several sources (files) hold
//! the same object, the first source by name counts.
//!
//! A snapshot shares with the one before all that did not change since: Services and endpoints one by one, the
//! rest, of which there is little, as a whole.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::convert::{
    OpenBgpAdvertisement, OpenPeer, OpenService, Part, SecretPart, Settings, convert, families,
    find_overlap, well_known,
};
use super::object::{Key, Kind, Object};
use super::state::ServiceRecord;
use crate::model::bfd::BfdProfile;
use crate::model::cluster::{
    BgpAdvertisement, BgpPeer, Cluster, Community, Endpoint, Pool, Service,
};
use crate::model::intent::Finding;
use crate::model::name::ObjectName;
use crate::model::password::Password;

/// The cluster at one moment, and what is wrong with the objects it was made from.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Snapshot {
    /// What the good objects say.
    pub cluster: Cluster,
    /// What is wrong, in a stable order.
    pub findings: Vec<Finding>,
}

/// All objects; see the module.
#[derive(Debug, Default)]
pub struct Index {
    settings: Settings,
    /// Mostly an object has one source.
    claims: BTreeMap<Key, Vec<Claim>>,
    /// Services, and the slices that are about them.
    slices: BTreeSet<(ObjectName, Key)>,
    /// What a source that keeps no status knows of Services.
    records: Arc<BTreeMap<ObjectName, ServiceRecord>>,
    /// What pools were when they overlapped no other.
    settled_pools: BTreeMap<String, Pool>,
    /// What peers and advertisements were when everything they refer to was there.
    settled_peers: BTreeMap<String, BgpPeer>,
    settled_advertisements: BTreeMap<String, BgpAdvertisement>,
    /// The last snapshot; and since then the Services of which something changed, and whether anything else did.
    cluster: Cluster,
    stale: BTreeSet<ObjectName>,
    is_rest_stale: bool,
    /// What is wrong with objects alone, and with the rest of the cluster together.
    findings: BTreeMap<Key, Vec<Finding>>,
    rest_findings: Vec<Finding>,
}

/// What one source says about an object.
#[derive(Debug)]
struct Claim {
    source: Arc<str>,
    /// Where the object stands.
    place: String,
    /// Its last good version.
    part: Option<Part>,
    /// What is wrong with its newest version.
    findings: Vec<Finding>,
}

impl Index {
    /// An index without objects.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            ..Self::default()
        }
    }

    /// Takes the newest version of an object. `source` tells sources apart and orders them;
    /// `place` gives the [`Finding::source`] of a field path.
    pub fn apply(&mut self, source: &str, object: &Object, place: impl Fn(&str) -> String) {
        let (part, problems) = convert(object, &self.settings);
        let key = object.key();
        let name = key.to_string();
        self.edit(source, &key, |claim| {
            let is_kept = claim.part.is_some();
            let findings = problems
                .into_iter()
                .map(|problem| Finding {
                    source: place(&problem.field),
                    object: name.clone(),
                    field: problem.field,
                    message: match part {
                        Some(_) => problem.message,
                        None => with_fate(&problem.message, is_kept),
                    },
                })
                .collect();
            let place = place("");
            // A list that is read again has mostly what is known.
            let is_new = claim.place != place
                || claim.findings != findings
                || part.is_some() && claim.part != part;
            claim.place = place;
            claim.findings = findings;
            if part.is_some() {
                claim.part = part;
            }
            is_new
        });
    }

    /// Notes that the newest version of an object cannot be read at all.
    pub fn reject(&mut self, source: &str, key: &Key, mut finding: Finding) {
        self.edit(source, key, |claim| {
            claim.place.clone_from(&finding.source);
            finding.message = with_fate(&finding.message, claim.part.is_some());
            claim.findings = vec![finding];
            true
        });
    }

    /// Forgets an object as far as this source holds it.
    pub fn delete(&mut self, source: &str, key: &Key) {
        let before = self.service_of(key);
        if let Some(claims) = self.claims.get_mut(key) {
            claims.retain(|claim| *claim.source != *source);
            if claims.is_empty() {
                self.claims.remove(key);
            }
            self.note_change(key, before);
        }
    }

    /// Takes what is known of Services beside their objects: in place of a status, and of a table length that the
    /// object does not name.
    pub fn remember(&mut self, records: Arc<BTreeMap<ObjectName, ServiceRecord>>) {
        let former = std::mem::replace(&mut self.records, records);
        let names = former.keys().chain(self.records.keys());
        let changed = names.filter(|name| former.get(*name) != self.records.get(*name));
        self.stale.extend(changed.cloned());
    }

    /// The Secrets that BGPPeers name.
    pub fn password_secrets(&self) -> impl Iterator<Item = &ObjectName> {
        let peers = self
            .claims
            .range(first(Kind::BgpPeer)..first(Kind::BgpAdvertisement));
        let claims = peers.flat_map(|(_, claims)| claims);
        claims.filter_map(|claim| match &claim.part {
            Some(Part::Peer(open)) => open.password_secret.as_ref(),
            _ => None,
        })
    }

    /// Puts the objects together. What refers to something missing, or takes what another has, stays as
    /// it was last, and is left out if it never was in order.
    pub fn snapshot(&mut self) -> Snapshot {
        if std::mem::take(&mut self.is_rest_stale) {
            self.assemble_rest();
        }
        for name in std::mem::take(&mut self.stale) {
            self.settle_service(name);
        }
        let of_objects = self.findings.values().flatten();
        let mut findings: Vec<_> = of_objects.chain(&self.rest_findings).cloned().collect();
        findings.sort();
        Snapshot {
            cluster: self.cluster.clone(),
            findings,
        }
    }

    /// Changes what a source says of an object, and notes what follows if that says so.
    fn edit(&mut self, source: &str, key: &Key, change: impl FnOnce(&mut Claim) -> bool) {
        let before = self.service_of(key);
        let claims = match self.claims.get_mut(key) {
            Some(claims) => claims,
            None => self
                .claims
                .entry(key.clone())
                .or_insert_with(|| Vec::with_capacity(1)),
        };
        let at = match claims.binary_search_by(|claim| (*claim.source).cmp(source)) {
            Ok(at) => at,
            Err(at) => {
                let claim = Claim {
                    source: source.into(),
                    place: String::new(),
                    part: None,
                    findings: Vec::new(),
                };
                claims.insert(at, claim);
                at
            }
        };
        if claims.get_mut(at).is_some_and(change) {
            self.note_change(key, before);
        }
    }

    /// The Service that a slice is about.
    fn service_of(&self, key: &Key) -> Option<ObjectName> {
        if key.kind != Kind::EndpointSlice {
            return None;
        }
        match effective(self.claims.get(key)?)?.part.as_ref()? {
            Part::Endpoints(service, _) => service.clone(),
            _ => None,
        }
    }

    /// Notes what the next snapshot has to look at. `before` is what [`Self::service_of`] said.
    fn note_change(&mut self, key: &Key, before: Option<ObjectName>) {
        match key.kind {
            Kind::Service => {
                self.stale
                    .insert(ObjectName::new(&*key.namespace, &*key.name));
            }
            Kind::EndpointSlice => {
                let after = self.service_of(key);
                if before != after {
                    if let Some(before) = &before {
                        self.slices.remove(&(before.clone(), key.clone()));
                    }
                    self.slices
                        .extend(after.clone().map(|after| (after, key.clone())));
                }
                self.stale.extend(before.into_iter().chain(after));
            }
            _ => self.is_rest_stale = true,
        }
        let findings = self.claims.get(key).map_or_else(Vec::new, |claims| {
            let own = claims.iter().flat_map(|claim| &claim.findings).cloned();
            own.chain(duplicates(key, claims)).collect()
        });
        if findings.is_empty() {
            self.findings.remove(key);
        } else {
            self.findings.insert(key.clone(), findings);
        }
    }

    /// Puts together all but Services and their endpoints.
    fn assemble_rest(&mut self) {
        let mut assembly = Assembly::default();
        for (key, claims) in self.claims.range(first(Kind::Node)..) {
            assembly.add(key, claims);
        }
        assembly.settle_pools(&mut self.settled_pools);
        assembly.settle_peers(&mut self.settled_peers);
        assembly.settle_advertisements(&mut self.settled_advertisements);
        self.rest_findings = assembly.findings;
        self.cluster = Cluster {
            services: std::mem::take(&mut self.cluster.services),
            endpoints: std::mem::take(&mut self.cluster.endpoints),
            ..assembly.cluster
        };
    }

    /// Puts together a Service and its endpoints.
    fn settle_service(&mut self, name: ObjectName) {
        let after = (name.clone(), first(Kind::EndpointSlice));
        let slices = self.slices.range(after..);
        let slices = slices.take_while(|(service, _)| *service == name);
        let mut endpoints: Option<Vec<Endpoint>> = None;
        for (_, key) in slices {
            let claim = self.claims.get(key).and_then(|claims| effective(claims));
            if let Some(Part::Endpoints(_, of_slice)) = claim.and_then(|claim| claim.part.as_ref())
            {
                let endpoints = endpoints.get_or_insert_default();
                endpoints.reserve_exact(of_slice.len());
                endpoints.extend_from_slice(of_slice);
            }
        }
        let key = Key::new(Kind::Service, Some(&name.namespace), &name.name);
        let claim = self.claims.get(&key).and_then(|claims| effective(claims));
        let service = match claim.and_then(|claim| claim.part.as_ref()) {
            Some(Part::Service(open)) => Some(settle(
                open,
                endpoints.as_deref().unwrap_or_default(),
                self.records.get(&name),
            )),
            _ => None,
        };
        match service {
            Some(service) => drop(self.cluster.services.put(name.clone(), service)),
            None => drop(self.cluster.services.remove(&name)),
        }
        match endpoints {
            Some(endpoints) => drop(self.cluster.endpoints.put(name, endpoints)),
            None => drop(self.cluster.endpoints.remove(&name)),
        }
    }
}

/// The claim that counts: the first good one.
fn effective(claims: &[Claim]) -> Option<&Claim> {
    claims.iter().find(|claim| claim.part.is_some())
}

/// What is to be said of the good claims that do not count.
fn duplicates(key: &Key, claims: &[Claim]) -> Vec<Finding> {
    let Some(first) = effective(claims) else {
        return Vec::new();
    };
    let good = claims.iter().filter(|claim| claim.part.is_some());
    good.skip(1)
        .map(|other| Finding {
            source: other.place.clone(),
            object: key.to_string(),
            field: "metadata.name".to_owned(),
            message: format!(
                "duplicate definition of {key}: the one at {} counts",
                first.place
            ),
        })
        .collect()
}

/// Before all objects of a kind.
fn first(kind: Kind) -> Key {
    Key {
        kind,
        namespace: String::new(),
        name: String::new(),
    }
}

/// A Service whose endpoints are known, and what is remembered of it.
fn settle(open: &OpenService, endpoints: &[Endpoint], record: Option<&ServiceRecord>) -> Service {
    let requested = open.service.requested_addresses.as_deref();
    let families = families::settle(
        &open.families,
        open.service.family_policy,
        requested.unwrap_or_default(),
        endpoints,
    );
    let mut service = Service {
        families,
        ..open.service.clone()
    };
    if let Some(record) = record {
        service.status_addresses.clone_from(&record.addresses);
        service.table_length = service.table_length.or(record.table_length);
    }
    service
}

fn with_fate(message: &str, kept: bool) -> String {
    let fate = if kept {
        Finding::KEPT
    } else {
        Finding::WITHOUT_EFFECT
    };
    format!("{message}; {fate}")
}

/// All of a cluster but Services and their endpoints, in the making.
#[derive(Default)]
struct Assembly<'a> {
    cluster: Cluster,
    findings: Vec<Finding>,
    pools: Vec<(&'a str, &'a str, &'a Pool)>,
    peers: Vec<(&'a str, &'a str, &'a OpenPeer)>,
    advertisements: Vec<(&'a str, &'a str, &'a OpenBgpAdvertisement)>,
    secrets: BTreeMap<ObjectName, &'a SecretPart>,
    bfd_profiles: BTreeMap<&'a str, &'a BfdProfile>,
}

impl<'a> Assembly<'a> {
    fn add(&mut self, key: &'a Key, claims: &'a [Claim]) {
        let Some((place, part)) =
            effective(claims).and_then(|claim| Some((&*claim.place, claim.part.as_ref()?)))
        else {
            return;
        };
        let name = key.name.clone();
        match part {
            Part::Service(_) | Part::Endpoints(..) => {}
            Part::Node(node) => drop(self.cluster.nodes.insert(name, node.clone())),
            Part::Namespace(labels) => {
                drop(self.cluster.namespaces.insert(name, labels.clone()));
            }
            Part::Secret(SecretPart::Keys(keys)) => self.cluster.keys = Some(keys.clone()),
            Part::Secret(secret) => {
                let name = ObjectName::new(&*key.namespace, &*key.name);
                self.secrets.insert(name, secret);
            }
            Part::Pool(pool) => self.pools.push((&key.name, place, pool)),
            Part::Peer(peer) => self.peers.push((&key.name, place, peer)),
            Part::BgpAdvertisement(open) => self.advertisements.push((&key.name, place, open)),
            Part::L2Advertisement(advertisement) => {
                self.cluster
                    .l2_advertisements
                    .insert(name, advertisement.clone());
            }
            Part::BfdProfile(profile) => {
                self.bfd_profiles.insert(&key.name, profile);
            }
            Part::VirtualSwitch(switch) => {
                self.cluster.virtual_switches.insert(name, switch.clone());
            }
            Part::Communities(aliases) => self.add_aliases(key, place, aliases),
        }
    }

    fn add_aliases(&mut self, key: &Key, place: &str, aliases: &[(String, Community)]) {
        for (alias, community) in aliases {
            match self.cluster.communities.get(alias) {
                Some(_) => self.findings.push(Finding {
                    source: place.to_owned(),
                    object: key.to_string(),
                    field: "spec.communities".to_owned(),
                    message: format!(
                        "duplicate definition of community \"{alias}\": another Community's counts"
                    ),
                }),
                None => {
                    self.cluster.communities.insert(alias.clone(), *community);
                }
            }
        }
    }

    fn password(&mut self, name: &ObjectName) -> Result<Password, String> {
        match self.secrets.get(name) {
            None => Err(format!("secret ref not found: there is no Secret {name}")),
            Some(SecretPart::Password(password)) => {
                self.cluster
                    .passwords
                    .insert(name.name.clone(), password.clone());
                Ok(password.clone())
            }
            Some(SecretPart::Useless(reason)) => Err((*reason).to_owned()),
            Some(SecretPart::Keys(_)) => Err("that Secret holds the cluster's keys".to_owned()),
        }
    }

    fn community(&self, alias: &str) -> Option<Community> {
        let defined = self.cluster.communities.get(alias).copied();
        defined.or_else(|| well_known(alias))
    }

    /// Keeps pools apart: one that is as it was goes before one that is added or changed, so that a mistake
    /// takes no address from a Service. `settled` holds the pools in force, before and after.
    fn settle_pools(&mut self, settled: &mut BTreeMap<String, Pool>) {
        let mut last = std::mem::take(settled);
        let (same, changed): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pools)
            .into_iter()
            .partition(|(name, _, pool)| last.get(*name) == Some(*pool));
        for (name, _, pool) in same {
            settled.insert(name.to_owned(), pool.clone());
        }
        for (name, place, pool) in changed {
            let Some(overlap) = find_overlap(pool, settled) else {
                settled.insert(name.to_owned(), pool.clone());
                continue;
            };
            let kept = last
                .remove(name)
                .filter(|kept| find_overlap(kept, settled).is_none());
            self.findings.push(Finding {
                source: place.to_owned(),
                object: format!("{} {name}", Kind::IpAddressPool),
                field: format!("spec.addresses[{}]", overlap.index),
                message: with_fate(&overlap.message, kept.is_some()),
            });
            if let Some(kept) = kept {
                settled.insert(name.to_owned(), kept);
            }
        }
        self.cluster.pools.clone_from(settled);
    }

    /// Looks up passwords and BFDProfiles. `settled` holds the last complete peers, before and after.
    fn settle_peers(&mut self, settled: &mut BTreeMap<String, BgpPeer>) {
        let mut last = std::mem::take(settled);
        for (name, place, open) in std::mem::take(&mut self.peers) {
            let mut peer = open.peer.clone();
            let mut missing = Vec::new();
            if let Some(secret) = &open.password_secret {
                match self.password(secret) {
                    Ok(password) => peer.password = Some(password),
                    Err(message) => missing.push(("spec.passwordSecret", message)),
                }
            }
            if let Some(profile) = &open.bfd_profile {
                match self.bfd_profiles.get(profile.as_str()) {
                    Some(&profile) => peer.bfd = Some(profile.clone()),
                    None => missing.push((
                        "spec.bfdProfile",
                        format!("referencing non existing bfd profile \"{profile}\""),
                    )),
                }
            }
            if !missing.is_empty() {
                let kept = last.remove(name);
                for (field, message) in missing {
                    self.findings.push(Finding {
                        source: place.to_owned(),
                        object: format!("{} {name}", Kind::BgpPeer),
                        field: field.to_owned(),
                        message: with_fate(&message, kept.is_some()),
                    });
                }
                match kept {
                    Some(kept) => peer = kept,
                    None => continue,
                }
            }
            settled.insert(name.to_owned(), peer);
        }
        self.cluster.peers.clone_from(settled);
    }

    /// Looks up community aliases. `settled` holds the last complete advertisements.
    fn settle_advertisements(&mut self, settled: &mut BTreeMap<String, BgpAdvertisement>) {
        let mut last = std::mem::take(settled);
        for (name, place, open) in std::mem::take(&mut self.advertisements) {
            let mut advertisement = open.advertisement.clone();
            let mut missing = Vec::new();
            for (field, alias) in &open.aliases {
                match self.community(alias) {
                    Some(community) => {
                        advertisement.communities.insert(community);
                    }
                    None => missing.push((field, alias)),
                }
            }
            if !missing.is_empty() {
                let kept = last.remove(name);
                for (field, alias) in missing {
                    let message =
                        format!("community \"{alias}\" is not defined: add it to a Community");
                    self.findings.push(Finding {
                        source: place.to_owned(),
                        object: format!("{} {name}", Kind::BgpAdvertisement),
                        field: field.clone(),
                        message: with_fate(&message, kept.is_some()),
                    });
                }
                match kept {
                    Some(kept) => advertisement = kept,
                    None => continue,
                }
            }
            settled.insert(name.to_owned(), advertisement);
        }
        self.cluster.bgp_advertisements.clone_from(settled);
    }
}

#[cfg(test)]
mod tests;
