//! A node with a service whose pod runs here and one whose pod runs on a peer,
//! and frames for them.

use std::net::IpAddr;
use std::vec;
use std::vec::Vec;

use crate::addr::{AddrWords, Be16, Be32, words4, words6};
use crate::checksum::Sum;
use crate::drop::DropReason;
use crate::flow::FlowTable;
use crate::maps::{
    Backend, Config, Flow, Frontend, FrontendKey4, FrontendKey6, MacKey, Node, Slot, Vip,
    backend_flags, node_mode, peer_filter_bit, vip_flags,
};
use crate::memory::{Action, MemoryTables};
use crate::wire::tcp::flags::{ACK, SYN};

/// Port of the service whose pod runs here.
pub(super) const HERE: u16 = 80;
/// Port of the service whose pod runs on the peer.
pub(super) const THERE: u16 = 81;
/// Port that no service has.
pub(super) const NOWHERE: u16 = 4444;
/// Port of the pods.
pub(super) const POD_PORT: u16 = 8080;
/// Port of the client.
pub(super) const CLIENT_PORT: u16 = 41_000;

pub(super) const NODE: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
pub(super) const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];
pub(super) const ROUTER: [u8; 6] = [2, 0, 0, 0, 0, 0x01];

/// Addresses of one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    pub(super) client: IpAddr,
    pub(super) vip: IpAddr,
    pub(super) pod: IpAddr,
    /// The lowest frontend id of the family.
    pub(super) id: u32,
}

pub(super) fn families() -> [Ends; 2] {
    let ends = |client: &str, vip: &str, pod: &str, id| Ends {
        client: client.parse().unwrap(),
        vip: vip.parse().unwrap(),
        pod: pod.parse().unwrap(),
        id,
    };
    [
        ends("198.51.100.7", "203.0.113.10", "10.1.0.5", 0),
        ends("2001:db8:c::7", "2001:db8:f::10", "fd00:1::5", 4),
    ]
}

/// Frontends of a family, by their place after [`Ends::id`].
const FRONTENDS: [(u16, u8); 4] = [(HERE, 6), (HERE, 17), (THERE, 6), (THERE, 17)];

/// The tables of the node.
pub(super) fn tables(flags: u32) -> MemoryTables {
    let (node, peer) = (mac(NODE), mac(PEER));
    let mut tables = MemoryTables {
        config: Config {
            flow_key: [1, 2, 3, 4],
            peer_filter: peer_filter_bit(peer.head, peer.tail),
            // Of an agent that never falls silent.
            heartbeat: u64::MAX,
            flags,
            mac_head: node.head,
            mac_tail: node.tail,
            ..Config::default()
        },
        ..MemoryTables::default()
    };
    tables.peers.insert(peer, 1);
    seconds(&tables, 1_000);
    let octets = [PEER, NODE].concat();
    let word = |at: usize| Be32::new(u32::from_be_bytes(octets[at..at + 4].try_into().unwrap()));
    let hop = Node {
        ethernet: [word(0), word(4), word(8)],
        mode: node_mode::L2,
        ..Node::default()
    };
    tables.nodes.insert(1, hop);
    for family in families() {
        let vip = Vip {
            flags: vip_flags::ANSWER_NEIGHBORS | vip_flags::ANSWER_ECHO,
            zero: 0,
        };
        match family.vip {
            IpAddr::V4(_) => tables.vips4.insert(words(family.vip)[0], vip),
            IpAddr::V6(_) => tables.vips6.insert(words(family.vip), vip),
        };
        for (place, (port, protocol)) in FRONTENDS.into_iter().enumerate() {
            let id = family.id + place as u32;
            let frontend = Frontend {
                slots: id * 16,
                mask: 15,
                backends: id * 16,
                id,
                ..Frontend::default()
            };
            let backend = Backend {
                addr: words(family.pod),
                port: Be16::new(POD_PORT),
                node: u16::from(port == THERE),
                generation: 7,
                flags: backend_flags::IN_USE,
                frontend: id,
            };
            tables.backends.insert(id * 16 + 1, backend);
            set_slots(&mut tables, id, |_| 1);
            let (addr, port) = (words(family.vip), Be16::new(port));
            let [word, ..] = addr;
            let zero = 0;
            match family.vip {
                IpAddr::V4(_) => tables.frontends4.insert(
                    FrontendKey4 {
                        addr: word,
                        port,
                        protocol,
                        zero,
                    },
                    frontend,
                ),
                IpAddr::V6(_) => tables.frontends6.insert(
                    FrontendKey6 {
                        addr,
                        port,
                        protocol,
                        zero,
                    },
                    frontend,
                ),
            };
        }
    }
    tables
}

/// Sets the newest owner in each of a frontend's sixteen slots.
pub(super) fn set_slots(tables: &mut MemoryTables, id: u32, owner: impl Fn(u16) -> u16) {
    for slot in 0..16 {
        let owners = [owner(slot), 0, 0, 0];
        tables
            .slots
            .insert(id * 16 + u32::from(slot), Slot::new(owners));
    }
}

/// The backend of a frontend.
pub(super) fn backend(tables: &mut MemoryTables, id: u32) -> &mut Backend {
    tables.backends.get_mut(&(id * 16 + 1)).unwrap()
}

/// Sets the clock.
pub(super) fn seconds(tables: &MemoryTables, now: u64) {
    tables.clock.set(now * 1_000_000_000);
}

pub(super) fn mac(octets: [u8; 6]) -> MacKey {
    let [a, b, c, d, e, f] = octets;
    MacKey {
        head: Be32::new(u32::from_be_bytes([a, b, c, d])),
        tail: Be16::new(u16::from_be_bytes([e, f])),
        zero: 0,
    }
}

