//! The way of a frame: router, nodes, kernel, pod, and back to the client.

use std::collections::VecDeque;

use harness::frame::{FrameBuilder, RST, SYN};
use lb_common::addr::Mac;
use lb_common::memory::Action;
use lb_common::outcome::Outcome;
use lb_userspace::model::cluster::Protocol;

use super::World;
use crate::agent::Way;
use crate::client::{Client, Heard, Phase};
use crate::cluster;
use crate::node::{FlowName, NodeId};
use crate::packet;
use crate::pod::PodId;
use crate::router;
use crate::script::Task;
use crate::tally::{LOOP, MOST_HOPS};

/// A frame on its way.
#[derive(Clone, Debug)]
struct Flight {
    frame: Vec<u8>,
    /// Nodes visited.
    hops: usize,
    /// What led it here from the node before, if not a slot.
    way: Option<Way>,
}

impl World {
    /// Lets the router have a packet from a client.
    pub(crate) fn send(&mut self, packet: &FrameBuilder) {
        let mut flights: VecDeque<Flight> = VecDeque::new();
        flights.extend(self.route(packet.build(), 0));
        while let Some(flight) = flights.pop_front() {
            if flight.hops > LOOP {
                self.tally.loops += 1;
                self.tally.violation(format!("{packet:?} loops"));
                return;
            }
            flights.extend(self.carry(flight));
        }
    }

    /// Takes a frame to whoever has its MAC, and says what comes of it.
    fn carry(&mut self, flight: Flight) -> Option<Flight> {
        let Flight {
            mut frame,
            hops,
            way,
        } = flight;
        let to = Mac(*frame.first_chunk()?);
        if to == router::MAC {
            return self.route(frame, hops);
        }
        let node = self.nodes.values().find(|n| n.mac() == to && n.is_alive)?;
        let id = node.id;
        let hops = hops + 1;
        self.tally.visits += 1;
        self.tally.most_hops = self.tally.most_hops.max(hops);
        if hops > MOST_HOPS {
            let what = format!("a packet visits more than {MOST_HOPS} nodes");
            self.tally.violation(what);
        }
        let begun = node.count_of(Outcome::ChainBegun);
        let excepted = node.count_of(Outcome::Excepted);
        let action = node.ingress(&mut frame);
        let next_way = if node.count_of(Outcome::ChainBegun) > begun {
            Some(Way::Chain(1))
        } else if node.count_of(Outcome::Excepted) > excepted {
            packet::inner_client(&frame).and_then(|client| {
                let frontend = cluster::frontend(self.setup.family, Protocol::Tcp);
                node.way(&FlowName { client, frontend })
            })
        } else if let Some(Way::Chain(position)) = way {
            Some(Way::Chain(position + 1))
        } else {
            way
        };
        self.read_events(id);
        match action {
            Action::Drop => None,
            Action::Transmit => Some(Flight {
                frame,
                hops,
                way: next_way,
            }),
            Action::Pass => {
                self.found(&frame, way);
                self.deliver(id, Flight { frame, hops, way })
            }
        }
    }

    /// A packet was passed to a kernel: how did it come?
    fn found(&mut self, frame: &[u8], way: Option<Way>) {
        let Some((packet, way)) = packet::read(frame).zip(way) else {
            return;
        };
        let name = FlowName {
            client: (packet.source, packet.source_port),
            frontend: cluster::frontend(self.setup.family, Protocol::Tcp),
        };
        if let Some(index) = self.by_name.get(&name).filter(|_| packet.tcp.is_some()) {
            let connection = (name, self.clients[*index].pod_sequence);
            self.tally.ways.entry(connection).or_default().insert(way);
        }
    }

    /// The kernel of a node gets a frame: it is for a pod, or to be routed. What a pod answers leaves by
    /// the egress program.
    fn deliver(&mut self, node: NodeId, flight: Flight) -> Option<Flight> {
        // A tunnel that is not ours, since its sender is not known yet.
        let own = cluster::node_address(self.setup.family, node);
        if packet::destination(&flight.frame) == Some(own) {
            return None;
        }
        if packet::is_icmp(&flight.frame) {
            // No backend serves, which a node says to the peer that the datagram came from while it does
            // not know its router.
            return None;
        }
        let Some(packet) = packet::read(&flight.frame) else {
            let what = format!(
                "node {node} passes what nobody can read: {:02x?}",
                flight.frame
            );
            self.tally.violation(what);
            return None;
        };
        if packet.destination == cluster::vip(self.setup.family) {
            let what = format!("node {node} passes a packet for the VIP to its kernel");
            self.tally.violation(what);
            return None;
        }
        if cluster::is_client(packet.destination) {
            let frame = addressed(flight.frame, router::MAC, cluster::node_mac(node))?;
            return Some(Flight { frame, ..flight });
        }
        let mut pods = self.pods.values();
        let id = pods
            .find(|pod| pod.node == node && pod.addr == packet.destination)?
            .id;
        self.judge(id, &packet);
        let answer = FrameBuilder {
            to: router::MAC,
            from: cluster::node_mac(node),
            ..self.pods.get_mut(&id)?.receive(&packet)?
        };
        let mut frame = answer.build();
        self.nodes.get(&node)?.egress(&mut frame);
        Some(Flight {
            frame,
            hops: 0,
            way: None,
        })
    }

