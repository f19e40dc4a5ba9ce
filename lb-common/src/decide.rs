//! The forwarding decision: what becomes of a packet, without touching it.
//!
//! [`ingress`] judges a packet that came in on the compute port, [`egress()`] one that is about to leave.
//! `service` steers and delivers, `owner` keeps the flows of this node, `vip` deals with what no frontend
//! serves, `legacy` leaves the kernel what it had before, `neighbor` answers ARP and neighbour discovery, `egress` finds the flow of a reply. [`answer_probe`]
//! looks at what [`ingress`] leaves alone.
//!
//! What `service` and `owner` cannot settle with a hop on the segment or a flow they know goes on in
//! [`resume()`], a program of its own in the kernel, which looks at the packet anew: `resume` begins flows,
//! `choose` says with which pod, `arrival` reads tunnels, `departure` chooses the next node, `chain` follows the former owners of a slot.
//!
//! Both are generic over the packet and the tables, so that host tests run what the kernel runs. They
//! write flow entries and counters through `Tables`; the packet itself is rewritten by
//! [`crate::rewrite`], as the verdict says.

mod arrival;
mod chain;
mod choose;
mod departure;
mod egress;
mod legacy;
mod neighbor;
mod owner;
mod probe;
mod resume;
mod service;
mod tables;
mod vip;

pub use arrival::{arrive, authenticate_v4, authenticate_v6, receive_v4, receive_v6};
pub use choose::{choose_v4, choose_v6, renumber_v4, renumber_v6};
pub use departure::{complain_v4, complain_v6, depart_v4, depart_v6};
pub use egress::{EgressVerdict, SourceTranslation, egress};
pub use probe::{ProbeAnswer, answer_probe};
pub use resume::{begin_v4, begin_v6, refuse_v4, refuse_v6, resume, resume_v4, resume_v6};
pub use tables::{FamilyTables, Tables};

use crate::addr::{AddrWords, Be16, Be32};
use crate::drop::DropReason;
use crate::family::{Family, Version};
use crate::frame::Frame;
use crate::maps::{Config, MacKey};
use crate::probe::FENCE_AGE_MS;
use crate::wire::eth::{EthHeader, ether_type};
use crate::wire::tcp::TcpHeader;
use crate::wire::{IpHeader, ipv4, ipv6, tcp};

/// What becomes of a packet that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The kernel gets it, untouched.
    Pass,
    /// It ends here.
    Drop(DropReason),
    /// It goes out where it came in, to another node.
    Forward(Forward),
    /// The kernel gets it, addressed to a pod.
    Deliver(Delivery),
    /// What is left of it after the rewrite goes back to its sender.
    Reply(Reply),
    /// [`resume()`] decides.
    Resume,
    /// [`choose_v4`] or [`choose_v6`] decides: it is the first of a flow.
    Choose,
    /// [`renumber_v4`] or [`renumber_v6`] decides: its client's port meets the pods of its slot in other flows.
    Renumber,
    /// [`begin_v4`] or [`begin_v6`] decides: it begins the flow that the tables' tour says.
    Begin,
    /// [`refuse_v4`] or [`refuse_v6`] decides: it is a segment of no flow.
    Refuse,
    /// [`depart_v4`] or [`depart_v6`] decides: it goes on as the tables' tour says.
    Depart,
    /// [`complain_v4`] or [`complain_v6`] decides: it is too big for the tunnel that the tables' tour says.
    TooBig,
    /// It goes out where it came in, through a tunnel that says what is in the tables' tour.
    Encapsulate(Encapsulation),
}

/// Acts on a verdict where it is reached.
///
/// The parts of [`resume()`] whose verdicts carry something take this instead of returning them: a value that
/// is there in some verdicts only is undefined where they meet, and the verifier refuses that.
pub trait Act {
    /// What comes of it.
    type Result;

    /// Acts on the verdict.
    fn act(&self, verdict: Verdict) -> Self::Result;
}

