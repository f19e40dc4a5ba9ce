//! A sorted map whose copies share what they have in common.
//!
//! Snapshots, intents and layouts hold tens of thousands of entries, of which a change touches a few. A copy of
//! this map costs a pointer for some hundred entries, a write copies one such group, and two maps of which one
//! was made from the other are compared at the cost of the groups that differ.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Index;
use std::sync::Arc;

/// Most entries in a group.
const MOST: usize = 128;

/// See the module.
pub struct SharedMap<K, V> {
    /// None is empty; in ascending order, as the entries are in each.
    groups: Vec<Group<K, V>>,
    len: usize,
}

type Group<K, V> = Arc<Vec<(K, Arc<V>)>>;

/// An entry that two maps do not share.
#[derive(Debug)]
pub struct Change<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// Its value in the older map.
    pub before: Option<&'a Arc<V>>,
    /// Its value in the newer map.
    pub after: Option<&'a Arc<V>>,
}

impl<K, V> SharedMap<K, V> {
    /// An empty map.
    pub const fn new() -> Self {
        Self {
            groups: Vec::new(),
            len: 0,
        }
    }

    /// Number of entries.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The entries in ascending order.
    pub fn iter(&self) -> Iter<'_, K, V> {
        Iter(Cursor::new(self))
    }

    /// The keys in ascending order.
    pub fn keys(&self) -> impl Iterator<Item = &K> {
        self.iter().map(|(key, _)| key)
    }

    /// The values in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }

    /// Whether nothing was written to either since one was copied from the other. Maps that are not the same may
    /// still be equal.
    pub fn is_same(&self, other: &Self) -> bool {
        let mut pairs = self.groups.iter().zip(&other.groups);
        self.groups.len() == other.groups.len() && pairs.all(|(a, b)| Arc::ptr_eq(a, b))
    }
}

impl<K: Ord, V> SharedMap<K, V> {
    /// The value of a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.get_shared(key).map(|value| &**value)
    }

    /// The value of a key, to be shared.
    pub fn get_shared<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Arc<V>>
    where
        K: Borrow<Q>,
    {
        let (group, at) = self.find(key).ok()?;
        let (_, value) = self.groups.get(group)?.get(at)?;
        Some(value)
    }

    /// Whether there is a value of that key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// The entries that are not the same in `before`, in ascending order. Their values may be equal.
    pub fn changes<'a>(&'a self, before: &'a Self) -> Vec<Change<'a, K, V>> {
        let mut changes = Vec::new();
        let (mut old, mut new) = (Cursor::new(before), Cursor::new(self));
        loop {
            if let (Some(was), Some(is)) = (old.whole_group(), new.whole_group())
                && Arc::ptr_eq(was, is)
            {
                old.skip_group();
                new.skip_group();
                continue;
            }
            let order = match (old.peek(), new.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((was, _)), Some((is, _))) => was.cmp(is),
            };
            let was = old.next_if(order.is_le());
            let is = new.next_if(order.is_ge());
            let (before, after) = (was.map(|(_, value)| value), is.map(|(_, value)| value));
            let is_shared = before
                .zip(after)
                .is_some_and(|(before, after)| Arc::ptr_eq(before, after));
            if let Some((key, _)) = is.or(was)
                && !is_shared
            {
                changes.push(Change { key, before, after });
            }
        }
    }

    /// Where the entry is: its group and its place there; or else where it would be.
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<(usize, usize), (usize, usize)>
    where
        K: Borrow<Q>,
    {
        let begins = |group: &Group<K, V>| group.first().map(|(first, _)| first.borrow() <= key);
        let after = self
            .groups
            .partition_point(|group| begins(group) == Some(true));
        let index = after.saturating_sub(1);
        let Some(group) = self.groups.get(index) else {
            return Err((0, 0));
        };
        match group.binary_search_by(|(present, _)| present.borrow().cmp(key)) {
            Ok(at) => Ok((index, at)),
            Err(at) => Err((index, at)),
        }
    }
}

