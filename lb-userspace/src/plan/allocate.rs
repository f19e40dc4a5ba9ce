//! Which Service has which addresses: MetalLB's allocation, as a function.
//!
//! `pools` knows which pool an address is in, `ledger` who holds it and which one is free next, `error`
//! why not, `usage` how much is left. A Service converges in three passes over all of them:
//!
//! 1. Addresses in a Service's status stay, if they still may: no restart takes an address from one
//!    Service and gives it to another.
//! 2. Addresses asked for by name are given.
//! 3. Everybody else gets the next free address: first those that hold one and want a second family,
//!    then by namespace and name.
//!
//! Where MetalLB walks a Go map, and so decides by chance, this decides by name. In one point it is
//! stricter: a pool restricted to namespaces none of which exists serves nobody, while MetalLB gives its
//! addresses to any Service that asks for one by name.

mod error;
mod ledger;
mod pools;
mod usage;

use std::collections::BTreeMap;
use std::net::IpAddr;

pub use self::error::AllocateError;
use self::ledger::Claim;
use self::ledger::Ledger;
use self::pools::Pools;
pub use self::usage::usage;
use crate::model::cluster::Family;
use crate::model::cluster::FamilyPolicy;
use crate::model::cluster::Labels;
use crate::model::cluster::Pool;
use crate::model::cluster::Service;
use crate::model::intent::Finding;
use crate::model::name::ObjectName;
use crate::model::shared_map::SharedMap;

/// What a Service holds.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Assignment {
    /// Addresses in the order of the status: at most one per family.
    pub addresses: Vec<IpAddr>,
    /// The pool they are from.
    pub pool: Option<String>,
    /// Why it has none, or not what it asked for.
    pub error: Option<AllocateError>,
}

/// What all Services hold.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Allocation {
    /// By Service; LoadBalancer Services only.
    pub services: BTreeMap<ObjectName, Assignment>,
    /// What is wrong with the pools.
    pub findings: Vec<Finding>,
    /// How many addresses were looked at.
    pub probes: u64,
}

/// Gives every LoadBalancer Service its addresses. Nobody gets one that stands in the status of another
/// Service, be that one not ours, or one whose address is yet to be cleared.
pub fn allocate(
    services: &SharedMap<ObjectName, Service>,
    pools: &BTreeMap<String, Pool>,
    namespaces: &SharedMap<String, Labels>,
) -> Allocation {
    let mut findings = Vec::new();
    let pools = Pools::new(pools, namespaces, &mut findings);
    let mut allocator = Allocator {
        ledger: Ledger::new(&pools),
        pools: &pools,
    };
    let (services, others): (Vec<_>, Vec<_>) = services
        .iter()
        .partition(|(_, service)| service.is_load_balancer);
    let mut assignments: Vec<Assignment> = services
        .iter()
        .map(|(name, service)| allocator.keep(name, service))
        .collect();
    for (name, service) in others {
        allocator.ledger.reserve(name, &service.status_addresses);
    }
    let mut order: Vec<(bool, bool, usize)> = services
        .iter()
        .zip(&assignments)
        .enumerate()
        .map(|(index, ((_, service), assignment))| {
            let asks = matches!(&service.requested_addresses, Ok(wanted) if !wanted.is_empty());
            (!asks, assignment.addresses.is_empty(), index)
        })
        .collect();
    order.sort_unstable();
    for (_, _, index) in order {
        let (name, service) = services[index];
        allocator.complete(name, service, &mut assignments[index]);
    }
    // Whoever held the address first in this run may not be the first in the next.
    for error in assignments.iter_mut().filter_map(|a| a.error.as_mut()) {
        if let AllocateError::InUse { addr, holder }
        | AllocateError::BackendsDiffer { addr, holder } = error
            && let Some(first) = allocator.ledger.holder(*addr)
        {
            holder.clone_from(first);
        }
    }
    Allocation {
        probes: allocator.ledger.probes(),
        services: services
            .into_iter()
            .map(|(name, _)| name.clone())
            .zip(assignments)
            .collect(),
        findings,
    }
}

