//! Every object that a source holds, and the cluster they make up.
//!
//! The index neither reads nor watches: it is told. It keeps the last good version of each object,
//! whatever a later version says, until the object is deleted. Where several sources (files) hold
//! the same object, the first source by name counts.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::convert::{
    OpenBgpAdvertisement, OpenPeer, OpenService, Part, SecretPart, Settings, convert, families,
    find_overlap, well_known,
};
use super::object::{Key, Kind, Object};
use crate::model::bfd::BfdProfile;
use crate::model::cluster::{BgpAdvertisement, BgpPeer, Cluster, Community, Pool, Service};
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
    claims: BTreeMap<Key, BTreeMap<Arc<str>, Claim>>,
    /// What pools were when they overlapped no other.
    settled_pools: BTreeMap<String, Pool>,
    /// What peers and advertisements were when everything they refer to was there.
    settled_peers: BTreeMap<String, BgpPeer>,
    settled_advertisements: BTreeMap<String, BgpAdvertisement>,
}

/// What one source says about an object.
#[derive(Debug, Default)]
struct Claim {
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
        let claim = self.claim(source, key);
        let is_kept = claim.part.is_some();
        claim.place = place("");
        claim.findings = problems
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
        if part.is_some() {
            claim.part = part;
        }
    }

    /// Notes that the newest version of an object cannot be read at all.
    pub fn reject(&mut self, source: &str, key: Key, mut finding: Finding) {
        let claim = self.claim(source, key);
        claim.place.clone_from(&finding.source);
        finding.message = with_fate(&finding.message, claim.part.is_some());
        claim.findings = vec![finding];
    }

    /// Forgets an object as far as this source holds it.
    pub fn delete(&mut self, source: &str, key: &Key) {
        if let Some(claims) = self.claims.get_mut(key) {
            claims.remove(source);
            if claims.is_empty() {
                self.claims.remove(key);
            }
        }
    }

    /// The Secrets that BGPPeers name.
    pub fn password_secrets(&self) -> impl Iterator<Item = &ObjectName> {
        let claims = self.claims.values().flat_map(BTreeMap::values);
        claims.filter_map(|claim| match &claim.part {
            Some(Part::Peer(open)) => open.password_secret.as_ref(),
            _ => None,
        })
    }

    /// Puts the objects together. What refers to something missing, or takes what another has, stays as
    /// it was last, and is left out if it never was in order.
    pub fn snapshot(&mut self) -> Snapshot {
        let mut assembly = Assembly::default();
        for (key, claims) in &self.claims {
            assembly.add(key, claims);
        }
        assembly.settle_pools(&mut self.settled_pools);
        assembly.settle_peers(&mut self.settled_peers);
        assembly.settle_advertisements(&mut self.settled_advertisements);
        assembly.settle_services();
        assembly.findings.sort();
        Snapshot {
            cluster: assembly.cluster,
            findings: assembly.findings,
        }
    }

    fn claim(&mut self, source: &str, key: Key) -> &mut Claim {
        self.claims
            .entry(key)
            .or_default()
            .entry(source.into())
            .or_default()
    }
}

fn with_fate(message: &str, kept: bool) -> String {
    let fate = if kept {
        Finding::KEPT
    } else {
        Finding::WITHOUT_EFFECT
    };
    format!("{message}; {fate}")
}

/// A cluster in the making.
#[derive(Default)]
struct Assembly<'a> {
    cluster: Cluster,
    findings: Vec<Finding>,
    services: Vec<(ObjectName, &'a OpenService)>,
    pools: Vec<(&'a str, &'a str, &'a Pool)>,
    peers: Vec<(&'a str, &'a str, &'a OpenPeer)>,
    advertisements: Vec<(&'a str, &'a str, &'a OpenBgpAdvertisement)>,
    secrets: BTreeMap<ObjectName, &'a SecretPart>,
    bfd_profiles: BTreeMap<&'a str, &'a BfdProfile>,
}

impl<'a> Assembly<'a> {
    fn add(&mut self, key: &'a Key, claims: &'a BTreeMap<Arc<str>, Claim>) {
        for claim in claims.values() {
            self.findings.extend(claim.findings.iter().cloned());
        }
        let mut good = claims
            .values()
            .filter_map(|claim| Some((claim, claim.part.as_ref()?)));
        let Some((first, part)) = good.next() else {
            return;
        };
        for (other, _) in good {
            self.findings.push(Finding {
                source: other.place.clone(),
                object: key.to_string(),
                field: "metadata.name".to_owned(),
                message: format!(
                    "duplicate definition of {key}: the one at {} counts",
                    first.place
                ),
            });
        }
        self.take(key, &first.place, part);
    }

    fn take(&mut self, key: &'a Key, place: &'a str, part: &'a Part) {
        let name = key.name.clone();
        let full_name = || ObjectName::new(&key.namespace, &key.name);
        match part {
            Part::Service(service) => self.services.push((full_name(), service)),
            Part::Endpoints(Some(service), endpoints) => self
                .cluster
                .endpoints
                .entry(service.clone())
                .or_default()
                .extend_from_slice(endpoints),
            Part::Endpoints(None, _) => {}
            Part::Node(node) => {
                self.cluster.nodes.insert(name, node.clone());
            }
            Part::Namespace(labels) => {
                self.cluster.namespaces.insert(name, labels.clone());
            }
            Part::Secret(SecretPart::Keys(keys)) => self.cluster.keys = Some(keys.clone()),
            Part::Secret(secret) => {
                self.secrets.insert(full_name(), secret);
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

    fn settle_services(&mut self) {
        for (name, open) in std::mem::take(&mut self.services) {
            let endpoints = self.cluster.endpoints.get(&name);
            let endpoints: &[_] = endpoints.map_or(&[], Vec::as_slice);
            let requested: &[IpAddr] = open
                .service
                .requested_addresses
                .as_ref()
                .map_or(&[], Vec::as_slice);
            let families = families::settle(
                &open.families,
                open.service.family_policy,
                requested,
                endpoints,
            );
            let service = Service {
                families,
                ..open.service.clone()
            };
            self.cluster.services.insert(name, service);
        }
    }
}

#[cfg(test)]
mod tests;
