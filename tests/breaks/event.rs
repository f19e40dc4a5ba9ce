//! The events: each leaves the pods of the connections that are counted alive.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use harness::agent::{binary, rebuilt};
use harness::netns;
use harness::source::{Condition, Policy};
use harness::topology::Pod;

use crate::lab::{Lab, Mode, NODES};
use crate::tally::Need::{Chain, Hop, Slot};
use crate::tally::Tally;

/// Pods at the start.
const PODS: usize = 10;
/// Seeds of the router's hash, neither its default.
const SEEDS: [u32; 2] = [0x5eed_0001, 0x5eed_0002];
/// The node that is lost.
const LAST: usize = NODES as usize - 1;

/// Something that happens to a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    /// The router leads flows to other nodes.
    Rehash,
    /// A node that has no pods vanishes.
    FirstHopKilled,
    /// 10 pods become 20, then 10 again.
    Scale,
    /// Every pod is replaced, one after the other.
    RollingUpdate,
    /// A node comes with pods of its own.
    NodeJoins,
    /// Each agent is killed and started again.
    AgentKilled,
    /// Each agent is replaced by another build.
    AgentUpgraded,
    /// The router leads flows elsewhere while pods are added.
    TwoAtOnce,
    /// A node vanishes that has pods between today's owners and the first ones.
    NodeLostInChain,
}

impl Event {
    pub(crate) const ALL: [Self; 9] = [
        Self::Rehash,
        Self::FirstHopKilled,
        Self::Scale,
        Self::RollingUpdate,
        Self::NodeJoins,
        Self::AgentKilled,
        Self::AgentUpgraded,
        Self::TwoAtOnce,
        Self::NodeLostInChain,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Rehash => "rehash",
            Self::FirstHopKilled => "first_hop_killed",
            Self::Scale => "scale",
            Self::RollingUpdate => "rolling_update",
            Self::NodeJoins => "node_joins",
            Self::AgentKilled => "agent_killed",
            Self::AgentUpgraded => "agent_upgraded",
            Self::TwoAtOnce => "two_at_once",
            Self::NodeLostInChain => "node_lost_in_chain",
        }
    }

    /// The policies under which it is tried.
    pub(crate) const fn policies(self) -> &'static [Policy] {
        match self {
            Self::Rehash => &[Policy::Cluster, Policy::Local, Policy::Zones],
            _ => &[Policy::Cluster],
        }
    }

    /// Lets it happen to `count` connections to each VIP; tells what became of them.
    ///
    /// # Errors
    /// When something else fails than a connection.
    pub(crate) fn run(
        self,
        mode: Mode,
        policy: Policy,
        vips: &[IpAddr],
        count: usize,
    ) -> Result<Vec<Tally>> {
        let empty = match self {
            Self::FirstHopKilled | Self::NodeJoins => 1,
            Self::NodeLostInChain => LAST,
            _ => 0,
        };
        let mut lab = Lab::build(&netns::next_lab(), mode, policy, vips, PODS, empty)?;
        let agents = match self {
            Self::NodeJoins => LAST,
            _ => LAST + 1,
        };
        lab.start(agents)?;
        let [seed, other] = SEEDS;
        lab.cluster.topology.rehash(seed)?;
        match self {
            Self::Rehash => {
                lab.open(count)?;
                // Where nodes choose among other pods, the next one has to look for the connection.
                let needs: &[_] = match policy {
                    Policy::Cluster => &[Hop],
                    Policy::Local | Policy::Zones => &[Hop, Slot, Chain],
                };
                lab.change("rehash", needs, |lab| lab.cluster.topology.rehash(other))?;
            }
            Self::FirstHopKilled => {
                lab.open(count)?;
                lab.change("cut node-c off", &[Hop], |lab| lose(lab, LAST))?;
            }
            Self::Scale => scale(&mut lab, count)?,
            Self::RollingUpdate => rolling_update(&mut lab, count)?,
            Self::NodeJoins => {
                lab.open(count)?;
                lab.change("node-c joins", &[Slot, Chain], |lab| {
                    lab.start(1)?;
                    add_pods(lab, &[LAST; PODS / 2])
                })?;
            }
            Self::AgentKilled | Self::AgentUpgraded => {
                lab.open(count)?;
                replace_agents(&mut lab, self == Self::AgentUpgraded)?;
            }
            Self::TwoAtOnce => {
                lab.open(count)?;
                lab.change("rehash and add pods", &[Hop, Slot, Chain], |lab| {
                    lab.cluster.topology.rehash(other)?;
                    add_pods(lab, &round_robin())
                })?;
            }
            Self::NodeLostInChain => {
                lab.open(count)?;
                lab.prepare("add pods to node-b", |lab| add_pods(lab, &[1; PODS]))?;
                // Nothing is sent in between, which would lead past node-b from then on.
                let what = "add pods to node-c and cut node-b off";
                lab.change(what, &[Slot, Chain], |lab| {
                    add_pods(lab, &[LAST; PODS])?;
                    lose(lab, 1)
                })?;
            }
        }
        Ok(lab.finish())
    }
}

