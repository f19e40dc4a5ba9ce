//! What is kept about a Service in the Service: addresses in its status, the
//! rest in annotations.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use serde_json::{Value, json};

use crate::model::name::ObjectName;

/// The annotation that names the pool.
const POOL: &str = "metallb.io/ip-allocated-from-pool";

/// The annotation that keeps the length of the tables.
const TABLE_LENGTH: &str = "torline.io/table-length";

/// What a Service is to have.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Assigned {
    /// Addresses, in their order.
    pub addresses: Vec<IpAddr>,
    /// Their pool.
    pub pool: Option<String>,
    /// Number of slots of its tables.
    pub table_length: Option<u32>,
    /// Why it has none, or not what it asked for.
    pub error: Option<String>,
    /// Whether what it asks for cannot be read.
    pub is_misread: bool,
}

/// What a Service has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Kept {
    addresses: Vec<IpAddr>,
    pool: Option<String>,
    table_length: Option<u32>,
    /// Whether it is of type LoadBalancer, of whatever class.
    is_load_balancer: bool,
}

/// What is to be written to a Service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    before: Kept,
    after: Kept,
}

impl Kept {
    pub(super) fn of(service: &Service) -> Self {
        let status = service.status.as_ref();
        let ingress = status.and_then(|status| status.load_balancer.as_ref()?.ingress.as_ref());
        let annotation = |name| service.metadata.annotations.as_ref()?.get(name).cloned();
        Self {
            addresses: ingress
                .into_iter()
                .flatten()
                .filter_map(|entry| entry.ip.as_deref()?.parse().ok())
                .collect(),
            pool: annotation(POOL),
            table_length: annotation(TABLE_LENGTH).and_then(|text| text.parse().ok()),
            is_load_balancer: service.spec.as_ref().and_then(|spec| spec.type_.as_deref())
                == Some("LoadBalancer"),
        }
    }
}

impl Assigned {
    /// Reason and note of the event that says which address is missing, and why.
    pub(super) fn failure(&self) -> Option<(&'static str, String)> {
        let reason = match (self.is_misread, self.addresses.is_empty()) {
            (true, _) => "LoadBalancerFailed",
            (false, true) => "AllocationFailed",
            // An additional address that is not to be had; the Service is served.
            (false, false) => "AdditionalAssignFailed",
        };
        Some((reason, self.error.clone()?))
    }
}

impl Change {
    /// The merge patch of `services/status`, for this version of the Service and no other.
    pub(super) fn patch(&self, version: &str) -> Value {
        let ingress: Vec<_> = self
            .after
            .addresses
            .iter()
            .map(|address| json!({"ip": address, "ipMode": "VIP"}))
            .collect();
        let ingress = match ingress.is_empty() {
            true => Value::Null,
            false => Value::from(ingress),
        };
        json!({
            "metadata": {
                "resourceVersion": version,
                "annotations": {
                    POOL: self.after.pool,
                    TABLE_LENGTH: self.after.table_length.map(|length| length.to_string()),
                },
            },
            "status": {"loadBalancer": {"ingress": ingress}},
        })
    }

    /// Reason and note of the event that tells of it, if the addresses change.
    pub(super) fn event(&self) -> Option<(&'static str, String)> {
        let (before, after) = (&self.before.addresses, &self.after.addresses);
        if before == after {
            return None;
        }
        Some(match after.is_empty() {
            true => (
                "ClearAssignment",
                format!("the addresses {before:?} are taken back"),
            ),
            false => ("IPAllocated", format!("Assigned IP {after:?}")),
        })
    }
}

