//! Watches the compute port and resolves the other nodes on it.
//!
//! Every change that netlink reports leads to one dump shortly after, so a burst costs one. An address
//! of a node that lies on the segment is resolved by the kernel, and so is the next hop to one that does
//! not; asking again keeps its entry fresh, and a node that stops answering leaves the segment when the
//! kernel gives up on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::control::Desired;
use crate::model::segment::{Route, Segment};
use crate::net::netlink::{Changes, Netlink, NetlinkError, Way};
use crate::telemetry::chain;

/// How long changes are gathered before the kernel is asked once.
const GATHER: Duration = Duration::from_millis(20);

/// How often an unresolved node is asked for.
const RETRY: Duration = Duration::from_secs(1);

/// How often a resolved one is, counted in retries: well within the time in which Linux forgets.
const REFRESH_EVERY: u32 = 15;

/// The task's own things.
#[derive(Debug)]
pub struct Neighbor {
    netlink: Netlink,
    interface: String,
    wanted: BTreeSet<IpAddr>,
    /// The last look failed.
    is_blind: bool,
}

/// What the kernel says of the compute port, and of interfaces that lead to clients.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct View {
    /// The compute port; index 0 while it does not exist.
    pub segment: Segment,
    /// Interfaces with a route to clients: name by index.
    pub egress: BTreeMap<u32, String>,
}

/// What the kernel says now, of the ways to these nodes too.
///
/// # Errors
/// It does not answer.
pub async fn look(
    netlink: &Netlink,
    interface: &str,
    nodes: &BTreeSet<IpAddr>,
) -> Result<View, NetlinkError> {
    let Some(link) = netlink.link(interface).await? else {
        return Ok(View {
            segment: Segment {
                interface: interface.to_owned(),
                ..Segment::default()
            },
            egress: netlink.default_route_interfaces().await?,
        });
    };
    let mut egress = netlink.default_route_interfaces().await?;
    egress.insert(link.index, link.name.clone());
    let mut segment = Segment {
        interface: link.name,
        ifindex: link.index,
        mac: link.mac.unwrap_or_default(),
        mtu: link.mtu,
        addresses: netlink.addresses(link.index).await?,
        neighbors: netlink.neighbors(link.index).await?,
        gateways: netlink.gateways(link.index).await?,
        routes: BTreeMap::new(),
    };
    for addr in nodes {
        if !segment.is_on_link(*addr) {
            let way = netlink.way(link.index, *addr).await?;
            let route = way.map(|Way { next_hop, mtu }| Route { next_hop, mtu });
            segment.routes.extend(route.map(|route| (*addr, route)));
        }
    }
    Ok(View { segment, egress })
}

impl Neighbor {
    /// Of this interface.
    pub fn new(netlink: Netlink, interface: String) -> Self {
        Self {
            netlink,
            interface,
            wanted: BTreeSet::new(),
            is_blind: false,
        }
    }

    /// Runs until an output has no reader left.
    pub async fn run(
        mut self,
        mut changes: Changes,
        mut desired: watch::Receiver<Arc<Desired>>,
        segment: watch::Sender<Segment>,
        egress: watch::Sender<BTreeMap<u32, String>>,
    ) {
        let mut retry = interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut ticks = 0;
        loop {
            let index = segment.borrow().ifindex;
            tokio::select! {
                more = changes.concerning(index) => {
                    if !more {
                        warn!("netlink ended; neighbours are not watched any more");
                        return;
                    }
                    sleep(GATHER).await;
                    self.look(&segment, &egress).await;
                }
                changed = desired.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let wanted = peers(&desired.borrow_and_update());
                    if self.wanted != wanted {
                        self.wanted = wanted;
                        self.look(&segment, &egress).await;
                    }
                    let now = segment.borrow().clone();
                    self.resolve(&now, false).await;
                }
                _ = retry.tick() => {
                    ticks += 1;
                    if self.is_blind {
                        self.look(&segment, &egress).await;
                    }
                    let refresh = ticks % REFRESH_EVERY == 0;
                    let now = segment.borrow().clone();
                    self.resolve(&now, refresh).await;
                }
            }
        }
    }

    /// Publishes what the kernel says; where it does not answer, the next tick asks again.
    async fn look(
        &mut self,
        segment: &watch::Sender<Segment>,
        egress: &watch::Sender<BTreeMap<u32, String>>,
    ) {
        let view = look(&self.netlink, &self.interface, &self.wanted).await;
        match &view {
            Err(error) if !self.is_blind => warn!("{}", chain(error)),
            _ => {}
        }
        self.is_blind = view.is_err();
        if let Ok(view) = view {
            publish(view, segment, egress);
        }
    }

    /// Asks for the neighbours that packets are to go to and that are unresolved, or for all of them.
    async fn resolve(&self, segment: &Segment, all: bool) {
        for addr in unresolved(&self.wanted, segment, all) {
            if let Err(error) = self.netlink.resolve(segment.ifindex, addr).await {
                debug!(%addr, "{error}");
            }
        }
    }
}