/// Connections are opened at both sizes; of both kinds of pods half go.
fn scale(lab: &mut Lab, count: usize) -> Result<()> {
    lab.open(count / 2)?;
    lab.change("10 to 20", &[Slot, Chain], |lab| {
        add_pods(lab, &round_robin())
    })?;
    lab.open(count - count / 2)?;
    let pods: Vec<_> = lab.cluster.topology.pods().collect();
    let going = pods.iter().step_by(2).map(|pod| pod.name.clone());
    let going: BTreeSet<_> = going.collect();
    lab.change("20 to 10", &[Slot, Chain], |lab| {
        lab.expect(|pod| ready_unless(&going, pod))
    })?;
    lab.prepare("remove the 10", |lab| remove(lab, &going))
}

/// Connections are opened before and halfway.
fn rolling_update(lab: &mut Lab, count: usize) -> Result<()> {
    let nodes = lab.cluster.topology.nodes.iter().enumerate();
    let old = nodes.flat_map(|(node, n)| n.pods.iter().map(move |pod| (node, pod.name.clone())));
    let old: Vec<_> = old.collect();
    let mut going = BTreeSet::new();
    lab.open(count / 2)?;
    for half in old.chunks(PODS / 2) {
        lab.change("replace 5 pods", &[Slot, Chain], |lab| {
            for (node, name) in half {
                lab.add_pod(*node)?;
                lab.expect(|pod| ready_unless(&going, pod))?;
                going.insert(name.clone());
                lab.expect(|pod| ready_unless(&going, pod))?;
            }
            Ok(())
        })?;
        if going.len() == PODS / 2 {
            lab.open(count - count / 2)?;
        }
    }
    lab.prepare("remove the old ones", |lab| remove(lab, &going))
}

/// Connections are tried while a node has no agent, and when it has one again.
fn replace_agents(lab: &mut Lab, is_upgrade: bool) -> Result<()> {
    let (what, program) = if is_upgrade {
        ("stop", rebuilt(lab.cluster.topology.dir())?)
    } else {
        ("kill", binary()?)
    };
    for index in 0..lab.cluster.agents.len() {
        let before = lab.tables(index)?;
        lab.change(&format!("{what} agent {index}"), &[], |lab| {
            let agent = lab.cluster.agents.get_mut(index).context("no agent")?;
            if is_upgrade {
                agent.end()
            } else {
                agent.kill()
            }
        })?;
        lab.change("start another", &[], |lab| {
            lab.cluster.restart_agent(index, &program)?;
            lab.cluster.wait_ready()?;
            lab.wait_routes()
        })?;
        let after = lab.tables(index)?;
        ensure!(
            before.programs().is_disjoint(after.programs()),
            "the programs of before are still there"
        );
    }
    Ok(())
}

/// One more pod on each of these nodes.
fn add_pods(lab: &mut Lab, nodes: &[usize]) -> Result<()> {
    for node in nodes {
        lab.add_pod(*node)?;
    }
    lab.expect(|_| Condition::Ready)
}

fn round_robin() -> Vec<usize> {
    (0..PODS).map(|pod| pod % usize::from(NODES)).collect()
}

fn remove(lab: &mut Lab, pods: &BTreeSet<String>) -> Result<()> {
    let condition = |pod: &Pod| {
        if pods.contains(&pod.name) {
            Condition::Absent
        } else {
            Condition::Ready
        }
    };
    lab.expect(condition)?;
    lab.remove_pods(pods)
}

fn ready_unless(going: &BTreeSet<String>, pod: &Pod) -> Condition {
    if going.contains(&pod.name) {
        Condition::Terminating
    } else {
        Condition::Ready
    }
}

/// Cuts a node off. The connections of its pods are not counted.
fn lose(lab: &mut Lab, index: usize) -> Result<()> {
    let topology = &lab.cluster.topology;
    let node = topology.nodes.get(index).context("no such node")?;
    topology.cut_off(node)?;
    let pods = node.pods.iter().map(|pod| pod.name.clone()).collect();
    lab.forget(&pods);
    let others = (0..lab.cluster.agents.len()).filter(|other| *other != index);
    lab.wait_routes_by(&others.collect::<Vec<_>>())
}
