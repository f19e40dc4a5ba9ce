//! Links, addresses, neighbours and routes over rtnetlink.
//!
//! Reading is always a whole dump: [`Changes`] only says that something moved, so a message that the
//! kernel had no room to queue costs nothing but a dump that finds more than one difference.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use lb_common::addr::Mac;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup, RouteMessageBuilder};

mod neighbor;

pub use neighbor::Confirmation;

/// Why the kernel's view of the network could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket.
    #[error("failed to open a netlink socket")]
    Open(#[source] io::Error),
    /// A request failed.
    #[error("failed to {action}")]
    Request {
        /// What was asked.
        action: &'static str,
        /// The kernel's answer.
        #[source]
        source: rtnetlink::Error,
    },
}

/// A network interface.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Link {
    /// Index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Ethernet address, if it is an Ethernet interface.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up.
    pub is_up: bool,
    /// The XDP program it carries.
    pub xdp: Option<XdpProgram>,
}

/// An XDP program on an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct XdpProgram {
    /// Id of the program.
    pub id: u32,
    /// It runs after the driver made an skb.
    pub is_generic: bool,
}

/// A connection to the kernel.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: Handle,
}

/// Says when links, addresses, neighbours or routes changed.
#[derive(Debug)]
pub struct Changes {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
}

/// Opens a connection and subscribes to changes. Call it on a tokio runtime.
///
/// # Errors
/// There is no netlink socket to be had.
pub fn connect() -> Result<(Netlink, Changes), NetlinkError> {
    let (connection, handle, messages) = rtnetlink::new_multicast_connection(&[
        MulticastGroup::Link,
        MulticastGroup::Neigh,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
        MulticastGroup::Ipv4Route,
        MulticastGroup::Ipv6Route,
    ])
    .map_err(NetlinkError::Open)?;
    tokio::spawn(connection);
    Ok((Netlink { handle }, Changes { messages }))
}

impl Changes {
    /// Waits for a change that concerns interface `index`: a neighbour elsewhere does not. False when
    /// the connection ended.
    pub async fn concerning(&mut self, index: u32) -> bool {
        while let Some((message, _)) = self.messages.next().await {
            match message.payload {
                NetlinkPayload::InnerMessage(
                    RouteNetlinkMessage::NewNeighbour(neighbour)
                    | RouteNetlinkMessage::DelNeighbour(neighbour),
                ) if neighbour.header.ifindex != index => {}
                _ => return true,
            }
        }
        false
    }
}

impl Netlink {
    /// The interface of that name, if there is one.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn link(&self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut links = self
            .handle
            .link()
            .get()
            .match_name(name.to_owned())
            .execute();
        match links.try_next().await {
            Ok(message) => Ok(message.map(|message| link(&message))),
            Err(rtnetlink::Error::NetlinkError(error)) if is_no_such_device(error.raw_code()) => {
                Ok(None)
            }
            Err(source) => Err(NetlinkError::Request {
                action: "read the interface",
                source,
            }),
        }
    }

    /// Addresses of an interface with their prefix lengths.
    ///
    /// # Errors
    /// The kernel did not answer.
    pub async fn addresses(&self, index: u32) -> Result<Vec<IpNet>, NetlinkError> {
        let request = self.handle.address().get().set_link_index_filter(index);
        let mut addresses: Vec<IpNet> = request
            .execute()
            .try_filter_map(|message| async move { Ok(address(&message)) })
            .try_collect()
            .await
            .map_err(|source| NetlinkError::Request {
                action: "read addresses",
                source,
            })?;
        addresses.sort_unstable();
        Ok(addresses)
    }

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
        let mut routes = Vec::new();
        for request in [
            RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
            RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
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
}

fn is_no_such_device(code: i32) -> bool {
    code == -libc::ENODEV
}

fn link(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        is_up: message.header.flags.contains(LinkFlags::Up),
        ..Link::default()
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            // Loopback has six zeros.
            LinkAttribute::Address(octets) => {
                link.mac = mac(octets).filter(|mac| *mac != Mac::default());
            }
            LinkAttribute::Xdp(xdp) => link.xdp = xdp_program(xdp),
            _ => {}
        }
    }
    link
}

fn xdp_program(attributes: &[LinkXdp]) -> Option<XdpProgram> {
    let is_generic = attributes
        .iter()
        .any(|attribute| matches!(attribute, LinkXdp::SkbProgId(id) if *id != 0));
    attributes.iter().find_map(|attribute| match attribute {
        LinkXdp::ProgId(id)
        | LinkXdp::DrvProgId(id)
        | LinkXdp::SkbProgId(id)
        | LinkXdp::HwProgId(id)
            if *id != 0 =>
        {
            let id = *id;
            Some(XdpProgram { id, is_generic })
        }
        _ => None,
    })
}

fn address(message: &AddressMessage) -> Option<IpNet> {
    // Of a point-to-point interface `Address` is the peer and `Local` is ours.
    let local = message
        .attributes
        .iter()
        .find_map(|attribute| match attribute {
            AddressAttribute::Local(addr) => Some(*addr),
            _ => None,
        });
    let addr = local.or_else(|| {
        message
            .attributes
            .iter()
            .find_map(|attribute| match attribute {
                AddressAttribute::Address(addr) => Some(*addr),
                _ => None,
            })
    })?;
    IpNet::new(addr, message.header.prefix_len).ok()
}

/// The gateways of a route over an interface.
fn gateways_of(message: &RouteMessage, index: u32) -> Vec<IpAddr> {
    fn gateway(attributes: &[RouteAttribute]) -> Option<IpAddr> {
        attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Gateway(RouteAddress::Inet(addr))
            | RouteAttribute::Via(RouteVia::Inet(addr)) => Some(IpAddr::V4(*addr)),
            RouteAttribute::Gateway(RouteAddress::Inet6(addr))
            | RouteAttribute::Via(RouteVia::Inet6(addr)) => Some(IpAddr::V6(*addr)),
            _ => None,
        })
    }
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

fn mac(octets: &[u8]) -> Option<Mac> {
    octets.try_into().ok().map(Mac)
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
    fn loopback_is_no_ethernet_interface() {
        let mac_of = |octets: [u8; 6]| {
            let mut message = LinkMessage::default();
            message.attributes = vec![LinkAttribute::Address(octets.to_vec())];
            link(&message).mac
        };
        assert_eq!(mac_of([0; 6]), None);
        assert_eq!(mac_of([2, 0, 0, 0, 0, 1]), Some(Mac([2, 0, 0, 0, 0, 1])));
    }

    #[test]
    fn the_address_of_a_point_to_point_link_is_the_local_one() {
        let mut message = AddressMessage::default();
        message.header.prefix_len = 32;
        message.attributes = vec![
            AddressAttribute::Address([192, 0, 2, 2].into()),
            AddressAttribute::Local([192, 0, 2, 1].into()),
        ];
        assert_eq!(address(&message), Some("192.0.2.1/32".parse().unwrap()));
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
}
