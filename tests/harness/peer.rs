//! Routers of other makes behind one trait: configured, asked and told alike.
//!
//! A [`Make`] starts as a [`Router`] from a [`RouterConfig`]; what its own command line shows comes back as
//! [`Session`] and [`Route`]. `speaker` is the other side: the agent's own BGP, in a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use ipnet::IpNet;
use lb_userspace::model::cluster::{Community, Family};
use serde_json::Value;

use crate::netns::Netns;

pub mod bird;
mod daemon;
pub mod exabgp;
pub mod frr;
pub mod gobgp;
pub mod openbgpd;
pub mod speaker;

/// Port of BGP.
const PORT: u16 = 179;

/// A make of router.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Make {
    /// BIRD 2.
    Bird,
    /// FRR: zebra and bgpd.
    Frr,
    /// GoBGP.
    GoBgp,
    /// OpenBGPD, the portable one.
    OpenBgpd,
    /// ExaBGP: speaks and records, keeps no table.
    ExaBgp,
}

impl Make {
    /// Every make.
    pub const ALL: [Self; 5] = [
        Self::Bird,
        Self::Frr,
        Self::GoBgp,
        Self::OpenBgpd,
        Self::ExaBgp,
    ];

    /// A fixed word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bird => "bird",
            Self::Frr => "frr",
            Self::GoBgp => "gobgp",
            Self::OpenBgpd => "openbgpd",
            Self::ExaBgp => "exabgp",
        }
    }

    /// The version that is installed.
    ///
    /// # Errors
    /// When none is; the message names the Debian package.
    pub fn version(self) -> Result<String> {
        let (program, flag, package) = match self {
            Self::Bird => ("bird", "--version", "bird2"),
            Self::Frr => (frr::BGPD, "--version", "frr"),
            Self::GoBgp => ("gobgpd", "--version", "gobgpd"),
            Self::OpenBgpd => (openbgpd::BGPD, "-V", "openbgpd"),
            Self::ExaBgp => ("exabgp", "--version", "exabgp"),
        };
        let output = Command::new(program).arg(flag).output().with_context(|| {
            format!(
                "{program} is missing: install the package {package}, as `cargo xtask setup` does"
            )
        })?;
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        let is_version =
            |word: &&str| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit());
        let version = said.split_whitespace().find(is_version);
        Ok(version
            .with_context(|| format!("{program} {flag}: {said}"))?
            .to_owned())
    }

    /// Starts one in a namespace, all of its files in `dir`; returns once it takes connections.
    ///
    /// # Errors
    /// When it is not installed, refuses the configuration, or does not get ready.
    pub fn start(
        self,
        netns: &Netns,
        dir: &Path,
        config: &RouterConfig,
    ) -> Result<Box<dyn Router>> {
        let started: Result<Box<dyn Router>> = match self {
            Self::Bird => bird::Tor::start(netns, dir, config).map(|it| Box::new(it) as _),
            Self::Frr => frr::Frr::start(netns, dir, config).map(|it| Box::new(it) as _),
            Self::GoBgp => gobgp::GoBgp::start(netns, dir, config).map(|it| Box::new(it) as _),
            Self::OpenBgpd => {
                openbgpd::OpenBgpd::start(netns, dir, config).map(|it| Box::new(it) as _)
            }
            Self::ExaBgp => exabgp::ExaBgp::start(netns, dir, config).map(|it| Box::new(it) as _),
        };
        started.with_context(|| format!("start {}", self.name()))
    }
}

/// What a router is to be.
#[derive(Clone, Debug)]
pub struct RouterConfig {
    /// Its AS.
    pub asn: u32,
    /// Its router ID.
    pub id: Ipv4Addr,
    /// Whom it talks to.
    pub neighbors: Vec<NeighborConfig>,
}

impl RouterConfig {
    /// The router's addresses that neighbours connect to.
    fn locals(&self) -> BTreeSet<IpAddr> {
        self.neighbors.iter().map(|it| it.local).collect()
    }
}

/// A neighbour of a router's.
#[derive(Clone, Debug)]
pub struct NeighborConfig {
    /// The router's address.
    pub local: IpAddr,
    /// The router's AS towards this neighbour.
    pub local_asn: u32,
    /// The neighbour's address.
    pub address: IpAddr,
    /// The neighbour's AS.
    pub asn: u32,
    /// Families on offer.
    pub families: BTreeSet<Family>,
    /// TCP MD5 password.
    pub password: Option<String>,
    /// Hold time on offer, in seconds.
    pub hold_time: u16,
    /// How far away it may be.
    pub reach: Reach,
    /// The router connects, too, instead of only waiting.
    pub dials: bool,
    /// The router speaks of AS numbers in four octets (RFC 6793).
    pub wide_asn: bool,
    /// The router keeps routes while the neighbour restarts (RFC 4724).
    pub helps_restart: bool,
    /// The router sends it the routes that it has; GoBGP always does.
    pub is_told: bool,
}

