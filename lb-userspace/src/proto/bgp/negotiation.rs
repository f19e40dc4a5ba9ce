//! What two OPENs agree on.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::capability::Capability;
use super::error::DecodeError;
use super::nlri::Family;
use super::open::Open;
use super::retention::{GracefulRestart, Past, RestartFamily, Retention, StaleFamily};
use super::role::Role;

/// The AS that the peer must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExpectedAs {
    /// This one.
    Number(u32),
    /// Ours.
    Internal,
    /// Any but ours.
    External,
}

impl fmt::Display for ExpectedAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(asn) => write!(f, "AS {asn}"),
            Self::Internal => f.write_str("our own AS (internal)"),
            Self::External => f.write_str("any AS but our own (external)"),
        }
    }
}

/// Parameters of a session.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Config {
    /// Our AS.
    pub my_asn: u32,
    /// The peer's AS.
    pub peer_asn: ExpectedAs,
    /// Our BGP identifier.
    pub router_id: Ipv4Addr,
    /// Hold time to propose, in whole seconds; zero for none.
    pub hold_time: Duration,
    /// Longest keepalive interval; absent means a third of the negotiated hold time.
    pub keepalive_time: Option<Duration>,
    /// Time between attempts to connect, before back-off.
    pub connect_time: Duration,
    /// Families to offer.
    pub families: BTreeSet<Family>,
    /// Next hop for a family other than the transport's.
    pub next_hops: BTreeMap<Family, IpAddr>,
    /// What not every session has.
    pub options: Options,
}

/// What not every session has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Never dial; wait for the peer to do so.
    pub passive: bool,
    /// How long the peer's OPEN is awaited before ours is sent (RFC 4271 §8.1.1).
    pub delay_open: Option<Duration>,
    /// What we are to the peer (RFC 9234); for external peers.
    pub role: Option<Role>,
    /// How long the peer is asked to keep our routes while we are away.
    pub retention: Option<Retention>,
    /// Name of this node, for the peer's operator.
    pub host_name: String,
}

impl Config {
    /// Whether going over to `other` takes another OPEN, and so another session. Times, how long routes are to
    /// be kept, and who dials do not: they count from the next session on.
    pub fn needs_new_open(&self, other: &Self) -> bool {
        let identity = |config: &Self| {
            let Self {
                my_asn,
                peer_asn,
                router_id,
                ..
            } = *config;
            (my_asn, peer_asn, router_id, config.options.role)
        };
        identity(self) != identity(other) || self.families != other.families
    }

    /// Our OPEN. `minimal` leaves out the capabilities that the session can do without, for a peer that
    /// rejects what it does not know.
    pub fn open(&self, minimal: bool, past: Past) -> Open {
        let is_plain = self.families.iter().eq([&Family::Ipv4Unicast]);
        let mut capabilities = Vec::new();
        if !(minimal && is_plain) {
            capabilities.extend(self.families.iter().copied().map(multiprotocol));
        }
        if !minimal || self.my_asn > u32::from(u16::MAX) {
            capabilities.push(Capability::FourOctetAs(self.my_asn));
        }
        if !minimal {
            self.add_optional(&mut capabilities, past);
        }
        Open {
            my_as: Open::narrow_asn(self.my_asn),
            hold_time: u16::try_from(self.hold_time.as_secs()).unwrap_or(u16::MAX),
            router_id: self.router_id,
            capabilities,
        }
    }

