//! Who holds which address, and which one is next.
//!
//! Addresses are only ever taken, never given back: each run starts from an empty ledger. So the first
//! free address of a pool only moves up, and a cursor finds it in constant time on average.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use ipnet::IpNet;

use super::error::AllocateError;
use super::pools::Pools;
use crate::model::cluster::Family;
use crate::model::cluster::Protocol;
use crate::model::cluster::Service;
use crate::model::cluster::TrafficPolicy;
use crate::model::name::ObjectName;

/// A Service that wants addresses.
pub(super) struct Claim<'a> {
    pub(super) name: &'a ObjectName,
    pub(super) service: &'a Service,
}

impl<'a> Claim<'a> {
    pub(super) fn new(name: &'a ObjectName, service: &'a Service) -> Self {
        Self { name, service }
    }

    fn sharing_key(&self) -> Option<&'a str> {
        self.service
            .sharing_key
            .as_deref()
            .filter(|key| !key.is_empty())
    }

    /// Services that share an address must have this in common.
    fn backend_key(&self) -> &'a str {
        match self.service.traffic_policy {
            TrafficPolicy::Cluster => "",
            TrafficPolicy::Local => &self.service.selector,
        }
    }

    fn ports(&self) -> impl Iterator<Item = (Protocol, u16)> {
        self.service
            .ports
            .iter()
            .map(|port| (port.protocol, port.port))
    }
}

/// Who holds which address.
pub(super) struct Ledger<'a> {
    pools: &'a Pools<'a>,
    holdings: HashMap<IpAddr, Holding<'a>>,
    blocks: HashMap<(&'a str, Family), Block>,
    shared: HashMap<GroupKey<'a>, Group>,
    probes: u64,
}

/// The Services on one address.
struct Holding<'a> {
    sharing_key: Option<&'a str>,
    backend_key: &'a str,
    /// The first of them by name, whatever order they came in.
    holder: &'a ObjectName,
    ports: HashMap<(Protocol, u16), &'a ObjectName>,
}

/// The addresses of one family of a pool, and where the first free one can be.
struct Block {
    networks: Vec<IpNet>,
    avoid_buggy: bool,
    network: usize,
    next: Option<IpAddr>,
}

/// Addresses on which Services may meet: pool, family, sharing key, backend key.
type GroupKey<'a> = (&'a str, Family, &'a str, &'a str);

#[derive(Default)]
struct Group {
    /// In the order of the pool: index of the network, address.
    addresses: BTreeSet<(usize, IpAddr)>,
    /// On how many of them each port is taken.
    taken: HashMap<(Protocol, u16), usize>,
}

impl<'a> Ledger<'a> {
    /// Nobody holds anything.
    pub(super) fn new(pools: &'a Pools<'a>) -> Self {
        let mut blocks = HashMap::new();
        for (name, pool) in pools.iter() {
            for family in [Family::V4, Family::V6] {
                let networks = pool.addresses.iter().flat_map(|range| &range.networks);
                let networks: Vec<IpNet> = networks
                    .filter(|network| Family::of(network.addr()) == family)
                    .copied()
                    .collect();
                let next = networks.first().map(IpNet::network);
                let block = Block {
                    networks,
                    avoid_buggy: pool.avoid_buggy_ips,
                    network: 0,
                    next,
                };
                blocks.insert((name, family), block);
            }
        }
        Self {
            pools,
            holdings: HashMap::new(),
            blocks,
            shared: HashMap::new(),
            probes: 0,
        }
    }

