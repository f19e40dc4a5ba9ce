//! Two nodes that know each other, each in the kernel and in ordinary memory.

use std::fs;
use std::net::IpAddr;

use harness::frame::{ACK, SYN};
use harness::program::Run;
use lb_common::abi::map;
use lb_common::addr::{Be16, Be32, Mac, words4, words6};
use lb_common::drop::DropReason;
use lb_common::maps::{
    Backend, BackendKey4, BackendKey6, Config, Event, Exception, FlowKey4, FlowKey6, Frontend,
    FrontendKey4, FrontendKey6, Node, Slot, backend_flags, flow_direction, node_flags, node_mode,
    peer_filter_bit,
};
use lb_common::outcome::Outcome;
use lb_common::wire::geneve;

use crate::world::{
    Family, LOCAL, NODE, PEER, POD_PORT, REMOTE, ROUTER, World, XDP_PASS, families, mac_key,
    request, response, words,
};

/// The node that most packets meet first.
pub(crate) const HERE: usize = 0;
/// The other one.
pub(crate) const THERE: usize = 1;

const MACS: [Mac; 2] = [NODE, PEER];

/// Both nodes. Backend 1 of `LOCAL` runs here, backend 2 there; backend 1 of `REMOTE` runs there.
pub(crate) struct Cluster {
    worlds: [World; 2],
    nodes: [Node; 2],
}

/// Frontends in the order of their ids.
fn frontends() -> impl Iterator<Item = (u32, Family, u16, u8)> {
    families()
        .into_iter()
        .enumerate()
        .flat_map(|(position, family)| {
            [(LOCAL, 6), (LOCAL, 17), (REMOTE, 6), (REMOTE, 17)]
                .into_iter()
                .enumerate()
                .map(move |(index, (port, protocol))| {
                    ((position * 4 + index) as u32, family, port, protocol)
                })
        })
}

/// The pod of backend 2.
fn other_pod(family: Family) -> Family {
    let pod = if family.vip.is_ipv4() {
        "10.1.0.6"
    } else {
        "fd00:1::6"
    };
    Family {
        pod: pod.parse().unwrap(),
        ..family
    }
}

/// The pod of backend 3.
fn third_pod(family: Family) -> IpAddr {
    let pod = if family.vip.is_ipv4() {
        "10.1.0.7"
    } else {
        "fd00:1::7"
    };
    pod.parse().unwrap()
}

fn tunnel4(node: usize) -> [Be32; 4] {
    words4([192, 0, 2, 1 + node as u8].into())
}

fn tunnel6(node: usize) -> [Be32; 4] {
    words6(format!("2001:db8:a::{}", 1 + node).parse().unwrap())
}

impl Cluster {
    pub(crate) fn new(mode: u32, node_flags: u16, flags: u32) -> Self {
        Self::with_room(mode, node_flags, flags, 4_096)
    }

    /// Nodes whose flow tables hold so many entries each.
    pub(crate) fn with_room(mode: u32, node_flags: u16, flags: u32, flows: u32) -> Self {
        let node = |this: usize| {
            let other = 1 - this;
            let octets = [MACS[other].0, MACS[this].0].concat();
            let word =
                |at: usize| Be32::new(u32::from_be_bytes(octets[at..at + 4].try_into().unwrap()));
            Node {
                ethernet: [word(0), word(4), word(8)],
                mode,
                addr: if node_flags & node_flags::IPV6 == 0 {
                    tunnel4(other)
                } else {
                    tunnel6(other)
                },
                flags: node_flags,
                ..Node::default()
            }
        };
        let mut cluster = Self {
            worlds: [
                World::with_room(flags, flows),
                World::with_room(flags, flows),
            ],
            nodes: [node(HERE), node(THERE)],
        };
        for this in [HERE, THERE] {
            cluster.introduce(this, flags);
        }
        cluster
    }

    fn introduce(&mut self, this: usize, flags: u32) {
        let other = 1 - this;
        let (own, peer) = (mac_key(MACS[this]), mac_key(MACS[other]));
        let [tunnel, ..] = tunnel4(this);
        let config = Config {
            flow_key: [1, 2, 3, 4],
            peer_filter: peer_filter_bit(peer.head, peer.tail),
            flags,
            mac_head: own.head,
            mac_tail: own.tail,
            geneve_port: Be16::new(geneve::PORT),
            peer_key: [5, 6],
            tunnel6: tunnel6(this),
            tunnel4: tunnel,
            mtu: 1_500,
            ..Config::default()
        };
        let world = &mut self.worlds[this];
        world.set_config(config);
        world.insert(map::PEER_MACS, peer, 1u32);
        world.memory.peers.insert(peer, 1);
        for address in [tunnel4(other), tunnel6(other)] {
            world.insert(map::PEER_ADDRS, address, 1u32);
            world.memory.peer_addrs.insert(address, 1);
        }
        self.set_node(this, self.nodes[this]);
        for (id, family, port, _) in frontends() {
            let runs_there = port == REMOTE;
            self.set_backend(this, id, 1, family.pod, usize::from(runs_there));
            if !runs_there {
                self.set_backend(this, id, 2, other_pod(family).pod, THERE);
            }
        }
    }

