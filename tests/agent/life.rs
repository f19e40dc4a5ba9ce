//! What outlives the agent: programs, maps, connections.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::{Array, HashMap, Map, MapData, loaded_maps};
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::loaded_programs;
use harness::agent::{Agent, binary, rebuilt};
use harness::machine;
use harness::netns::{self, Netns};
use harness::source::{self, Condition, Directory, Port, Service};
use harness::topology::{Shape, Topology};
use harness::traffic::client::Client;
use harness::traffic::echo::EchoServer;
use harness::wait;
use lb_common::maps::{Backend, Frontend, FrontendKey4, Node};
use nix::sys::signal::Signal;

use crate::bench::{Bench, LIMIT, refused, status};

const VIP: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10));
const TCP: SocketAddr = SocketAddr::new(VIP, 80);
const UDP: SocketAddr = SocketAddr::new(VIP, 53);
const TARGET: u16 = 8080;
const PINS: &str = "/sys/fs/bpf/torline/v4";
const CONNECTIONS: usize = 100;

/// Two nodes with two pods each; the router sends everything to the first.
struct Pair {
    topology: Topology,
    directory: Directory,
    service: Service,
    agents: Vec<Agent>,
    _servers: Vec<EchoServer>,
}

impl Pair {
    fn start() -> Result<Self> {
        let topology = Topology::new(&netns::next_lab(), Shape { nodes: 2, pods: 2 })?;
        let port = |name, protocol, port| Port {
            name,
            protocol,
            port,
            target: TARGET,
        };
        let service = Service {
            name: "web",
            addresses: vec![VIP],
            ports: vec![port("http", "TCP", 80), port("dns", "UDP", 53)],
            forwarding: None,
        };
        let directory = Directory::create(topology.dir())?;
        directory.write("network", &source::network_yaml())?;
        directory.write("nodes", &source::nodes_yaml(&topology.nodes))?;
        directory.write("web", &service.yaml())?;
        let pods: Vec<_> = topology.pods().map(|pod| (pod, Condition::Ready)).collect();
        directory.write("web-endpoints", &service.endpoints_yaml(&pods))?;
        // No BGP here: a router that hears of a restart sends elsewhere, which is not the question.
        topology
            .tor
            .run(["ip", "route", "add", &VIP.to_string(), "via", "192.0.2.11"])?;
        let servers = topology
            .pods()
            .map(|pod| EchoServer::start(&pod.netns, &pod.name, &[TARGET]))
            .collect::<Result<_>>()?;
        let mut pair = Self {
            topology,
            directory,
            service,
            agents: Vec::new(),
            _servers: servers,
        };
        let program = binary()?;
        // All of them before waiting for one: a node whose agent never ran is taken for gone.
        for node in 0..pair.topology.nodes.len() {
            let agent = pair.launch(&program, node)?;
            pair.agents.push(agent);
        }
        pair.agents.iter_mut().try_for_each(settle)?;
        Ok(pair)
    }

    fn start_agent(&self, node: usize) -> Result<Agent> {
        self.start_build(&binary()?, node)
    }

    fn start_build(&self, program: &Path, node: usize) -> Result<Agent> {
        let mut agent = self.launch(program, node)?;
        settle(&mut agent)?;
        Ok(agent)
    }

    fn launch(&self, program: &Path, node: usize) -> Result<Agent> {
        let node = self.topology.nodes.get(node).context("no such node")?;
        Agent::start_build(program, node, self.directory.path(), self.topology.dir())
    }

    /// The first hop.
    fn first(&self) -> &Netns {
        &self.topology.nodes[0].netns
    }
}

/// Waits until an agent is in sync and all four pods get connections.
fn settle(agent: &mut Agent) -> Result<()> {
    let four = |status: &harness::agent::Status| {
        status.in_sync
            && status.frontends.len() == 2
            && status
                .frontends
                .iter()
                .all(|frontend| frontend.backends.iter().filter(|b| b.slots > 0).count() == 4)
    };
    agent.wait_for("the agent to be in sync", LIMIT, four)?;
    Ok(())
}

/// A client that sends a datagram every two milliseconds and counts what comes back.
struct Pump {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<(u64, u64)>>,
}