/// What has to be written; `None` if `seen`, from which `wanted` was computed, is not what is `kept` now.
/// An address of a Service that was not seen, new or not to be used, is given to nobody else.
pub(super) fn changes(
    kept: &BTreeMap<ObjectName, Kept>,
    seen: &BTreeMap<ObjectName, Vec<IpAddr>>,
    wanted: &BTreeMap<ObjectName, Assigned>,
) -> Option<BTreeMap<ObjectName, Change>> {
    let mut unseen: BTreeSet<&IpAddr> = BTreeSet::new();
    for (name, kept) in kept {
        match seen.get(name) {
            Some(addresses) if *addresses == kept.addresses => {}
            Some(_) => return None,
            None => unseen.extend(&kept.addresses),
        }
    }
    let mut changes = BTreeMap::new();
    for (name, before) in kept {
        let after = match wanted.get(name) {
            Some(wanted) if wanted.addresses.iter().any(|addr| unseen.contains(addr)) => continue,
            Some(wanted) => Kept {
                addresses: wanted.addresses.clone(),
                pool: wanted.pool.clone(),
                // What a user has written stays without addresses.
                table_length: wanted.table_length.or(before.table_length),
                ..before.clone()
            },
            // No LoadBalancer any more. One of another class is somebody else's.
            None if before.pool.is_some() && !before.is_load_balancer => Kept {
                addresses: Vec::new(),
                pool: None,
                ..before.clone()
            },
            None => continue,
        };
        if after != *before {
            let before = before.clone();
            changes.insert(name.clone(), Change { before, after });
        }
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split_whitespace()
            .map(|a| a.parse().unwrap())
            .collect()
    }

    fn name(name: &str) -> ObjectName {
        ObjectName::new("default", name)
    }

    fn kept(ips: &str, pool: Option<&str>) -> Kept {
        Kept {
            addresses: addresses(ips),
            pool: pool.map(str::to_owned),
            table_length: None,
            is_load_balancer: true,
        }
    }

    fn assigned(ips: &str, pool: &str) -> Assigned {
        Assigned {
            addresses: addresses(ips),
            pool: Some(pool.to_owned()),
            ..Assigned::default()
        }
    }

    #[test]
    fn nothing_is_given_while_an_address_is_not_seen() {
        let kept = BTreeMap::from([
            (name("a"), kept("192.0.2.1", Some("p"))),
            (name("b"), Kept::default()),
        ]);
        let wanted = BTreeMap::from([(name("b"), assigned("192.0.2.1", "p"))]);
        let mut seen = BTreeMap::from([(name("a"), Vec::new()), (name("b"), Vec::new())]);
        assert_eq!(changes(&kept, &seen, &wanted), None, "seen otherwise");
        seen.remove(&name("a"));
        let none = BTreeMap::new();
        assert_eq!(changes(&kept, &seen, &wanted), Some(none), "not seen");
    }

    #[test]
    fn only_what_differs_is_written() {
        let kept = BTreeMap::from([
            (name("a"), kept("192.0.2.1", Some("p"))),
            (name("b"), Kept::default()),
            (
                name("moved"),
                Kept {
                    is_load_balancer: false,
                    ..kept("192.0.2.9", Some("p"))
                },
            ),
            (name("of another class"), kept("198.51.100.9", Some("q"))),
            (name("foreign"), kept("198.51.100.1", None)),
        ]);
        let seen = kept
            .iter()
            .map(|(name, kept)| (name.clone(), kept.addresses.clone()))
            .collect();
        let wanted = BTreeMap::from([
            (name("a"), assigned("192.0.2.1", "p")),
            (name("b"), assigned("192.0.2.2 2001:db8::2", "p")),
        ]);
        let changes = changes(&kept, &seen, &wanted).unwrap();
        assert_eq!(
            changes.keys().collect::<Vec<_>>(),
            [&name("b"), &name("moved")]
        );
        let patch = changes[&name("b")].patch("7");
        assert_eq!(patch["metadata"]["resourceVersion"], "7");
        assert_eq!(patch["metadata"]["annotations"][POOL], "p");
        assert_eq!(
            patch["status"]["loadBalancer"]["ingress"],
            json!([
                {"ip": "192.0.2.2", "ipMode": "VIP"},
                {"ip": "2001:db8::2", "ipMode": "VIP"},
            ])
        );
        assert_eq!(changes[&name("b")].event().unwrap().0, "IPAllocated");
        let cleared = changes[&name("moved")].patch("7");
        assert_eq!(cleared["status"]["loadBalancer"]["ingress"], Value::Null);
        assert_eq!(
            changes[&name("moved")].event().unwrap().0,
            "ClearAssignment"
        );
    }
}