/// A hop on the segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forward {
    /// IP version.
    pub version: Version,
    /// Where the IP header begins.
    pub network: usize,
    /// Destination and source MAC.
    pub ethernet: [Be32; 3],
}

/// A hop through a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encapsulation {
    /// IP version of the packet.
    pub version: Version,
    /// Where its IP header begins.
    pub network: usize,
    /// Octets of the packet, from there on.
    pub length: usize,
    /// Number of the node at the other end.
    pub node: u32,
    /// Source port of the tunnel.
    pub source_port: Be16,
    /// Where the transport header begins.
    pub transport: usize,
    /// Largest MSS that a SYN may offer; 0 is no limit, and all that there is for anything else.
    pub mss: u16,
}

impl Encapsulation {
    /// Octets of the packet's IP header.
    #[inline(always)]
    pub(crate) const fn header_length(&self) -> usize {
        header_length(self.network, self.transport)
    }
}

/// A translation of the destination, and of the client's port where that is another flow's at the pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    /// IP version.
    pub version: Version,
    /// Where the IP header begins.
    pub network: usize,
    /// Where the TCP or UDP header begins.
    pub transport: usize,
    /// IP protocol number.
    pub protocol: u8,
    /// Address of the pod.
    pub address: AddrWords,
    /// Source and destination port as the pod is to see them.
    pub ports: Be32,
}

impl Delivery {
    /// The same once the packet's IP header begins somewhere else.
    #[inline(always)]
    #[must_use]
    pub const fn moved_to(self, network: usize) -> Self {
        Self {
            network,
            transport: network + header_length(self.network, self.transport),
            ..self
        }
    }
}

impl Reply {
    /// The same once the packet's IP header begins somewhere else. Of no meaning for echo.
    #[inline(always)]
    #[must_use]
    pub const fn moved_to(self, network: usize) -> Self {
        Self { network, ..self }
    }
}

/// Octets of an IP header: 60 at most, which the verifier does not see from a difference.
#[inline(always)]
const fn header_length(network: usize, transport: usize) -> usize {
    transport.wrapping_sub(network) & 0x3f
}

/// A packet made from the one that came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reply {
    /// Destination MAC.
    pub destination: MacKey,
    /// Source MAC.
    pub source: MacKey,
    /// Where the payload of the Ethernet frame begins.
    pub network: usize,
    /// IP version; of no meaning for ARP.
    pub version: Version,
    /// Where the ICMP or TCP header begins; of no meaning for ARP.
    pub transport: usize,
    /// What it says.
    pub kind: ReplyKind,
    /// The segment of a reset. A field of its own, zero for all else, because the verifier refuses the
    /// undefined value that a variant without it would leave.
    pub segment: TcpHeader,
    /// The MTU that too big tells; zero for all else.
    pub mtu: u32,
}

/// What a reply says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReplyKind {
    /// An ARP reply to the request in the frame.
    Arp,
    /// A neighbour advertisement for the solicitation in the frame.
    Advertisement,
    /// An ICMP or ICMPv6 echo reply to the request in the frame.
    Echo,
    /// A TCP reset, as if from the VIP.
    Reset,
    /// An ICMP or ICMPv6 port unreachable from the VIP about the datagram in the frame.
    PortUnreachable,
    /// An ICMP fragmentation needed or ICMPv6 packet too big from the VIP about the packet in the frame.
    TooBig,
}

/// A packet, as far as it was read.
struct Packet<'a, F: ?Sized, T, A: Family> {
    frame: &'a F,
    tables: &'a T,
    config: &'a Config,
    ethernet: EthHeader,
    header: IpHeader<A>,
}

/// Decides what becomes of a frame that came in on the compute port.
pub fn ingress<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    match EthHeader::read(frame).map(|ethernet| ethernet.ether_type) {
        Some(ether_type::IPV4) => ingress_v4(frame, tables),
        Some(ether_type::IPV6) => ingress_v6(frame, tables),
        Some(ether_type::ARP) => ingress_arp(frame, tables),
        _ => Verdict::Pass,
    }
}