    fn add_optional(&self, capabilities: &mut Vec<Capability>, past: Past) {
        capabilities.extend([
            Capability::RouteRefresh,
            Capability::EnhancedRefresh,
            Capability::ExtendedMessage,
        ]);
        // RFC 8950 §4: IPv4 prefixes may have an IPv6 next hop.
        if self.families.contains(&Family::Ipv4Unicast) {
            capabilities.push(Capability::ExtendedNextHop(vec![(1, 1, 2)]));
        }
        capabilities.extend(self.options.role.map(Capability::Role));
        capabilities.push(Capability::GracefulRestart(self.graceful_restart(past)));
        if let Some(retention) = self.options.retention
            && !retention.stale_time.is_zero()
        {
            // RFC 9494 §3: without the capability 64 above this one would be ignored.
            let stale_time = u32::try_from(retention.stale_time.as_secs()).unwrap_or(u32::MAX);
            let families = self
                .restart_families(past)
                .map(|family| StaleFamily { family, stale_time });
            capabilities.push(Capability::LongLivedGracefulRestart(families.collect()));
        }
        if !self.options.host_name.is_empty() {
            let name = self.options.host_name.clone();
            capabilities.push(Capability::HostName(name));
        }
    }

    // RFC 4724 §3: without families it says that we send End-of-RIB and help others.
    fn graceful_restart(&self, past: Past) -> GracefulRestart {
        match self.options.retention {
            None => GracefulRestart::default(),
            Some(retention) => GracefulRestart {
                restarted: past.restarted,
                notification: true,
                restart_time: u16::try_from(retention.restart_time.as_secs()).unwrap_or(u16::MAX),
                families: self.restart_families(past).collect(),
            },
        }
    }

    fn restart_families(&self, past: Past) -> impl Iterator<Item = RestartFamily> {
        self.families.iter().map(move |family| {
            let (afi, safi) = family.to_wire();
            RestartFamily {
                afi,
                safi,
                forwarding: past.forwarding,
            }
        })
    }
}

const fn multiprotocol(family: Family) -> Capability {
    let (afi, safi) = family.to_wire();
    Capability::Multiprotocol { afi, safi }
}

/// What both sides agreed on.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Negotiated {
    /// The peer's AS.
    pub peer_asn: u32,
    /// The peer's BGP identifier.
    pub peer_router_id: Ipv4Addr,
    /// The session is internal (iBGP).
    pub internal: bool,
    /// The smaller hold time; zero for none.
    pub hold_time: Duration,
    /// Interval between our KEEPALIVEs; zero for none.
    pub keepalive_time: Duration,
    /// Families that both offered.
    pub families: BTreeSet<Family>,
    /// AS numbers in UPDATEs have four octets.
    pub four_octet_as: bool,
    /// IPv4 prefixes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// Messages may have 65,535 octets (RFC 8654).
    pub extended_message: bool,
    /// Refreshes are marked (RFC 7313).
    pub enhanced_refresh: bool,
    /// What the peer does with our routes while we are away.
    pub restart: Restart,
    /// The peer's host name, if it says one.
    pub host_name: Option<String>,
    /// Codes of the capabilities that both offered, ascending.
    pub capabilities: BTreeSet<u8>,
}

/// What the peer does with our routes while we are away.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Restart {
    /// It keeps them for the restart time we asked for (RFC 4724), or as stale ones after that.
    pub keeps: bool,
    /// It keeps them after a NOTIFICATION too, but for a hard reset (RFC 8538).
    pub keeps_on_notification: bool,
    /// It keeps them as a last resort after that (RFC 9494).
    pub keeps_stale: bool,
    /// The peer restarted itself.
    pub peer_restarted: bool,
}

