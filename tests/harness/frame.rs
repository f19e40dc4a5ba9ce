//! Builds frames, octet by octet, without the code under test.

use std::net::IpAddr;

use lb_common::addr::Mac;

/// TCP control bits.
pub const FIN: u8 = 0x01;
/// Synchronise.
pub const SYN: u8 = 0x02;
/// Reset.
pub const RST: u8 = 0x04;
/// Acknowledge.
pub const ACK: u8 = 0x10;

/// A frame to be: one IP packet, TCP or UDP.
#[derive(Clone, Debug)]
pub struct FrameBuilder {
    /// Destination MAC.
    pub to: Mac,
    /// Source MAC.
    pub from: Mac,
    /// VLAN tags, outermost first: EtherType and tag.
    pub tags: Vec<(u16, u16)>,
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// TTL or hop limit.
    pub ttl: u8,
    /// IPv4 options; a multiple of four octets.
    pub options: Vec<u8>,
    /// IPv4 identification.
    pub identification: u16,
    /// IPv4 fragment word.
    pub fragment: u16,
    /// TCP window.
    pub window: u16,
    /// Octets behind the transport header.
    pub payload: Vec<u8>,
    /// Sequence number, acknowledgment number and control bits; none makes it UDP.
    pub tcp: Option<(u32, u32, u8)>,
}

impl FrameBuilder {
    /// The octets.
    pub fn build(&self) -> Vec<u8> {
        let mut transport = Vec::new();
        transport.extend(self.source_port.to_be_bytes());
        transport.extend(self.destination_port.to_be_bytes());
        let (protocol, checksum_at) = match self.tcp {
            Some((sequence, acknowledgment, flags)) => {
                transport.extend(sequence.to_be_bytes());
                transport.extend(acknowledgment.to_be_bytes());
                transport.extend([0x50, flags]);
                transport.extend(self.window.to_be_bytes());
                transport.extend([0, 0, 0, 0]);
                (6, 16)
            }
            None => {
                transport.extend(((8 + self.payload.len()) as u16).to_be_bytes());
                transport.extend([0, 0]);
                (17, 6)
            }
        };
        transport.extend(&self.payload);
        let checksum = transport_checksum(self.source, self.destination, protocol, &transport);
        transport[checksum_at..checksum_at + 2].copy_from_slice(&checksum.to_be_bytes());
        self.wrap(protocol, &transport)
    }

    /// The octets of a frame that carries something else.
    pub fn wrap(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        let (ether_type, network): (u16, Vec<u8>) = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let length = 20 + self.options.len();
                let mut header = vec![0x40 | (length / 4) as u8, 0];
                header.extend(((length + transport.len()) as u16).to_be_bytes());
                header.extend(self.identification.to_be_bytes());
                header.extend(self.fragment.to_be_bytes());
                header.extend([self.ttl, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                header.extend(&self.options);
                let sum = checksum(&header);
                header[10..12].copy_from_slice(&sum.to_be_bytes());
                (0x0800, header)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut header = vec![0x60, 0, 0, 0];
                header.extend((transport.len() as u16).to_be_bytes());
                header.extend([protocol, self.ttl]);
                header.extend(source.octets());
                header.extend(destination.octets());
                (0x86dd, header)
            }
            _ => unreachable!("both addresses are of one family"),
        };
        let mut frame = Vec::new();
        frame.extend(self.to.0);
        frame.extend(self.from.0);
        for (ether_type, tag) in &self.tags {
            frame.extend(ether_type.to_be_bytes());
            frame.extend(tag.to_be_bytes());
        }
        frame.extend(ether_type.to_be_bytes());
        frame.extend(network);
        frame.extend(transport);
        frame
    }
}

/// RFC 1071, from scratch.
pub fn checksum(octets: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in octets.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Checksum of a transport header and its payload, whose own field is zero.
pub fn transport_checksum(source: IpAddr, destination: IpAddr, protocol: u8, octets: &[u8]) -> u16 {
    let mut all = Vec::new();
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => all.extend(address.octets()),
            IpAddr::V6(address) => all.extend(address.octets()),
        }
    }
    all.extend((octets.len() as u32).to_be_bytes());
    all.extend([0, 0, 0, protocol]);
    all.extend(octets);
    match checksum(&all) {
        0 if protocol == 17 => 0xffff,
        sum => sum,
    }
}
