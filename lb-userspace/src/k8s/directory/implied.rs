//! What a directory without advertisements is taken to say.
//!
//! With pools and without a peer their addresses are announced by ARP and NDP, with a peer to every peer, as
//! if one advertisement named all pools. The first advertisement of either kind ends it.

use crate::model::cluster::{BgpAdvertisement, Cluster, L2Advertisement, PoolChoice};

/// Name of the advertisement, which no object can have.
const NAME: &str = "";

/// Whether the objects leave it open how pools are announced.
pub(super) fn is_open(cluster: &Cluster) -> bool {
    !cluster.pools.is_empty()
        && cluster.bgp_advertisements.is_empty()
        && cluster.l2_advertisements.is_empty()
}

/// Adds the advertisement.
pub(super) fn add(cluster: &mut Cluster) {
    cluster.is_implied = true;
    if cluster.peers.is_empty() {
        add_layer2(cluster);
        return;
    }
    let all = BgpAdvertisement {
        pools: PoolChoice::default(),
        aggregation_length: 32,
        aggregation_length_v6: 128,
        local_pref: 0,
        med: None,
        prepend: 0,
        link_bandwidth: None,
        communities: Default::default(),
        node_selectors: Vec::new(),
        peers: Default::default(),
        service_selectors: Vec::new(),
    };
    cluster.bgp_advertisements.insert(NAME.to_owned(), all);
}

/// Adds the one for ARP and NDP, as before there was a peer.
pub fn add_layer2(cluster: &mut Cluster) {
    let all = L2Advertisement {
        pools: PoolChoice::default(),
        node_selectors: Vec::new(),
        interfaces: Default::default(),
        service_selectors: Vec::new(),
        preferences: Vec::new(),
        placement: None,
    };
    cluster.l2_advertisements.insert(NAME.to_owned(), all);
}