/// [`ingress`] of a frame that holds IPv4. The kernel runs each of the three as a program of its own: in
/// one, the values of all of them do not fit on the BPF stack.
#[inline(always)]
pub fn ingress_v4<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    let Some((ethernet, config)) = outset(frame, tables) else {
        return Verdict::Pass;
    };
    let Some(header) = ipv4::read(frame, ethernet.payload) else {
        return Verdict::Pass;
    };
    Packet {
        frame,
        tables,
        config,
        ethernet,
        header,
    }
    .ingress()
}

/// [`ingress`] of a frame that holds IPv6.
#[inline(always)]
pub fn ingress_v6<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    let Some((ethernet, config)) = outset(frame, tables) else {
        return Verdict::Pass;
    };
    let Some(header) = ipv6::read(frame, ethernet.payload) else {
        return Verdict::Pass;
    };
    let packet = Packet {
        frame,
        tables,
        config,
        ethernet,
        header,
    };
    packet
        .answer_solicitation()
        .unwrap_or_else(|| packet.ingress())
}

/// [`ingress`] of a frame that holds ARP.
#[inline(always)]
pub fn ingress_arp<F: Frame + ?Sized, T: Tables>(frame: &F, tables: &T) -> Verdict {
    match outset(frame, tables) {
        Some((ethernet, config)) => neighbor::answer_arp(frame, tables, config, &ethernet),
        None => Verdict::Pass,
    }
}

#[inline(always)]
fn outset<'a, F: Frame + ?Sized, T: Tables>(
    frame: &F,
    tables: &'a T,
) -> Option<(EthHeader, &'a Config)> {
    Some((EthHeader::read(frame)?, tables.config()?))
}

impl<F: Frame + ?Sized, T, A: Family> Packet<'_, F, T, A> {
    /// Address of the compute port.
    #[inline(always)]
    fn own_mac(&self) -> MacKey {
        own_mac(self.config)
    }

    /// The TCP header, if packet and frame hold it.
    #[inline(always)]
    fn segment(&self) -> Option<TcpHeader> {
        if self.header.payload_length < tcp::LENGTH {
            return None;
        }
        TcpHeader::read(self.frame, self.header.payload)
    }

    /// A reply to whoever sent the frame.
    #[inline(always)]
    fn reply(&self, kind: ReplyKind, segment: TcpHeader) -> Verdict {
        self.reply_by(self.ethernet.source, kind, segment, 0)
    }

    /// A reply by way of a MAC.
    #[inline(always)]
    fn reply_by(
        &self,
        destination: MacKey,
        kind: ReplyKind,
        segment: TcpHeader,
        mtu: u32,
    ) -> Verdict {
        Verdict::Reply(Reply {
            destination,
            source: self.own_mac(),
            network: self.header.offset,
            version: A::VERSION,
            transport: self.header.payload,
            kind,
            segment,
            mtu,
        })
    }

    /// Whether an ICMP error may quote the packet: it quotes an IP header of fixed length, and goes to a
    /// single host.
    #[inline(always)]
    fn is_quotable(&self) -> bool {
        self.header.payload == self.header.offset + A::HEADER_LENGTH
            && A::is_host(self.header.source)
    }
}

/// Age of the agent's heartbeat in milliseconds.
#[inline(always)]
fn heartbeat_age<T: Tables>(config: &Config, tables: &T) -> u64 {
    tables.now().saturating_sub(config.heartbeat) / 1_000_000
}

/// Whether the agent has been away for so long that other nodes have taken over what this one answered for.
#[inline(always)]
fn is_fenced<T: Tables>(config: &Config, tables: &T) -> bool {
    heartbeat_age(config, tables) > FENCE_AGE_MS
}

#[inline(always)]
fn own_mac(config: &Config) -> MacKey {
    MacKey {
        head: config.mac_head,
        tail: config.mac_tail,
        zero: 0,
    }
}