impl<K: Ord + Clone, V> SharedMap<K, V> {
    /// Writes a value; the one that was there.
    pub fn insert(&mut self, key: K, value: V) -> Option<Arc<V>> {
        let value = Arc::new(value);
        let (index, at) = match self.find(&key) {
            Ok((index, at)) => {
                let group = Arc::make_mut(self.groups.get_mut(index)?);
                let (_, present) = group.get_mut(at)?;
                return Some(std::mem::replace(present, value));
            }
            Err(place) => place,
        };
        self.len += 1;
        let Some(group) = self.groups.get_mut(index) else {
            self.groups.push(Arc::new(vec![(key, value)]));
            return None;
        };
        let group = Arc::make_mut(group);
        group.insert(at, (key, value));
        if group.len() > MOST {
            let rest = group.split_off(MOST / 2);
            self.groups.insert(index + 1, Arc::new(rest));
        }
        None
    }

    /// Writes a value unless an equal one is there, which then stays shared. Whether it was written.
    pub fn put(&mut self, key: K, value: V) -> bool
    where
        V: PartialEq,
    {
        let is_new = self.get(&key) != Some(&value);
        if is_new {
            self.insert(key, value);
        }
        is_new
    }

    /// Removes an entry; the value that was there.
    pub fn remove<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<Arc<V>>
    where
        K: Borrow<Q>,
    {
        let (index, at) = self.find(key).ok()?;
        let group = Arc::make_mut(self.groups.get_mut(index)?);
        let (_, value) = group.remove(at);
        let left = group.len();
        self.len -= 1;
        let follower = self.groups.get(index + 1).map_or(MOST, |group| group.len());
        if left == 0 {
            self.groups.remove(index);
        } else if left + follower <= MOST / 2 {
            let follower = self.groups.remove(index + 1);
            let group = Arc::make_mut(self.groups.get_mut(index)?);
            group.extend(Arc::unwrap_or_clone(follower));
        }
        Some(value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        V: Clone,
    {
        let (index, at) = self.find(key).ok()?;
        let group = Arc::make_mut(self.groups.get_mut(index)?);
        let (_, value) = group.get_mut(at)?;
        Some(Arc::make_mut(value))
    }

    /// All values, to be changed, in the order of their keys.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V>
    where
        V: Clone,
    {
        let groups = self.groups.iter_mut();
        let entries = groups.flat_map(|group| Arc::make_mut(group).iter_mut());
        entries.map(|(_, value)| Arc::make_mut(value))
    }
}

/// A place between two entries.
struct Cursor<'a, K, V> {
    groups: &'a [Group<K, V>],
    group: usize,
    at: usize,
}

impl<'a, K, V> Cursor<'a, K, V> {
    fn new(map: &'a SharedMap<K, V>) -> Self {
        Self {
            groups: &map.groups,
            group: 0,
            at: 0,
        }
    }

    /// The group that begins here.
    fn whole_group(&self) -> Option<&'a Group<K, V>> {
        self.groups.get(self.group).filter(|_| self.at == 0)
    }

    fn skip_group(&mut self) {
        self.group += 1;
        self.at = 0;
    }

    fn peek(&self) -> Option<&'a (K, Arc<V>)> {
        self.groups.get(self.group)?.get(self.at)
    }

    fn next_if(&mut self, wanted: bool) -> Option<&'a (K, Arc<V>)> {
        let entry = self.peek().filter(|_| wanted)?;
        self.at += 1;
        if self.peek().is_none() {
            self.skip_group();
        }
        Some(entry)
    }
}

/// The entries of a [`SharedMap`].
pub struct Iter<'a, K, V>(Cursor<'a, K, V>);

impl<'a, K, V> Iterator for Iter<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = self.0.next_if(true)?;
        Some((key, value))
    }
}

impl<'a, K, V> IntoIterator for &'a SharedMap<K, V> {
    type Item = (&'a K, &'a V);
    type IntoIter = Iter<'a, K, V>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<K, V> Clone for SharedMap<K, V> {
    fn clone(&self) -> Self {
        Self {
            groups: self.groups.clone(),
            len: self.len,
        }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K: Ord, V: PartialEq> PartialEq for SharedMap<K, V> {
    fn eq(&self, other: &Self) -> bool {
        let changes = self.changes(other);
        changes.iter().all(|change| change.before == change.after)
    }
}

impl<K: Ord, V: Eq> Eq for SharedMap<K, V> {}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for SharedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self).finish()
    }
}

