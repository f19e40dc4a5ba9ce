//! What happens to a world: changes, and what follows from them later.

use harness::frame::FrameBuilder;

use crate::agent::Message;
use crate::node::{FlowName, NodeId, Pace};
use crate::pod::PodId;
use crate::router::Router;
use crate::world::World;

/// Milliseconds that a terminating pod goes on serving, as `terminationGracePeriodSeconds` has it.
pub(crate) const GRACE: u64 = 30_000;

/// A pod that stays until the end.
pub(crate) const FOR_EVER: u64 = u64::MAX / 2;

/// Something that happens to a cluster. Numbers pick among what is there, whatever their size.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// Pods are added.
    ScaleUp(u8),
    /// Pods terminate; one stays.
    ScaleDown(u8),
    /// A pod is not ready for some seconds.
    Flap(u8),
    /// Every pod is replaced, one after the other; the old ones serve on for so many milliseconds.
    Roll {
        /// Milliseconds between two replacements.
        every: u64,
        /// Milliseconds that an old pod serves on.
        drain: u64,
        /// New pods get addresses of old ones that are gone.
        reuse: bool,
    },
    /// A pod is gone at once.
    Kill(u8),
    /// The router's hash gets another seed.
    Rehash,
    /// A node announces nothing any more; its pods go on.
    Withdraw(u8),
    /// A node announces again.
    Announce(u8),
    /// A node's power is cut.
    LoseNode(u8),
    /// A node joins with so many pods.
    Join(u8),
    /// An agent is killed; its program goes on. It starts again after so many seconds.
    RestartAgent(u8, u8),
    /// An agent is as slow as the random numbers say.
    Slow(u8),
}

/// What a world does at a given time.
#[derive(Clone, Debug)]
pub(crate) enum Task {
    /// A change.
    Change(Change),
    /// A packet of a client leaves.
    Send(FrameBuilder),
    /// A pod becomes ready again.
    Ready(PodId),
    /// A pod is replaced by another.
    Replace {
        /// The old one.
        pod: PodId,
        /// How long it serves on.
        drain: u64,
        /// Whether the new one gets a used address.
        reuse: bool,
    },
    /// A pod is gone.
    Remove(PodId),
    /// An agent runs again.
    StartAgent(NodeId),
    /// A message arrives.
    Message(Message),
    /// An agent forgets that nobody has a flow.
    Doubt(NodeId, FlowName),
}

impl World {
    /// Does what is due.
    pub(crate) fn perform(&mut self, task: Task) {
        match task {
            Task::Change(change) => self.change(change),
            Task::Send(packet) => self.send(&packet),
            Task::Message(message) => self.hear(message),
            Task::Doubt(node, flow) => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.doubt(&flow);
                }
            }
            Task::Ready(pod) => {
                if let Some(pod) = self.pods.get_mut(&pod) {
                    pod.is_ready = true;
                }
                self.publish();
            }
            Task::Replace { pod, drain, reuse } => {
                let nodes: Vec<NodeId> = self.live_nodes().collect();
                if let Some(node) = self.random.pick(&nodes) {
                    self.add_pod(*node, reuse);
                }
                self.terminate(pod, drain);
                self.publish();
            }
            Task::Remove(pod) => {
                self.remove_pod(pod);
                self.publish();
            }
            Task::StartAgent(node) => {
                if let Some(node) = self.nodes.get_mut(&node) {
                    node.has_agent = true;
                }
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::ScaleUp(count) => {
                let nodes: Vec<NodeId> = self.live_nodes().collect();
                for _ in 0..count {
                    if let Some(node) = self.random.pick(&nodes) {
                        self.add_pod(*node, false);
                    }
                }
                self.publish();
            }
            Change::ScaleDown(count) => {
                let serving: Vec<PodId> = self.serving();
                let most = serving.len().saturating_sub(1).min(usize::from(count));
                for pod in serving.into_iter().rev().take(most) {
                    self.terminate(pod, GRACE);
                }
                self.publish();
            }
            Change::Flap(which) => {
                if let Some(pod) = chosen(&self.serving(), which)
                    && let Some(pod) = self.pods.get_mut(&pod)
                {
                    pod.is_ready = false;
                    let id = pod.id;
                    self.publish();
                    let back = 200 + self.random.below(4_000);
                    self.after(back, Task::Ready(id));
                }
            }
            Change::Roll {
                every,
                drain,
                reuse,
            } => {
                for (position, pod) in self.serving().into_iter().enumerate() {
                    let task = Task::Replace { pod, drain, reuse };
                    self.after(position as u64 * every, task);
                }
            }
            Change::Kill(which) => {
                if let Some(pod) = chosen(&self.pod_ids(), which) {
                    self.remove_pod(pod);
                    let told = self.random.below(2_000);
                    // The objects say so later; the pod's address may have been given away by then.
                    self.after(told, Task::Remove(pod));
                }
            }
            Change::Rehash => self.router.seed = self.random.next(),
            Change::Withdraw(which) => {
                let hops = self.live_hops();
                if hops.len() > 1
                    && let Some(node) = chosen(&hops, which)
                {
                    self.router.next_hops.retain(|hop| *hop != node);
                }
            }
            Change::Announce(which) => {
                let nodes: Vec<NodeId> = self.live_nodes().collect();
                if let Some(node) = chosen(&nodes, which)
                    && !self.router.next_hops.contains(&node)
                {
                    self.router.next_hops.push(node);
                }
            }
            Change::LoseNode(which) => {
                let nodes: Vec<NodeId> = self.live_nodes().collect();
                // The router keeps a way in.
                if let Some(node) = chosen(&nodes, which)
                    && self.live_hops().iter().any(|hop| *hop != node)
                {
                    self.lose_node(node);
                }
            }
            Change::Join(pods) => self.join_node(u16::from(pods)),
            Change::RestartAgent(which, seconds) => {
                let nodes: Vec<NodeId> = self.live_nodes().collect();
                if let Some(id) = chosen(&nodes, which)
                    && let Some(node) = self.nodes.get_mut(&id)
                {
                    node.has_agent = false;
                    self.after(u64::from(seconds) * 1_000, Task::StartAgent(id));
                }
            }
            Change::Slow(which) => {
                let pace = Pace::random(&mut self.random);
                let nodes: Vec<NodeId> = self.live_nodes().collect();
                if let Some(node) = chosen(&nodes, which)
                    && let Some(node) = self.nodes.get_mut(&node)
                {
                    node.pace = pace;
                }
            }
        }
    }

    fn terminate(&mut self, id: PodId, drain: u64) {
        if let Some(pod) = self.pods.get_mut(&id) {
            pod.is_terminating = true;
            self.after(drain, Task::Remove(id));
        }
    }

    /// Next hops that have power and pods to lead to.
    fn live_hops(&self) -> Vec<NodeId> {
        let Router {
            next_hops, idle, ..
        } = &self.router;
        let is_way_in = |hop: &NodeId| self.nodes[hop].is_alive && !idle.contains(hop);
        next_hops.iter().copied().filter(is_way_in).collect()
    }

    /// Pods that get new connections, on nodes that have power.
    fn serving(&self) -> Vec<PodId> {
        let serving = self.pods.values().filter(|pod| {
            let alive = self.nodes.get(&pod.node).is_some_and(|node| node.is_alive);
            alive && pod.is_ready && !pod.is_terminating
        });
        serving.map(|pod| pod.id).collect()
    }
}

fn chosen<T: Copy>(from: &[T], which: u8) -> Option<T> {
    let at = usize::from(which).checked_rem(from.len())?;
    from.get(at).copied()
}
