//! Which Services have a word in what Services share.

use std::collections::BTreeSet;

use crate::model::name::ObjectName;

/// Pairs of a shared thing and a Service.
#[derive(Debug)]
pub(super) struct Claims<K>(BTreeSet<(K, ObjectName)>);

impl<K: Ord + Clone> Claims<K> {
    /// Notes that a Service has a word in these.
    pub(super) fn add<'a>(&mut self, things: impl Iterator<Item = &'a K>, service: &ObjectName)
    where
        K: 'a,
    {
        self.0
            .extend(things.map(|thing| (thing.clone(), service.clone())));
    }

    /// Notes that it has none any more.
    pub(super) fn remove<'a>(&mut self, things: impl Iterator<Item = &'a K>, service: &ObjectName)
    where
        K: 'a,
    {
        for thing in things {
            self.0.remove(&(thing.clone(), service.clone()));
        }
    }

    /// The Services that have a word in a thing, by name.
    pub(super) fn of(&self, thing: &K) -> impl Iterator<Item = &ObjectName> {
        let first = (thing.clone(), ObjectName::new("", ""));
        let claims = self.0.range(first..);
        claims
            .take_while(move |(claimed, _)| claimed == thing)
            .map(|(_, service)| service)
    }
}

impl<K> Default for Claims<K> {
    fn default() -> Self {
        Self(BTreeSet::new())
    }
}