impl<K: Ord + Clone, V> FromIterator<(K, V)> for SharedMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(entries: I) -> Self {
        let mut map = Self::new();
        for (key, value) in entries {
            map.insert(key, value);
        }
        map
    }
}

impl<K: Ord + Clone, V, const N: usize> From<[(K, V); N]> for SharedMap<K, V> {
    fn from(entries: [(K, V); N]) -> Self {
        entries.into_iter().collect()
    }
}

impl<K: Ord + Borrow<Q>, V, Q: Ord + ?Sized> Index<&Q> for SharedMap<K, V> {
    type Output = V;

    #[expect(clippy::expect_used, reason = "as every map does that can be indexed")]
    fn index(&self, key: &Q) -> &V {
        self.get(key).expect("there is no entry of that key")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn entries(map: &SharedMap<u16, u16>) -> Vec<(&u16, &u16)> {
        map.iter().collect()
    }

    #[test]
    fn a_write_to_a_copy_shares_all_other_groups() {
        let before: SharedMap<u16, u16> = (0..10_000).map(|key| (key, key)).collect();
        let mut after = before.clone();
        assert!(after.is_same(&before));
        after.insert(5_000, 1);
        assert_eq!(before[&5_000], 5_000);
        let pairs = before.groups.iter().zip(&after.groups);
        let copied = pairs.filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert_eq!(copied, 1);
        let changes = after.changes(&before);
        assert_eq!(changes.len(), 1);
        assert_eq!(*changes[0].key, 5_000);
    }

    #[test]
    fn an_equal_value_that_is_put_stays_shared() {
        let before: SharedMap<u16, u16> = [(1, 1), (2, 2)].into();
        let mut after = before.clone();
        assert!(!after.put(2, 2));
        assert!(after.is_same(&before));
        assert!(after.put(2, 3));
        assert!(!after.is_same(&before));
    }

    proptest! {
        #[test]
        fn it_is_a_sorted_map_and_tells_what_changed(
            first in proptest::collection::vec((0u16..600, proptest::option::of(any::<u16>())), 0..900),
            second in proptest::collection::vec((0u16..600, proptest::option::of(any::<u16>())), 0..300),
        ) {
            let (mut map, mut model) = (SharedMap::new(), BTreeMap::new());
            let write = |map: &mut SharedMap<u16, u16>, model: &mut BTreeMap<u16, u16>, (key, value)| {
                let (was, is): (Option<Arc<u16>>, _) = match value {
                    Some(value) => (map.insert(key, value), model.insert(key, value)),
                    None => (map.remove(&key), model.remove(&key)),
                };
                (was.map(|value| *value), is)
            };
            for step in first {
                let (was, is) = write(&mut map, &mut model, step);
                prop_assert_eq!(was, is);
            }
            prop_assert_eq!(entries(&map), model.iter().collect::<Vec<_>>());
            prop_assert_eq!(map.len(), model.len());
            let (before, model_before) = (map.clone(), model.clone());
            for step in second {
                write(&mut map, &mut model, step);
            }
            prop_assert_eq!(entries(&map), model.iter().collect::<Vec<_>>());
            prop_assert_eq!(entries(&before), model_before.iter().collect::<Vec<_>>());
            prop_assert_eq!(map == before, model == model_before);
            for key in 0..600 {
                prop_assert_eq!(map.get(&key), model.get(&key));
            }
            let changes = map.changes(&before);
            let changed: BTreeMap<u16, _> = changes
                .iter()
                .map(|change| (*change.key, (change.before.map(|v| **v), change.after.map(|v| **v))))
                .collect();
            prop_assert_eq!(changed.len(), changes.len());
            for key in 0..600 {
                let (was, is) = (model_before.get(&key).copied(), model.get(&key).copied());
                match changed.get(&key) {
                    Some(change) => prop_assert_eq!(*change, (was, is)),
                    None => prop_assert_eq!(was, is),
                }
            }
        }
    }
}
