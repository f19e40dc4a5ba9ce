//! Watches the compute port and resolves the other nodes on it.
//!
//! Every change that netlink reports leads to one dump shortly after, so a burst costs one. An address
//! of a node that lies on the segment is resolved by the kernel; asking again keeps its entry fresh, and
//! a node that stops answering leaves the segment when the kernel gives up on it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tracing::{debug, info, warn};

use super::control::Desired;
use crate::model::segment::Segment;
use crate::net::netlink::{Changes, Netlink, NetlinkError};
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

/// What the kernel says now.
///
/// # Errors
/// It does not answer.
pub async fn look(netlink: &Netlink, interface: &str) -> Result<View, NetlinkError> {
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
    Ok(View {
        segment: Segment {
            interface: link.name,
            ifindex: link.index,
            mac: link.mac.unwrap_or_default(),
            mtu: link.mtu,
            addresses: netlink.addresses(link.index).await?,
            neighbors: netlink.neighbors(link.index).await?,
        },
        egress,
    })
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
                    self.wanted = peers(&desired.borrow_and_update());
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
        let view = look(&self.netlink, &self.interface).await;
        match &view {
            Err(error) if !self.is_blind => warn!("{}", chain(error)),
            _ => {}
        }
        self.is_blind = view.is_err();
        if let Ok(view) = view {
            publish(view, segment, egress);
        }
    }

    /// Asks for the wanted addresses on the segment that are unresolved, or for all of them.
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

fn peers(desired: &Desired) -> BTreeSet<IpAddr> {
    let nodes = desired.intent.dataplane.nodes.values();
    nodes.flat_map(|node| node.addresses.clone()).collect()
}

fn unresolved<'a>(
    wanted: &'a BTreeSet<IpAddr>,
    segment: &'a Segment,
    all: bool,
) -> impl Iterator<Item = IpAddr> + 'a {
    wanted
        .iter()
        .filter(|addr| {
            segment
                .addresses
                .iter()
                .any(|network| network.contains(*addr) && network.addr() != **addr)
        })
        .filter(move |addr| all || !segment.neighbors.contains_key(addr))
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_unresolved_nodes_on_the_segment_are_asked_for() {
        let addr = |text: &str| text.parse::<IpAddr>().unwrap();
        let segment = Segment {
            addresses: vec!["192.0.2.1/24".parse().unwrap()],
            neighbors: [(addr("192.0.2.2"), lb_common::addr::Mac([2; 6]))].into(),
            ..Segment::default()
        };
        let wanted = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "198.51.100.1"]
            .map(addr)
            .into();
        let asked = |all| unresolved(&wanted, &segment, all).collect::<Vec<_>>();
        assert_eq!(asked(false), [addr("192.0.2.3")]);
        assert_eq!(asked(true), [addr("192.0.2.2"), addr("192.0.2.3")]);
    }
}