impl Pump {
    fn start(netns: &Netns) -> Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = netns.spawn(move || pump(&stopped))?;
        Ok(Self { stop, thread })
    }

    /// Datagrams sent and returned.
    fn stop(self) -> Result<(u64, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(counts) => counts,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

fn pump(stopped: &AtomicBool) -> Result<(u64, u64)> {
    const INTERVAL: Duration = Duration::from_millis(2);
    const PATIENCE: Duration = Duration::from_secs(2);
    let socket = UdpSocket::bind("0.0.0.0:0")?;
    socket.connect(UDP)?;
    socket.set_read_timeout(Some(INTERVAL))?;
    let (mut sent, mut returned) = (0, 0);
    let mut buffer = [0; 512];
    let mut due = Instant::now();
    let mut end = None;
    loop {
        let now = Instant::now();
        if stopped.load(Ordering::Relaxed) {
            if sent == returned || now > *end.get_or_insert(now + PATIENCE) {
                return Ok((sent, returned));
            }
        } else if now >= due {
            socket.send(b"numbered")?;
            sent += 1;
            due += INTERVAL;
        }
        match socket.recv(&mut buffer) {
            Ok(_) => returned += 1,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error.into()),
        }
    }
}

type Key = [u8; size_of::<FrontendKey4>()];
type Value = [u8; size_of::<Frontend>()];

/// What the agent wrote into the maps, but for the heartbeat; and the link with its program.
#[derive(PartialEq, Debug)]
struct Kernel {
    slots: Vec<u64>,
    backends: Vec<[u8; size_of::<Backend>()]>,
    frontends: Vec<(Key, Value)>,
    nodes: Vec<[u8; size_of::<Node>()]>,
    link: u32,
}

impl Kernel {
    fn read(netns: &Netns) -> Result<(Self, u32)> {
        netns.enter(|| {
            let map = |name: &str| -> Result<MapData> {
                Ok(MapData::from_pin(format!("{PINS}/{name}"))?)
            };
            let array = |name: &str| -> Result<Map> { Ok(Map::Array(map(name)?)) };
            let slots = Array::try_from(array("SLOTS")?)?;
            let backends = Array::try_from(array("BACKENDS")?)?;
            let nodes = Array::try_from(array("NODES")?)?;
            let frontends: HashMap<_, Key, Value> =
                HashMap::try_from(Map::HashMap(map("FRONTENDS4")?))?;
            let mut frontends: Vec<_> = frontends.iter().collect::<Result<_, _>>()?;
            frontends.sort_unstable();
            let info = FdLink::from(PinnedLink::from_pin(format!("{PINS}/ingress"))?).info()?;
            let kernel = Self {
                slots: slots.iter().take(1 << 14).collect::<Result<_, _>>()?,
                backends: backends.iter().take(1 << 10).collect::<Result<_, _>>()?,
                nodes: nodes.iter().take(1 << 6).collect::<Result<_, _>>()?,
                frontends,
                link: info.id(),
            };
            Ok((kernel, info.program_id()))
        })
    }
}

#[test]
fn killed_and_started_again_the_agent_loses_no_packet_and_writes_nothing() {
    if !machine::can_test() {
        return;
    }
    let mut pair = Pair::start().unwrap();
    let client = Client::new(&pair.topology.client).unwrap();
    let connections = client.open(TCP, CONNECTIONS).all().unwrap();
    let pump = Pump::start(&pair.topology.client).unwrap();
    let (before, program) = Kernel::read(pair.first()).unwrap();

    for node in 0..2 {
        // Dropping it kills it, with a signal that it cannot catch.
        drop(pair.agents.remove(0));
        let more = client.open(TCP, CONNECTIONS).all();
        assert_eq!(
            more.unwrap().len(),
            CONNECTIONS,
            "new ones without an agent"
        );
        pair.agents.push(pair.start_agent(node).unwrap());
    }

    let (after, successor) = Kernel::read(pair.first()).unwrap();
    assert_eq!(before, after);
    assert_ne!(program, successor, "the programs are the new agent's");
    client.verify(connections).all().unwrap();
    let (sent, returned) = pump.stop().unwrap();
    assert_eq!((returned, sent > 100), (sent, true));
}

#[test]
fn an_agent_of_another_build_takes_over_in_flight() {
    if !machine::can_test() {
        return;
    }
    let mut pair = Pair::start().unwrap();
    let client = Client::new(&pair.topology.client).unwrap();
    let connections = client.open(TCP, CONNECTIONS).all().unwrap();
    let pump = Pump::start(&pair.topology.client).unwrap();
    let (before, predecessor) = Kernel::read(pair.first()).unwrap();
    pair.agents.remove(0).stop().unwrap();

    let program = rebuilt(pair.topology.dir()).unwrap();
    let agent = pair.start_build(&program, 0).unwrap();
    pair.agents.insert(0, agent);

    let (after, successor) = Kernel::read(pair.first()).unwrap();
    assert_eq!(before, after);
    assert_ne!(predecessor, successor);
    client.verify(connections).all().unwrap();
    let (sent, returned) = pump.stop().unwrap();
    assert_eq!((returned, sent > 100), (sent, true));
}

