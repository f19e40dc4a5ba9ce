//! Routes: where clients are, and how other nodes are reached.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures::TryStreamExt;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteMetric, RouteType, RouteVia,
};
use rtnetlink::RouteMessageBuilder;

use super::{Netlink, NetlinkError, link};

/// How the kernel sends packets to an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Way {
    /// The next hop; the destination itself if there is no gateway.
    pub next_hop: IpAddr,
    /// Longest IP packet that goes there in one piece, where the kernel knows less than that of the interface.
    pub mtu: Option<u32>,
}

impl Netlink {
    /// Interfaces that carry a default route, name by index.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn default_route_interfaces(&self) -> Result<BTreeMap<u32, String>, NetlinkError> {
        let routes = self.routes().await?;
        let indices: BTreeSet<u32> = routes.iter().flat_map(default_route).collect();
        let mut names = BTreeMap::new();
        for index in indices {
            let mut links = self.handle.link().get().match_index(index).execute();
            // An interface that went away since carries no route any more.
            if let Ok(Some(message)) = links.try_next().await {
                names.insert(index, link(&message).name);
            }
        }
        Ok(names)
    }

    async fn routes(&self) -> Result<Vec<RouteMessage>, NetlinkError> {
        let _turn = self.dumping.lock().await;
        let mut routes = Vec::new();
        for request in [
            RouteMessageBuilder::<Ipv4Addr>::new().build(),
            RouteMessageBuilder::<Ipv6Addr>::new().build(),
        ] {
            let all = self.handle.route().get(request).execute();
            routes.extend(all.try_collect::<Vec<_>>().await.map_err(|source| {
                NetlinkError::Request {
                    action: "read routes",
                    source,
                }
            })?);
        }
        Ok(routes)
    }

    /// Gateways of the default routes over an interface.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn gateways(&self, index: u32) -> Result<BTreeSet<IpAddr>, NetlinkError> {
        let mut gateways = BTreeSet::new();
        for route in self.routes().await? {
            gateways.extend(gateways_of(&route, index));
        }
        Ok(gateways)
    }

    /// How the kernel sends packets to an address, if it does over the interface.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn way(&self, index: u32, to: IpAddr) -> Result<Option<Way>, NetlinkError> {
        let mut answers = Box::pin(self.handle.route().get(question(to)).execute());
        match answers.try_next().await {
            Ok(message) => Ok(message.and_then(|message| way(&message, index, to))),
            // It knows no way.
            Err(rtnetlink::Error::NetlinkError(_)) => Ok(None),
            Err(source) => Err(NetlinkError::Request {
                action: "look up a route",
                source,
            }),
        }
    }
}

/// What asks for the route to one address.
fn question(to: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    let (family, length, destination) = match to {
        IpAddr::V4(addr) => (AddressFamily::Inet, 32, RouteAddress::Inet(addr)),
        IpAddr::V6(addr) => (AddressFamily::Inet6, 128, RouteAddress::Inet6(addr)),
    };
    message.header.address_family = family;
    message.header.destination_prefix_length = length;
    message.attributes = vec![RouteAttribute::Destination(destination)];
    message
}

/// What a lookup says of the way to an address.
fn way(message: &RouteMessage, index: u32, to: IpAddr) -> Option<Way> {
    let attributes = &message.attributes;
    let is_here = attributes.contains(&RouteAttribute::Oif(index));
    if message.header.kind != RouteType::Unicast || !is_here {
        return None;
    }
    let mut metrics = attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::Metrics(metrics) => metrics.as_slice(),
        _ => &[],
    });
    let mtu = metrics.find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) if *mtu != 0 => Some(*mtu),
        _ => None,
    });
    Some(Way {
        next_hop: gateway(attributes).unwrap_or(to),
        mtu,
    })
}

fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(addr))
        | RouteAttribute::Via(RouteVia::Inet(addr)) => Some(IpAddr::V4(*addr)),
        RouteAttribute::Gateway(RouteAddress::Inet6(addr))
        | RouteAttribute::Via(RouteVia::Inet6(addr)) => Some(IpAddr::V6(*addr)),
        _ => None,
    })
}

/// The gateways of a route over an interface.
fn gateways_of(message: &RouteMessage, index: u32) -> Vec<IpAddr> {
    if message.header.destination_prefix_length != 0 || message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let attributes = &message.attributes;
    let is_here = attributes.contains(&RouteAttribute::Oif(index));
    let hops = attributes.iter().flat_map(|attribute| match attribute {
        RouteAttribute::MultiPath(hops) => hops.as_slice(),
        _ => &[],
    });
    gateway(attributes)
        .filter(|_| is_here)
        .into_iter()
        .chain(
            hops.filter(|hop| hop.interface_index == index)
                .filter_map(|hop| gateway(&hop.attributes)),
        )
        .collect()
}

/// Interfaces of a default route: one, or those of its next hops.
fn default_route(message: &RouteMessage) -> Vec<u32> {
    if message.header.destination_prefix_length != 0 || message.header.kind != RouteType::Unicast {
        return Vec::new();
    }
    let mut indices = Vec::new();
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => indices.push(*index),
            RouteAttribute::MultiPath(hops) => {
                indices.extend(hops.iter().map(|hop| hop.interface_index));
            }
            _ => {}
        }
    }
    indices
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_default_route_over_the_port_has_gateways_on_it() {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![
            RouteAttribute::Gateway(RouteAddress::Inet([192, 0, 2, 1].into())),
            RouteAttribute::Oif(3),
        ];
        assert_eq!(gateways_of(&message, 3), [IpAddr::from([192, 0, 2, 1])]);
        assert!(gateways_of(&message, 4).is_empty());
        message.header.destination_prefix_length = 24;
        assert!(gateways_of(&message, 3).is_empty());
    }

    #[test]
    fn only_a_default_route_leads_to_clients() {
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Oif(3)];
        assert_eq!(default_route(&message), [3]);
        message.header.destination_prefix_length = 24;
        assert!(default_route(&message).is_empty());
    }

    #[test]
    fn a_route_over_the_port_has_a_next_hop_and_perhaps_an_mtu() {
        let to = IpAddr::from([198, 51, 100, 1]);
        let mut message = RouteMessage::default();
        message.header.kind = RouteType::Unicast;
        message.attributes = vec![RouteAttribute::Oif(3)];
        let direct = Way {
            next_hop: to,
            mtu: None,
        };
        assert_eq!(way(&message, 3, to), Some(direct));
        assert_eq!(way(&message, 4, to), None);
        message.attributes.extend([
            RouteAttribute::Gateway(RouteAddress::Inet([192, 0, 2, 1].into())),
            RouteAttribute::Metrics(vec![RouteMetric::Mtu(1_400)]),
        ]);
        let around = Way {
            next_hop: [192, 0, 2, 1].into(),
            mtu: Some(1_400),
        };
        assert_eq!(way(&message, 3, to), Some(around));
    }
}
