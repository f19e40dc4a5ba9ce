//! Key and value of every BPF map: the contract between the programs and the
//! agent.
//!
//! Numbers
//! - A *frontend id* is a dense `u32`, private to this node, that indexes the counters.
//! - A *backend number* is 1 to 65,535 and private to one frontend; the backend is
//!   `BACKENDS[frontend.backends + number]`. Number 0 means none.
//! - A *node number* is private to this node; 0 is this node itself.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::addr::{AddrWords, Be16, Be32};

/// The one element of `CONFIG`.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Config {
    /// Key of the flow hash, equal on every node of the cluster.
    pub flow_key: [u64; 4],
    /// One bit per peer MAC (see [`peer_filter_bit`]): a clear bit says that the MAC is no peer's.
    pub peer_filter: u64,
    /// When the agent last wrote this element, `CLOCK_MONOTONIC` nanoseconds.
    pub heartbeat: u64,
    /// `config_flags`.
    pub flags: u32,
    /// Interface index of the compute port.
    pub ifindex: u32,
    /// MAC of the compute port: the first four octets as they lie on the wire.
    pub mac_head: Be32,
    /// MAC of the compute port: the last two octets.
    pub mac_tail: Be16,
    /// UDP port of the tunnels between nodes.
    pub geneve_port: Be16,
    /// Key of the tags on what nodes send each other: [`crate::siphash::key_from_secret`].
    pub peer_key: [u64; 2],
    /// This node's own IPv6 address, to which other nodes send; `::` if it has none.
    pub tunnel6: AddrWords,
    /// This node's own IPv4 address, to which other nodes send; `0.0.0.0` if it has none.
    pub tunnel4: Be32,
    /// Longest IP packet that the compute port sends.
    pub mtu: u32,
    /// Largest MSS in a SYN of IPv4 that takes a tunnel and in any SYN-ACK, whose node does not know by which
    /// way the SYN came: [`crate::rewrite::tunnel_mss`] of the narrowest tunnel in the cluster. 0 where no
    /// node is reached through one.
    pub mss4: u16,
    /// The same of IPv6.
    pub mss6: u16,
    /// Zero.
    pub zero: u32,
}

/// Bits of [`Config::flags`].
pub mod config_flags {
    /// kube-proxy (or its like) knows the VIPs: what is too hard for the programs goes to the kernel.
    /// Without it such packets are dropped, since a passed VIP packet would loop to the router.
    pub const KERNEL_KNOWS_VIPS: u32 = 1 << 0;
    /// A VIP port nobody serves is refused (RST, port unreachable) rather than dropped.
    pub const REJECT_UNSERVED: u32 = 1 << 1;
    /// The agent asks its peers for flows that nobody on a list knows. A segment of such a flow is
    /// dropped, and reset only once `EXCEPTIONS` says that nobody has it; without the flag it is reset.
    pub const LOCATE: u32 = 1 << 2;

    /// `LEGACY4` or `LEGACY6` may hold something.
    pub const LEGACY: u32 = 1 << 16;
    /// The agent has not read the kernel's connections yet: every packet for a frontend is left to the
    /// kernel, and its flow noted in `LEGACY4` or `LEGACY6`. Meaningful with [`LEGACY`].
    pub const ADOPT: u32 = 1 << 17;
    /// The bits that say how far the agent has come, and nothing of what is wanted.
    pub const PROGRESS: u32 = LEGACY | ADOPT;
}

/// The bit of [`Config::peer_filter`] that belongs to a MAC, given as its first four octets and last two.
#[inline(always)]
pub const fn peer_filter_bit(head: Be32, tail: Be16) -> u64 {
    let mixed = (head.raw() ^ ((tail.raw() as u32) << 8)).wrapping_mul(0x9e37_79b1);
    1 << (mixed >> 26)
}

/// Key of `FRONTENDS4`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct FrontendKey4 {
    /// VIP.
    pub addr: Be32,
    /// Port of the Service.
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub zero: u8,
}

/// Key of `FRONTENDS6`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct FrontendKey6 {
    /// VIP.
    pub addr: AddrWords,
    /// Port of the Service.
    pub port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub zero: u8,
}

/// What a (VIP, port, protocol) leads to.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Frontend {
    /// Index of the first slot in `SLOTS`.
    pub slots: u32,
    /// Number of slots (a power of two) minus one.
    pub mask: u32,
    /// Added to a backend number gives the index in `BACKENDS`.
    pub backends: u32,
    /// Frontend id: index of the counters.
    pub id: u32,
    /// `frontend_flags`.
    pub flags: u32,
    /// When a slot last changed its owner, in seconds of `CLOCK_MONOTONIC`.
    pub changed_at: u32,
}