    fn set_node(&mut self, this: usize, node: Node) {
        let world = &mut self.worlds[this];
        world.set(map::NODES, 1, node);
        world.memory.nodes.insert(1, node);
    }

    fn set_backend(&mut self, this: usize, id: u32, number: u32, pod: IpAddr, runs_on: usize) {
        let backend = Backend {
            addr: words(pod),
            port: Be16::new(POD_PORT),
            node: u16::from(runs_on != this),
            generation: 7,
            flags: backend_flags::IN_USE,
            frontend: 0,
        };
        let index = id * 16 + number;
        let world = &mut self.worlds[this];
        world.set_backend(index, backend);
        let (addr, port) = (backend.addr, backend.port);
        if pod.is_ipv4() {
            let [addr, ..] = addr;
            let key = BackendKey4 {
                frontend: id,
                addr,
                port,
                zero: 0,
            };
            world.insert(map::BACKEND_INDEX4, key, index);
            world.memory.backend_index4.insert(key, index);
        } else {
            let key = BackendKey6 {
                frontend: id,
                addr,
                port,
                zero: 0,
            };
            world.insert(map::BACKEND_INDEX6, key, index);
            world.memory.backend_index6.insert(key, index);
        }
    }

    /// A node.
    pub(crate) fn world(&mut self, node: usize) -> &mut World {
        &mut self.worlds[node]
    }

    /// A node alone.
    pub(crate) fn into_world(self, node: usize) -> World {
        let [here, there] = self.worlds;
        if node == HERE { here } else { there }
    }

    /// Lets a frame in at a node.
    pub(crate) fn send(&self, node: usize, frame: &[u8]) -> Run {
        self.worlds[node].ingress(frame)
    }

    /// A connection of the client's usual port to the pod of backend 2, as the other node sees it.
    pub(crate) fn establish(&self, node: usize, family: Family, port: u16) {
        let arrive = |tcp| {
            let mut frame = request(family, port, Some(tcp));
            frame.to = MACS[node];
            assert_eq!(self.send(node, &frame.build()).action, XDP_PASS);
        };
        arrive((100, 0, SYN));
        let answer = response(other_pod(family), Some((900, 101, SYN | ACK)));
        self.worlds[node].egress(&answer.build());
        arrive((101, 901, ACK));
        assert!(self.count(node, Outcome::Promoted) > 0);
    }

    /// Lets the pod of backend 1, which runs here, answer the client's SYN: with this number, and that one
    /// acknowledged.
    pub(crate) fn answer(&self, node: usize, family: Family, (own, client): (u32, u32)) {
        let answer = response(family, Some((own, client, SYN | ACK)));
        self.worlds[node].egress(&answer.build());
    }

    /// Lets both know a third node, with backend 3 of `LOCAL`, that is never seen.
    pub(crate) fn add_third_node(&mut self) {
        for this in [HERE, THERE] {
            let third = Node {
                addr: tunnel4(2),
                ..self.nodes[this]
            };
            let world = &mut self.worlds[this];
            world.set_node(2, third);
            for (id, family, ..) in frontends().filter(|(_, _, port, _)| *port == LOCAL) {
                let index = id * 16 + 3;
                let former = world.memory.backends[&(id * 16 + 2)];
                let addr = words(third_pod(family));
                world.set_backend(
                    index,
                    Backend {
                        addr,
                        node: 2,
                        ..former
                    },
                );
            }
        }
    }

    /// The pod of backend 3, as a list names it.
    pub(crate) fn third_pod(&self, family: Family) -> [u8; 16] {
        let mut octets = [0; 16];
        for (to, word) in octets.chunks_mut(4).zip(words(third_pod(family))) {
            to.copy_from_slice(&word.host().to_be_bytes());
        }
        octets
    }

    /// Lets a node know the router's MAC.
    pub(crate) fn set_router(&mut self, node: usize) {
        let octets = [ROUTER.0, MACS[node].0].concat();
        let word =
            |at: usize| Be32::new(u32::from_be_bytes(octets[at..at + 4].try_into().unwrap()));
        let router = Node {
            ethernet: [word(0), word(4), word(8)],
            mode: node_mode::L2,
            ..Node::default()
        };
        self.worlds[node].set_node(0, router);
    }

    /// Spends both nodes' budgets of replies for good.
    pub(crate) fn spend_replies(&mut self) {
        for world in &mut self.worlds {
            world.spend_replies();
        }
    }

