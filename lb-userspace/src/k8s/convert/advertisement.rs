//! BGPAdvertisement and L2Advertisement.

use std::collections::BTreeSet;

use super::Problems;
use super::annotation::ours;
use super::community::{self, Written};
use super::selector;
use crate::k8s::api::{BgpAdvertisementSpec, L2AdvertisementSpec, LabelSelector};
use crate::k8s::object::Kind;
use crate::model::cluster::{
    BgpAdvertisement, L2Advertisement, Labels, Placement, PoolChoice, Preference,
};

/// A BGPAdvertisement whose community aliases are not looked up yet.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenBgpAdvertisement {
    /// The advertisement, with its literal communities.
    pub advertisement: BgpAdvertisement,
    /// Path of the field and alias.
    pub aliases: Vec<(String, String)>,
}

/// Converts a BGPAdvertisement.
pub(super) fn convert_bgp(
    spec: &BgpAdvertisementSpec,
    annotations: &Labels,
    problems: &mut Problems,
) -> OpenBgpAdvertisement {
    let aggregation_length = length(
        spec.aggregation_length,
        32,
        ("spec.aggregationLength", "IPv4"),
        problems,
    );
    let aggregation_length_v6 = length(
        spec.aggregation_length_v6,
        128,
        ("spec.aggregationLengthV6", "IPv6"),
        problems,
    );
    if !spec.service_selectors.is_empty() {
        for (field, given, host) in [
            ("spec.aggregationLength", aggregation_length, 32),
            ("spec.aggregationLengthV6", aggregation_length_v6, 128),
        ] {
            if given != host {
                let message = format!(
                    "aggregation and serviceSelectors are mutually exclusive: leave the length at {host}"
                );
                problems.refuse(field, message);
            }
        }
    }
    let mut literals = BTreeSet::new();
    let mut aliases = Vec::new();
    for (index, text) in spec.communities.iter().enumerate() {
        let field = format!("spec.communities[{index}]");
        match community::parse(text) {
            Ok(Written::Literal(community)) => {
                literals.insert(community);
            }
            Ok(Written::Alias) => aliases.push((field, text.clone())),
            Err(message) => problems.refuse(field, message),
        }
    }
    problems.refuse_duplicates("spec.communities", "community", &spec.communities);
    problems.refuse_duplicates("spec.peers", "peer", &spec.peers);
    let number = |name| {
        let text = ours(Kind::BgpAdvertisement, name, annotations)?;
        text.parse::<u32>().ok()
    };
    let prepend = number("prepend").and_then(|count| u8::try_from(count).ok());
    let advertisement = BgpAdvertisement {
        pools: pools(
            &spec.ip_address_pools,
            &spec.ip_address_pool_selectors,
            problems,
        ),
        aggregation_length,
        aggregation_length_v6,
        local_pref: spec.local_pref,
        med: number("med"),
        prepend: prepend.unwrap_or(0),
        link_bandwidth: number("link-bandwidth"),
        communities: literals,
        node_selectors: nodes(&spec.node_selectors, problems),
        peers: spec.peers.iter().cloned().collect(),
        service_selectors: services(&spec.service_selectors, problems),
    };
    OpenBgpAdvertisement {
        advertisement,
        aliases,
    }
}

/// Converts an L2Advertisement.
pub(super) fn convert_l2(
    spec: &L2AdvertisementSpec,
    annotations: &Labels,
    problems: &mut Problems,
) -> L2Advertisement {
    let mut preferences = Vec::new();
    for (index, preferred) in spec.preferred_node_selectors.iter().enumerate() {
        let field = format!("spec.preferredNodeSelectors[{index}]");
        let weight = u32::try_from(preferred.weight).unwrap_or(0);
        if !(1..=100).contains(&weight) {
            problems.refuse(format!("{field}.weight"), "want 1 to 100");
        }
        let preference = format!("{field}.preference");
        let selector = selector::convert(&preferred.preference, &preference, "node", problems);
        preferences.push(Preference { weight, selector });
    }
    L2Advertisement {
        pools: pools(
            &spec.ip_address_pools,
            &spec.ip_address_pool_selectors,
            problems,
        ),
        node_selectors: nodes(&spec.node_selectors, problems),
        interfaces: spec.interfaces.iter().cloned().collect(),
        service_selectors: services(&spec.service_selectors, problems),
        preferences,
        placement: ours(Kind::L2Advertisement, "placement", annotations).and_then(Placement::parse),
    }
}

fn length(
    given: Option<i32>,
    host: u8,
    (field, family): (&str, &str),
    problems: &mut Problems,
) -> u8 {
    let Some(given) = given else { return host };
    match u8::try_from(given) {
        Ok(length) if (1..=host).contains(&length) => length,
        _ => {
            let message =
                format!("invalid aggregation length {given} for {family}: want 1 to {host}");
            problems.refuse(field, message);
            host
        }
    }
}

fn pools(names: &[String], selectors: &[LabelSelector], problems: &mut Problems) -> PoolChoice {
    problems.refuse_duplicates("spec.ipAddressPools", "ipAddressPool", names);
    PoolChoice {
        names: names.iter().cloned().collect(),
        selectors: selector::convert_all(
            selectors,
            "spec.ipAddressPoolSelectors",
            "ipAddressPool",
            problems,
        ),
    }
}

fn nodes(
    selectors: &[LabelSelector],
    problems: &mut Problems,
) -> Vec<crate::model::cluster::Selector> {
    selector::convert_all(selectors, "spec.nodeSelectors", "node", problems)
}

fn services(
    selectors: &[LabelSelector],
    problems: &mut Problems,
) -> Vec<crate::model::cluster::Selector> {
    selector::convert_all(selectors, "spec.serviceSelectors", "service", problems)
}
