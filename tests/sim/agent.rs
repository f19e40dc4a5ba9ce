//! What agents tell each other about flows: exceptions, push, locate.

use std::net::IpAddr;

use lb_common::flow::FlowTable;
use lb_common::maps::{Event, event_kind};

use crate::node::{FlowName, NodeId};
use crate::script::Task;
use crate::world::World;

/// Questions that an agent may ask within a second.
const BUDGET: u32 = 200;

/// Milliseconds that "nobody has it" is believed.
const DENIAL: u64 = 1_000;

/// How a packet found its pod.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Way {
    /// By the chain, at this position of the list.
    Chain(usize),
    /// By an exception that the chain's success made.
    Exception,
    /// By an exception that the owner's agent sent ahead.
    Push,
    /// By an exception that the last hop's agent asked for.
    Locate,
}

/// A message between two agents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    /// To `c0`'s owner: the flow is there.
    Found {
        /// Who is told.
        to: NodeId,
        /// Which flow.
        flow: FlowName,
        /// The pod that has it.
        pod: IpAddr,
        /// How that came out.
        way: Way,
    },
    /// To everybody: who has the flow? The answer goes to `origin`.
    Ask {
        /// Who asks.
        asker: NodeId,
        /// Who wrote the list.
        origin: NodeId,
        /// Which flow.
        flow: FlowName,
    },
}

impl World {
    /// Sends a message, which takes its time.
    fn tell(&mut self, message: Message) {
        let latency = 20 + self.random.below(100);
        self.after(latency, Task::Message(message));
    }

    /// A message arrives.
    pub(crate) fn hear(&mut self, message: Message) {
        match message {
            Message::Found { to, flow, pod, way } => {
                if let Some(node) = self.nodes.get_mut(&to).filter(|node| node.has_agent) {
                    node.except(flow, pod, way);
                }
            }
            Message::Ask {
                asker,
                origin,
                flow,
            } => self.look_for(asker, origin, flow),
        }
    }

    /// The agent of a node reads what the program told it.
    pub(crate) fn read_events(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get(&id) else {
            return;
        };
        let events = std::mem::take(&mut *node.tables.events.borrow_mut());
        if node.has_agent {
            for event in events {
                self.read_event(id, &event);
            }
        }
    }

    fn read_event(&mut self, id: NodeId, event: &Event) {
        let node = &self.nodes[&id];
        let flow = node.flow_of(event);
        let origin = match node.tables.peer_addrs.get(&event.origin) {
            Some(number) => node.id_of(*number),
            None => Some(id),
        };
        let Some(origin) = origin else { return };
        match event.kind {
            event_kind::CHAIN_HIT => {
                if let Some(pod) = node.tables.backends.get(&event.backend) {
                    let pod = node.address(pod.addr);
                    let way = Way::Exception;
                    self.tell(Message::Found {
                        to: origin,
                        flow,
                        pod,
                        way,
                    });
                }
            }
            event_kind::LOCATE => self.locate(id, origin, flow),
            _ => {}
        }
    }

    /// A packet that nobody on the list knows: the agent of the last hop asks, within its budget.
    fn locate(&mut self, asker: NodeId, origin: NodeId, flow: FlowName) {
        let Some(node) = self.nodes.get_mut(&asker) else {
            return;
        };
        if node.may_ask(self.now, BUDGET) {
            self.tally.questions += 1;
            self.tell(Message::Ask {
                asker,
                origin,
                flow,
            });
        }
    }

    fn look_for(&mut self, asker: NodeId, origin: NodeId, flow: FlowName) {
        let answering = |node: &&crate::node::Node| node.is_alive && node.has_agent;
        let find = |table, is_asked: &dyn Fn(NodeId) -> bool| {
            let mut nodes = self.nodes.values().filter(answering);
            nodes.find_map(|node| {
                let flow = node.flow(table, &flow).filter(|_| is_asked(node.id))?;
                Some(node.address(flow.addr))
            })
        };
        // A handshake is to be found too: its last segment may meet other tables than its first. But what is
        // half-open at the origin did not fit the segment.
        let pod = find(FlowTable::Established, &|_| true)
            .or_else(|| find(FlowTable::HalfOpen, &|node| node != origin));
        if let Some(pod) = pod {
            let way = Way::Locate;
            self.tell(Message::Found {
                to: origin,
                flow,
                pod,
                way,
            });
            return;
        }
        // Who does not answer may have it: only the word of all of them ends a connection.
        let is_certain = self.nodes.get(&asker).is_some_and(|asker| {
            let mut silent = self.nodes.values().filter(|node| !answering(node));
            silent.all(|node| !node.is_alive && asker.is_dead(node.id))
        });
        if is_certain && let Some(node) = self.nodes.get_mut(&origin) {
            node.deny(flow);
            self.after(DENIAL, Task::Doubt(origin, flow));
        }
    }

    /// When `c0` moves, an agent sends ahead the flows that their slots forget.
    pub(crate) fn push(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        for (flow, pod, to) in node.forgotten_flows() {
            self.tally.pushes += 1;
            self.tell(Message::Found {
                to,
                flow,
                pod,
                way: Way::Push,
            });
        }
    }
}