    /// Changes the configuration of both nodes.
    pub(crate) fn configure(&mut self, change: impl Fn(&mut Config)) {
        for world in &mut self.worlds {
            let mut config = world.memory.config;
            change(&mut config);
            world.set_config(config);
        }
    }

    pub(crate) fn set_slots(&mut self, port: u16, slot: Slot) {
        for (id, ..) in frontends().filter(|(_, _, other, _)| *other == port) {
            for world in &mut self.worlds {
                for index in id * 4..id * 4 + 4 {
                    world.set_slot(index, slot);
                }
            }
        }
    }

    /// Lets a node believe that the pod of `REMOTE` is not on it.
    pub(crate) fn swap_owners(&mut self, node: usize) {
        for (id, family, ..) in frontends().filter(|(_, _, port, _)| *port == REMOTE) {
            self.set_backend(node, id, 1, family.pod, 1 - node);
        }
    }

    /// Lets a node believe that the other one is dead.
    pub(crate) fn kill(&mut self, node: usize) {
        let other = Node {
            flags: self.nodes[node].flags | node_flags::DEAD,
            ..self.nodes[node]
        };
        self.set_node(node, other);
    }

    /// Says that every frontend's slots changed now, or never.
    pub(crate) fn set_changed(&mut self, changed: bool) {
        let uptime = fs::read_to_string("/proc/uptime").unwrap();
        let uptime: u32 = uptime.split('.').next().unwrap().parse().unwrap();
        for (id, family, port, protocol) in frontends() {
            for world in &mut self.worlds {
                let now = (world.memory.clock.get() / 1_000_000_000) as u32;
                let frontend = |now| Frontend {
                    slots: id * 4,
                    mask: 3,
                    backends: id * 16,
                    id,
                    changed_at: if changed { now } else { 0 },
                    ..Frontend::default()
                };
                let port = Be16::new(port);
                if family.vip.is_ipv4() {
                    let [addr, ..] = words(family.vip);
                    let key = FrontendKey4 {
                        addr,
                        port,
                        protocol,
                        zero: 0,
                    };
                    let value = frontend(uptime);
                    world.insert(map::FRONTENDS4, key, value);
                    world.memory.frontends4.insert(key, frontend(now));
                } else {
                    let key = FrontendKey6 {
                        addr: words(family.vip),
                        port,
                        protocol,
                        zero: 0,
                    };
                    let value = frontend(uptime);
                    world.insert(map::FRONTENDS6, key, value);
                    world.memory.frontends6.insert(key, frontend(now));
                }
            }
        }
    }

    /// Tells a node where the client's TCP connection is.
    pub(crate) fn except(
        &mut self,
        node: usize,
        family: Family,
        port: u16,
        number: u32,
        state: u16,
    ) {
        let is_ours = |(_, other, to, protocol): &(u32, Family, u16, u8)| {
            other.vip == family.vip && *to == port && *protocol == 6
        };
        let (id, ..) = frontends().find(is_ours).unwrap();
        let exception = Exception {
            backend: id * 16 + number,
            generation: 7,
            state,
            zero: 0,
        };
        let world = &mut self.worlds[node];
        let (source, destination) = (words(family.client), words(family.vip));
        let (source_port, destination_port) = (Be16::new(41_000), Be16::new(port));
        if family.vip.is_ipv4() {
            let ([source, ..], [destination, ..]) = (source, destination);
            let key = FlowKey4 {
                source,
                destination,
                source_port,
                destination_port,
                protocol: 6,
                direction: flow_direction::FORWARD,
                zero: 0,
            };
            world.insert(map::EXCEPTIONS4, key, exception);
            world.memory.exceptions4.borrow_mut().insert(key, exception);
        } else {
            let key = FlowKey6 {
                source,
                destination,
                source_port,
                destination_port,
                protocol: 6,
                direction: flow_direction::FORWARD,
                zero: 0,
            };
            world.insert(map::EXCEPTIONS6, key, exception);
            world.memory.exceptions6.borrow_mut().insert(key, exception);
        }
    }

    /// How often something happened at a node.
    pub(crate) fn count(&self, node: usize, outcome: Outcome) -> u64 {
        let world = &self.worlds[node];
        let count = world.programs.outcomes(outcome).unwrap();
        let other = world.memory.outcomes.borrow().get(&outcome).copied();
        assert_eq!(count, other.unwrap_or(0), "kernel and host disagree");
        count
    }

    pub(crate) fn drops(&self, node: usize, reason: DropReason) -> u64 {
        self.worlds[node].programs.drops(reason).unwrap()
    }

    /// What the agent of a node was told.
    pub(crate) fn events(&mut self, node: usize) -> Vec<Event> {
        let world = &mut self.worlds[node];
        let events = world.programs.events().unwrap();
        assert_eq!(events, *world.memory.events.borrow());
        events
    }
}
