//! The steps of the demo, each measured as a client, a pod or the router's
//! kernel sees it.

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fmt, io};

use anyhow::{Context, Result, bail, ensure};
use harness::agent::{self, Agent};
use harness::cluster::{Cluster, SETTLE};
use harness::peer::bird::HOLD_TIME;
use harness::process::Process;
use harness::source::{Port, Service};
use harness::tables::Tables;
use harness::topology::{CLIENT, Pod, Shape, Topology};
use harness::traffic::client::{Client, Connection, Outcome, Probe, per_pod};
use harness::wait;

use crate::report::{Connections, Count, Report, Session};

/// The VIPs of the one Service: v4, v6.
const VIPS: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 0x10)),
];
const PORT: Port = Port {
    name: "http",
    protocol: "TCP",
    port: 80,
    target: 8080,
};
/// Connections of each family, in each step.
const CONNECTIONS: usize = 500;
/// Indexes of the nodes.
const BOTH: [usize; 2] = [0, 1];

/// The laboratory with everything running.
pub(crate) struct Demo {
    cluster: Cluster,
    servers: Vec<Process>,
}

impl Demo {
    /// Builds the network and starts what runs in it.
    ///
    /// # Errors
    /// When this machine cannot do it.
    pub(crate) fn build(lab: &str) -> Result<Self> {
        let step = Step::begin("build client, router, two nodes and four pods");
        let service = Service {
            name: "web",
            addresses: VIPS.to_vec(),
            ports: vec![PORT],
            forwarding: None,
        };
        let cluster = Cluster::start(lab, Shape { nodes: 2, pods: 2 }, vec![service])?;
        let serve = |pod| serve(&cluster.topology, pod);
        let servers = cluster.topology.pods().map(serve).collect::<Result<_>>()?;
        step.end();
        Ok(Self { cluster, servers })
    }

    /// Goes through all steps.
    ///
    /// # Errors
    /// When a step cannot be finished; what was found until then is in the report.
    pub(crate) fn run(&mut self, report: &mut Report) -> Result<()> {
        self.converge(report)?;
        let connections = self.spread(report)?;
        self.lose_a_node(connections, report)?;
        self.scale_up(report)
    }

    /// Leaves everything up and says how to look at it and remove it.
    ///
    /// # Errors
    /// When the mark that says so cannot be written.
    pub(crate) fn keep(self) -> Result<String> {
        let Self {
            cluster:
                Cluster {
                    topology,
                    router,
                    agents,
                    ..
                },
            servers,
        } = self;
        let names = Names::of(&topology, &agents);
        router.keep();
        servers.into_iter().for_each(Process::keep);
        agents.into_iter().for_each(Agent::keep);
        topology.keep()?;
        Ok(names.to_string())
    }

    /// Sessions come up; the router has a route to each VIP by both nodes.
    fn converge(&mut self, report: &mut Report) -> Result<()> {
        let step = Step::begin("wait for BGP sessions and routes");
        let statuses = self.cluster.wait_ready()?;
        for (node, status) in self.cluster.topology.nodes.iter().zip(statuses) {
            report
                .sessions
                .extend(status.sessions.into_iter().map(|session| Session {
                    node: node.name.clone(),
                    peer: session.peer,
                    address: session.address,
                    state: session.state,
                }));
        }
        let (count, wanted) = (report.sessions.len(), 2 * self.cluster.topology.nodes.len());
        let established = report
            .sessions
            .iter()
            .filter(|s| s.state == "established")
            .count();
        let found = format!("{established} of {count} established");
        let wanted_text = format!("{wanted} established: two nodes, v4 and v6");
        report.check("BGP sessions", &found, &wanted_text, established == wanted);
        for vip in VIPS {
            let hops = self.cluster.wait_route(vip, &BOTH, SETTLE)?;
            report.check(
                &format!("next hops of {vip}"),
                &join(&hops),
                "both nodes",
                true,
            );
            report.next_hops.insert(vip, hops);
        }
        step.end();
        Ok(())
    }

