//! Neighbours: their MACs, and whether they are still there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use futures::TryStreamExt;
use lb_common::addr::Mac;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::{Netlink, NetlinkError, mac};

/// Since when a neighbour has not shown that it is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confirmation {
    /// It did this long ago.
    Ago(Duration),
    /// It is not expected to.
    Unknown,
}

impl Netlink {
    /// Neighbours of an interface whose MAC is known.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn neighbors(&self, index: u32) -> Result<BTreeMap<IpAddr, Mac>, NetlinkError> {
        let _turn = self.dumping.lock().await;
        self.handle
            .neighbours()
            .get()
            .execute()
            .try_filter_map(|message| async move {
                Ok(Some(message)
                    .filter(|message| message.header.ifindex == index)
                    .as_ref()
                    .and_then(neighbor))
            })
            .try_collect()
            .await
            .map_err(|source| NetlinkError::Request {
                action: "read neighbours",
                source,
            })
    }

    /// How long ago each of these neighbours showed that it is there, of those that the kernel may ask: a
    /// neighbour whose MAC is configured never does.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn confirmations(
        &self,
        index: u32,
        of: &BTreeSet<IpAddr>,
    ) -> Result<BTreeMap<IpAddr, Confirmation>, NetlinkError> {
        let _turn = self.dumping.lock().await;
        let messages: Vec<NeighbourMessage> = self
            .handle
            .neighbours()
            .get()
            .execute()
            .try_collect()
            .await
            .map_err(|source| NetlinkError::Request {
                action: "read neighbours",
                source,
            })?;
        Ok(messages
            .iter()
            .filter(|message| message.header.ifindex == index)
            .filter_map(confirmation)
            .filter(|(addr, _)| of.contains(addr))
            .collect())
    }

    /// Has the kernel ask a neighbour whose MAC it knows whether it is still there.
    ///
    /// # Errors
    /// The kernel does not know its MAC: [`Self::resolve`] it.
    pub async fn confirm(&self, index: u32, addr: IpAddr) -> Result<(), NetlinkError> {
        self.handle
            .neighbours()
            .add(index, addr)
            .state(NeighbourState::Probe)
            .replace()
            .execute()
            .await
            .map_err(|source| NetlinkError::Request {
                action: "confirm a neighbour",
                source,
            })
    }

    /// Asks the kernel to resolve an address on an interface, or to confirm what it knows.
    ///
    /// # Errors
    /// The interface is down or gone.
    pub async fn resolve(&self, index: u32, addr: IpAddr) -> Result<(), NetlinkError> {
        self.handle
            .neighbours()
            .add(index, addr)
            .state(NeighbourState::None)
            .flags(NeighbourFlags::Use)
            .replace()
            .execute()
            .await
            .map_err(|source| NetlinkError::Request {
                action: "resolve a neighbour",
                source,
            })
    }
}

fn neighbor(message: &NeighbourMessage) -> Option<(IpAddr, Mac)> {
    if !has_mac(message.header.state) {
        return None;
    }
    let lladdr = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::LinkLayerAddress(octets) => mac(octets),
            _ => None,
        });
    Some((neighbor_address(message)?, lladdr?))
}

const fn has_mac(state: NeighbourState) -> bool {
    matches!(
        state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    )
}

fn neighbor_address(message: &NeighbourMessage) -> Option<IpAddr> {
    message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(addr)) => {
                Some(IpAddr::V4(*addr))
            }
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(addr)) => {
                Some(IpAddr::V6(*addr))
            }
            _ => None,
        })
}

/// Ticks in which the kernel tells times of neighbours (`USER_HZ`), the same on all architectures here.
const TICK: Duration = Duration::from_millis(10);

fn confirmation(message: &NeighbourMessage) -> Option<(IpAddr, Confirmation)> {
    let addr = neighbor_address(message)?;
    let confirmed = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            NeighbourAttribute::CacheInfo(info) => Some(TICK * info.confirmed),
            _ => None,
        });
    match message.header.state {
        NeighbourState::Permanent | NeighbourState::Noarp => Some((addr, Confirmation::Unknown)),
        state if has_mac(state) => Some((addr, Confirmation::Ago(confirmed?))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_counts_once_its_mac_is_known() {
        let mut message = NeighbourMessage::default();
        message.attributes = vec![
            NeighbourAttribute::Destination(NeighbourAddress::Inet([192, 0, 2, 1].into())),
            NeighbourAttribute::LinkLayerAddress(vec![2, 0, 0, 0, 0, 1]),
        ];
        for (state, counts) in [
            (NeighbourState::Incomplete, false),
            (NeighbourState::Failed, false),
            (NeighbourState::Reachable, true),
            (NeighbourState::Stale, true),
            (NeighbourState::Permanent, true),
        ] {
            message.header.state = state;
            assert_eq!(neighbor(&message).is_some(), counts, "{state:?}");
        }
    }

    #[test]
    fn a_neighbour_with_a_configured_mac_is_not_expected_to_show_itself() {
        let mut message = NeighbourMessage::default();
        message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(
            [192, 0, 2, 1].into(),
        ))];
        message.header.state = NeighbourState::Permanent;
        let addr = IpAddr::from([192, 0, 2, 1]);
        assert_eq!(confirmation(&message), Some((addr, Confirmation::Unknown)));
        message.header.state = NeighbourState::Failed;
        assert_eq!(confirmation(&message), None);
    }
}
