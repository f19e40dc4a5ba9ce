//! A topology with everything but traffic: a router, an agent on each node, one
//! directory of objects.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::agent::{Agent, Status};
use crate::peer::bird::{Bird, tor_config};
use crate::source::{self, Condition, Directory, Policy, Service};
use crate::topology::{Node, Pod, Shape, TOR, Topology};
use crate::wait;

/// How long anything but a BGP hold timer may take to settle.
pub const SETTLE: Duration = Duration::from_secs(60);

/// The running cluster. Dropping it removes everything.
#[derive(Debug)]
pub struct Cluster {
    /// The network.
    pub topology: Topology,
    /// What the agents read.
    pub directory: Directory,
    /// The router's BGP speaker.
    pub router: Bird,
    /// The agents, in the order in which they were started: that of the nodes.
    pub agents: Vec<Agent>,
    /// The Services; every pod is an endpoint of each.
    pub services: Vec<Service>,
    /// What nodes choose among.
    policy: Policy,
}

impl Cluster {
    /// Starts everything and waits for nothing.
    ///
    /// # Errors
    /// When this machine cannot do it.
    pub fn start(lab: &str, shape: Shape, services: Vec<Service>) -> Result<Self> {
        let mut cluster = Self::prepare(lab, shape, services)?;
        for _ in 0..shape.nodes {
            cluster.start_agent()?;
        }
        Ok(cluster)
    }

    /// Builds everything and starts no agent.
    ///
    /// # Errors
    /// When this machine cannot do it.
    pub fn prepare(lab: &str, shape: Shape, services: Vec<Service>) -> Result<Self> {
        let topology = Topology::new(lab, shape)?;
        let [router_id, _] = TOR;
        let router_config = tor_config(&router_id.to_string(), &topology.neighbors());
        let cluster = Self {
            directory: Directory::create(topology.dir())?,
            router: Bird::start(&topology.tor, topology.dir(), &router_config)?,
            agents: Vec::new(),
            services,
            policy: Policy::default(),
            topology,
        };
        cluster
            .directory
            .write("network", &source::network_yaml())?;
        cluster.write_nodes(&cluster.topology.nodes)?;
        for service in &cluster.services {
            cluster.directory.write(service.name, &service.yaml())?;
        }
        cluster.write_endpoints(|_| true)?;
        Ok(cluster)
    }

    /// Starts the agent of the first node that had none.
    ///
    /// # Errors
    /// When every node has one, or it cannot be started.
    pub fn start_agent(&mut self) -> Result<()> {
        let node = self.topology.nodes.get(self.agents.len());
        let node = node.context("no node without an agent")?;
        let agent = Agent::start(node, self.directory.path(), self.topology.dir())?;
        self.agents.push(agent);
        Ok(())
    }

    /// Starts an agent in the place of one that ended.
    ///
    /// # Errors
    /// When there never was one on that node, or none can be started.
    pub fn restart_agent(&mut self, index: usize, program: &Path) -> Result<()> {
        let node = self.topology.nodes.get(index).context("no such node")?;
        let agent = self.agents.get_mut(index).context("no such agent")?;
        let (source, dir) = (self.directory.path(), self.topology.dir());
        *agent = Agent::start_build(program, node, source, dir)?;
        Ok(())
    }

    /// Writes the Services under another policy.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn set_policy(&mut self, policy: Policy) -> Result<()> {
        self.policy = policy;
        let mut services = self.services.iter();
        services.try_for_each(|service| {
            let yaml = service.yaml_under(policy);
            self.directory.write(service.name, &yaml)
        })
    }

    /// Writes the Node objects.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_nodes(&self, nodes: &[Node]) -> Result<()> {
        self.directory.write("nodes", &source::nodes_yaml(nodes))
    }

    /// Writes the EndpointSlices of every Service with the pods there are, each in the condition given: a
    /// [`Condition`], or whether it is ready.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn write_endpoints<C: Into<Condition>>(&self, condition: impl Fn(&Pod) -> C) -> Result<()> {
        let pods: Vec<_> = self
            .topology
            .pods()
            .map(|pod| (pod, condition(pod).into()))
            .collect();
        self.services.iter().try_for_each(|service| {
            let name = format!("{}-endpoints", service.name);
            self.directory.write(&name, &service.endpoints_yaml(&pods))
        })
    }

    /// Waits until every agent has a session of each family, and every frontend all ready pods.
    ///
    /// # Errors
    /// When that takes longer than [`SETTLE`], or an agent ends.
    pub fn wait_ready(&mut self) -> Result<Vec<Status>> {
        let pods = self.topology.pods().count();
        let of_service = |service: &Service| service.ports.len() * service.addresses.len();
        let frontends: usize = self.services.iter().map(of_service).sum();
        let ready = |status: &Status| {
            let complete = status.frontends.iter().filter(|frontend| {
                frontend
                    .backends
                    .iter()
                    .filter(|backend| backend.slots > 0)
                    .count()
                    == pods
            });
            status.in_sync && status.established() == TOR.len() && complete.count() == frontends
        };
        let agents = self.agents.iter_mut();
        agents
            .map(|agent| agent.wait_for("the agent to be ready", SETTLE, ready))
            .collect()
    }

    /// Waits until every agent gives new connections, on every frontend, to exactly the pods wanted among
    /// which its node chooses.
    ///
    /// # Errors
    /// When that takes longer than [`SETTLE`], or an agent ends.
    pub fn wait_serving(&mut self, wanted: impl Fn(&Pod) -> bool) -> Result<()> {
        let pods = self.topology.pods().filter(|pod| wanted(pod));
        let wanted: Vec<_> = pods.collect();
        let nodes = self.topology.nodes.iter();
        self.agents
            .iter_mut()
            .zip(nodes)
            .try_for_each(|(agent, node)| {
                let pods = wanted.iter();
                let pods = pods.filter(|pod| self.policy.chooses(&node.name, &pod.node));
                let wanted: BTreeSet<IpAddr> = pods.flat_map(|pod| pod.addresses).collect();
                let serving = |status: &Status| {
                    let backends = status.frontends.iter().flat_map(|f| &f.backends);
                    let chosen = backends.filter(|backend| backend.slots > 0);
                    let chosen: BTreeSet<_> = chosen.map(|backend| backend.address).collect();
                    status.in_sync && chosen == wanted
                };
                agent
                    .wait_for("the pods that get connections", SETTLE, serving)
                    .map(drop)
            })
    }

    /// Waits until the router's kernel has a route to the VIP by exactly the nodes of these indexes.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub fn wait_route(&self, vip: IpAddr, nodes: &[usize], limit: Duration) -> Result<Vec<IpAddr>> {
        let gateway = |index: &usize| {
            let node = self.topology.nodes.get(*index).context("no such node")?;
            let mut addresses = node.addresses.into_iter();
            addresses
                .find(|address| address.is_ipv4() == vip.is_ipv4())
                .context("no address")
        };
        let wanted = nodes.iter().map(gateway).collect::<Result<Vec<_>>>()?;
        wait::until(&format!("the route to {vip}"), limit, || {
            let hops = self.topology.next_hops(vip)?;
            let sessions = self.router.sessions()?;
            ensure!(
                hops == wanted,
                "it goes by {hops:?}; the router's sessions are {sessions:?}"
            );
            Ok(hops)
        })
    }
}
