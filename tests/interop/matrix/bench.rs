//! The namespaces, the router in them, and the seat of one cell.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use harness::netns::{Netns, next_lab};
use harness::peer::speaker::{self, LIMIT, Speaker};
use harness::peer::{Make, NeighborConfig, Reach, Route, Router, RouterConfig, Session};
use harness::wait;
use ipnet::IpNet;
use lb_userspace::model::cluster::{Family, PeerAsn};
use lb_userspace::model::intent::{RouteAttributes, SessionIntent};
use lb_userspace::model::password::Password;
use lb_userspace::model::peer_options::RestartProfile;
use lb_userspace::model::session_status::SessionState;
use lb_userspace::proto::bgp::retention::Past;
use tempfile::TempDir;

use crate::cases::{Case, Families, Over};

/// The router's AS, and ours towards a router that sees an external neighbour.
const ROUTER_ASN: u32 = 65001;
pub(crate) const NODE_ASN: u32 = 65002;
/// The AS of the neighbour whose routes the router tells others.
const FEEDER_ASN: u32 = 65003;

/// Last octet of the feeder's address; the cells follow.
const FEEDER: u8 = 9;
const FIRST: u8 = 10;
/// From a cell's last octet to that of the router's address for it alone.
const ALONE: u8 = 120;

const TOR_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
const TOR_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, 1));

fn node_v4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 99, 0, host).into()
}

fn node_v6(host: u8) -> IpAddr {
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, host.into()).into()
}

/// An address of the router that it meets no other neighbour from: whoever takes connections knows their makers
/// by that, and ExaBGP listens with one minimum of TTLs for everybody.
fn alone(neighbor: IpAddr, host: u8) -> IpAddr {
    match neighbor {
        IpAddr::V4(_) => node_v4(ALONE + host),
        IpAddr::V6(_) => node_v6(ALONE + host),
    }
}

fn far_v4(host: u8) -> IpAddr {
    Ipv4Addr::new(10, 98, 0, host).into()
}

/// Lines of each log that a failure shows.
const LOG_TAIL: usize = 15;

/// Three namespaces and a router.
pub(crate) struct Bench {
    make: Make,
    tor: Netns,
    node: Netns,
    far: Netns,
    dir: TempDir,
    config: RouterConfig,
    overs: Vec<Over>,
    router: Option<Box<dyn Router>>,
}

impl Bench {
    /// Starts a router with a neighbour for each cell.
    pub(crate) fn new<'a>(
        make: Make,
        cells: impl Iterator<Item = (&'a Case, Families)>,
    ) -> Result<Self> {
        let mut config = RouterConfig {
            asn: ROUTER_ASN,
            id: Ipv4Addr::new(10, 99, 0, 1),
            neighbors: vec![NeighborConfig {
                asn: FEEDER_ASN,
                ..neighbor(Over::V4, FEEDER, Families::Both)
            }],
        };
        let mut overs = Vec::new();
        for ((case, families), host) in cells.zip(FIRST..) {
            let mut neighbor = neighbor(case.over, host, families);
            (case.set)(&mut neighbor);
            if neighbor.dials || neighbor.reach == Reach::Proven {
                neighbor.local = alone(neighbor.address, host);
            }
            config.neighbors.push(neighbor);
            overs.push(case.over);
        }

        let lab = next_lab();
        let [tor, node, far] = ["tor", "node", "far"].map(|role| Netns::in_lab(&lab, role));
        let (tor, node, far) = (tor?, node?, far?);
        link(&tor, &node, &far, &config)?;
        let mut bench = Self {
            make,
            tor,
            node,
            far,
            dir: tempfile::tempdir()?,
            config,
            overs,
            router: None,
        };
        bench.start_router()?;
        Ok(bench)
    }

