//! A node with two services, in the kernel and in ordinary memory.

use std::net::IpAddr;

use harness::frame::FrameBuilder;
use harness::program::{Programs, Run};
use lb_common::abi::{map, program};
use lb_common::addr::{Be16, Be32, Mac, words4, words6};
use lb_common::maps::{
    Backend, Config, Frontend, FrontendKey4, FrontendKey6, MacKey, Node, Slot, Vip, backend_flags,
    config_flags, node_mode, peer_filter_bit, vip_flags,
};
use lb_common::memory::{Action, MemoryTables};

pub(crate) const NODE: Mac = Mac([0x02, 0, 0, 0, 0, 0x0a]);
pub(crate) const ROUTER: Mac = Mac([0x02, 0, 0, 0, 0, 0x01]);
pub(crate) const PEER: Mac = Mac([0x02, 0, 0, 0, 0, 0x0b]);

/// Port of the service whose pod runs here.
pub(crate) const LOCAL: u16 = 80;
/// Port of the service whose pod runs on the peer.
pub(crate) const REMOTE: u16 = 81;
/// Port of the pods.
pub(crate) const POD_PORT: u16 = 8080;

/// Addresses of one family.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    pub(crate) client: IpAddr,
    pub(crate) node: IpAddr,
    pub(crate) vip: IpAddr,
    pub(crate) pod: IpAddr,
}

pub(crate) fn families() -> [Family; 2] {
    [
        Family {
            client: "198.51.100.7".parse().unwrap(),
            node: "192.0.2.11".parse().unwrap(),
            vip: "203.0.113.10".parse().unwrap(),
            pod: "10.1.0.5".parse().unwrap(),
        },
        Family {
            client: "2001:db8:c::7".parse().unwrap(),
            node: "2001:db8:2::11".parse().unwrap(),
            vip: "2001:db8:f::10".parse().unwrap(),
            pod: "fd00:1::5".parse().unwrap(),
        },
    ]
}

/// The same state twice: what a frame meets must not depend on where the decision runs.
pub(crate) struct World {
    pub(crate) programs: Programs,
    pub(crate) memory: MemoryTables,
}

impl World {
    pub(crate) fn new(flags: u32) -> Self {
        let mut world = Self {
            programs: Programs::load().unwrap(),
            memory: MemoryTables::default(),
        };
        // The clocks differ; a time far ahead of the first reply is all that the decision needs.
        world.memory.clock.set(1_000_000_000_000);
        let (node, peer) = (mac_key(NODE), mac_key(PEER));
        let [own4, own6] = families().map(|family| words(family.node));
        let [tunnel4, ..] = own4;
        let config = Config {
            flow_key: [1, 2, 3, 4],
            peer_filter: peer_filter_bit(peer.head, peer.tail),
            peer_key: PEER_KEY,
            // Of an agent that never falls silent.
            heartbeat: u64::MAX,
            flags,
            mac_head: node.head,
            mac_tail: node.tail,
            tunnel4,
            tunnel6: own6,
            ..Config::default()
        };
        world.set_config(config);
        world.programs.insert(map::PEER_MACS, peer, 1u32).unwrap();
        world.memory.peers.insert(peer, 1);
        let [b0, b1, b2, b3, b4, b5] = PEER.0;
        let [a0, a1, a2, a3, a4, a5] = NODE.0;
        let word = |octets| Be32::new(u32::from_be_bytes(octets));
        let hop = Node {
            ethernet: [
                word([b0, b1, b2, b3]),
                word([b4, b5, a0, a1]),
                word([a2, a3, a4, a5]),
            ],
            mode: node_mode::L2,
            ..Node::default()
        };
        world.programs.set(map::NODES, 1, hop).unwrap();
        world.memory.nodes.insert(1, hop);
        for (position, family) in families().into_iter().enumerate() {
            world.add_vip(family.vip);
            for (index, (port, protocol)) in [(LOCAL, 6), (LOCAL, 17), (REMOTE, 6), (REMOTE, 17)]
                .into_iter()
                .enumerate()
            {
                let id = (position * 4 + index) as u32;
                world.add_service(family, port, protocol, id);
            }
        }
        world
    }

    pub(crate) fn set_config(&mut self, config: Config) {
        self.programs.set(map::CONFIG, 0, config).unwrap();
        self.memory.config = config;
    }

    fn add_vip(&mut self, address: IpAddr) {
        let vip = Vip {
            flags: vip_flags::ANSWER_NEIGHBORS | vip_flags::ANSWER_ECHO,
            zero: 0,
        };
        match address {
            IpAddr::V4(address) => {
                let [word, ..] = words4(address);
                self.programs.insert(map::VIPS4, word, vip).unwrap();
                self.memory.vips4.insert(word, vip);
            }
            IpAddr::V6(address) => {
                self.programs
                    .insert(map::VIPS6, words6(address), vip)
                    .unwrap();
                self.memory.vips6.insert(words6(address), vip);
            }
        }
    }