fn publish(
    view: View,
    segment: &watch::Sender<Segment>,
    egress: &watch::Sender<BTreeMap<u32, String>>,
) {
    segment.send_if_modified(|current| {
        if view.segment.ifindex == 0 && current.ifindex != 0 {
            warn!(interface = current.interface, "the interface is gone");
        }
        log_neighbors(&current.neighbors, &view.segment.neighbors);
        let changed = *current != view.segment;
        *current = view.segment;
        changed
    });
    egress.send_if_modified(|current| {
        let changed = *current != view.egress;
        *current = view.egress;
        changed
    });
}

fn log_neighbors(
    before: &BTreeMap<IpAddr, lb_common::addr::Mac>,
    after: &BTreeMap<IpAddr, lb_common::addr::Mac>,
) {
    for (addr, mac) in after {
        if before.get(addr) != Some(mac) {
            info!(%addr, %mac, "neighbour resolved");
        }
    }
    for addr in before.keys() {
        if !after.contains_key(addr) {
            info!(%addr, "neighbour lost");
        }
    }
}

/// Every address of every other node.
pub fn peers(desired: &Desired) -> BTreeSet<IpAddr> {
    let nodes = desired.intent.dataplane.nodes.values();
    nodes.flat_map(|node| node.addresses.clone()).collect()
}

fn unresolved<'a>(
    wanted: &'a BTreeSet<IpAddr>,
    segment: &'a Segment,
    all: bool,
) -> impl Iterator<Item = IpAddr> + 'a {
    let is_own = |addr: &IpAddr| segment.addresses.iter().any(|net| net.addr() == *addr);
    let nodes = wanted.iter().copied();
    let neighbors: BTreeSet<IpAddr> = nodes
        .filter(|addr| segment.is_on_link(*addr))
        .chain(segment.routes.values().map(|route| route.next_hop))
        .chain(segment.gateways.iter().copied())
        .filter(|addr| !is_own(addr))
        .collect();
    let is_wanted = move |addr: &IpAddr| all || !segment.neighbors.contains_key(addr);
    neighbors.into_iter().filter(is_wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unresolved_neighbours_are_asked_for() {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let beyond = Route {
            next_hop: addr("192.0.2.5"),
            mtu: None,
        };
        let segment = Segment {
            addresses: vec!["192.0.2.1/24".parse().unwrap()],
            neighbors: [(addr("192.0.2.2"), lb_common::addr::Mac([2; 6]))].into(),
            gateways: [addr("192.0.2.2"), addr("192.0.2.4")].into(),
            routes: [(addr("198.51.100.1"), beyond)].into(),
            ..Segment::default()
        };
        let wanted = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1"]
            .map(addr)
            .into();
        let asked = |all| unresolved(&wanted, &segment, all).collect::<Vec<_>>();
        let unresolved = ["192.0.2.3", "192.0.2.4", "192.0.2.5"].map(addr);
        assert_eq!(asked(false), unresolved);
        assert_eq!(asked(true)[..1], [addr("192.0.2.2")]);
        assert_eq!(asked(true)[1..], unresolved);
    }
}
