//! Messages of ctnetlink, as far as they are needed: `linux/netlink.h`,
//! `linux/netfilter/nfnetlink_conntrack.h`.
//!
//! Integers of netlink itself are in host order, those in netfilter's attributes in network order. Attributes
//! that are not known are skipped; one that does not fit into what encloses it is an error.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Connection;

/// What the kernel sent cannot be taken apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum MalformedError {
    /// A message or an attribute ends before it is complete.
    #[error("it is cut off")]
    Truncated,
    /// An attribute has another size than its kind.
    #[error("attribute {0} has another size than it should")]
    Size(u16),
    /// A connection without its addresses and ports.
    #[error("a connection has no attribute {0}")]
    Missing(u16),
}

/// A message of a reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Message {
    /// A TCP or UDP connection.
    Connection(Connection),
    /// The table changed meanwhile: something may be missing.
    Interrupted,
    /// Nothing that is asked for.
    Other,
    /// The last one; whether the table changed meanwhile.
    Done {
        /// Something may be missing.
        is_interrupted: bool,
    },
    /// The kernel refused, with this `errno`.
    Refused(i32),
}

/// Types of messages: `NLMSG_ERROR`, `NLMSG_DONE`; subsystem `NFNL_SUBSYS_CTNETLINK` with
/// `IPCTNL_MSG_CT_NEW` and `IPCTNL_MSG_CT_GET`.
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW: u16 = 1 << 8;
const GET: u16 = 1 << 8 | 1;

/// `NLM_F_REQUEST | NLM_F_DUMP`; `NLM_F_DUMP_INTR`.
const REQUEST_DUMP: u16 = 0x301;
const INTERRUPTED: u16 = 0x10;

/// Octets of `struct nlmsghdr` and of `struct nfgenmsg`.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = 4;

/// Everything after the flags `NLA_F_NESTED` and `NLA_F_NET_BYTEORDER`.
const TYPE: u16 = 0x3fff;

/// Kinds of attributes: `enum ctattr_type`.
const TUPLE_ORIGINAL: u16 = 1;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
/// Inside of `TUPLE_ORIGINAL`: `enum ctattr_tuple`.
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
/// Inside of `TUPLE_IP`: `enum ctattr_ip`.
const V4_SOURCE: u16 = 1;
const V4_DESTINATION: u16 = 2;
const V6_SOURCE: u16 = 3;
const V6_DESTINATION: u16 = 4;
/// Inside of `TUPLE_PROTO`: `enum ctattr_l4proto`.
const PROTOCOL: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
/// Inside of `PROTOINFO`, and inside of that: `enum ctattr_protoinfo`, `enum ctattr_protoinfo_tcp`.
const PROTOINFO_TCP: u16 = 1;
const TCP_STATE: u16 = 1;

/// `IPS_SEEN_REPLY | IPS_DST_NAT`.
const SERVED: u32 = 1 << 1 | 1 << 5;
/// `TCP_CONNTRACK_TIME_WAIT` and `TCP_CONNTRACK_CLOSE`.
const ENDED: [u8; 2] = [7, 8];

const TCP: u8 = 6;
const UDP: u8 = 17;

/// The request for all connections of both address families.
pub(super) fn request() -> [u8; HEADER + FAMILY_HEADER] {
    let mut request = [0; HEADER + FAMILY_HEADER];
    let length = request.len() as u32;
    let fields = length
        .to_ne_bytes()
        .into_iter()
        .chain(GET.to_ne_bytes())
        .chain(REQUEST_DUMP.to_ne_bytes());
    // Sequence, port, family, version and resource stay zero.
    for (octet, value) in request.iter_mut().zip(fields) {
        *octet = value;
    }
    request
}

/// The messages of a datagram, in their order; nothing more after an error.
pub(super) struct Messages<'a> {
    rest: &'a [u8],
}

impl<'a> Messages<'a> {
    pub(super) const fn of(datagram: &'a [u8]) -> Self {
        Self { rest: datagram }
    }

    fn next_message(&mut self) -> Result<Message, MalformedError> {
        let (length, rest) = split(self.rest)?;
        let (kind, rest) = split(rest)?;
        let (flags, _) = split(rest)?;
        let length = u32::from_ne_bytes(length) as usize;
        let message = self.rest.get(..length).ok_or(MalformedError::Truncated)?;
        let payload = message.get(HEADER..).ok_or(MalformedError::Truncated)?;
        self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
        let is_interrupted = u16::from_ne_bytes(flags) & INTERRUPTED != 0;
        match u16::from_ne_bytes(kind) {
            // Both begin with an `errno`, negated.
            kind @ (ERROR | DONE) => {
                let (number, _) = split(payload)?;
                Ok(match i32::from_ne_bytes(number) {
                    0 if kind == DONE => Message::Done { is_interrupted },
                    number => Message::Refused(number.saturating_neg()),
                })
            }
            _ if is_interrupted => Ok(Message::Interrupted),
            NEW => Ok(connection(payload)?.map_or(Message::Other, Message::Connection)),
            _ => Ok(Message::Other),
        }
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message, MalformedError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let message = self.next_message();
        if message.is_err() {
            self.rest = &[];
        }
        Some(message)
    }
}