    fn add_service(&mut self, family: Family, port: u16, protocol: u8, id: u32) {
        let frontend = Frontend {
            slots: id * 4,
            mask: 3,
            backends: id * 16,
            id,
            ..Frontend::default()
        };
        let backend = Backend {
            addr: words(family.pod),
            port: Be16::new(POD_PORT),
            node: u16::from(port == REMOTE),
            generation: 7,
            flags: backend_flags::IN_USE,
            zero: 0,
        };
        for slot in 0..4 {
            self.set_slot(frontend.slots + slot, Slot::new([1, 0, 0, 0]));
        }
        self.set_backend(frontend.backends + 1, backend);
        let port = Be16::new(port);
        match family.vip {
            IpAddr::V4(vip) => {
                let [addr, ..] = words4(vip);
                let key = FrontendKey4 {
                    addr,
                    port,
                    protocol,
                    zero: 0,
                };
                self.programs
                    .insert(map::FRONTENDS4, key, frontend)
                    .unwrap();
                self.memory.frontends4.insert(key, frontend);
            }
            IpAddr::V6(vip) => {
                let key = FrontendKey6 {
                    addr: words6(vip),
                    port,
                    protocol,
                    zero: 0,
                };
                self.programs
                    .insert(map::FRONTENDS6, key, frontend)
                    .unwrap();
                self.memory.frontends6.insert(key, frontend);
            }
        }
    }

    pub(crate) fn set_slot(&mut self, index: u32, slot: Slot) {
        self.programs.set(map::SLOTS, index, slot).unwrap();
        self.memory.slots.insert(index, slot);
    }

    pub(crate) fn set_backend(&mut self, index: u32, backend: Backend) {
        self.programs.set(map::BACKENDS, index, backend).unwrap();
        self.memory.backends.insert(index, backend);
    }

    /// Lets a frame in, here and there; both must do the same to it.
    pub(crate) fn ingress(&self, frame: &[u8]) -> Run {
        let run = self.programs.ingress(program::INGRESS, frame).unwrap();
        let mut copy = frame.to_vec();
        let action = match self.memory.run_ingress(&mut copy) {
            Action::Drop => XDP_DROP,
            Action::Pass => XDP_PASS,
            Action::Transmit => XDP_TX,
        };
        assert_eq!(
            run,
            Run {
                action,
                frame: copy
            },
            "kernel and host disagree about {frame:02x?}"
        );
        run
    }

    /// Lets a frame out, here and there; both must do the same to it.
    pub(crate) fn egress(&self, frame: &[u8]) -> Vec<u8> {
        let run = self.programs.egress(frame).unwrap();
        let mut copy = frame.to_vec();
        self.memory.run_egress(&mut copy);
        assert_eq!(
            run.frame, copy,
            "kernel and host disagree about {frame:02x?}"
        );
        run.frame
    }
}

pub(crate) const XDP_DROP: u32 = 1;
pub(crate) const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;

/// A frame from the client, by the router, to a port of the VIP.
pub(crate) fn request(family: Family, port: u16, tcp: Option<(u32, u32, u8)>) -> FrameBuilder {
    FrameBuilder {
        to: NODE,
        from: ROUTER,
        tags: Vec::new(),
        source: family.client,
        destination: family.vip,
        source_port: 41_000,
        destination_port: port,
        ttl: 60,
        options: Vec::new(),
        fragment: 0,
        payload: b"hello".to_vec(),
        tcp,
    }
}

/// A frame from the pod to the client.
pub(crate) fn response(family: Family, tcp: Option<(u32, u32, u8)>) -> FrameBuilder {
    FrameBuilder {
        to: ROUTER,
        from: NODE,
        source: family.pod,
        destination: family.client,
        source_port: POD_PORT,
        destination_port: 41_000,
        ..request(family, 0, tcp)
    }
}

pub(crate) fn mac_key(mac: Mac) -> MacKey {
    let [a, b, c, d, e, f] = mac.0;
    MacKey {
        head: Be32::new(u32::from_be_bytes([a, b, c, d])),
        tail: Be16::new(u16::from_be_bytes([e, f])),
        zero: 0,
    }
}

pub(crate) fn words(address: IpAddr) -> [Be32; 4] {
    match address {
        IpAddr::V4(address) => words4(address),
        IpAddr::V6(address) => words6(address),
    }
}

/// Key of the tags on probes.
pub(crate) const PEER_KEY: [u64; 2] = [5, 6];

/// Flags of a node that resets what nobody serves.
pub(crate) const REJECT: u32 = config_flags::REJECT_UNSERVED;