    /// Many connections reach all pods, which see the client's own address.
    fn spread(&self, report: &mut Report) -> Result<Vec<Connection>> {
        let step = Step::begin("open 1,000 connections");
        let outcomes = self.open_both()?;
        let [v4, v6] = outcomes.each_ref().map(|outcome| Count {
            attempted: outcome.attempted(),
            succeeded: outcome.good.len(),
        });
        (report.by_family.v4, report.by_family.v6) = (v4, v6);
        let first_error = outcomes.iter().flat_map(|outcome| &outcome.bad).next();
        if let Some(error) = first_error {
            step.say(&format!("{error:#}"));
        }
        for (family, count) in [("v4", v4), ("v6", v6)] {
            let found = format!("{} of {}", count.succeeded, count.attempted);
            let all = count.succeeded == count.attempted;
            report.check(&format!("connections, {family}"), &found, "all", all);
        }
        let connections: Vec<_> = outcomes
            .into_iter()
            .flat_map(|outcome| outcome.good)
            .collect();
        let pods = per_pod(connections.iter().map(|connection| &connection.greeting));
        let found: Vec<_> = pods
            .iter()
            .map(|(pod, count)| format!("{pod} {count}"))
            .collect();
        let expected = (v4.attempted + v6.attempted) / 4;
        let even = pods.len() == 4
            && pods
                .values()
                .all(|count| (expected / 2..=expected * 2).contains(count));
        let wanted = format!("four pods, about {expected} each");
        report.check("spread over pods", &found.join(", "), &wanted, even);
        let own = connections
            .iter()
            .filter(|c| CLIENT.contains(&c.greeting.client))
            .count();
        report.client_address_preserved = own == connections.len() && own > 0;
        let found = format!("by {own} of {}", connections.len());
        let wanted = "the client's own, always";
        report.check(
            "client address seen",
            &found,
            wanted,
            report.client_address_preserved,
        );
        report.connections = Connections {
            attempted: v4.attempted + v6.attempted,
            succeeded: connections.len(),
            per_pod: pods,
        };
        step.end();
        ensure!(
            !connections.is_empty(),
            "without connections there is nothing more to show"
        );
        Ok(connections)
    }

    /// A node is cut off at its switch port; connections to pods of the other go on.
    fn lose_a_node(&mut self, connections: Vec<Connection>, report: &mut Report) -> Result<()> {
        let step = Step::begin("cut node-a off");
        let [lost, kept] = self.cluster.topology.nodes.as_slice() else {
            bail!("not two nodes")
        };
        let stays = |pod: &str| kept.pods.iter().any(|p| p.name == pod);
        let (on_kept, _on_lost): (Vec<_>, Vec<_>) = connections
            .into_iter()
            .partition(|connection| stays(&connection.greeting.pod));
        let probes = VIPS
            .map(|vip| self.probe(vip))
            .into_iter()
            .collect::<Result<Vec<_>>>()?;

        let cut = Instant::now();
        self.cluster.topology.cut_off(lost)?;
        self.cluster.write_endpoints(|pod| pod.node != lost.name)?;
        let limit = HOLD_TIME + SETTLE;
        let mut recovery = Duration::ZERO;
        for probe in &probes {
            let found = wait::until("new connections to succeed", limit, || probe.recovery(cut));
            recovery = recovery.max(found?.unwrap_or_default());
        }
        drop(probes);
        for vip in VIPS {
            self.cluster.wait_route(vip, &[1], SETTLE)?;
        }
        let open = on_kept.len();
        let outcome = Client::new(&self.cluster.topology.client)?.verify(on_kept);
        if let Some(error) = outcome.bad.first() {
            step.say(&format!("{error:#}"));
        }
        let broken = outcome.bad.len();
        report.broken_on_node_loss = Some(broken);
        report.recovery_ms = Some(recovery.as_millis());
        let found = format!("{} of {open}", outcome.good.len());
        let what = "node-a lost: connections to node-b that go on";
        report.check(what, &found, "all", broken == 0 && open > 0);
        let most = HOLD_TIME + Duration::from_secs(1);
        let (found, wanted) = (millis(recovery), format!("at most {}", millis(most)));
        report.check(
            "new connections fail for",
            &found,
            &wanted,
            recovery <= most,
        );
        step.end();

        let step = Step::begin("bring node-a back");
        self.cluster.topology.reconnect(lost)?;
        self.cluster.write_endpoints(|_| true)?;
        self.cluster.wait_ready()?;
        for vip in VIPS {
            self.cluster.wait_route(vip, &BOTH, SETTLE)?;
        }
        step.end();
        Ok(())
    }

    /// One more pod: some slots are its own now.
    fn scale_up(&mut self, report: &mut Report) -> Result<()> {
        let step = Step::begin("add a pod to node-a");
        let connections: Vec<_> = self
            .open_both()?
            .into_iter()
            .map(Outcome::all)
            .collect::<Result<Vec<_>>>()?;
        let connections: Vec<_> = connections.into_iter().flatten().collect();
        let open = connections.len();
        let moved = self.count_moved(&connections)?;
        ensure!(
            moved == 0,
            "the slots of {moved} of {open} connections name a pod they are not at"
        );
        let pod = self.cluster.topology.add_pod(0)?.name.clone();
        let server = serve(&self.cluster.topology, self.pod(&pod)?)?;
        self.servers.push(server);
        self.cluster.write_endpoints(|_| true)?;
        self.cluster.wait_ready()?;
        let moved = self.count_moved(&connections)?;
        let outcome = Client::new(&self.cluster.topology.client)?.verify(connections);
        let broken = outcome.bad.len();
        report.moved_on_scale_up = Some(moved);
        report.broken_on_scale_up = Some(broken);
        report.check(
            "pod added: connections whose slot moved",
            &format!("{moved} of {open}"),
            "about a fifth",
            moved > 0,
        );
        report.check(
            "pod added: connections that broke",
            &format!("{broken} of {open}"),
            "0: they are followed to the slot's former owner",
            broken == 0,
        );
        let fresh: Vec<_> = self
            .open_both()?
            .into_iter()
            .flat_map(|outcome| outcome.good)
            .collect();
        let pods = per_pod(fresh.iter().map(|connection| &connection.greeting));
        let found = pods.get(&pod).copied().unwrap_or(0);
        report.check(
            &format!("new connections to {pod}"),
            &found.to_string(),
            "its share",
            found > 0,
        );
        step.end();
        Ok(())
    }

