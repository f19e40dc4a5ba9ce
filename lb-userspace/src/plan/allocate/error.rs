//! Why a Service has no address, or not the one it asked for, and what to do.

use std::fmt;
use std::net::IpAddr;

use crate::model::cluster::Family;
use crate::model::cluster::Protocol;
use crate::model::name::ObjectName;

/// Why a Service has no address, or not the one it asked for.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AllocateError {
    /// There is no pool.
    #[error("no IPAddressPool is usable; create one")]
    NoPools,
    /// The Service has no cluster IP, so its families are not known.
    #[error(
        "the Service has no ClusterIP, so its IP family is unknown; a headless Service gets no address"
    )]
    NoClusterIp,
    /// RequireDualStack with fewer than two cluster IPs.
    #[error("RequireDualStack, but not enough clusterips: the Service needs one of each family")]
    NotDualStack,
    /// The request cannot be read.
    #[error("{0}")]
    BadRequest(String),
    /// The addresses asked for are of other families than the Service.
    #[error(
        "requested loadBalancer IP(s) {} do not match the ipFamily of the Service ({}); request one address of each of its families",
        List(.requested), List(.families)
    )]
    FamilyMismatch {
        /// The request.
        requested: Vec<IpAddr>,
        /// The Service's.
        families: Vec<Family>,
    },
    /// The address is in no pool.
    #[error(
        "{0} is not allowed in config: it is in no IPAddressPool; add it to one or request another"
    )]
    NotInPool(IpAddr),
    /// The addresses are in several pools.
    #[error("{} are in different pools ({first} and {second}); both must be from one", List(.requested))]
    SeveralPools {
        /// The addresses.
        requested: Vec<IpAddr>,
        /// Pool of the first.
        first: String,
        /// Pool of the second.
        second: String,
    },
    /// The addresses are not in the pool that was asked for too.
    #[error(
        "requested loadBalancer IP(s) {} are in pool {pool:?}, not compatible with the requested address pool {asked:?}; drop one of the two requests",
        List(.requested)
    )]
    PoolMismatch {
        /// The addresses.
        requested: Vec<IpAddr>,
        /// Pool asked for.
        asked: String,
        /// Pool they are in.
        pool: String,
    },
    /// The pool does not exist.
    #[error("unknown pool {0:?}; name an IPAddressPool that exists")]
    UnknownPool(String),
    /// `serviceAllocation` of the pool leaves the Service out.
    #[error(
        "pool {0:?} is not compatible with the Service: its serviceAllocation selects other namespaces or Services"
    )]
    NotForService(String),
    /// An address that `avoidBuggyIPs` leaves out.
    #[error(
        "{addr} is not allowed in config: pool {pool:?} has avoidBuggyIPs set; request an address that ends neither in .0 nor in .255"
    )]
    Buggy {
        /// The address.
        addr: IpAddr,
        /// Its pool.
        pool: String,
    },
    /// Somebody else holds the address, and one of the two has no sharing key or another one.
    #[error(
        "can't assign {addr}: address also in use by {holder}, and their sharing keys differ or are missing; give both the same metallb.io/allow-shared-ip or request another address"
    )]
    InUse {
        /// The address.
        addr: IpAddr,
        /// Who holds it.
        holder: ObjectName,
    },
    /// The holders share, but not to the same pods.
    #[error(
        "can't share {addr} with {holder}: externalTrafficPolicy or (where it is Local) selector differ; make them equal"
    )]
    BackendsDiffer {
        /// The address.
        addr: IpAddr,
        /// Who holds it.
        holder: ObjectName,
    },
    /// The holders share, but one has the port already.
    #[error(
        "can't share {addr}: port {port}/{protocol} is already in use by {holder}; change the port"
    )]
    PortInUse {
        /// The address.
        addr: IpAddr,
        /// Port of both.
        port: u16,
        /// Protocol of both.
        protocol: Protocol,
        /// Who holds it.
        holder: ObjectName,
    },
    /// The pool is used up.
    #[error("no available IPs in pool {pool:?} for {}; extend the pool", List(.families))]
    Exhausted {
        /// The pool.
        pool: String,
        /// Families wanted.
        families: Vec<Family>,
    },
    /// The pool has no address of the second family that the Service prefers to have.
    #[error(
        "no {family} address for PreferDualStack: pool {pool:?}, which the Service is in, has none left; extend the pool"
    )]
    NoSecondFamily {
        /// The pool.
        pool: String,
        /// The family that is missing.
        family: Family,
    },
    /// All pools that serve the Service are used up.
    #[error("no available IPs for {} in any pool that assigns to this Service; extend or add an IPAddressPool", List(.0))]
    NoneLeft(Vec<Family>),
}

/// Prints items separated by commas.
struct List<'a, T>(&'a [T]);

impl<T: fmt::Display> fmt::Display for List<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{item}")?;
        }
        Ok(())
    }
}
