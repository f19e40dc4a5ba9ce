//! Finding the owner of a flow, after DESIGN §3.3: what a program does that the decision does not do yet.
//!
//! The first owner without an entry writes a list of the slot's other owners; receivers only shorten it.
//! Whoever has an entry lets the real decision deliver. Here a list travels beside the frame, not in it.

use harness::frame::{ACK, FIN, FrameBuilder, RST, SYN};
use lb_common::flow::{CLOSING, FlowTable, UDP_ANSWERED_TIMEOUT};
use lb_common::maps::flow_state;
use lb_userspace::model::cluster::Protocol;

use crate::node::{FlowName, Node, NodeId};

/// Entries that fit on the wire.
const MOST_OWNERS: usize = 3;

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

/// What goes with a packet between nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct List {
    /// The node that wrote it.
    pub(crate) origin: NodeId,
    /// Owners not yet asked.
    remaining: Vec<NodeId>,
    /// How it is found if the next one has it.
    pub(crate) way: Way,
    /// Nobody has it: it is back, and a new flow if it may be one.
    is_back: bool,
}

/// What is done with a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// The real decision is asked.
    Decide,
    /// It goes to another node.
    To(NodeId, List),
    /// It ends here; the agent is to ask its peers, on behalf of the node that wrote the list.
    Locate(NodeId),
}

/// Judges a packet for the VIP that a node got, with the list that came with it.
pub(crate) fn judge(
    node: &Node,
    name: &FlowName,
    packet: &FrameBuilder,
    list: Option<List>,
) -> Next {
    if knows(node, name, packet) {
        return Next::Decide;
    }
    match list {
        None => begin(node, name, packet),
        Some(list) if list.is_back => Next::Decide,
        Some(list) => go_on(node, packet, list),
    }
}

/// Whether the node has an entry that this packet belongs to.
fn knows(node: &Node, name: &FlowName, packet: &FrameBuilder) -> bool {
    let Some((_, acknowledgment, flags)) = packet.tcp else {
        return node.flow(FlowTable::Udp, name).is_some();
    };
    let opens = flags & (SYN | ACK | RST | FIN) == SYN;
    if let Some(flow) = node.flow(FlowTable::Established, name) {
        return !(opens && flow.state & CLOSING != 0);
    }
    // A half-open entry that a late copy of a SYN made must not hide the connection that is elsewhere.
    node.flow(FlowTable::HalfOpen, name).is_some_and(|flow| {
        let answers = flow.state & flow_state::SYN_ACK_SEEN != 0
            && acknowledgment == flow.sequence.wrapping_add(1);
        opens || answers || flow.state & flow_state::CONFIRMED != 0
    })
}

/// What the first node without an entry does. A first hop that is no owner sends the packet over the
/// segment, which the real decision does.
fn begin(node: &Node, name: &FlowName, packet: &FrameBuilder) -> Next {
    let owners = node.owners(name);
    let is_first_hop = !node.is_peer(packet.from);
    let current = node.current(name);
    if is_first_hop && current.is_some_and(|current| current.node != node.id) {
        return Next::Decide;
    }
    if node.is_denied(name) {
        return Next::Decide;
    }
    let list = |remaining, way| List {
        origin: node.id,
        remaining,
        way,
        is_back: false,
    };
    if let Some((owner, way)) = node.exception(name) {
        return Next::To(owner, list(Vec::new(), way));
    }
    let opens = packet
        .tcp
        .is_some_and(|(.., flags)| flags & (SYN | ACK | RST | FIN) == SYN);
    let is_settled = name.frontend.protocol == Protocol::Udp
        && node.since_change() > u64::from(UDP_ANSWERED_TIMEOUT) * 1_000;
    if opens || is_settled {
        return Next::Decide;
    }
    let mut remaining: Vec<NodeId> = Vec::new();
    for owner in owners {
        let is_new = owner.node != node.id && !remaining.contains(&owner.node);
        if is_new && !node.is_dead(owner.node) && remaining.len() < MOST_OWNERS {
            remaining.push(owner.node);
        }
    }
    if remaining.is_empty() {
        return match packet.tcp {
            Some(_) => Next::Locate(node.id),
            None => Next::Decide,
        };
    }
    let first = remaining.remove(0);
    Next::To(first, list(remaining, Way::Chain(1)))
}

/// What a node on the list does that has no entry.
fn go_on(node: &Node, packet: &FrameBuilder, mut list: List) -> Next {
    if !list.remaining.is_empty() {
        let next = list.remaining.remove(0);
        if let Way::Chain(position) = &mut list.way {
            *position += 1;
        }
        return Next::To(next, list);
    }
    let opens = packet
        .tcp
        .is_some_and(|(.., flags)| flags & (SYN | ACK | RST | FIN) == SYN);
    if packet.tcp.is_none() || opens {
        let origin = list.origin;
        list.is_back = true;
        return match origin == node.id {
            true => Next::Decide,
            false => Next::To(origin, list),
        };
    }
    Next::Locate(list.origin)
}