    /// Whether a packet may come to this pod.
    fn judge(&mut self, id: PodId, packet: &FrameBuilder) {
        if packet.tcp.is_none_or(|(.., flags)| flags & SYN != 0) {
            return;
        }
        let name = FlowName {
            client: (packet.source, packet.source_port),
            frontend: cluster::frontend(self.setup.family, Protocol::Tcp),
        };
        let client = self
            .by_name
            .get(&name)
            .and_then(|index| self.clients.get(*index));
        let Some(owner) = client.and_then(Client::pod).filter(|owner| *owner != id) else {
            return;
        };
        // Who is on a node that is lost has nothing any more: a late SYN's half-open flow may inherit it.
        let has_it = self.pods.get(&owner).is_some_and(|pod| {
            let node = self.nodes.get(&pod.node);
            node.is_some_and(|node| node.is_alive)
        });
        if has_it {
            let what = format!("pod {id} gets a packet of {name:?}, which pod {owner} has");
            self.tally.violation(what);
        } else {
            self.tally.delivered_to_heir += 1;
        }
    }

    /// The router gets a frame: for a client, for a node, or for the VIP.
    fn route(&mut self, frame: Vec<u8>, hops: usize) -> Option<Flight> {
        let destination = packet::destination(&frame)?;
        if cluster::is_client(destination) {
            self.answer(&frame);
            return None;
        }
        let next = if destination == cluster::vip(self.setup.family) {
            self.router.pick(&packet::read(&frame)?)?
        } else {
            let family = self.setup.family;
            let mut nodes = self.nodes.keys();
            *nodes.find(|node| cluster::node_address(family, **node) == destination)?
        };
        Some(Flight {
            frame: addressed(frame, cluster::node_mac(next), router::MAC)?,
            hops,
            way: None,
        })
    }

    /// A client gets a frame.
    fn answer(&mut self, frame: &[u8]) {
        if packet::is_icmp(frame) {
            // No backend serves: the datagram is lost, and its client knows why.
            return;
        }
        let Some(packet) = packet::read(frame) else {
            let what = format!("a client gets what it cannot read: {frame:02x?}");
            return self.tally.violation(what);
        };
        let protocol = match packet.tcp {
            Some(_) => Protocol::Tcp,
            None => Protocol::Udp,
        };
        let frontend = cluster::frontend(self.setup.family, protocol);
        // From a pod's own address: what its kernel says about a connection nobody has.
        if packet.source != frontend.addr || packet.source_port != frontend.port {
            self.tally.unsolicited += 1;
            return;
        }
        let name = FlowName {
            client: (packet.destination, packet.destination_port),
            frontend,
        };
        let Some(index) = self.by_name.get(&name).copied() else {
            return;
        };
        let client = &mut self.clients[index];
        let before = client.phase;
        let (heard, answer) = client.receive(&packet, self.now, &mut self.random);
        match (before, client.phase) {
            (Phase::Opening, Phase::Answered) => self.tally.connections += 1,
            (Phase::Opening, _) if packet.tcp.is_some_and(|(.., flags)| flags & RST != 0) => {
                self.tally.refused += 1;
            }
            (_, Phase::Closed) if before != Phase::Closed => self.reopen(index),
            (_, Phase::Ended(_)) => self.end(index),
            _ => {}
        }
        if let Heard::OtherPod(before) = heard {
            let pod = self.pods.get(&before);
            let lives = pod.is_some_and(|pod| self.nodes[&pod.node].is_alive);
            self.tally.udp_moved += u64::from(lives);
        }
        if let Some(answer) = answer {
            self.after(0, Task::Send(answer));
        }
    }
}

/// The frame with other addresses.
fn addressed(mut frame: Vec<u8>, to: Mac, from: Mac) -> Option<Vec<u8>> {
    frame
        .get_mut(..12)?
        .copy_from_slice(&[to.0, from.0].concat());
    Some(frame)
}