    /// The seat of a cell.
    pub(crate) fn seat(&mut self, number: usize) -> Seat<'_> {
        Seat {
            bench: self,
            number,
        }
    }

    /// What the router says of a cell's session, and what it said last, for messages.
    pub(crate) fn remark(&mut self, number: usize) -> String {
        let mut remark = match self.seat(number).session() {
            Ok(session) => session.remark,
            Err(error) => format!("{error:#}"),
        };
        for log in logs(self.dir.path()) {
            let lines: Vec<_> = log.lines().collect();
            for line in &lines[lines.len().saturating_sub(LOG_TAIL)..] {
                remark += "\n  ";
                remark += line;
            }
        }
        remark
    }

    fn start_router(&mut self) -> Result<()> {
        let router = self.make.start(&self.tor, self.dir.path(), &self.config)?;
        self.router = Some(router);
        Ok(())
    }

    fn router(&self) -> Result<&dyn Router> {
        self.router.as_deref().context("no router runs")
    }
}

/// The logs of a router's processes.
fn logs(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .flat_map(|path| match path.extension() {
            Some(extension) if extension == "log" => {
                fs::read_to_string(&path).into_iter().collect()
            }
            _ if path.is_dir() => logs(&path),
            _ => Vec::new(),
        })
        .collect()
}

/// What all cells have in common.
fn neighbor(over: Over, host: u8, families: Families) -> NeighborConfig {
    let (local, address, reach) = match over {
        Over::V4 => (TOR_V4, node_v4(host), Reach::Link),
        Over::V6 => (TOR_V6, node_v6(host), Reach::Link),
        Over::Hops => (TOR_V4, far_v4(host), Reach::Hops(3)),
    };
    NeighborConfig {
        local,
        local_asn: ROUTER_ASN,
        address,
        asn: NODE_ASN,
        families: families.set(),
        password: None,
        hold_time: 9,
        reach,
        dials: false,
        wide_asn: true,
        helps_restart: false,
        is_told: false,
    }
}

fn link(tor: &Netns, node: &Netns, far: &Netns, config: &RouterConfig) -> Result<()> {
    // FRR resets an IPv6 session as long as its link has no address that is sure to be its own.
    tor.sysctl("net/ipv6/conf/default/accept_dad", 0)?;
    tor.ip(&format!(
        "link add uplink type veth peer name uplink netns {}\n\
         addr add {TOR_V4}/24 dev uplink\naddr add {TOR_V6}/64 dev uplink nodad\nlink set uplink up",
        node.name()
    ))?;
    node.ip(&format!(
        "link add back type veth peer name uplink netns {}\nlink set uplink up\nlink set back up\n\
         addr add {}/24 dev back",
        far.name(),
        far_v4(2)
    ))?;
    far.ip("link set uplink up")?;
    let (mut on_tor, mut on_node, mut on_far) = (String::new(), String::new(), String::new());
    for host in (2..=2).chain((FEEDER..).take(config.neighbors.len())) {
        on_node += &format!(
            "addr add {}/24 dev uplink\naddr add {}/64 dev uplink nodad\n",
            node_v4(host),
            node_v6(host)
        );
        on_tor += &format!(
            "addr add {}/24 dev uplink\naddr add {}/64 dev uplink nodad\n",
            node_v4(ALONE + host),
            node_v6(ALONE + host)
        );
        if host >= FIRST {
            on_far += &format!("addr add {}/24 dev uplink\n", far_v4(host));
        }
    }
    tor.ip(&on_tor)?;
    node.ip(&on_node)?;
    far.ip(&on_far)?;
    far.ip(&format!("route add 10.99.0.0/24 via {}", far_v4(2)))?;
    node.sysctl("net/ipv4/ip_forward", 1)?;
    tor.ip(&format!("route add 10.98.0.0/24 via {}", node_v4(2)))
}

/// What a cell works with: its neighbour on the router, and the speaker's side of it.
pub(crate) struct Seat<'a> {
    bench: &'a mut Bench,
    number: usize,
}

