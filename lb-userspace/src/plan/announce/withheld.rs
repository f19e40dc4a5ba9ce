//! Why an address is not announced.

/// Why an address is not announced; prints as MetalLB's word for it and what to look at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, thiserror::Error)]
pub enum Withheld {
    /// The Service has no address.
    #[error("noIPAllocated: the Service has no address")]
    NoAddress,
    /// No advertisement is about the pool, the Service and this node.
    #[error("noMatchingAdvertisement: no advertisement selects this pool, Service and node")]
    NoAdvertisement,
    /// Advertisements give one route different preferences.
    #[error(
        "conflictingAdvertisements: advertisements set different localPref for the same route and peer"
    )]
    Conflict,
    /// The node's network is not available.
    #[error("nodeNetworkUnavailable: the node has condition NetworkUnavailable")]
    NodeNetworkUnavailable,
    /// The node is excluded by label.
    #[error(
        "nodeLabeledExcludeBalancers: the node has label node.kubernetes.io/exclude-from-external-load-balancers"
    )]
    NodeExcluded,
    /// `externalTrafficPolicy: Local` and no endpoint here.
    #[error("noLocalEndpoints: externalTrafficPolicy is Local and no endpoint on this node serves")]
    NoLocalEndpoints,
    /// No endpoint at all.
    #[error("noEndpoints: no endpoint of the Service serves")]
    NoEndpoints,
    /// An address shared by key, and an advertisement for some Services only.
    #[error(
        "sharedIPWithServiceSelector: the Service shares its address and an L2Advertisement has serviceSelectors"
    )]
    SharedWithSelector,
    /// Another node leads.
    #[error("notOwner: another node answers for the address")]
    NotOwner,
    /// Advertised, but no session on this node can carry the route.
    #[error(
        "noPeer: no BGPPeer on this node takes the route; check its nodeSelectors, the advertisement's peers, and the address family"
    )]
    NoPeer,
}