/// A connection; nothing if it is neither of TCP nor of UDP.
fn connection(payload: &[u8]) -> Result<Option<Connection>, MalformedError> {
    let attributes = payload.get(FAMILY_HEADER..);
    let (mut tuple, mut status, mut state) = (None, 0, None);
    for attribute in Attributes(attributes.ok_or(MalformedError::Truncated)?) {
        let attribute = attribute?;
        match attribute.kind {
            TUPLE_ORIGINAL => tuple = Some(Tuple::read(attribute.value)?),
            STATUS => status = u32::from_be_bytes(attribute.exact()?),
            PROTOINFO => state = tcp_state(attribute.value)?,
            _ => {}
        }
    }
    let tuple = tuple.ok_or(MalformedError::Missing(TUPLE_ORIGINAL))?;
    let protocol = tuple.protocol.ok_or(MalformedError::Missing(PROTOCOL))?;
    if protocol != TCP && protocol != UDP {
        return Ok(None);
    }
    let end = |address: Option<IpAddr>, port: Option<u16>, kind| {
        let address = address.ok_or(MalformedError::Missing(TUPLE_IP))?;
        let port = port.ok_or(MalformedError::Missing(kind))?;
        Ok(SocketAddr::new(address, port))
    };
    Ok(Some(Connection {
        source: end(tuple.source, tuple.source_port, SOURCE_PORT)?,
        destination: end(tuple.destination, tuple.destination_port, DESTINATION_PORT)?,
        protocol,
        is_served: status & SERVED != 0,
        has_ended: state.is_some_and(|state| ENDED.contains(&state)),
    }))
}

/// Addresses and ports in one direction.
#[derive(Default)]
struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: Option<u8>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

impl Tuple {
    fn read(value: &[u8]) -> Result<Self, MalformedError> {
        let mut tuple = Self::default();
        for attribute in Attributes(value) {
            let attribute = attribute?;
            match attribute.kind {
                TUPLE_IP => tuple.read_addresses(attribute.value)?,
                TUPLE_PROTO => tuple.read_ports(attribute.value)?,
                _ => {}
            }
        }
        Ok(tuple)
    }

    fn read_addresses(&mut self, value: &[u8]) -> Result<(), MalformedError> {
        for attribute in Attributes(value) {
            let attribute = attribute?;
            let v4 = || Ok(IpAddr::from(Ipv4Addr::from(attribute.exact::<4>()?)));
            let v6 = || Ok(IpAddr::from(Ipv6Addr::from(attribute.exact::<16>()?)));
            match attribute.kind {
                V4_SOURCE => self.source = Some(v4()?),
                V4_DESTINATION => self.destination = Some(v4()?),
                V6_SOURCE => self.source = Some(v6()?),
                V6_DESTINATION => self.destination = Some(v6()?),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_ports(&mut self, value: &[u8]) -> Result<(), MalformedError> {
        for attribute in Attributes(value) {
            let attribute = attribute?;
            let port = || Ok(u16::from_be_bytes(attribute.exact()?));
            match attribute.kind {
                PROTOCOL => {
                    let [protocol] = attribute.exact()?;
                    self.protocol = Some(protocol);
                }
                SOURCE_PORT => self.source_port = Some(port()?),
                DESTINATION_PORT => self.destination_port = Some(port()?),
                _ => {}
            }
        }
        Ok(())
    }
}

fn tcp_state(value: &[u8]) -> Result<Option<u8>, MalformedError> {
    for attribute in Attributes(value) {
        let attribute = attribute?;
        if attribute.kind != PROTOINFO_TCP {
            continue;
        }
        for attribute in Attributes(attribute.value) {
            let attribute = attribute?;
            if attribute.kind == TCP_STATE {
                let [state] = attribute.exact()?;
                return Ok(Some(state));
            }
        }
    }
    Ok(None)
}

/// `struct nlattr` and what follows it.
struct Attribute<'a> {
    kind: u16,
    value: &'a [u8],
}

impl Attribute<'_> {
    fn exact<const N: usize>(&self) -> Result<[u8; N], MalformedError> {
        let value = self.value.as_array();
        value.copied().ok_or(MalformedError::Size(self.kind))
    }
}

/// Attributes in a row; nothing more after an error.
struct Attributes<'a>(&'a [u8]);

impl<'a> Attributes<'a> {
    fn next_attribute(&mut self) -> Result<Attribute<'a>, MalformedError> {
        let (length, rest) = split(self.0)?;
        let (kind, _) = split(rest)?;
        let length = usize::from(u16::from_ne_bytes(length));
        let attribute = self.0.get(..length).ok_or(MalformedError::Truncated)?;
        let value = attribute.get(4..).ok_or(MalformedError::Truncated)?;
        self.0 = self.0.get(aligned(length)..).unwrap_or_default();
        Ok(Attribute {
            kind: u16::from_ne_bytes(kind) & TYPE,
            value,
        })
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<Attribute<'a>, MalformedError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let attribute = self.next_attribute();
        if attribute.is_err() {
            self.0 = &[];
        }
        Some(attribute)
    }
}

/// The first `N` octets and the rest.
fn split<const N: usize>(octets: &[u8]) -> Result<([u8; N], &[u8]), MalformedError> {
    let (first, rest) = octets
        .split_first_chunk()
        .ok_or(MalformedError::Truncated)?;
    Ok((*first, rest))
}

/// Where what follows a message or an attribute of that length begins.
const fn aligned(length: usize) -> usize {
    length.saturating_add(3) & !3
}

#[cfg(test)]
mod tests;