    /// The first by name of those that hold the address.
    pub(super) fn holder(&self, addr: IpAddr) -> Option<&'a ObjectName> {
        self.holdings.get(&addr).map(|holding| holding.holder)
    }

    /// How many addresses were looked at.
    pub(super) fn probes(&self) -> u64 {
        self.probes
    }

    /// Keeps addresses for a Service that claims nothing: nobody else gets them.
    pub(super) fn reserve(&mut self, name: &'a ObjectName, addresses: &[IpAddr]) {
        for addr in addresses {
            self.holdings.entry(*addr).or_insert_with(|| Holding {
                sharing_key: None,
                backend_key: "",
                holder: name,
                ports: HashMap::new(),
            });
        }
    }

    /// Gives the addresses of the pool to the claim, all or none.
    pub(super) fn assign(
        &mut self,
        claim: &Claim<'a>,
        pool: &'a str,
        addresses: &[IpAddr],
    ) -> Result<(), AllocateError> {
        if !self.pools.serves(pool, claim.name, claim.service) {
            return Err(AllocateError::NotForService(pool.to_owned()));
        }
        for addr in addresses {
            let block = self.blocks.get(&(pool, Family::of(*addr)));
            if block.is_some_and(|block| block.skips(*addr)) {
                return Err(AllocateError::Buggy {
                    addr: *addr,
                    pool: pool.to_owned(),
                });
            }
            self.may_hold(claim, *addr)?;
        }
        for addr in addresses {
            self.hold(claim, pool, *addr);
        }
        Ok(())
    }

    /// The first address of a pool, in the pool's order, that is free or that the claim may share.
    pub(super) fn next(
        &mut self,
        claim: &Claim<'a>,
        pool: &'a str,
        family: Family,
    ) -> Option<IpAddr> {
        let free = self.next_free(pool, family);
        let shared = self.next_shared(claim, pool, family);
        let first = match (free, shared) {
            (Some(free), Some(shared)) => Some(free.min(shared)),
            (free, shared) => free.or(shared),
        };
        first.map(|(_, addr)| addr)
    }

    fn next_free(&mut self, pool: &'a str, family: Family) -> Option<(usize, IpAddr)> {
        let block = self.blocks.get_mut(&(pool, family))?;
        loop {
            let addr = block.next?;
            self.probes += 1;
            if !block.skips(addr) && !self.holdings.contains_key(&addr) {
                return Some((block.network, addr));
            }
            block.advance(addr);
        }
    }

    fn next_shared(
        &mut self,
        claim: &Claim<'a>,
        pool: &'a str,
        family: Family,
    ) -> Option<(usize, IpAddr)> {
        let key = (pool, family, claim.sharing_key()?, claim.backend_key());
        let group = self.shared.get(&key)?;
        // Mostly the Services with one key all have the same port: then no address is free of it.
        let all = group.addresses.len();
        if claim
            .ports()
            .any(|port| group.taken.get(&port) == Some(&all))
        {
            return None;
        }
        let mut probes = 0;
        let found = group.addresses.iter().copied().find(|(_, addr)| {
            probes += 1;
            self.may_hold(claim, *addr).is_ok()
        });
        self.probes += probes;
        found
    }

    fn may_hold(&self, claim: &Claim<'a>, addr: IpAddr) -> Result<(), AllocateError> {
        let Some(holding) = self.holdings.get(&addr) else {
            return Ok(());
        };
        let holder = holding.holder.clone();
        let key = claim.sharing_key();
        if key.is_none() || key != holding.sharing_key {
            return Err(AllocateError::InUse { addr, holder });
        }
        if claim.backend_key() != holding.backend_key {
            return Err(AllocateError::BackendsDiffer { addr, holder });
        }
        for (protocol, port) in claim.ports() {
            if let Some(holder) = holding.ports.get(&(protocol, port)) {
                return Err(AllocateError::PortInUse {
                    addr,
                    port,
                    protocol,
                    holder: (*holder).clone(),
                });
            }
        }
        Ok(())
    }

    fn hold(&mut self, claim: &Claim<'a>, pool: &'a str, addr: IpAddr) {
        let holding = self.holdings.entry(addr).or_insert_with(|| Holding {
            sharing_key: claim.sharing_key(),
            backend_key: claim.backend_key(),
            holder: claim.name,
            ports: HashMap::new(),
        });
        holding.holder = holding.holder.min(claim.name);
        holding
            .ports
            .extend(claim.ports().map(|port| (port, claim.name)));
        let Some(sharing_key) = claim.sharing_key() else {
            return;
        };
        let family = Family::of(addr);
        let networks = self
            .blocks
            .get(&(pool, family))
            .map(|block| &block.networks);
        let network =
            networks.and_then(|list| list.iter().position(|network| network.contains(&addr)));
        let key = (pool, family, sharing_key, claim.backend_key());
        let group = self.shared.entry(key).or_default();
        group.addresses.insert((network.unwrap_or(0), addr));
        for port in claim.ports() {
            *group.taken.entry(port).or_default() += 1;
        }
    }
}

impl Block {
    fn skips(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.avoid_buggy && matches!(addr.octets(), [_, _, _, 0 | 255]),
            IpAddr::V6(_) => false,
        }
    }

    /// Moves on from an address that is taken for good.
    fn advance(&mut self, addr: IpAddr) {
        let is_last = self
            .networks
            .get(self.network)
            .is_none_or(|network| addr >= network.broadcast());
        self.next = if is_last {
            self.network += 1;
            self.networks.get(self.network).map(IpNet::network)
        } else {
            Some(successor(addr))
        };
    }
}

fn successor(addr: IpAddr) -> IpAddr {
    match addr {
        IpAddr::V4(addr) => Ipv4Addr::from_bits(addr.to_bits().wrapping_add(1)).into(),
        IpAddr::V6(addr) => Ipv6Addr::from_bits(addr.to_bits().wrapping_add(1)).into(),
    }
}