/// Bits of [`Frontend::flags`].
pub mod frontend_flags {
    /// `sessionAffinity: ClientIP`: the source port takes no part in the hash.
    pub const CLIENT_AFFINITY: u32 = 1 << 0;
    /// Packets get to other nodes through tunnels, on this segment too.
    pub const TUNNEL: u32 = 1 << 1;
    /// Packets get to nodes on this segment only. Tunnels lead to former owners all the same.
    pub const SEGMENT: u32 = 1 << 2;
    /// [`super::config_flags::ADOPT`] for this frontend alone. Meaningful with
    /// [`super::config_flags::LEGACY`].
    pub const ADOPT: u32 = 1 << 3;
}

/// Four backend numbers, newest owner first: bits 0–15 hold `c0`, bits 48–63 `c3`; 0 means none.
#[derive(
    Clone, Copy, PartialEq, Eq, Hash, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(transparent)]
pub struct Slot(pub u64);

impl Slot {
    /// How many owners a slot remembers, today's included.
    pub const DEPTH: usize = 4;

    /// A slot from its owners, newest first.
    pub const fn new(owners: [u16; Self::DEPTH]) -> Self {
        let [c0, c1, c2, c3] = owners;
        Self(c0 as u64 | (c1 as u64) << 16 | (c2 as u64) << 32 | (c3 as u64) << 48)
    }

    /// The owners, newest first; 0 means none.
    #[inline(always)]
    pub const fn owners(self) -> [u16; Self::DEPTH] {
        [
            self.0 as u16,
            (self.0 >> 16) as u16,
            (self.0 >> 32) as u16,
            (self.0 >> 48) as u16,
        ]
    }

    /// The backend number that new connections get; 0 means none.
    #[inline(always)]
    pub const fn current(self) -> u16 {
        self.0 as u16
    }
}

/// A pod's address and port, and the node it runs on.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Backend {
    /// Pod address; IPv4 in the first word.
    pub addr: AddrWords,
    /// Pod port.
    pub port: Be16,
    /// Node number; 0 is this node.
    pub node: u16,
    /// Changes whenever this element is given to another pod, so that flows of the old one are told apart.
    pub generation: u32,
    /// `backend_flags`; 0 is an element nobody uses.
    pub flags: u32,
    /// Id of the frontend it serves: a restarted agent reads its tables back from the maps.
    pub frontend: u32,
}

/// Bits of [`Backend::flags`].
pub mod backend_flags {
    /// The element holds a pod.
    pub const IN_USE: u32 = 1 << 0;
    /// The pod keeps its connections and gets no new ones.
    pub const DRAINING: u32 = 1 << 1;
}

/// How to reach another node.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Node {
    /// Twelve octets as they lie on the wire: destination MAC (the peer), source MAC (the compute port).
    pub ethernet: [Be32; 3],
    /// `node_mode`.
    pub mode: u32,
    /// Address of the node, for tunnels; IPv4 in the first word.
    pub addr: AddrWords,
    /// Interface index through which the node is reached.
    pub ifindex: u32,
    /// `node_flags`.
    pub flags: u16,
    /// Longest IP packet on the way there; 0 is that of the compute port.
    pub mtu: u16,
}

/// Bits of [`Node::flags`].
pub mod node_flags {
    /// The node does not live: no list leads there.
    pub const DEAD: u16 = 1 << 0;
    /// [`Node::addr`](super::Node::addr) is of IPv6.
    pub const IPV6: u16 = 1 << 1;
}

/// Values of [`Node::mode`].
pub mod node_mode {
    /// Not reachable: the next hop's MAC is not known.
    pub const UNREACHABLE: u32 = 0;
    /// On this segment: rewrite the MACs.
    pub const L2: u32 = 1;
    /// Through a tunnel; the MAC is that of the next hop.
    pub const GENEVE: u32 = 2;
}

/// Key of `BACKEND_INDEX4`: a backend by what other nodes call it. The value is its index in `BACKENDS`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct BackendKey4 {
    /// Frontend id.
    pub frontend: u32,
    /// Pod address.
    pub addr: Be32,
    /// Pod port.
    pub port: Be16,
    /// Zero.
    pub zero: u16,
}

/// Key of `BACKEND_INDEX6`; fields as in [`BackendKey4`].
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct BackendKey6 {
    /// Frontend id.
    pub frontend: u32,
    /// Pod address.
    pub addr: AddrWords,
    /// Pod port.
    pub port: Be16,
    /// Zero.
    pub zero: u16,
}

