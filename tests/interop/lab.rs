//! One router, one node, and the speaker under test on the node.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};
use harness::netns::{Netns, next_lab};
use harness::peer::bird::Bird;
use harness::peer::speaker;
pub(crate) use harness::peer::speaker::{LIMIT, Speaker};
use harness::wait;
use lb_userspace::model::cluster::Community;
use lb_userspace::model::intent::{RouteAttributes, SessionIntent};
use tempfile::TempDir;

pub(crate) const TOR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
pub(crate) const NODE_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 2));
pub(crate) const TOR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1));
pub(crate) const NODE_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 2));

/// Import both families from AS 65002, whoever connects from the node.
pub(crate) const EBGP: &str = "local as 65001; neighbor NODE as 65002; ipv4 { import all; export none; }; \
                        ipv6 { import all; export none; };";

pub(crate) struct Lab {
    pub(crate) tor: Netns,
    pub(crate) node: Netns,
    dir: TempDir,
    bird: Option<Bird>,
}

impl Lab {
    /// Two namespaces and the link between them, no router yet.
    pub(crate) fn new() -> Result<Self> {
        let name = next_lab();
        let (tor, node) = (Netns::in_lab(&name, "tor")?, Netns::in_lab(&name, "node")?);
        tor.ip(&format!(
            "link add uplink type veth peer name uplink netns {}\n\
             addr add {TOR_V4}/24 dev uplink\naddr add {TOR_V6}/64 dev uplink nodad\nlink set uplink up",
            node.name()
        ))?;
        node.ip(&format!(
            "addr add {NODE_V4}/24 dev uplink\naddr add {NODE_V6}/64 dev uplink nodad\nlink set uplink up"
        ))?;
        let dir = tempfile::tempdir()?;
        Ok(Self {
            tor,
            node,
            dir,
            bird: None,
        })
    }

    /// Starts BIRD with one passive session `node` over IPv4 (or restarts it); `body` is what is in its braces,
    /// `NODE` standing for the node's address.
    pub(crate) fn start_bird(&mut self, body: &str) -> Result<()> {
        self.start_bird_at(TOR_V4, NODE_V4, body)
    }

    /// The same, between these addresses.
    pub(crate) fn start_bird_at(&mut self, tor: IpAddr, node: IpAddr, body: &str) -> Result<()> {
        self.stop_bird();
        let body = body.replace("NODE", &node.to_string());
        let config = format!(
            "log stderr all;\nrouter id 10.99.0.1;\nprotocol device {{}}\n\
             protocol static {{ ipv4; route 198.51.100.0/25 blackhole; route 198.51.100.128/25 blackhole; }}\n\
             protocol bgp node {{ local {tor}; passive yes; error wait time 1, 2; {body} }}\n"
        );
        self.bird = Some(Bird::start(&self.tor, self.dir.path(), &config)?);
        Ok(())
    }

    /// Kills BIRD; its kernel closes the connections.
    pub(crate) fn stop_bird(&mut self) {
        self.bird = None;
    }

    /// What birdc prints for `show …`.
    pub(crate) fn show(&self, what: &str) -> Result<String> {
        self.bird
            .as_ref()
            .context("no router is running")?
            .show(what)
    }

    /// Makes birdc do something.
    pub(crate) fn command(&self, command: &str) -> Result<()> {
        let bird = self.bird.as_ref().context("no router is running")?;
        bird.command(command).map(drop)
    }

    /// The router's log.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(std::fs::read_to_string(self.dir.path().join("bird.log"))?)
    }

    /// Waits until what birdc prints for `show …` satisfies `wanted`.
    pub(crate) fn await_show(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        wait::until(&format!("show {what}"), LIMIT, || {
            let text = self.show(what)?;
            ensure!(wanted(&text), "{text}");
            Ok(text)
        })
    }

    /// Number of routes that the router holds in a table (`master4`, `master6`) from us.
    pub(crate) fn route_count(&self, table: &str) -> Result<usize> {
        let text = self.show(&format!("route count table {table} protocol node"))?;
        let line = text
            .lines()
            .find(|line| line.contains(" routes for "))
            .context(text.clone())?;
        let count = line.split_whitespace().next().context("no number")?;
        Ok(count.parse()?)
    }

    /// Waits for that number.
    pub(crate) fn await_route_count(&self, table: &str, count: usize) -> Result<()> {
        wait::until(&format!("{count} routes in {table}"), LIMIT, || {
            let found = self.route_count(table)?;
            ensure!(found == count, "{found} routes");
            Ok(())
        })
    }

    /// Starts the speaker on the node.
    pub(crate) fn speak(&self, intent: SessionIntent) -> Result<Speaker> {
        Speaker::start(&self.node, intent)
    }

    /// Starts the speaker and waits until the session is up.
    pub(crate) fn establish(&self, intent: SessionIntent) -> Result<Speaker> {
        Speaker::establish(&self.node, intent)
    }
}

/// A dual-family session over IPv4 to AS 65001 with quick timers, and no routes.
pub(crate) fn intent() -> SessionIntent {
    speaker::intent(TOR_V4, [NODE_V4, NODE_V6])
}

/// Attributes with these communities.
pub(crate) fn with_communities(communities: &[Community]) -> RouteAttributes {
    RouteAttributes {
        communities: communities.iter().copied().collect(),
        ..RouteAttributes::default()
    }
}