/// How far away a neighbour may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// On a shared link.
    Link,
    /// On a shared link, proved by a TTL of 255 (RFC 5082).
    Proven,
    /// Some hops away.
    Hops(u8),
}

/// A session, as the router sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Session {
    /// Whether it is up.
    pub is_established: bool,
    /// UPDATEs received since it came up, or since the router started.
    pub updates: u64,
    /// The state, and what else the router says of it, for messages.
    pub remark: String,
}

/// A route, as the router received it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Route {
    /// Next hop; of two, the global one.
    pub next_hop: Option<IpAddr>,
    /// AS path, the nearest first.
    pub as_path: Vec<u32>,
    /// MULTI_EXIT_DISC; routers that do not tell 0 from none show none.
    pub med: Option<u32>,
    /// LOCAL_PREF of an internal session.
    pub local_pref: Option<u32>,
    /// Communities.
    pub communities: BTreeSet<Community>,
}

/// A running router; its processes end with it.
pub trait Router {
    /// The session with a neighbour.
    ///
    /// # Errors
    /// When the router does not answer.
    fn session(&self, neighbor: &NeighborConfig) -> Result<Session>;

    /// The routes of a family that it has from a neighbour.
    ///
    /// # Errors
    /// When the router does not answer, or shows what cannot be read.
    fn routes(&self, neighbor: &NeighborConfig, family: Family) -> Result<BTreeMap<IpNet, Route>>;

    /// How many those are.
    ///
    /// # Errors
    /// When the router does not answer.
    fn route_count(&self, neighbor: &NeighborConfig, family: Family) -> Result<usize> {
        Ok(self.routes(neighbor, family)?.len())
    }

    /// Asks a neighbour for its routes again (RFC 2918).
    ///
    /// # Errors
    /// When the router does not answer.
    fn refresh(&self, neighbor: &NeighborConfig) -> Result<()>;

    /// Makes it connect to a neighbour now, where it would wait for long after an attempt that failed.
    ///
    /// # Errors
    /// When the router does not answer.
    fn dial(&self, _neighbor: &NeighborConfig) -> Result<()> {
        Ok(())
    }

    /// Lets an injector send routes with next hops to a neighbour; a router sends what it has.
    ///
    /// # Errors
    /// When the router does not take them.
    fn inject(&self, _neighbor: &NeighborConfig, _routes: &[(IpNet, IpAddr)]) -> Result<()> {
        bail!("a router sends what it has")
    }
}

/// Runs a command and reads what it prints as JSON.
fn json(command: &mut Command) -> Result<Value> {
    let text = output(command)?;
    serde_json::from_str(&text).with_context(|| format!("{command:?}: {text}"))
}

/// Runs a command and returns what it prints.
fn output(command: &mut Command) -> Result<String> {
    let output = command
        .output()
        .with_context(|| format!("start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(text)
}

/// An unsigned number, absent if there is none.
fn number(value: &Value) -> Option<u32> {
    value.as_u64().and_then(|number| number.try_into().ok())
}

/// Reads `65002:7`, `65002:1:2`, or one of the names that routers show instead.
fn community(text: &str) -> Result<Community> {
    let name = text.to_ascii_lowercase().replace(['_', '-'], "");
    let named = match name.as_str() {
        "gracefulshutdown" => Some(0xffff_0000),
        "blackhole" => Some(0xffff_029a),
        "noexport" => Some(0xffff_ff01),
        "noadvertise" => Some(0xffff_ff02),
        "localas" | "noexportsubconfed" => Some(0xffff_ff03),
        "nopeer" => Some(0xffff_ff04),
        _ => None,
    };
    if let Some(value) = named {
        return Ok(Community::Standard(value));
    }
    let parts = text.split(':').map(str::parse::<u32>);
    match parts.collect::<Result<Vec<_>, _>>().as_deref() {
        Ok([high, low]) => Ok(Community::Standard(high << 16 | low)),
        Ok([admin, one, two]) => Ok(Community::Large(*admin, *one, *two)),
        _ => bail!("`{text}` is no community"),
    }
}

/// The address of several next hops that is not link-local.
fn global(addresses: impl IntoIterator<Item = IpAddr>) -> Option<IpAddr> {
    let is_link_local =
        |addr: &IpAddr| matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local());
    addresses.into_iter().find(|addr| !is_link_local(addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_are_read_as_routers_show_them() {
        for (text, value) in [
            ("65002:7", Community::Standard(65002 << 16 | 7)),
            ("NO_EXPORT", Community::Standard(0xffff_ff01)),
            ("gracefulShutdown", Community::Standard(0xffff_0000)),
            ("4200000000:3:4", Community::Large(4_200_000_000, 3, 4)),
        ] {
            assert_eq!(community(text).unwrap(), value);
        }
        assert!(community("internet").is_err());
    }
}
