//! Which pool an address is in, and which pools serve a Service.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::error::AllocateError;
use crate::model::cluster::Labels;
use crate::model::cluster::Pool;
use crate::model::cluster::PoolAllocation;
use crate::model::cluster::Service;
use crate::model::intent::Finding;
use crate::model::name::ObjectName;
use crate::model::shared_map::SharedMap;

/// The pools that are in order.
pub(super) struct Pools<'a> {
    by_name: BTreeMap<&'a str, &'a Pool>,
    /// First address of each network: the last one, and the pool.
    networks: BTreeMap<IpAddr, (IpAddr, &'a str)>,
    namespaces: &'a SharedMap<String, Labels>,
    /// Pools with `serviceAllocation` that assign by themselves, in the order of their priority.
    restricted: Vec<&'a str>,
    /// Pools without it that assign by themselves.
    open: Vec<&'a str>,
}

impl<'a> Pools<'a> {
    /// Takes the pools in the order of their names; one that overlaps an earlier one is left out.
    pub(super) fn new(
        pools: &'a BTreeMap<String, Pool>,
        namespaces: &'a SharedMap<String, Labels>,
        findings: &mut Vec<Finding>,
    ) -> Self {
        let mut this = Self {
            by_name: BTreeMap::new(),
            networks: BTreeMap::new(),
            namespaces,
            restricted: Vec::new(),
            open: Vec::new(),
        };
        for (name, pool) in pools {
            if let Err(finding) = this.add(name, pool) {
                findings.push(finding);
            }
        }
        let by_name = &this.by_name;
        let rank = |name: &&str| match by_name.get(name).and_then(|pool| pool.allocation.as_ref()) {
            None | Some(PoolAllocation { priority: 0, .. }) => (1, 0),
            Some(allocation) => (0, allocation.priority),
        };
        let automatic = by_name.iter().filter(|(_, pool)| pool.auto_assign);
        (this.restricted, this.open) = automatic.map(|(name, pool)| (*name, pool)).fold(
            (Vec::new(), Vec::new()),
            |(mut restricted, mut open), (name, pool)| {
                let list = if pool.allocation.is_some() {
                    &mut restricted
                } else {
                    &mut open
                };
                list.push(name);
                (restricted, open)
            },
        );
        this.restricted.sort_by_key(rank);
        this
    }

    fn add(&mut self, name: &'a str, pool: &'a Pool) -> Result<(), Finding> {
        let mut added: Vec<IpAddr> = Vec::new();
        for (index, range) in pool.addresses.iter().enumerate() {
            for network in &range.networks {
                let (first, last) = bounds(network);
                let before = self.networks.range(..=last).next_back();
                if let Some((_, (_, other))) = before.filter(|(_, (end, _))| *end >= first) {
                    let other = if *other == name {
                        "the same pool"
                    } else {
                        other
                    };
                    let message = format!(
                        "CIDR {:?} overlaps with an already defined CIDR of {other}; \
                         the pool is not used until the overlap is removed",
                        range.text
                    );
                    for first in added {
                        self.networks.remove(&first);
                    }
                    return Err(Finding {
                        source: String::new(),
                        object: format!("IPAddressPool {name}"),
                        field: format!("spec.addresses[{index}]"),
                        message,
                    });
                }
                self.networks.insert(first, (last, name));
                added.push(first);
            }
        }
        self.by_name.insert(name, pool);
        Ok(())
    }

    /// Whether there is no pool at all.
    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// All pools.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a str, &'a Pool)> {
        self.by_name.iter().map(|(name, pool)| (*name, *pool))
    }

    /// The name of a pool as the pools know it.
    pub(super) fn name(&self, name: &str) -> Option<&'a str> {
        self.by_name.get_key_value(name).map(|(name, _)| *name)
    }

    /// The one pool that all the addresses are in.
    pub(super) fn of_all(&self, addresses: &[IpAddr]) -> Result<&'a str, AllocateError> {
        let mut found: Option<&'a str> = None;
        let mut missing = None;
        for addr in addresses {
            match (self.of(*addr), found) {
                (None, _) => missing = Some(*addr),
                (Some(second), Some(first)) if first != second => {
                    return Err(AllocateError::SeveralPools {
                        requested: addresses.to_vec(),
                        first: first.to_owned(),
                        second: second.to_owned(),
                    });
                }
                (Some(pool), _) => found = Some(pool),
            }
        }
        match (found, missing) {
            (_, Some(addr)) => Err(AllocateError::NotInPool(addr)),
            (Some(pool), None) => Ok(pool),
            (None, None) => Err(AllocateError::NoPools),
        }
    }

    /// Whether the pool's `serviceAllocation` lets the Service have an address.
    pub(super) fn serves(&self, pool: &str, name: &ObjectName, service: &Service) -> bool {
        let allocation = self
            .by_name
            .get(pool)
            .and_then(|pool| pool.allocation.as_ref());
        allocation.is_none_or(|allocation| {
            self.serves_namespace(allocation, &name.namespace)
                && (allocation.service_selectors.is_empty()
                    || allocation
                        .service_selectors
                        .iter()
                        .any(|selector| selector.matches(&service.labels)))
        })
    }

    /// Pools with `serviceAllocation` that serve the Service by themselves, in the order to try them.
    pub(super) fn pinned(&self, name: &ObjectName, service: &Service) -> Vec<&'a str> {
        let restricted = self.restricted.iter().copied();
        restricted
            .filter(|pool| self.serves(pool, name, service))
            .collect()
    }

    /// Pools without `serviceAllocation` that serve by themselves, in the order to try them.
    pub(super) fn open(&self) -> &[&'a str] {
        &self.open
    }

    fn of(&self, addr: IpAddr) -> Option<&'a str> {
        let (_, (last, pool)) = self.networks.range(..=addr).next_back()?;
        (*last >= addr).then_some(*pool)
    }

    fn serves_namespace(&self, allocation: &PoolAllocation, namespace: &str) -> bool {
        if allocation.namespaces.is_empty() && allocation.namespace_selectors.is_empty() {
            return true;
        }
        let by_label = || {
            let labels = self.namespaces.get(namespace);
            labels.is_some_and(|labels| {
                let mut selectors = allocation.namespace_selectors.iter();
                selectors.any(|selector| selector.matches(labels))
            })
        };
        allocation.namespaces.contains(namespace) || by_label()
    }
}

/// First and last address of a network.
fn bounds(network: &IpNet) -> (IpAddr, IpAddr) {
    (network.network(), network.broadcast())
}