struct Allocator<'a> {
    pools: &'a Pools<'a>,
    ledger: Ledger<'a>,
}

impl<'a> Allocator<'a> {
    /// The first pass: what stays of the addresses in the status.
    fn keep(&mut self, name: &'a ObjectName, service: &'a Service) -> Assignment {
        self.kept_pool(name, service)
            .map_or_else(Assignment::default, |pool| Assignment {
                addresses: service.status_addresses.clone(),
                pool: Some(pool.to_owned()),
                error: None,
            })
    }

    /// The pool from which the Service keeps the addresses in its status; `None` if it keeps none.
    fn kept_pool(&mut self, name: &'a ObjectName, service: &'a Service) -> Option<&'a str> {
        let status = &service.status_addresses;
        if status.is_empty() || self.precondition(service).is_some() {
            return None;
        }
        let is_half = service.families.len() == 2
            && service.family_policy == FamilyPolicy::PreferDualStack
            && status.len() == 1;
        if !is_half && !same_families(status, &service.families) {
            return None;
        }
        if let Ok(wanted) = &service.requested_addresses
            && !wanted.is_empty()
            && !same_set(wanted, status)
        {
            return None;
        }
        let pool = self.pools.of_all(status).ok()?;
        if service
            .requested_pool
            .as_deref()
            .is_some_and(|wanted| wanted != pool)
        {
            return None;
        }
        self.ledger
            .assign(&Claim::new(name, service), pool, status)
            .ok()?;
        Some(pool)
    }

    /// The second and third pass: gives what is missing.
    fn complete(
        &mut self,
        name: &'a ObjectName,
        service: &'a Service,
        assignment: &mut Assignment,
    ) {
        if let Some(error) = self.precondition(service) {
            assignment.error = Some(error);
            return;
        }
        let claim = Claim::new(name, service);
        if let Err(text) = &service.requested_addresses {
            assignment.error = Some(AllocateError::BadRequest(text.clone()));
            return;
        }
        if assignment.addresses.is_empty() {
            match self.allocate(&claim) {
                Ok((addresses, pool)) => {
                    assignment.error =
                        lacking(service, &addresses).map(|family| no_second_family(pool, family));
                    assignment.addresses = addresses;
                    assignment.pool = Some(pool.to_owned());
                }
                Err(error) => assignment.error = Some(error),
            }
        } else if assignment.addresses.len() < service.families.len() {
            self.upgrade(&claim, assignment);
        }
    }

    /// Adds the family that a PreferDualStack Service lacks, from the pool that it is in. If the pool has
    /// none, one family is what the Service settles for.
    fn upgrade(&mut self, claim: &Claim<'a>, assignment: &mut Assignment) {
        let lacking = lacking(claim.service, &assignment.addresses);
        let pool = assignment
            .pool
            .as_deref()
            .and_then(|pool| self.pools.name(pool));
        let (Some(family), Some(pool)) = (lacking, pool) else {
            return;
        };
        match self.ledger.next(claim, pool, family) {
            Some(addr) if self.ledger.assign(claim, pool, &[addr]).is_ok() => {
                assignment.addresses.push(addr);
            }
            _ => {
                assignment.error = Some(no_second_family(pool, family));
            }
        }
    }

    fn allocate(&mut self, claim: &Claim<'a>) -> Result<(Vec<IpAddr>, &'a str), AllocateError> {
        let service = claim.service;
        if let Ok(wanted) = &service.requested_addresses
            && !wanted.is_empty()
        {
            return self.allocate_requested(claim, wanted);
        }
        if let Some(wanted) = &service.requested_pool {
            let pool = self
                .pools
                .name(wanted)
                .ok_or_else(|| AllocateError::UnknownPool(wanted.clone()))?;
            if !self.pools.serves(pool, claim.name, service) {
                return Err(AllocateError::NotForService(pool.to_owned()));
            }
            let addresses = self
                .take(claim, &[pool])
                .ok_or_else(|| AllocateError::Exhausted {
                    pool: pool.to_owned(),
                    families: service.families.clone(),
                })?;
            return Ok((addresses.0, pool));
        }
        let pinned = self.pools.pinned(claim.name, service);
        if let Some(found) = self.take(claim, &pinned) {
            return Ok(found);
        }
        let pools = self.pools;
        self.take(claim, pools.open())
            .ok_or_else(|| AllocateError::NoneLeft(service.families.clone()))
    }

    fn allocate_requested(
        &mut self,
        claim: &Claim<'a>,
        wanted: &[IpAddr],
    ) -> Result<(Vec<IpAddr>, &'a str), AllocateError> {
        if !same_families(wanted, &claim.service.families) {
            return Err(AllocateError::FamilyMismatch {
                requested: wanted.to_vec(),
                families: claim.service.families.clone(),
            });
        }
        let pool = self.pools.of_all(wanted)?;
        if let Some(asked) = claim
            .service
            .requested_pool
            .as_deref()
            .filter(|asked| *asked != pool)
        {
            return Err(AllocateError::PoolMismatch {
                requested: wanted.to_vec(),
                asked: asked.to_owned(),
                pool: pool.to_owned(),
            });
        }
        self.ledger.assign(claim, pool, wanted)?;
        Ok((wanted.to_vec(), pool))
    }

    /// Takes addresses from the first of the pools that has what the Service needs: of all its families,
    /// else, if it only prefers two, of one, the primary first.
    fn take(&mut self, claim: &Claim<'a>, pools: &[&'a str]) -> Option<(Vec<IpAddr>, &'a str)> {
        let mut families = claim.service.families.clone();
        let primary_first = families.clone();
        families.sort_unstable();
        let mut wishes = vec![families];
        if wishes[0].len() == 2 && claim.service.family_policy == FamilyPolicy::PreferDualStack {
            wishes.extend(primary_first.into_iter().map(|family| vec![family]));
        }
        for wish in wishes {
            for pool in pools {
                let found = wish
                    .iter()
                    .map(|family| self.ledger.next(claim, pool, *family));
                let found: Option<Vec<IpAddr>> = found.collect();
                if let Some(addresses) = found
                    && self.ledger.assign(claim, pool, &addresses).is_ok()
                {
                    return Some((addresses, pool));
                }
            }
        }
        None
    }

    fn precondition(&self, service: &Service) -> Option<AllocateError> {
        if self.pools.is_empty() {
            Some(AllocateError::NoPools)
        } else if service.families.is_empty() {
            Some(AllocateError::NoClusterIp)
        } else if service.family_policy == FamilyPolicy::RequireDualStack
            && service.families.len() < 2
        {
            Some(AllocateError::NotDualStack)
        } else {
            None
        }
    }
}

/// The first family of the Service's of which it has no address.
fn lacking(service: &Service, addresses: &[IpAddr]) -> Option<Family> {
    let is_held = |family: &Family| addresses.iter().any(|addr| Family::of(*addr) == *family);
    service
        .families
        .iter()
        .copied()
        .find(|family| !is_held(family))
}

fn no_second_family(pool: &str, family: Family) -> AllocateError {
    AllocateError::NoSecondFamily {
        pool: pool.to_owned(),
        family,
    }
}

fn same_families(addresses: &[IpAddr], families: &[Family]) -> bool {
    addresses.len() == families.len()
        && families
            .iter()
            .all(|family| addresses.iter().any(|addr| Family::of(*addr) == *family))
}

fn same_set(a: &[IpAddr], b: &[IpAddr]) -> bool {
    a.len() == b.len() && a.iter().all(|addr| b.contains(addr))
}

#[cfg(test)]
mod tests;
