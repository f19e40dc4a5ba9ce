//! Answers other nodes' probes, as long as this node's agent lives.

use crate::decide::{Tables, heartbeat_age, own_mac};
use crate::family::{Family, V4, V6, Version};
use crate::frame::{Frame, Window};
use crate::maps::{Config, MacKey, config_flags};
use crate::probe::{self, FENCE_AGE_MS, Kind, Probe};
use crate::wire::eth::{self, EthHeader, ether_type};
use crate::wire::{IpHeader, ipv4, ipv6, join, protocol, udp};

/// The answer that a probe is turned into.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProbeAnswer {
    /// Destination MAC.
    pub destination: MacKey,
    /// Source MAC.
    pub source: MacKey,
    /// IP version.
    pub version: Version,
    /// Where the IP header begins.
    pub network: usize,
    /// Where the UDP header begins.
    pub transport: usize,
    /// The words of the answer, in host order.
    pub words: [u64; 5],
}

/// The answer to a frame that is another node's probe; `None` if it is none, if nothing is served here yet
/// ([`config_flags::ADOPT`]), or if the agent has been away for longer than [`FENCE_AGE_MS`]: the other nodes
/// are to take over then.
///
/// For frames that [`ingress`](crate::decide::ingress) passes.
#[inline(always)]
pub fn answer_probe<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Option<ProbeAnswer> {
    let ethernet = EthHeader::read(frame)?;
    let config = tables.config()?;
    if ethernet.destination != own_mac(config) || eth::is_group(&ethernet.source) {
        return None;
    }
    // What another node's table led here would stay with the kernel, and be lost with the next table.
    if config.flags & config_flags::ADOPT != 0 {
        return None;
    }
    let (version, transport) = match ethernet.ether_type {
        ether_type::IPV4 => {
            let header = ipv4::read(frame, ethernet.payload)?;
            let transport = payload::<F, V4>(frame, &header, config.tunnel4)?;
            (Version::V4, transport)
        }
        ether_type::IPV6 => {
            let header = ipv6::read(frame, ethernet.payload)?;
            let transport = payload::<F, V6>(frame, &header, config.tunnel6)?;
            (Version::V6, transport)
        }
        _ => return None,
    };
    Some(ProbeAnswer {
        destination: ethernet.source,
        source: ethernet.destination,
        version,
        network: ethernet.payload,
        transport,
        words: answer(frame, tables, config, transport)?,
    })
}

/// Where the UDP header begins of a packet to our address that has the form of a probe.
#[inline(always)]
fn payload<F: Frame + ?Sized, A: Family>(
    frame: &F,
    header: &IpHeader<A>,
    own: A::Address,
) -> Option<usize> {
    let is_datagram = header.protocol == protocol::UDP
        && header.payload_length == udp::LENGTH + probe::LEN
        && !header.fragment
        && !header.malformed
        && !header.exceeds(frame.length());
    (is_datagram && header.destination == own).then_some(header.payload)
}

#[inline(always)]
fn answer<F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &T,
    config: &Config,
    transport: usize,
) -> Option<[u64; 5]> {
    let window = frame.window::<{ udp::LENGTH + probe::LEN }>(transport)?;
    let is_probe = window.be16::<2>().host() == probe::PORT
        && usize::from(window.be16::<4>().host()) == udp::LENGTH + probe::LEN;
    if !is_probe {
        return None;
    }
    let words = [
        join(window.be32::<8>(), window.be32::<12>()),
        join(window.be32::<16>(), window.be32::<20>()),
        join(window.be32::<24>(), window.be32::<28>()),
        join(window.be32::<32>(), window.be32::<36>()),
        join(window.be32::<40>(), window.be32::<44>()),
    ];
    let request = Probe::from_words(config.peer_key, words)?;
    let age_ms = heartbeat_age(config, tables);
    if request.kind != Kind::Request || age_ms > FENCE_AGE_MS {
        return None;
    }
    let answer = Probe {
        kind: Kind::Answer,
        age_ms,
        ..request
    };
    Some(answer.to_words(config.peer_key))
}