impl Seat<'_> {
    fn host(&self) -> u8 {
        FIRST + u8::try_from(self.number).unwrap_or(u8::MAX)
    }

    /// The make of the router.
    pub(crate) fn make(&self) -> Make {
        self.bench.make
    }

    /// The router's side.
    pub(crate) fn neighbor(&self) -> &NeighborConfig {
        // The feeder is the first.
        &self.bench.config.neighbors[self.number + 1]
    }

    /// The families of the cell.
    pub(crate) fn families(&self) -> Vec<Family> {
        self.neighbor().families.iter().copied().collect()
    }

    fn netns(&self) -> &Netns {
        match self.bench.overs[self.number] {
            Over::V4 | Over::V6 => &self.bench.node,
            Over::Hops => &self.bench.far,
        }
    }

    /// The next hop that the router is to see.
    pub(crate) fn next_hop(&self, family: Family) -> IpAddr {
        match (family, self.bench.overs[self.number]) {
            (Family::V4, Over::Hops) => far_v4(self.host()),
            (Family::V4, _) => node_v4(self.host()),
            (Family::V6, _) => node_v6(self.host()),
        }
    }

    /// A route of the cell's own.
    pub(crate) fn prefix(&self, family: Family, number: u8) -> IpNet {
        let host = self.host();
        let (addr, length) = match family {
            Family::V4 => (Ipv4Addr::new(198, 18, host, number).into(), 32),
            Family::V6 => {
                let (host, number) = (host.into(), number.into());
                let addr = Ipv6Addr::new(0x2001, 0xdb8, host, 0, 0, 0, 0, number);
                (addr.into(), 128)
            }
        };
        IpNet::new_assert(addr, length)
    }

    /// The speaker's side: the session with one route of each family.
    pub(crate) fn intent(&self) -> SessionIntent {
        let neighbor = self.neighbor();
        let next_hops = [Family::V4, Family::V6].map(|family| self.next_hop(family));
        let mut intent = speaker::intent(neighbor.local, next_hops);
        let config = &mut intent.config;
        config.my_asn = neighbor.asn;
        config.peer_asn = PeerAsn::Number(neighbor.local_asn);
        config.source_address = Some(neighbor.address);
        config.families.clone_from(&neighbor.families);
        config.hold_time = Duration::from_secs(neighbor.hold_time.into());
        config.password = neighbor.password.as_deref().map(Password::new);
        config.options.ttl_security = (neighbor.reach == Reach::Proven).then_some(1);
        config.options.restart_profile = neighbor.helps_restart.then_some(RestartProfile::Graceful);
        config.multihop = matches!(neighbor.reach, Reach::Hops(_));
        for family in self.families() {
            let prefix = self.prefix(family, 1);
            intent.routes.insert(prefix, RouteAttributes::default());
        }
        intent
    }

    /// Starts the speaker.
    pub(crate) fn speak(&self, intent: SessionIntent) -> Result<Speaker> {
        Speaker::start(self.netns(), intent)
    }

    /// Starts the speaker of an agent that was there before.
    pub(crate) fn speak_again(&self, intent: SessionIntent) -> Result<Speaker> {
        let past = Past {
            restarted: true,
            forwarding: true,
        };
        Speaker::start_again(self.netns(), intent, past)
    }

    /// Starts the speaker and waits until the session is up.
    pub(crate) fn establish(&self, intent: SessionIntent) -> Result<Speaker> {
        Speaker::establish(self.netns(), intent)
    }

    /// The session, as the router sees it.
    pub(crate) fn session(&self) -> Result<Session> {
        self.bench.router()?.session(self.neighbor())
    }

    /// The routes of a family, as the router sees them.
    pub(crate) fn routes(&self, family: Family) -> Result<BTreeMap<IpNet, Route>> {
        self.bench.router()?.routes(self.neighbor(), family)
    }

    /// Waits until the router holds exactly one family's prefixes, and returns them.
    pub(crate) fn await_routes(
        &self,
        family: Family,
        prefixes: &[IpNet],
    ) -> Result<BTreeMap<IpNet, Route>> {
        wait::until("routes", LIMIT, || {
            let routes = self.routes(family)?;
            ensure!(routes.keys().eq(prefixes), "{routes:?}");
            Ok(routes)
        })
    }

    /// Waits until a route at the router is as `wanted` says.
    pub(crate) fn await_route(
        &self,
        prefix: IpNet,
        wanted: impl Fn(&Route) -> bool,
    ) -> Result<Route> {
        wait::until("a route", LIMIT, || {
            let mut routes = self.routes(Family::of(prefix.addr()))?;
            let route = routes.remove(&prefix).context("no such route")?;
            ensure!(wanted(&route), "{route:?}");
            Ok(route)
        })
    }

    /// Waits until the router holds so many routes of each of the cell's families.
    pub(crate) fn await_counts(&self, count: usize) -> Result<()> {
        let (router, neighbor) = (self.bench.router()?, self.neighbor());
        for family in self.families() {
            wait::until("routes", LIMIT, || {
                let found = router.route_count(neighbor, family)?;
                ensure!(
                    found == count,
                    "{found} routes of {family} instead of {count}"
                );
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until the router says that the session is up, or that it is not.
    pub(crate) fn await_router(&self, is_established: bool) -> Result<Session> {
        wait::until("the router", LIMIT, || {
            let session = self.session()?;
            ensure!(session.is_established == is_established, "{session:?}");
            Ok(session)
        })
    }

    /// Lets the router connect now, if it would wait long before it tries again.
    pub(crate) fn dial(&mut self) -> Result<()> {
        if self.make() == Make::ExaBgp {
            // Nothing else ends its pauses.
            self.stop_router();
            return self.start_router();
        }
        self.bench.router()?.dial(self.neighbor())
    }

    /// Makes the router ask for the routes again.
    pub(crate) fn refresh(&self) -> Result<()> {
        self.bench.router()?.refresh(self.neighbor())
    }

    /// Kills the router, or ends it if it has no other way.
    pub(crate) fn stop_router(&mut self) {
        self.bench.router = None;
    }

    /// Starts it again as it was.
    pub(crate) fn start_router(&mut self) -> Result<()> {
        self.bench.start_router()
    }

    /// Lets the router have routes that it tells this neighbour; they end with what is returned.
    pub(crate) fn feed(&self, prefixes: &[IpNet]) -> Result<Option<Speaker>> {
        if self.bench.make == Make::ExaBgp {
            let next_hop = |prefix: &IpNet| match prefix {
                IpNet::V4(_) => TOR_V4,
                IpNet::V6(_) => TOR_V6,
            };
            let routes = prefixes.iter().map(|prefix| (*prefix, next_hop(prefix)));
            let routes: Vec<_> = routes.collect();
            self.bench.router()?.inject(self.neighbor(), &routes)?;
            return Ok(None);
        }
        let feeder = &self.bench.config.neighbors[0];
        let mut intent = speaker::intent(feeder.local, [node_v4(FEEDER), node_v6(FEEDER)]);
        intent.config.my_asn = feeder.asn;
        intent.config.router_id = Ipv4Addr::new(10, 99, 0, FEEDER);
        intent.config.source_address = Some(feeder.address);
        intent.routes = with_defaults(prefixes);
        Speaker::establish(&self.bench.node, intent).map(Some)
    }

    /// Lets nothing pass between the two, either way.
    pub(crate) fn cut(&self) -> Result<()> {
        let address = self.neighbor().address;
        let family = if address.is_ipv4() { "ip" } else { "ip6" };
        let rules = format!(
            "table inet cut {{ \
             chain out {{ type filter hook output priority 0; {family} saddr {address} drop; }}; \
             chain in {{ type filter hook input priority 0; {family} daddr {address} drop; }}; }}"
        );
        self.netns().run(["nft", &rules]).map(drop)
    }

    /// Lets everything pass again.
    pub(crate) fn mend(&self) -> Result<()> {
        self.netns().run(["nft", "delete table inet cut"]).map(drop)
    }

    /// Waits until a speaker's session is up on both sides, with its one route of each family.
    pub(crate) fn await_up(&self, speaker: &Speaker) -> Result<()> {
        speaker.await_state(SessionState::Established)?;
        self.await_counts(1)
    }
}

/// Routes without attributes of their own.
pub(crate) fn with_defaults(prefixes: &[IpNet]) -> BTreeMap<IpNet, RouteAttributes> {
    let routes = prefixes.iter();
    routes
        .map(|prefix| (*prefix, RouteAttributes::default()))
        .collect()
}
