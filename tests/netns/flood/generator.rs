//! Sends packets that nobody means, as fast as one thread can: live frames of a
//! program on the router's port.
//!
//! The program writes each frame anew from a template, with ports and numbers of its own. What it adds in
//! one place it takes away in another, so that the template's checksums stay right.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use anyhow::{Context, Result};
use harness::frame::{ACK, FrameBuilder, SYN};
use harness::netns::Netns;
use harness::pass::Sender;
use harness::topology::{CLIENT, Node, Topology};
use lb_common::addr::Mac;
use nix::net::if_::if_nametoindex;

/// Where spoofed sources are: a network of benchmarks (RFC 2544), and one of ours.
pub(crate) const SPOOFED: [&str; 2] = ["198.18.0.0/16", "2001:db8:bad::/48"];

/// Frames per run: a few milliseconds.
const TRAIN: u32 = 4_096;

/// Where the last 16 bits of the source address are, and where the transport header begins.
const AT4: (usize, usize) = (14 + 14, 14 + 20);
const AT6: (usize, usize) = (14 + 22, 14 + 40);
/// Where the identification of IPv4 is, whose header has a checksum too.
const IDENTIFICATION: usize = 14 + 4;
/// In the transport header: sequence number, or what follows a UDP header.
const SEQUENCE: usize = 4;
const PAYLOAD: usize = 8;

/// What is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    Syn,
    SynAck,
    Ack,
    Udp,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Syn, Self::SynAck, Self::Ack, Self::Udp];

    const fn flags(self) -> Option<u8> {
        match self {
            Self::Syn => Some(SYN),
            Self::SynAck => Some(SYN | ACK),
            Self::Ack => Some(ACK),
            Self::Udp => None,
        }
    }
}

/// A flood, until it is ended.
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<u64>>,
}

impl Flood {
    /// Begins to flood a frontend by way of a node. Three packets of four come from sources all over
    /// [`SPOOFED`], one from the client's own address.
    pub(crate) fn start(
        topology: &Topology,
        node: &Node,
        kind: Kind,
        target: SocketAddr,
    ) -> Result<Self> {
        let (to, from) = (mac(&node.netns, "eth0")?, mac(&topology.tor, "br0")?);
        let frame = |source| template(kind, target, source, [to, from]);
        let spoofed = frame(unspecified_host(target.ip()));
        let clients = frame(CLIENT[usize::from(target.is_ipv6())]);
        let senders = [
            Sender::load(&program(&spoofed, kind, target.is_ipv4(), true))?,
            Sender::load(&program(&clients, kind, target.is_ipv4(), false))?,
        ];
        let port = node.name.clone();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = topology.tor.spawn(move || {
            let index = if_nametoindex(port.as_str())?;
            let [spoofing, posing] = senders;
            let mut sent = 0;
            while !stopped.load(Ordering::Relaxed) {
                spoofing.run(index, &spoofed, 3 * TRAIN)?;
                posing.run(index, &clients, TRAIN)?;
                sent += 4 * u64::from(TRAIN);
            }
            Ok(sent)
        })?;
        Ok(Self { stop, thread })
    }

    /// Ends it; how many packets were sent.
    pub(crate) fn end(self) -> Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(sent) => Ok(sent?),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn mac(netns: &Netns, interface: &str) -> Result<Mac> {
    let path = format!("/sys/class/net/{interface}/address");
    let text = netns.run(["cat", &path])?;
    let octets = text
        .trim()
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16));
    let octets: Vec<_> = octets.collect::<Result<_, _>>()?;
    Ok(Mac(octets.try_into().ok().context("no MAC")?))
}

/// The address in [`SPOOFED`] whose last 16 bits are zero.
fn unspecified_host(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => [198, 18, 0, 0].into(),
        IpAddr::V6(_) => Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, 0).into(),
    }
}

/// A frame with zeros where random numbers come, and ones where their complements do.
fn template(kind: Kind, target: SocketAddr, source: IpAddr, [to, from]: [Mac; 2]) -> Vec<u8> {
    let tcp = kind.flags().map(|flags| (u32::MAX, 1, flags));
    FrameBuilder {
        to,
        from,
        tags: Vec::new(),
        source,
        destination: target.ip(),
        source_port: 0,
        destination_port: target.port(),
        ttl: 64,
        options: Vec::new(),
        identification: u16::MAX,
        fragment: 0,
        window: 0x2000,
        payload: if tcp.is_some() {
            Vec::new()
        } else {
            vec![0xff; 4]
        },
        tcp,
    }
    .build()
}

/// Instructions that write the template with a random source port, and a random source address if asked.
fn program(template: &[u8], kind: Kind, is_ipv4: bool, spoofs: bool) -> Vec<[u8; 8]> {
    let (address, transport) = if is_ipv4 { AT4 } else { AT6 };
    let balance = transport + if kind == Kind::Udp { PAYLOAD } else { SEQUENCE };
    // r6 = data, r7 = data_end; a frame of another length is dropped.
    let mut code = vec![
        instruction(0x61, 6, 1, 0, 0),
        instruction(0x61, 7, 1, 4, 0),
        instruction(0xbf, 2, 6, 0, 0),
        instruction(0x07, 2, 0, 0, template.len() as i32),
        instruction(0xb7, 0, 0, 0, 1),
        instruction(0xbd, 2, 7, 1, 0),
        instruction(0x95, 0, 0, 0, 0),
    ];
    let words = template.chunks_exact(2).enumerate();
    code.extend(words.map(|(index, word)| {
        let value = u16::from_ne_bytes([word[0], word[1]]);
        instruction(0x6a, 6, 0, 2 * index, value.into())
    }));
    // r0 = bpf_get_prandom_u32()
    code.push(instruction(0x85, 0, 0, 0, 7));
    code.extend(store(transport));
    code.extend(store_complement(balance));
    if spoofs {
        code.push(instruction(0x77, 0, 0, 0, 16));
        code.extend(store(address));
        code.extend(store_complement(balance + 2));
        if is_ipv4 {
            code.extend(store_complement(IDENTIFICATION));
        }
    }
    // XDP_TX
    code.extend([instruction(0xb7, 0, 0, 0, 3), instruction(0x95, 0, 0, 0, 0)]);
    code
}

/// Stores the low half of r0.
fn store(at: usize) -> [[u8; 8]; 1] {
    [instruction(0x6b, 6, 0, at, 0)]
}

/// Stores the complement of the low half of r0, by way of r1.
fn store_complement(at: usize) -> [[u8; 8]; 3] {
    [
        instruction(0xbf, 1, 0, 0, 0),
        instruction(0xa7, 1, 0, 0, -1),
        instruction(0x6b, 6, 1, at, 0),
    ]
}

/// `struct bpf_insn`.
fn instruction(code: u8, to: u8, from: u8, offset: usize, immediate: i32) -> [u8; 8] {
    let [a, b] = (offset as u16).to_ne_bytes();
    let [c, d, e, f] = immediate.to_ne_bytes();
    let registers = if cfg!(target_endian = "little") {
        from << 4 | to
    } else {
        to << 4 | from
    };
    [code, registers, a, b, c, d, e, f]
}
