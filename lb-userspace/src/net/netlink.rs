//! Links, addresses, neighbours and routes over rtnetlink.
//!
//! Reading is always a whole dump: [`Changes`] only says that something moved, so a message that the
//! kernel had no room to queue costs nothing but a dump that finds more than one difference.

use std::io;
use std::sync::Arc;

use futures::channel::mpsc::UnboundedReceiver;
use futures::{StreamExt, TryStreamExt};
use ipnet::IpNet;
use lb_common::addr::Mac;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, LinkXdp};
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::Mutex;

mod neighbor;
mod route;

pub use neighbor::Confirmation;
pub use route::Way;

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
    /// Held while a dump runs: the kernel refuses a second one on the same socket with EBUSY.
    dumping: Arc<Mutex<()>>,
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
    let netlink = Netlink {
        handle,
        dumping: Arc::default(),
    };
    Ok((netlink, Changes { messages }))
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
        let _turn = self.dumping.lock().await;
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

fn mac(octets: &[u8]) -> Option<Mac> {
    octets.try_into().ok().map(Mac)
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
