//! IPAddressPools.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::{Problems, selector};
use crate::k8s::api::{IpAddressPoolSpec, Resource, ServiceAllocation};
use crate::model::cluster::{Pool, PoolAllocation, PoolRange};

/// Converts an IPAddressPool. Overlaps with other pools are [`find_overlap`]'s.
pub(super) fn convert(pool: &Resource<IpAddressPoolSpec>, problems: &mut Problems) -> Pool {
    let spec = &pool.spec;
    if spec.addresses.is_empty() {
        problems.refuse("spec.addresses", "pool has no prefixes defined");
    }
    let mut addresses = Vec::new();
    for (index, text) in spec.addresses.iter().enumerate() {
        match parse_range(text) {
            Ok(networks) => addresses.push(PoolRange {
                text: text.clone(),
                networks,
            }),
            Err(message) => problems.refuse(format!("spec.addresses[{index}]"), message),
        }
    }
    refuse_overlaps(&addresses, problems);
    Pool {
        labels: pool.metadata.labels.clone().unwrap_or_default(),
        addresses,
        auto_assign: spec.auto_assign.unwrap_or(true),
        avoid_buggy_ips: spec.avoid_buggy_ips,
        allocation: spec
            .service_allocation
            .as_ref()
            .map(|allocation| convert_allocation(allocation, problems)),
    }
}

fn convert_allocation(allocation: &ServiceAllocation, problems: &mut Problems) -> PoolAllocation {
    problems.refuse_duplicates(
        "spec.serviceAllocation.namespaces",
        "namespaces field",
        &allocation.namespaces,
    );
    PoolAllocation {
        priority: allocation.priority,
        namespaces: allocation.namespaces.iter().cloned().collect(),
        namespace_selectors: selector::convert_all(
            &allocation.namespace_selectors,
            "spec.serviceAllocation.namespaceSelectors",
            "namespace",
            problems,
        ),
        service_selectors: selector::convert_all(
            &allocation.service_selectors,
            "spec.serviceAllocation.serviceSelectors",
            "service",
            problems,
        ),
    }
}

/// Reads a CIDR, whose host bits are dropped, or an inclusive range, as its minimal cover.
fn parse_range(text: &str) -> Result<Vec<IpNet>, String> {
    let Some((first, last)) = text.split_once('-') else {
        return match text.parse::<IpNet>() {
            Ok(network) => Ok(vec![network.trunc()]),
            Err(_) if text.trim().parse::<IpAddr>().is_ok() => Err(format!(
                "invalid CIDR \"{text}\": for a single address write {text}/{}",
                if text.contains(':') { 128 } else { 32 }
            )),
            Err(_) => Err(format!(
                "invalid CIDR \"{text}\": write ADDRESS/LENGTH or FIRST-LAST"
            )),
        };
    };
    let end = |name: &str, address: &str| {
        let wrong = |_| format!("invalid IP range \"{text}\": invalid {name} IP");
        address.trim().parse::<IpAddr>().map_err(wrong)
    };
    let (first, last) = (end("start", first)?, end("end", last)?);
    if first.is_ipv4() == last.is_ipv4() && first > last {
        return Err(format!(
            "invalid IP range \"{text}\": start IP is after the end IP"
        ));
    }
    match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Ok(Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect())
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Ok(Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect())
        }
        _ => Err(format!(
            "invalid IP range \"{text}\": start and end are of different families"
        )),
    }
}

/// What a pool takes from another.
pub struct Overlap {
    /// Index of the entry in `spec.addresses`.
    pub index: usize,
    /// Which addresses, and whose they are.
    pub message: String,
}

/// The first entry of a pool that has an address in common with one of the others.
pub fn find_overlap(pool: &Pool, others: &BTreeMap<String, Pool>) -> Option<Overlap> {
    let taken = |network: &IpNet| {
        others.iter().find_map(|(name, other)| {
            let networks = other.addresses.iter().flat_map(|range| &range.networks);
            // Prefixes nest or are apart.
            networks
                .filter(|held| held.contains(network) || network.contains(*held))
                .map(|held| (name, held))
                .next()
        })
    };
    let ranges = pool.addresses.iter().enumerate();
    ranges
        .filter_map(|(index, range)| Some((index, range, range.networks.iter().find_map(taken)?)))
        .map(|(index, range, (other, held))| Overlap {
            index,
            message: format!(
                "CIDR \"{}\" overlaps with already defined CIDR \"{held}\" of IPAddressPool {other}",
                range.text
            ),
        })
        .next()
}

fn refuse_overlaps(ranges: &[PoolRange], problems: &mut Problems) {
    let mut networks: Vec<_> = ranges
        .iter()
        .enumerate()
        .flat_map(|(index, range)| range.networks.iter().map(move |network| (*network, index)))
        .collect();
    networks.sort_by_key(|(network, index)| (network.network(), network.prefix_len(), *index));
    let mut widest: Option<IpNet> = None;
    for (network, index) in networks {
        // Prefixes nest or are apart, so the last one that nothing held is the only candidate.
        match widest {
            Some(holder) if holder.contains(&network) => problems.refuse(
                format!("spec.addresses[{index}]"),
                format!("CIDR \"{network}\" overlaps with already defined CIDR \"{holder}\""),
            ),
            _ => widest = Some(network),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ranges_become_their_minimal_cover() {
        for (text, expected) in [
            ("10.0.0.7/24", "10.0.0.0/24"),
            ("10.0.0.1-10.0.0.4", "10.0.0.1/32 10.0.0.2/31 10.0.0.4/32"),
            ("10.0.0.0 - 10.0.0.255", "10.0.0.0/24"),
            ("0.0.0.0-255.255.255.255", "0.0.0.0/0"),
            ("2001:db8::-2001:db8::ffff", "2001:db8::/112"),
            ("2001:db8::1/64", "2001:db8::/64"),
        ] {
            let networks = parse_range(text).unwrap();
            let networks: Vec<_> = networks.iter().map(ToString::to_string).collect();
            assert_eq!(networks.join(" "), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_cover_holds_the_range_and_nothing_else(a: u32, b: u32) {
            let (first, last) = (a.min(b), a.max(b));
            let text = format!("{}-{}", IpAddr::from(first.to_be_bytes()), IpAddr::from(last.to_be_bytes()));
            let networks = parse_range(&text).unwrap();
            let mut next = Some(first);
            for network in networks {
                let IpNet::V4(network) = network else { panic!("{network}") };
                prop_assert_eq!(Some(u32::from(network.network())), next);
                next = u32::from(network.broadcast()).checked_add(1);
            }
            prop_assert_eq!(next, last.checked_add(1));
        }
    }
}