    /// Connections whose slot on the first node names another pod than the one they are at.
    fn count_moved(&self, connections: &[Connection]) -> Result<usize> {
        let agent = self.cluster.agents.first().context("no agent")?;
        let tables = Tables::of_process(agent.id())?;
        let mut moved = 0;
        for connection in connections {
            let backend = tables.backend(connection.local, connection.target)?;
            moved += usize::from(
                !self
                    .pod(&connection.greeting.pod)?
                    .addresses
                    .contains(&backend),
            );
        }
        Ok(moved)
    }

    fn open_both(&self) -> Result<[Outcome<Connection>; 2]> {
        let mut client = Client::new(&self.cluster.topology.client)?;
        // A lost SYN is sent again after one second and after three.
        client.limit = Duration::from_secs(2);
        Ok(VIPS.map(|vip| client.open(SocketAddr::new(vip, PORT.port), CONNECTIONS)))
    }

    fn probe(&self, vip: IpAddr) -> Result<Probe> {
        let target = SocketAddr::new(vip, PORT.port);
        let (interval, limit) = (Duration::from_millis(20), Duration::from_millis(500));
        Client::probe(&self.cluster.topology.client, target, interval, limit)
    }

    fn pod(&self, name: &str) -> Result<&Pod> {
        let mut pods = self.cluster.topology.pods();
        pods.find(|pod| pod.name == name)
            .with_context(|| format!("no pod {name}"))
    }
}

/// Starts the server of a pod: this program, in another role.
fn serve(topology: &Topology, pod: &Pod) -> Result<Process> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["pod", &pod.name, &PORT.target.to_string()]);
    let log = topology.dir().join(format!("{}.log", pod.name));
    Process::start(&pod.netns, &mut command, &log)
}

fn join(addresses: &[IpAddr]) -> String {
    let texts: Vec<_> = addresses.iter().map(ToString::to_string).collect();
    if texts.is_empty() {
        "none".to_owned()
    } else {
        texts.join(", ")
    }
}

fn millis(duration: Duration) -> String {
    format!("{} ms", duration.as_millis())
}

/// A step whose progress is shown.
struct Step {
    began: Instant,
}

impl Step {
    fn begin(what: &str) -> Self {
        let _ = write!(io::stderr(), "{what} … ");
        Self {
            began: Instant::now(),
        }
    }

    fn say(&self, text: &str) {
        let _ = write!(io::stderr(), "{text} … ");
    }

    fn end(self) {
        let _ = writeln!(io::stderr(), "{:.1} s", self.began.elapsed().as_secs_f32());
    }
}

/// How to look at what was kept.
struct Names {
    client: String,
    tor: String,
    nodes: Vec<(String, String)>,
    program: String,
    directory: String,
}

impl Names {
    fn of(topology: &Topology, agents: &[Agent]) -> Self {
        let nodes = topology.nodes.iter().zip(agents).map(|(node, agent)| {
            (
                node.netns.name().to_owned(),
                agent.socket().display().to_string(),
            )
        });
        Self {
            client: topology.client.name().to_owned(),
            tor: topology.tor.name().to_owned(),
            nodes: nodes.collect(),
            program: agent::binary()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            directory: topology.dir().display().to_string(),
        }
    }
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            client,
            tor,
            nodes,
            program,
            directory,
        } = self;
        writeln!(f, "Everything is still up. To look around:")?;
        for (node, socket) in nodes {
            writeln!(
                f,
                "  ip netns exec {node} {program} status --socket {socket}"
            )?;
        }
        writeln!(f, "  ip netns exec {tor} ip route")?;
        writeln!(f, "  birdc -s {directory}/bird.ctl show protocols")?;
        let [vip, _] = VIPS;
        writeln!(
            f,
            "  ip netns exec {client} bash -c 'head -1 </dev/tcp/{vip}/{}'",
            PORT.port
        )?;
        writeln!(f, "Objects, logs: {directory}")?;
        writeln!(f, "To remove it: cargo xtask demo --remove")
    }
}