impl Negotiated {
    /// Judges the peer's OPEN against the configuration and our own OPEN.
    ///
    /// # Errors
    /// The peer is not the one configured, or shares no family with us.
    pub fn new(config: &Config, ours: &Open, theirs: &Open) -> Result<Self, DecodeError> {
        let peer_asn = theirs.asn();
        let internal = peer_asn == config.my_asn;
        let is_expected = match config.peer_asn {
            ExpectedAs::Number(expected) => peer_asn == expected,
            ExpectedAs::Internal => internal,
            ExpectedAs::External => !internal,
        };
        // RFC 7607: AS 0 is nobody's.
        if !is_expected || peer_asn == 0 || theirs.my_as == 0 {
            return Err(DecodeError::BadPeerAs {
                actual: peer_asn,
                expected: config.peer_asn.to_string(),
            });
        }
        // RFC 6286 §2.2: between external peers equal identifiers are legal.
        if internal && theirs.router_id == config.router_id {
            return Err(DecodeError::BadBgpIdentifier(theirs.router_id));
        }
        check_role(config, internal, theirs)?;
        let families: BTreeSet<_> = ours
            .families()
            .intersection(&theirs.families())
            .copied()
            .collect();
        if families.is_empty() {
            let mut missing = Vec::new();
            config
                .families
                .iter()
                .for_each(|&family| multiprotocol(family).encode(&mut missing));
            return Err(DecodeError::UnsupportedCapability { missing });
        }
        let hold_time = Duration::from_secs(ours.hold_time.min(theirs.hold_time).into());
        Ok(Self {
            peer_asn,
            peer_router_id: theirs.router_id,
            internal,
            hold_time,
            keepalive_time: keepalive_time(hold_time, config.keepalive_time),
            families,
            four_octet_as: ours.has_four_octet_as() && theirs.has_four_octet_as(),
            extended_next_hop: both(ours, theirs, 5) && takes_ipv6_next_hop(theirs),
            extended_message: both(ours, theirs, 6),
            enhanced_refresh: both(ours, theirs, 2) && both(ours, theirs, 70),
            restart: restart(ours, theirs),
            host_name: theirs
                .capabilities
                .iter()
                .find_map(|capability| match capability {
                    Capability::HostName(name) if !name.is_empty() => Some(name.clone()),
                    _ => None,
                }),
            capabilities: ours
                .capabilities
                .iter()
                .map(Capability::code)
                .filter(|code| theirs.offers(*code))
                .collect(),
        })
    }
}

fn both(ours: &Open, theirs: &Open, code: u8) -> bool {
    ours.offers(code) && theirs.offers(code)
}

fn takes_ipv6_next_hop(theirs: &Open) -> bool {
    theirs.capabilities.iter().any(|capability| {
        matches!(capability, Capability::ExtendedNextHop(families) if families.contains(&(1, 1, 2)))
    })
}

fn restart(ours: &Open, theirs: &Open) -> Restart {
    let (Some(asked), Some(offered)) = (ours.graceful_restart(), theirs.graceful_restart()) else {
        return Restart::default();
    };
    // RFC 4724 §4.2: a peer that knows the capability helps, whether or not it lists families of its own.
    let keeps_stale = both(ours, theirs, 71);
    let keeps = !asked.families.is_empty() && (asked.restart_time > 0 || keeps_stale);
    Restart {
        keeps,
        keeps_on_notification: keeps && asked.notification && offered.notification,
        keeps_stale,
        peer_restarted: offered.restarted,
    }
}

/// RFC 9234 §4.2. A peer that says no role is taken as it is.
fn check_role(config: &Config, internal: bool, theirs: &Open) -> Result<(), DecodeError> {
    let Some(ours) = config.options.role.filter(|_| !internal) else {
        return Ok(());
    };
    let roles: Vec<Role> = theirs
        .capabilities
        .iter()
        .filter_map(|capability| match capability {
            Capability::Role(role) => Some(*role),
            _ => None,
        })
        .collect();
    if roles.iter().all(|role| *role == ours.counterpart()) {
        return Ok(());
    }
    let actual: Vec<_> = roles.iter().map(ToString::to_string).collect();
    Err(DecodeError::RoleMismatch {
        actual: actual.join(" and "),
        ours,
    })
}

// RFC 4271 §4.4: a third of the hold time, and never more than one a second.
fn keepalive_time(hold_time: Duration, configured: Option<Duration>) -> Duration {
    if hold_time.is_zero() {
        return Duration::ZERO;
    }
    let third = hold_time / 3;
    configured
        .map_or(third, |time| time.min(third))
        .max(Duration::from_secs(1))
}

#[cfg(test)]
mod tests;
