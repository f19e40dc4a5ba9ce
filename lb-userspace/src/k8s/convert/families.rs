//! Which address families a Service has.
//!
//! An API server decides and writes `clusterIPs` and `ipFamilies` into every Service. A file written
//! by hand has neither, as a rule. The families then are the first of these that says something:
//!
//! 1. `clusterIP: None`: headless, none.
//! 2. The families of `spec.clusterIPs` (or `clusterIP`), or else `spec.ipFamilies`.
//! 3. The families of the requested addresses.
//! 4. `ipFamilyPolicy: RequireDualStack`: IPv4 and IPv6.
//! 5. The families of the Service's endpoints, IPv4 first; only the first of them unless
//!    `ipFamilyPolicy: PreferDualStack`.
//! 6. IPv4.
//!
//! Where no `clusterIPs` are given, a policy of RequireDualStack completes a single family with the
//! other one, and so does PreferDualStack if there are endpoints of that other family.

use std::net::IpAddr;

use crate::model::cluster::{Endpoint, Family, FamilyPolicy};

/// What a Service says about its families.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stated {
    /// These, and there is nothing to add; none for a headless Service.
    Final(Vec<Family>),
    /// These at least, perhaps none; see the rules above.
    AtLeast(Vec<Family>),
}

/// Applies the rules above, from the third on.
pub fn settle(
    stated: &Stated,
    policy: FamilyPolicy,
    requested: &[IpAddr],
    endpoints: &[Endpoint],
) -> Vec<Family> {
    let mut families = match stated {
        Stated::Final(families) => return families.clone(),
        Stated::AtLeast(families) => families.clone(),
    };
    let served = |family| {
        endpoints
            .iter()
            .any(|endpoint| Family::of(endpoint.addr) == family)
    };
    for addr in requested {
        let family = Family::of(*addr);
        if families.len() < 2 && stated_nothing(stated) && !families.contains(&family) {
            families.push(family);
        }
    }
    if families.is_empty() {
        let only_v6 =
            policy != FamilyPolicy::RequireDualStack && served(Family::V6) && !served(Family::V4);
        families.push(if only_v6 { Family::V6 } else { Family::V4 });
    }
    if let [first] = families[..] {
        let other = match first {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        };
        let wanted = match policy {
            FamilyPolicy::SingleStack => false,
            FamilyPolicy::PreferDualStack => served(other),
            FamilyPolicy::RequireDualStack => true,
        };
        if wanted {
            families.push(other);
        }
    }
    families
}

const fn stated_nothing(stated: &Stated) -> bool {
    matches!(stated, Stated::AtLeast(families) if families.is_empty())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn endpoint(addr: IpAddr) -> Endpoint {
        Endpoint {
            addr,
            node: None,
            ports: Arc::default(),
            ready: true,
            serving: true,
            terminating: false,
            zones: [].into(),
        }
    }

    #[test]
    fn families_are_derived_where_nothing_states_them() {
        use Family::{V4, V6};
        use FamilyPolicy::{PreferDualStack as Prefer, RequireDualStack as Require, SingleStack};
        let four: IpAddr = "192.0.2.1".parse().unwrap();
        let six: IpAddr = "2001:db8::1".parse().unwrap();
        let nothing = Stated::AtLeast(vec![]);
        for (stated, policy, requested, endpoints, expected) in [
            (
                Stated::Final(vec![]),
                Require,
                vec![four],
                vec![six],
                vec![],
            ),
            (Stated::Final(vec![V6]), Require, vec![], vec![], vec![V6]),
            (nothing.clone(), SingleStack, vec![], vec![], vec![V4]),
            (
                nothing.clone(),
                SingleStack,
                vec![six],
                vec![four],
                vec![V6],
            ),
            (nothing.clone(), SingleStack, vec![], vec![six], vec![V6]),
            (
                nothing.clone(),
                SingleStack,
                vec![],
                vec![six, four],
                vec![V4],
            ),
            (nothing.clone(), Require, vec![], vec![six], vec![V4, V6]),
            (nothing.clone(), Require, vec![six], vec![], vec![V6, V4]),
            (
                nothing.clone(),
                Prefer,
                vec![],
                vec![six, four],
                vec![V4, V6],
            ),
            (nothing.clone(), Prefer, vec![], vec![six], vec![V6]),
            (nothing, SingleStack, vec![six, four], vec![], vec![V6, V4]),
            (
                Stated::AtLeast(vec![V6]),
                Require,
                vec![],
                vec![],
                vec![V6, V4],
            ),
            (
                Stated::AtLeast(vec![V6]),
                SingleStack,
                vec![four],
                vec![],
                vec![V6],
            ),
        ] {
            let endpoints: Vec<_> = endpoints.into_iter().map(endpoint).collect();
            let settled = settle(&stated, policy, &requested, &endpoints);
            assert_eq!(
                settled, expected,
                "{stated:?} {policy:?} {requested:?} {endpoints:?}"
            );
        }
    }
}