/// Key of `PEER_MACS`.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct MacKey {
    /// First four octets as they lie on the wire.
    pub head: Be32,
    /// Last two octets.
    pub tail: Be16,
    /// Zero.
    pub zero: u16,
}

/// What this node does for an address, whatever the port.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Vip {
    /// `vip_flags`.
    pub flags: u32,
    /// Zero.
    pub zero: u32,
}

/// Bits of [`Vip::flags`].
pub mod vip_flags {
    /// This node answers ARP requests and neighbour solicitations for the address.
    pub const ANSWER_NEIGHBORS: u32 = 1 << 0;
    /// At least one backend serves: ICMP echo is answered.
    pub const ANSWER_ECHO: u32 = 1 << 1;
}

/// Key of the IPv4 flow tables, as seen in the direction the packet travels:
/// client to VIP for the forward entry, pod to client for the reverse entry.
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct FlowKey4 {
    /// Source address.
    pub source: Be32,
    /// Destination address.
    pub destination: Be32,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// `flow_direction`.
    pub direction: u8,
    /// Zero.
    pub zero: u16,
}

/// Key of the IPv6 flow tables; fields as in [`FlowKey4`].
#[derive(
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Debug,
    Default,
    FromBytes,
    IntoBytes,
    Immutable,
    KnownLayout,
)]
#[repr(C)]
pub struct FlowKey6 {
    /// Source address.
    pub source: AddrWords,
    /// Destination address.
    pub destination: AddrWords,
    /// Source port.
    pub source_port: Be16,
    /// Destination port.
    pub destination_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// `flow_direction`.
    pub direction: u8,
    /// Zero.
    pub zero: u16,
}

/// Values of `direction` in a flow key.
pub mod flow_direction {
    /// Client to VIP; the value's address and port are the pod's.
    pub const FORWARD: u8 = 0;
    /// Pod to client; the value's address and port are the VIP's.
    pub const REVERSE: u8 = 1;
}

/// One direction of a flow that this node owns.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Flow {
    /// What the packet's address is translated to; IPv4 in the first word.
    pub addr: AddrWords,
    /// What the packet's port is translated to.
    pub port: Be16,
    /// `flow_state` bits.
    pub state: u16,
    /// [`Backend::generation`] when the flow began.
    pub generation: u32,
    /// Index of the backend in `BACKENDS`.
    pub backend: u32,
    /// What the client's port is translated to: forward, the one that the pod sees; reverse, the client's own.
    /// They differ only where the client's own meets the pod's in another flow.
    pub client_port: Be16,
    /// Zero.
    pub zero: u16,
    /// Last packet, in seconds of `CLOCK_MONOTONIC`; refreshed at most once a second.
    pub seen: u32,
    /// Half-open, forward: initial sequence number of the pod's SYN-ACK; meaningful with `SYN_ACK_SEEN`.
    /// Established, forward: that of the client's FIN, once there was one. Reverse: what the pod acknowledged last.
    /// Host order.
    pub sequence: u32,
}

/// Bits of [`Flow::state`].
pub mod flow_state {
    /// The pod's SYN-ACK was seen and its sequence number noted.
    pub const SYN_ACK_SEEN: u16 = 1 << 0;
    /// The client sent FIN.
    pub const CLIENT_FIN: u16 = 1 << 1;
    /// The pod sent FIN.
    pub const POD_FIN: u16 = 1 << 2;
    /// Either side sent RST.
    pub const RESET: u16 = 1 << 3;
    /// The pod answered (UDP).
    pub const ANSWERED: u16 = 1 << 4;
    /// The client answered the SYN-ACK; a half-open flow with it waits for room among the established.
    pub const CONFIRMED: u16 = 1 << 5;
    /// Where the second modulo 15, plus 1, lies in which a chain to the flow was last reported.
    pub const REPORTED_SHIFT: u32 = 12;
    /// Those bits.
    pub const REPORTED: u16 = 0xf << REPORTED_SHIFT;
}

/// A flow that the kernel had before the programs came, and goes on with: value of `LEGACY4` and `LEGACY6`,
/// whose key is that of a forward entry.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Legacy {
    /// When it was noted, in seconds of `CLOCK_MONOTONIC`.
    pub since: u32,
    /// `flow_state` bits: whether the client sent FIN.
    pub state: u32,
}

/// Where a flow is that today's table leads here: value of `EXCEPTIONS4` and `EXCEPTIONS6`, whose key is
/// that of the forward entry.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Exception {
    /// Index of the flow's backend in `BACKENDS`; its node has the flow.
    pub backend: u32,
    /// [`Backend::generation`] when the exception was made.
    pub generation: u32,
    /// `exception_state` bits.
    pub state: u16,
    /// Zero.
    pub zero: u16,
}

