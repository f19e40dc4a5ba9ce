//! How much of each pool is in use.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::model::cluster::{Family, Pool};
use crate::model::intent::ServiceState;
use crate::model::name::ObjectName;
use crate::model::pool_usage::PoolUsage;
use crate::model::shared_map::SharedMap;

/// Counts the addresses of each pool that Services hold, and those that are free. An address that several
/// Services share counts once.
pub fn usage(
    pools: &BTreeMap<String, Pool>,
    services: &SharedMap<ObjectName, ServiceState>,
) -> BTreeMap<String, PoolUsage> {
    let mut held: BTreeMap<&str, BTreeSet<IpAddr>> = BTreeMap::new();
    for service in services.values() {
        if let Some(pool) = &service.pool {
            held.entry(pool).or_default().extend(&service.addresses);
        }
    }
    let of_pool = |(name, pool): (&String, &Pool)| {
        let held = held.get(name.as_str());
        let assigned = |family| {
            let held = held.into_iter().flatten();
            to_count(held.filter(|addr| Family::of(**addr) == family).count() as u128)
        };
        let (assigned_v4, assigned_v6) = (assigned(Family::V4), assigned(Family::V6));
        let usage = PoolUsage {
            assigned_v4,
            assigned_v6,
            available_v4: capacity(pool, Family::V4)
                .saturating_sub(assigned_v4)
                .max(0),
            available_v6: capacity(pool, Family::V6)
                .saturating_sub(assigned_v6)
                .max(0),
        };
        (name.clone(), usage)
    };
    pools.iter().map(of_pool).collect()
}

/// Addresses of one family that a pool can give.
fn capacity(pool: &Pool, family: Family) -> i64 {
    let networks = pool.addresses.iter().flat_map(|range| &range.networks);
    let of_family = networks.filter(|network| Family::of(network.addr()) == family);
    let counts = of_family.map(|network| match network {
        IpNet::V4(network) => {
            let left_out = if pool.avoid_buggy_ips {
                buggy(network)
            } else {
                0
            };
            size(32, network.prefix_len()) - left_out
        }
        IpNet::V6(network) => size(128, network.prefix_len()),
    });
    to_count(counts.fold(0, u128::saturating_add))
}

fn size(bits: u8, prefix: u8) -> u128 {
    let host = u32::from(bits.saturating_sub(prefix));
    1_u128.checked_shl(host).unwrap_or(u128::MAX)
}

/// Addresses that end in .0 or .255.
fn buggy(network: &Ipv4Net) -> u128 {
    let ends_badly = |addr: Ipv4Addr| matches!(addr.octets(), [_, _, _, 0 | 255]);
    match network.prefix_len() {
        ..=24 => size(24, network.prefix_len()) * 2,
        // Either end can be one of them, and no address in between.
        _ => BTreeSet::from([network.network(), network.broadcast()])
            .into_iter()
            .filter(|addr| ends_badly(*addr))
            .count() as u128,
    }
}

fn to_count(number: u128) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::cluster::PoolRange;

    fn pool(networks: &[&str], avoid_buggy_ips: bool) -> Pool {
        let range = |text: &&str| PoolRange {
            text: (*text).to_owned(),
            networks: vec![text.parse().unwrap()],
        };
        Pool {
            addresses: networks.iter().map(range).collect(),
            avoid_buggy_ips,
            labels: BTreeMap::new(),
            auto_assign: true,
            allocation: None,
        }
    }

    #[test]
    fn pools_count_as_metallb_counts_them() {
        for (networks, avoid, v4, v6) in [
            (&["192.0.2.0/24"][..], false, 256, 0),
            (&["192.0.2.0/24", "198.51.100.0/25"], false, 384, 0),
            (&["192.0.2.0/24", "198.51.100.0/25"], true, 381, 0),
            (&["192.0.2.0/32"], true, 0, 0),
            (&["10.0.0.0/8"], true, (1 << 24) - (1 << 17), 0),
            (&["2001:db8::/64"], false, 0, i64::MAX),
            (&["2001:db8::/120", "192.0.2.0/30"], false, 4, 256),
            (&["::/0"], false, 0, i64::MAX),
        ] {
            let pools = BTreeMap::from([("p".to_owned(), pool(networks, avoid))]);
            let usage = usage(&pools, &SharedMap::new())["p"];
            assert_eq!(
                (usage.available_v4, usage.available_v6),
                (v4, v6),
                "{networks:?}"
            );
        }
    }

    #[test]
    fn an_address_that_is_shared_counts_once() {
        let pools = BTreeMap::from([("p".to_owned(), pool(&["192.0.2.0/30"], false))]);
        let state = |addresses: &[&str]| ServiceState {
            addresses: addresses.iter().map(|addr| addr.parse().unwrap()).collect(),
            pool: Some("p".to_owned()),
            ..ServiceState::default()
        };
        let services = [
            (ObjectName::new("a", "a"), state(&["192.0.2.1"])),
            (ObjectName::new("a", "b"), state(&["192.0.2.1"])),
            (ObjectName::new("a", "c"), state(&["192.0.2.2"])),
        ];
        let usage = usage(&pools, &services.into())["p"];
        assert_eq!((usage.assigned_v4, usage.available_v4), (2, 2));
    }
}
