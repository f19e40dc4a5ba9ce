//! What agents tell each other about flows: exceptions, push, locate.

use lb_common::flow::FlowTable;

use crate::chain::Way;
use crate::node::{FlowName, NodeId};
use crate::script::Task;
use crate::world::World;

/// Questions that an agent may ask within a second.
const BUDGET: u32 = 200;

/// A message between two agents.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Message {
    /// To `c0`'s owner: the flow is there.
    Found {
        /// Who is told.
        to: NodeId,
        /// Which flow.
        flow: FlowName,
        /// Who has it.
        owner: NodeId,
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
    pub(crate) fn tell(&mut self, message: Message) {
        let latency = 20 + self.random.below(100);
        self.after(latency, Task::Message(message));
    }

    /// A message arrives.
    pub(crate) fn hear(&mut self, message: Message) {
        match message {
            Message::Found {
                to,
                flow,
                owner,
                way,
            } => {
                if let Some(node) = self.nodes.get_mut(&to)
                    && node.has_agent
                    && to != owner
                {
                    node.except(flow, owner, way);
                }
            }
            Message::Ask {
                asker,
                origin,
                flow,
            } => self.look_for(asker, origin, flow),
        }
    }

    /// A packet that nobody on the list knows: the agent of the last hop asks, within its budget.
    pub(crate) fn locate(&mut self, asker: NodeId, origin: NodeId, flow: FlowName) {
        let Some(node) = self.nodes.get_mut(&asker).filter(|node| node.has_agent) else {
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
        let alive = || self.nodes.values().filter(|node| node.is_alive);
        let answering = || alive().filter(|node| node.has_agent);
        // A handshake is to be found too: its last segment may meet other tables than its first.
        let tables = [FlowTable::Established, FlowTable::HalfOpen];
        let owner = answering().find(|node| tables.iter().any(|t| node.flow(*t, &flow).is_some()));
        if let Some(owner) = owner.map(|node| node.id) {
            let way = Way::Locate;
            self.tell(Message::Found {
                to: origin,
                flow,
                owner,
                way,
            });
            return;
        }
        // Who does not answer may have it: only the word of all of them ends a connection.
        let knows_the_dead = self.nodes.get(&asker).is_some_and(|asker| {
            let silent = self
                .nodes
                .values()
                .filter(|node| !node.is_alive || !node.has_agent);
            silent
                .into_iter()
                .all(|node| !node.is_alive && asker.is_dead(node.id))
        });
        if knows_the_dead && let Some(node) = self.nodes.get_mut(&origin) {
            node.deny(flow);
        }
    }

    /// Before the slots change, and whenever `c0` moves, an agent sends ahead the flows that their slots
    /// forget.
    pub(crate) fn push(&mut self, id: NodeId) {
        let Some(node) = self.nodes.get_mut(&id) else {
            return;
        };
        for (flow, to) in node.forgotten_flows() {
            self.tally.pushes += 1;
            self.tell(Message::Found {
                to,
                flow,
                owner: id,
                way: Way::Push,
            });
        }
    }
}
