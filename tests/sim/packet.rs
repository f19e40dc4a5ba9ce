//! Frames as the ends of a connection see them: read, and checked for right
//! checksums.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use harness::frame::{FrameBuilder, checksum, transport_checksum};
use lb_common::addr::Mac;

/// What a frame says; `None` if it is no whole TCP or UDP packet, or if a checksum in it is wrong.
pub(crate) fn read(frame: &[u8]) -> Option<FrameBuilder> {
    let to = Mac(*frame.first_chunk()?);
    let from = Mac(*frame.get(6..)?.first_chunk()?);
    let network = frame.get(14..)?;
    let (source, destination, ttl, protocol, transport): (IpAddr, IpAddr, _, _, _) =
        match *frame.get(12..14)? {
            [0x08, 0x00] => {
                let header = network.first_chunk::<20>()?;
                let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
                let whole = header[0] == 0x45 && checksum(header) == 0;
                let [.., a, b, c, d, e, f, g, h] = *header;
                (
                    Ipv4Addr::new(a, b, c, d).into(),
                    Ipv4Addr::new(e, f, g, h).into(),
                    header[8],
                    header[9],
                    network.get(20..total).filter(|_| whole)?,
                )
            }
            [0x86, 0xdd] => {
                let header = network.first_chunk::<40>()?;
                let length = usize::from(u16::from_be_bytes([header[4], header[5]]));
                let address = |at: usize| {
                    let octets: [u8; 16] = *header.get(at..)?.first_chunk()?;
                    Some(Ipv6Addr::from(octets))
                };
                (
                    address(8)?.into(),
                    address(24)?.into(),
                    header[7],
                    header[6],
                    network.get(40..40 + length)?,
                )
            }
            _ => return None,
        };
    let whole = matches!(
        transport_checksum(source, destination, protocol, transport),
        0 | 0xffff
    );
    let word16 = |at: usize| {
        let octets = transport.get(at..)?.first_chunk()?;
        Some(u16::from_be_bytes(*octets))
    };
    let word32 = |at: usize| {
        let octets = transport.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*octets))
    };
    let (tcp, length) = match protocol {
        6 => {
            let flags = *transport.get(13)?;
            (Some((word32(4)?, word32(8)?, flags)), 20)
        }
        17 => (None, 8),
        _ => return None,
    };
    whole.then_some(FrameBuilder {
        to,
        from,
        tags: Vec::new(),
        source,
        destination,
        source_port: word16(0)?,
        destination_port: word16(2)?,
        ttl,
        options: Vec::new(),
        identification: 0,
        fragment: 0,
        window: if protocol == 6 { word16(14)? } else { 0 },
        payload: transport.get(length..)?.to_vec(),
        tcp,
    })
}

/// Whether a frame without tags carries an ICMP or ICMPv6 message.
pub(crate) fn is_icmp(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == Some(&1),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&58),
        _ => false,
    }
}

/// The destination of the outermost IP header.
pub(crate) fn destination(frame: &[u8]) -> Option<IpAddr> {
    match *frame.get(12..14)? {
        [0x08, 0x00] => {
            let octets: [u8; 4] = *frame.get(30..)?.first_chunk()?;
            Some(Ipv4Addr::from(octets).into())
        }
        [0x86, 0xdd] => {
            let octets: [u8; 16] = *frame.get(38..)?.first_chunk()?;
            Some(Ipv6Addr::from(octets).into())
        }
        _ => None,
    }
}

/// Address and port of the client whose packet is in a tunnel.
pub(crate) fn inner_client(frame: &[u8]) -> Option<(IpAddr, u16)> {
    // The tunnel's own checksum is not judged: over IPv4 it may be left out.
    let header = match *frame.get(12..14)? {
        [0x86, 0xdd] => 40,
        _ => 20,
    };
    let geneve = frame.get(14 + header + 8..)?;
    let options = usize::from(geneve.first()? & 0x3f) * 4;
    let ether_type = geneve.get(2..4)?;
    let inner = geneve.get(8 + options..)?;
    let frame = [&[0; 12], ether_type, inner].concat();
    read(&frame).map(|packet| (packet.source, packet.source_port))
}

/// The same packet on its way back, empty.
pub(crate) fn turned(packet: &FrameBuilder) -> FrameBuilder {
    FrameBuilder {
        to: packet.from,
        from: packet.to,
        source: packet.destination,
        destination: packet.source,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
        ttl: 64,
        payload: Vec::new(),
        ..packet.clone()
    }
}