#[test]
fn a_change_while_the_agent_is_away_is_made_up_for() {
    if !machine::can_test() {
        return;
    }
    let mut pair = Pair::start().unwrap();
    drop(pair.agents.remove(0));
    let others = pair.topology.pods().filter(|pod| pod.name != "pod-b2");
    let others: Vec<_> = others.map(|pod| (pod, Condition::Ready)).collect();
    let text = pair.service.endpoints_yaml(&others);
    pair.directory.write("web-endpoints", &text).unwrap();
    let node = &pair.topology.nodes[0];
    let agent = Agent::start(node, pair.directory.path(), pair.topology.dir()).unwrap();
    pair.agents.insert(0, agent);

    // The other agent was there all the time.
    let digests = pair.agents.iter_mut().map(|agent| {
        let three = |status: &harness::agent::Status| {
            status.in_sync && status.frontends.iter().all(|f| f.backends.len() == 3)
        };
        agent.wait_for("three pods", LIMIT, three)?;
        let frontends = status(agent.socket())?.frontends;
        Ok(frontends
            .into_iter()
            .map(|frontend| frontend.digest)
            .collect())
    });
    let digests: Vec<Vec<String>> = digests.collect::<Result<_>>().unwrap();
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn a_file_that_broke_while_the_agent_was_away_takes_nothing_down() {
    if !machine::can_test() {
        return;
    }
    let mut pair = Pair::start().unwrap();
    let client = Client::new(&pair.topology.client).unwrap();
    let connections = client.open(TCP, CONNECTIONS).all().unwrap();
    drop(pair.agents.remove(0));
    pair.directory
        .write("web-endpoints", "kind: EndpointSlice\n  oops: [")
        .unwrap();
    let node = &pair.topology.nodes[0];
    let mut agent = Agent::start(node, pair.directory.path(), pair.topology.dir()).unwrap();
    agent
        .wait_for("a finding", LIMIT, |status| {
            status.in_sync && !status.findings.is_empty()
        })
        .unwrap();
    let connections = client.verify(connections).all().unwrap();
    client.open(TCP, CONNECTIONS).all().unwrap();

    let all: Vec<_> = pair
        .topology
        .pods()
        .map(|pod| (pod, Condition::Ready))
        .collect();
    let text = pair.service.endpoints_yaml(&all);
    pair.directory.write("web-endpoints", &text).unwrap();
    agent
        .wait_for("no finding", LIMIT, |status| {
            status.in_sync && status.findings.is_empty()
        })
        .unwrap();
    client.verify(connections).all().unwrap();
}

#[test]
fn stopped_the_agent_leaves_its_connections_alone_until_it_is_detached() {
    if !machine::can_test() {
        return;
    }
    let mut pair = Pair::start().unwrap();
    let client = Client::new(&pair.topology.client).unwrap();
    let connections = client.open(TCP, CONNECTIONS).all().unwrap();
    for agent in pair.agents.drain(..) {
        agent.stop().unwrap();
    }
    client.verify(connections).all().unwrap();
}

#[test]
fn detached_nothing_is_left() {
    let bench = Bench::new("agent-detach").unwrap();
    let agent = bench.start().unwrap();
    let refusal = refused(&bench.detach().unwrap());
    assert!(refusal.contains("another agent works with"), "{refusal}");
    agent.stop(Signal::SIGTERM, LIMIT).unwrap();
    let link = bench.link().unwrap();
    assert!(link.contains("prog/xdp"), "{link}");
    assert!(bench.pins("torline").unwrap().contains(&"SLOTS".to_owned()));

    let (programs, maps) = ids(&bench.netns).unwrap();
    assert!(!programs.is_empty() && maps.len() > 10, "{maps:?}");

    let output = bench.detach().unwrap();
    assert!(output.status.success(), "{output:?}");
    let link = bench.link().unwrap();
    assert!(!link.contains("xdp"), "{link}");
    assert_eq!(bench.pins("torline"), None);
    wait::until("programs to be gone", LIMIT, || {
        let left = loaded_programs().filter_map(|program| Some(program.ok()?.id()));
        let left: Vec<u32> = left.filter(|id| programs.contains(id)).collect();
        ensure!(left.is_empty(), "programs {left:?} are left");
        Ok(())
    })
    .unwrap();
    // Not before the programs: a program array lets go of its programs when its last user goes,
    // and a kernel that is asked for one in that moment never frees it.
    wait::until("maps to be gone", LIMIT, || {
        let left = loaded_maps().filter_map(|map| Some(map.ok()?.id()));
        let left: Vec<u32> = left.filter(|id| maps.contains(id)).collect();
        ensure!(left.is_empty(), "maps {left:?} are left");
        Ok(())
    })
    .unwrap();
    let again = bench.detach().unwrap();
    let text = String::from_utf8_lossy(&again.stdout).into_owned();
    assert!(text.contains("nothing is pinned"), "{text}");
}

/// Ids of the maps of the programs that the pinned links run, and of all programs that use one:
/// also of those that run by tail call.
fn ids(netns: &Netns) -> Result<(BTreeSet<u32>, BTreeSet<u32>)> {
    netns.enter(|| {
        let mut linked = BTreeSet::new();
        for entry in fs::read_dir(PINS)? {
            let path = entry?.path();
            if let Ok(link) = PinnedLink::from_pin(&path) {
                linked.insert(FdLink::from(link).info()?.program_id());
            }
        }
        let loaded: Vec<(u32, Vec<u32>)> = loaded_programs()
            .filter_map(|program| {
                let program = program.ok()?;
                Some((program.id(), program.map_ids().ok()??))
            })
            .collect();
        let maps: BTreeSet<u32> = loaded
            .iter()
            .filter(|(program, _)| linked.contains(program))
            .flat_map(|(_, maps)| maps.iter().copied())
            .collect();
        let programs = loaded
            .into_iter()
            .filter(|(_, used)| used.iter().any(|map| maps.contains(map)))
            .map(|(program, _)| program)
            .collect();
        Ok((programs, maps))
    })
}

#[test]
fn two_agents_never_share_pins() {
    let bench = Bench::new("agent-lock").unwrap();
    let _first = bench.start().unwrap();
    let socket = bench.dir.path().join("second.sock");
    let mut second = bench.command_on("eth0", &socket).unwrap();
    second.args(["--health-port", "0"]);
    let message = refused(&bench.run(second).unwrap());
    assert!(
        message.contains("another agent works with the maps pinned in /sys/fs/bpf/torline"),
        "{message}"
    );
}

#[test]
fn a_longer_slot_array_is_filled_from_the_old_one_and_a_shorter_one_refused() {
    let mut bench = Bench::new("agent-slots").unwrap();
    drop(bench.start().unwrap());
    let (before, _) = Kernel::read(&bench.netns).unwrap();
    bench.slots = "32768".to_owned();
    let message = refused(&bench.run(bench.command("eth0").unwrap()).unwrap());
    assert!(
        message.contains("`--slots 65536` goes on with it"),
        "{message}"
    );
    assert!(
        message.contains("torline detach --pin /sys/fs/bpf/torline"),
        "{message}"
    );

    bench.slots = "131072".to_owned();
    drop(bench.start().unwrap());
    let (after, _) = Kernel::read(&bench.netns).unwrap();
    assert_eq!(before, after);
    let pins = bench.pins("torline").unwrap();
    assert!(!pins.contains(&"SLOTS-new".to_owned()), "{pins:?}");
}

#[test]
fn a_pinned_map_of_another_layout_is_refused() {
    let bench = Bench::new("agent-layout").unwrap();
    bench.netns.enter(|| {
        fs::create_dir_all(PINS).unwrap();
        let other: Array<_, u64> = Array::create(4_096, 0).unwrap();
        other.pin(format!("{PINS}/NODES")).unwrap();
    });
    let message = refused(&bench.run(bench.command("eth0").unwrap()).unwrap());
    assert!(
        message.contains("v4/NODES has a value of size 8"),
        "{message}"
    );
    assert!(!bench.link().unwrap().contains("xdp"));
    assert!(bench.detach().unwrap().status.success());
    drop(bench.start().unwrap());
}

#[test]
fn pins_of_another_version_are_refused() {
    let bench = Bench::new("agent-version").unwrap();
    bench
        .netns
        .enter(|| fs::create_dir_all("/sys/fs/bpf/torline/v0"))
        .unwrap();
    let message = refused(&bench.run(bench.command("eth0").unwrap()).unwrap());
    assert!(message.contains("layout version 0"), "{message}");
}
