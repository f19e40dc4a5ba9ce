//! Which nodes choose among which backends: all alike, each among its own, or
//! those of a zone among what is hinted for it.
//!
//! A hint that leads out of a pod's zone is not followed: the node of the pod chooses among other backends, and
//! would not take a new connection for this one. The zone then chooses among all.

use std::collections::BTreeMap;

use lb_common::maps::Slot;

use super::Grade;
use super::Nodes;
use super::Pod;
use super::Rule;
use crate::model::intent::Choices;

/// Backends by place, with their weights.
type Group = Vec<(u32, u32)>;

/// What nodes choose among.
pub(super) struct Groups {
    groups: Vec<Group>,
    /// The group of this node, unless it has nothing to choose.
    own: Option<usize>,
    others: Vec<usize>,
    /// All nodes choose among the same.
    are_alike: bool,
}

impl Groups {
    pub(super) fn new(rule: Rule, pods: &[Pod<'_>], nodes: &Nodes<'_>) -> Self {
        match rule {
            Rule::All => Self::one(chosen(pods, 0..pods.len())),
            Rule::Node => Self::by_node(pods, nodes.local),
            Rule::Zone => Self::by_zone(pods, nodes),
        }
    }

    /// What this node chooses among.
    pub(super) fn own(&self) -> &[(u32, u32)] {
        let own = self.own.and_then(|own| self.groups.get(own));
        own.map_or(&[], Vec::as_slice)
    }

    /// What other nodes choose among, unless it is the same.
    pub(super) fn choices(self) -> Option<Choices> {
        (!self.are_alike).then_some(Choices {
            groups: self.groups,
            others: self.others,
        })
    }

    fn one(group: Group) -> Self {
        Self {
            groups: vec![group],
            own: Some(0),
            others: Vec::new(),
            are_alike: true,
        }
    }

    fn by_node(pods: &[Pod<'_>], local: &str) -> Self {
        let mut places: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (place, pod) in pods.iter().enumerate() {
            places.entry(pod.node).or_default().push(place);
        }
        let (mut groups, mut idle) = (Vec::new(), Vec::new());
        let start = places.range(..local).count();
        let has_own = places.contains_key(local);
        for places in places.into_values() {
            let group = chosen(pods, places.iter().copied());
            idle.push(group.is_empty());
            groups.push(match group.is_empty() {
                // New connections do not go there, but there may be open ones.
                true => places.iter().map(|place| (*place as u32, 1)).collect(),
                false => group,
            });
        }
        let is_idle = |group: usize| idle.get(group) == Some(&true);
        let own = has_own.then_some(start);
        Self {
            others: others(groups.len(), start, own, is_idle),
            own: own.filter(|own| !is_idle(*own)),
            are_alike: groups.is_empty(),
            groups,
        }
    }

    fn by_zone(pods: &[Pod<'_>], nodes: &Nodes<'_>) -> Self {
        let all = chosen(pods, 0..pods.len());
        let pod = |place: u32| pods.get(place as usize);
        let zone_of = |node: &str| nodes.by_name.get(node).and_then(|node| node.zone());
        let are_all_hinted = all
            .iter()
            .all(|(place, _)| pod(*place).is_some_and(|pod| !pod.zones.is_empty()));
        if !are_all_hinted {
            return Self::one(all);
        }
        let hinted = |zone: &str| -> Option<Group> {
            let is_hinted = |place| pod(place).is_some_and(|pod| pod.zones.contains(zone));
            let group = all.iter().filter(|(place, _)| is_hinted(*place));
            let group: Group = group.copied().collect();
            let is_there = |place| pod(place).is_some_and(|pod| zone_of(pod.node) == Some(zone));
            let are_there = group.iter().all(|(place, _)| is_there(*place));
            (!group.is_empty() && are_there).then_some(group)
        };
        // Those without a zone, or in one that has no hints, choose among all.
        let mut zones: BTreeMap<Option<&str>, Option<Group>> = BTreeMap::new();
        for node in nodes.by_name.values() {
            let zone = node.zone();
            zones.entry(zone).or_insert_with(|| zone.and_then(hinted));
        }
        let is_whole = zones.values().any(Option::is_none);
        let zone = zone_of(nodes.local).filter(|zone| zones.get(&Some(*zone)) != Some(&None));
        let mut own = 0;
        let mut groups: Vec<Group> = is_whole.then(|| all.clone()).into_iter().collect();
        for (name, group) in zones {
            if let Some(group) = group {
                if name == zone {
                    own = groups.len();
                }
                groups.push(group);
            }
        }
        Self {
            others: others(groups.len(), own, Some(own), |_| false),
            own: Some(own),
            are_alike: groups.len() == 1,
            groups,
        }
    }
}

/// Those of some backends that get new connections, with their weights.
fn chosen(pods: &[Pod<'_>], places: impl Iterator<Item = usize> + Clone) -> Group {
    let among = places.filter_map(|place| Some((place as u32, pods.get(place)?)));
    let best = among.clone().map(|(_, pod)| pod.grade).max();
    among
        .filter(|(_, pod)| Some(pod.grade) == best && pod.grade > Grade::Silent)
        .map(|(place, pod)| (place, pod.weight))
        .collect()
}

/// The groups other than a node's own, as many as a slot has room for, idle ones last. Each node begins
/// somewhere else, so that no group is asked by all.
fn others(
    count: usize,
    start: usize,
    own: Option<usize>,
    is_idle: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let mut others: Vec<usize> = (0..count).map(|step| (start + step) % count).collect();
    others.retain(|group| Some(*group) != own);
    others.sort_by_key(|group| is_idle(*group));
    others.truncate(Slot::DEPTH - 1);
    others
}
