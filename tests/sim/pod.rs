//! A pod: a TCP and UDP server that says who it is.

use std::collections::HashMap;
use std::net::IpAddr;

use harness::frame::{ACK, FIN, FrameBuilder, RST, SYN};

use crate::node::NodeId;
use crate::packet::turned;

/// Number of a pod, never given twice. Its initial sequence numbers begin with it.
pub(crate) type PodId = u16;

/// Ports the pods serve, behind [`crate::cluster::TCP_PORT`] and [`crate::cluster::UDP_PORT`].
pub(crate) const TCP_TARGET: u16 = 8080;
pub(crate) const UDP_TARGET: u16 = 5353;

/// Octets of each request and of each answer.
pub(crate) const PIECE: u32 = 8;

/// Sequence numbers that a connection has for itself.
const SEQUENCES: u32 = 1 << 12;

/// Address and port of a client.
pub(crate) type Peer = (IpAddr, u16);

/// A pod.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: PodId,
    pub(crate) addr: IpAddr,
    pub(crate) node: NodeId,
    pub(crate) is_ready: bool,
    pub(crate) is_terminating: bool,
    connections: HashMap<Peer, Connection>,
    opened: u16,
}

#[derive(Debug)]
struct Connection {
    client_sequence: u32,
    sequence: u32,
    is_closing: bool,
}

impl Pod {
    pub(crate) fn new(id: PodId, addr: IpAddr, node: NodeId) -> Self {
        Self {
            id,
            addr,
            node,
            is_ready: true,
            is_terminating: false,
            connections: HashMap::new(),
            opened: 0,
        }
    }

    /// Whether the pod has the connection that began with this sequence number of its own.
    pub(crate) fn has(&self, client: Peer, sequence: u32) -> bool {
        self.connections
            .get(&client)
            .is_some_and(|connection| connection.sequence == sequence)
    }

    /// What the pod makes of a packet, and what it answers.
    pub(crate) fn receive(&mut self, packet: &FrameBuilder) -> Option<FrameBuilder> {
        match packet.tcp {
            Some(tcp) => self.receive_segment(packet, tcp),
            None => Some(self.answer(packet, None)),
        }
    }

    fn receive_segment(
        &mut self,
        packet: &FrameBuilder,
        (sequence, acknowledgment, flags): (u32, u32, u8),
    ) -> Option<FrameBuilder> {
        let client = (packet.source, packet.source_port);
        if flags & (SYN | ACK | RST | FIN) == SYN {
            let answer = self.open(packet, client, sequence);
            return Some(answer);
        }
        let Some(connection) = self.connections.get_mut(&client) else {
            let refusal = FrameBuilder {
                tcp: Some((acknowledgment, 0, RST)),
                ..turned(packet)
            };
            return (flags & RST == 0).then_some(refusal);
        };
        if flags & RST != 0 {
            self.connections.remove(&client);
            return None;
        }
        // What acknowledges another connection's numbers belongs to none here (RFC 9293 §3.10.7.4).
        if acknowledgment.wrapping_sub(connection.sequence) >= SEQUENCES {
            let refusal = FrameBuilder {
                tcp: Some((acknowledgment, 0, RST)),
                ..turned(packet)
            };
            return Some(refusal);
        }
        if flags & FIN != 0 {
            connection.is_closing = true;
            let end = FrameBuilder {
                tcp: Some((acknowledgment, sequence.wrapping_add(1), FIN | ACK)),
                ..turned(packet)
            };
            return Some(end);
        }
        if packet.payload.is_empty() {
            if connection.is_closing {
                self.connections.remove(&client);
            }
            return None;
        }
        // Answers are as long as requests, so the position of the one tells that of the other.
        let offset = sequence.wrapping_sub(connection.client_sequence);
        let at = connection.sequence.wrapping_add(offset);
        let tcp = (at, sequence.wrapping_add(PIECE), ACK);
        Some(self.answer(packet, Some(tcp)))
    }

    fn open(&mut self, packet: &FrameBuilder, client: Peer, sequence: u32) -> FrameBuilder {
        let known = self.connections.get(&client);
        let own = match known.filter(|known| known.client_sequence == sequence) {
            Some(known) => known.sequence,
            None => {
                self.opened = self.opened.wrapping_add(1);
                // Far enough apart that no connection's numbers reach the next one's.
                (u32::from(self.id) << 20) | (u32::from(self.opened & 0xff) * SEQUENCES)
            }
        };
        let connection = Connection {
            client_sequence: sequence,
            sequence: own,
            is_closing: false,
        };
        self.connections.insert(client, connection);
        FrameBuilder {
            tcp: Some((own, sequence.wrapping_add(1), SYN | ACK)),
            ..turned(packet)
        }
    }

    fn answer(&self, packet: &FrameBuilder, tcp: Option<(u32, u32, u8)>) -> FrameBuilder {
        let mut payload = packet.payload.clone();
        payload.truncate(PIECE as usize - 2);
        payload.extend(self.id.to_be_bytes());
        FrameBuilder {
            payload,
            tcp,
            ..turned(packet)
        }
    }
}

/// Whom an initial sequence number belongs to.
pub(crate) fn owner_of(sequence: u32) -> PodId {
    (sequence >> 20) as u16
}