pub(super) fn words(address: IpAddr) -> AddrWords {
    match address {
        IpAddr::V4(address) => words4(address),
        IpAddr::V6(address) => words6(address),
    }
}

/// A packet to be.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub(super) to: [u8; 6],
    pub(super) from: [u8; 6],
    pub(super) source: (IpAddr, u16),
    pub(super) destination: (IpAddr, u16),
    pub(super) ttl: u8,
    /// Sequence number, acknowledgment number, control bits; none makes it UDP.
    pub(super) tcp: Option<(u32, u32, u8)>,
    pub(super) payload: Vec<u8>,
}

/// From the client to a port of the VIP.
pub(super) fn request(ends: Ends, port: u16, tcp: Option<(u32, u32, u8)>) -> Packet {
    Packet {
        to: NODE,
        from: ROUTER,
        source: (ends.client, CLIENT_PORT),
        destination: (ends.vip, port),
        ttl: 60,
        tcp,
        payload: b"hello".to_vec(),
    }
}

/// From the pod to the client.
pub(super) fn response(ends: Ends, tcp: Option<(u32, u32, u8)>) -> Packet {
    Packet {
        to: ROUTER,
        from: NODE,
        source: (ends.pod, POD_PORT),
        destination: (ends.client, CLIENT_PORT),
        ..request(ends, 0, tcp)
    }
}

impl Packet {
    /// The octets.
    pub(super) fn build(&self) -> Vec<u8> {
        let mut transport = [
            self.source.1.to_be_bytes(),
            self.destination.1.to_be_bytes(),
        ]
        .concat();
        let (protocol, checksum_at) = match self.tcp {
            Some((sequence, acknowledgment, control)) => {
                transport.extend(sequence.to_be_bytes());
                transport.extend(acknowledgment.to_be_bytes());
                transport.extend([0x50, control, 0x20, 0, 0, 0, 0, 0]);
                (6u8, 16)
            }
            None => {
                transport.extend((8 + self.payload.len() as u16).to_be_bytes());
                transport.extend([0, 0]);
                (17, 6)
            }
        };
        transport.extend(&self.payload);
        let length = transport.len() as u16;
        let sum = Sum::ZERO
            .add_words(words(self.source.0))
            .add_words(words(self.destination.0))
            .add16(Be16::new(u16::from(protocol)))
            .add16(Be16::new(length))
            .add_octets(&transport)
            .finish();
        let sum = if protocol == 17 && sum == Be16::new(0) {
            Be16::new(0xffff)
        } else {
            sum
        };
        transport[checksum_at..checksum_at + 2].copy_from_slice(&sum.raw().to_ne_bytes());
        let (ether_type, mut header) = match (self.source.0, self.destination.0) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45, 0];
                header.extend((20 + length).to_be_bytes());
                header.extend([0x12, 0x34, 0x40, 0, self.ttl, protocol, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = Sum::ZERO.add_octets(&header).finish();
                header[10..12].copy_from_slice(&sum.raw().to_ne_bytes());
                ([0x08, 0x00], header)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let mut header = vec![0x60, 0, 0, 0];
                header.extend(length.to_be_bytes());
                header.extend([protocol, self.ttl]);
                header.extend(source.octets());
                header.extend(destination.octets());
                ([0x86, 0xdd], header)
            }
            _ => unreachable!("both addresses are of one family"),
        };
        header.extend(transport);
        [&self.to[..], &self.from, &ether_type, &header].concat()
    }

    /// Lets it in; what became of it and what it was then.
    pub(super) fn ingress(&self, tables: &MemoryTables) -> (Action, Vec<u8>) {
        let mut frame = self.build();
        (tables.run_ingress(&mut frame), frame)
    }

    /// Lets it out.
    pub(super) fn egress(&self, tables: &MemoryTables) -> Vec<u8> {
        let mut frame = self.build();
        tables.run_egress(&mut frame);
        frame
    }
}

/// What `request` is once it is addressed to the pod.
pub(super) fn delivered(ends: Ends, tcp: Option<(u32, u32, u8)>) -> (Action, Vec<u8>) {
    let mut packet = request(ends, HERE, tcp);
    (packet.destination, packet.ttl) = ((ends.pod, POD_PORT), 59);
    (Action::Pass, packet.build())
}

/// What `response` is once it comes from the VIP.
pub(super) fn translated(ends: Ends, tcp: Option<(u32, u32, u8)>) -> Vec<u8> {
    let mut packet = response(ends, tcp);
    packet.source = (ends.vip, HERE);
    packet.build()
}

/// Shakes hands: the client's numbers from 100 on, the pod's from 900.
pub(super) fn establish(tables: &MemoryTables, ends: Ends) {
    request(ends, HERE, Some((100, 0, SYN))).ingress(tables);
    response(ends, Some((900, 101, SYN | ACK))).egress(tables);
    request(ends, HERE, Some((101, 901, ACK))).ingress(tables);
}

/// Entries of a table, of both families and directions.
pub(super) fn entries(tables: &MemoryTables, table: FlowTable) -> Vec<Flow> {
    let four = tables.flows4.borrow();
    let six = tables.flows6.borrow();
    let four = four.iter().map(|((of, _), flow)| (*of, *flow));
    let six = six.iter().map(|((of, _), flow)| (*of, *flow));
    let all = four.chain(six).filter(|(of, _)| *of == table);
    all.map(|(_, flow)| flow).collect()
}

/// How often a reason was counted.
pub(super) fn drops(tables: &MemoryTables, reason: DropReason) -> u64 {
    tables.drops.borrow().get(&reason).copied().unwrap_or(0)
}