/// Bits of [`Exception::state`].
pub mod exception_state {
    /// Every peer was asked and none has the flow; `backend` and `generation` mean nothing.
    pub const NOBODY: u16 = 1 << 0;
    /// The client sent FIN or RST.
    pub const CLOSING: u16 = 1 << 1;
}

/// What a program tells the agent: an element of the ring buffer `EVENTS`.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Event {
    /// Address of the client; IPv4 in the first word.
    pub source: AddrWords,
    /// The VIP.
    pub destination: AddrWords,
    /// Tunnel address of the node that wrote the list; zero is this node.
    pub origin: AddrWords,
    /// Port of the client.
    pub source_port: Be16,
    /// Port of the frontend.
    pub destination_port: Be16,
    /// IP protocol number.
    pub protocol: u8,
    /// `event_kind`.
    pub kind: u8,
    /// `event_flags`.
    pub flags: u8,
    /// Zero.
    pub zero: u8,
    /// Frontend id.
    pub frontend: u32,
    /// Index in `BACKENDS` of the flow's backend; 0 where there is none.
    pub backend: u32,
}

/// Values of [`Event::kind`].
pub mod event_kind {
    /// This node has the flow; the list that led here came from `origin`.
    pub const CHAIN_HIT: u8 = 1;
    /// Nobody on the list knows the flow; `origin` wants to know who does.
    pub const LOCATE: u8 = 2;
}

/// Bits of [`Event::flags`].
pub mod event_flags {
    /// Client and VIP have IPv6 addresses.
    pub const IPV6: u8 = 1 << 0;
    /// `origin` is of IPv6.
    pub const ORIGIN_IPV6: u8 = 1 << 1;
}

/// One owner on a list.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Owner {
    /// Pod address; IPv4 in the first word.
    pub addr: AddrWords,
    /// Pod port.
    pub port: Be16,
    /// Zero.
    pub zero: u16,
}

/// What the tunnel says that a packet came through, and then the one that it goes on through: the element
/// of `TOUR`, which is each CPU's own and holds for one packet.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Tour {
    /// `tour_flags`.
    pub flags: u8,
    /// Tunnels that the packet went through.
    pub hops: u8,
    /// How many of `owners` there are.
    pub count: u8,
    /// Zero.
    pub zero: u8,
    /// Node that wrote the list; IPv4 in the first word. Zero unless it is a chain.
    pub origin: AddrWords,
    /// Owners still to be asked, newest first; zero behind the last.
    pub owners: [Owner; Tour::LENGTH],
    /// Where the tunnel began; IPv4 in the first word.
    pub sender: AddrWords,
    /// The tag that came with it, most significant word first.
    pub tag: [Be32; 2],
    /// Where the packet's own IP header begins in the frame.
    pub network: u16,
    /// Octets between the Ethernet header and that; 0 says that there is no tunnel.
    pub strip: u16,
    /// Node to which the packet goes on; 0 says that the agent is to find out.
    pub next: u32,
    /// Index in `BACKENDS` of what a new flow gets.
    pub backend: u32,
    /// Port of the client's that the pod is to see in it.
    pub client_port: Be16,
    /// Zero.
    pub reserved: u16,
}

impl Tour {
    /// How many owners a list holds.
    pub const LENGTH: usize = Slot::DEPTH - 1;
}

/// Bits of [`Tour::flags`].
pub mod tour_flags {
    /// The packet follows the list: who has its flow delivers it, whoever has not passes it on.
    pub const CHAIN: u8 = 1 << 0;
    /// No slot leads the packet any further.
    pub const FINAL: u8 = 1 << 1;
    /// Nobody on the list had the flow: the origin begins it, or nobody does.
    pub const RETURNED: u8 = 1 << 2;
    /// `origin` knows that the flow is here, and need not be told.
    pub const KNOWN: u8 = 1 << 3;
    /// `origin` is of IPv6.
    pub const ORIGIN_IPV6: u8 = 1 << 4;
    /// The flow is half-open at `origin`, which the segment does not fit: it is to come back if nobody on the
    /// list has another.
    pub const HALF_OPEN: u8 = 1 << 5;
}

/// Per-CPU counters of one frontend.
#[derive(
    Clone, Copy, PartialEq, Eq, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct FrontendStats {
    /// Packets from clients, steered or delivered.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// Flows begun on this node.
    pub flows: u64,
    /// Packets delivered to pods on this node.
    pub delivered: u64,
}
