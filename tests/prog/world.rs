//! A node with two services, in the kernel and in ordinary memory.

use std::cell::Cell;
use std::net::IpAddr;

use harness::frame::FrameBuilder;
use harness::program::{Element, Programs, Run};
use lb_common::abi::{map, program};
use lb_common::addr::{Be16, Be32, Mac, words4, words6};
use lb_common::decide::Tables;
use lb_common::drop::DropReason;
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

/// The same state three times: what a frame meets must not depend on where the decision runs.
pub(crate) struct World {
    /// The multi-buffer program and its maps.
    pub(crate) programs: Programs,
    /// The other one, with maps of its own.
    pub(crate) linear: Programs,
    /// The host.
    pub(crate) memory: MemoryTables,
    /// The linear program was spared a frame, so its counters are others.
    linear_spared: Cell<bool>,
    /// What was counted is not to be compared.
    forgotten: Cell<bool>,
}

impl World {
    pub(crate) fn new(flags: u32) -> Self {
        Self::with_room(flags, 4_096)
    }

    /// A world whose flow tables hold so many entries each.
    pub(crate) fn with_room(flags: u32, flows: u32) -> Self {
        let sizes = FLOW_TABLES.map(|name| (name, flows));
        let mut world = Self {
            programs: Programs::load_with(&[program::INGRESS], &sizes).unwrap(),
            linear: Programs::load_with(&[program::INGRESS_LINEAR], &sizes).unwrap(),
            memory: MemoryTables {
                capacity: flows as usize,
                ..MemoryTables::default()
            },
            linear_spared: Cell::new(false),
            forgotten: Cell::new(false),
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
        world.insert(map::PEER_MACS, peer, 1u32);
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
        world.set_node(1, hop);
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
        self.set(map::CONFIG, 0, config);
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
                self.insert(map::VIPS4, word, vip);
                self.memory.vips4.insert(word, vip);
            }
            IpAddr::V6(address) => {
                self.insert(map::VIPS6, words6(address), vip);
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
            frontend: id,
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
                self.insert(map::FRONTENDS4, key, frontend);
                self.memory.frontends4.insert(key, frontend);
            }
            IpAddr::V6(vip) => {
                let key = FrontendKey6 {
                    addr: words6(vip),
                    port,
                    protocol,
                    zero: 0,
                };
                self.insert(map::FRONTENDS6, key, frontend);
                self.memory.frontends6.insert(key, frontend);
            }
        }
    }

    /// Gives the frontends of a port other flags.
    pub(crate) fn set_frontend_flags(&mut self, port: u16, flags: u32) {
        let port = Be16::new(port);
        for (key, frontend) in self.memory.frontends4.clone() {
            if key.port == port {
                let frontend = Frontend { flags, ..frontend };
                self.insert(map::FRONTENDS4, key, frontend);
                self.memory.frontends4.insert(key, frontend);
            }
        }
        for (key, frontend) in self.memory.frontends6.clone() {
            if key.port == port {
                let frontend = Frontend { flags, ..frontend };
                self.insert(map::FRONTENDS6, key, frontend);
                self.memory.frontends6.insert(key, frontend);
            }
        }
    }

    /// Gives the frontend with this id another backend.
    pub(crate) fn set_backend_of(&mut self, id: u32, change: impl FnOnce(&mut Backend)) {
        let index = id * 16 + 1;
        let mut backend = self.memory.backends[&index];
        change(&mut backend);
        self.set_backend(index, backend);
    }

    pub(crate) fn set_slot(&mut self, index: u32, slot: Slot) {
        self.set(map::SLOTS, index, slot);
        self.memory.slots.insert(index, slot);
    }

    pub(crate) fn set_backend(&mut self, index: u32, backend: Backend) {
        self.set(map::BACKENDS, index, backend);
        self.memory.backends.insert(index, backend);
    }

    pub(crate) fn set_node(&mut self, number: u32, node: Node) {
        self.set(map::NODES, number, node);
        self.memory.nodes.insert(number, node);
    }

    /// Lets frames into both programs when those that go on where they end are not there; says what the host
    /// would count.
    pub(crate) fn ingress_without_calls(&mut self, frame: &[u8]) {
        self.programs.forget_calls().unwrap();
        self.linear.forget_calls().unwrap();
        self.memory.count_drop(DropReason::NotResumed);
        for (name, programs) in self.kernels() {
            assert_eq!(programs.ingress(name, frame).unwrap().action, XDP_DROP);
        }
    }

    /// Spends the budget of replies for good.
    pub(crate) fn spend_replies(&mut self) {
        let never = u64::MAX / 2;
        for programs in [&mut self.programs, &mut self.linear] {
            programs.set_per_cpu(map::REPLY_DUE, 0, never).unwrap();
        }
        self.memory.reply_due.set(never);
    }

    pub(crate) fn set<V: Element>(&mut self, map: &str, index: u32, value: V) {
        for programs in [&mut self.programs, &mut self.linear] {
            programs.set(map, index, value).unwrap();
        }
    }

    pub(crate) fn insert<K: Element, V: Element>(&mut self, map: &str, key: K, value: V) {
        for programs in [&mut self.programs, &mut self.linear] {
            programs.insert(map, key, value).unwrap();
        }
    }

    /// Lets a frame in, at both programs and on the host; all must do the same to it.
    pub(crate) fn ingress(&self, frame: &[u8]) -> Run {
        let run = self.compare(frame);
        let linear = self.linear.ingress(program::INGRESS_LINEAR, frame).unwrap();
        assert_eq!(linear, run, "the programs disagree about {frame:02x?}");
        run
    }

    /// The same without the program that takes one buffer only.
    pub(crate) fn ingress_jumbo(&self, frame: &[u8]) -> Run {
        self.linear_spared.set(true);
        self.compare(frame)
    }

    /// Lets a frame into the multi-buffer program alone, in two buffers; says what the host would count.
    pub(crate) fn ingress_split(&self, frame: &[u8], first: usize, reason: DropReason) -> Run {
        self.linear_spared.set(true);
        self.memory.count_drop(reason);
        self.programs
            .ingress_split(program::INGRESS, frame, first)
            .unwrap()
    }

    fn compare(&self, frame: &[u8]) -> Run {
        let mut copy = frame.to_vec();
        let action = match self.memory.run_ingress(&mut copy) {
            Action::Drop => XDP_DROP,
            Action::Pass => XDP_PASS,
            Action::Transmit => XDP_TX,
        };
        let host = Run {
            action,
            frame: copy,
        };
        let run = self.programs.ingress(program::INGRESS, frame).unwrap();
        assert_eq!(run, host, "kernel and host disagree about {frame:02x?}");
        run
    }

    /// Lets a frame out, here and there; both must do the same to it.
    pub(crate) fn egress(&self, frame: &[u8]) -> Vec<u8> {
        let mut copy = frame.to_vec();
        self.memory.run_egress(&mut copy);
        for (_, programs) in self.kernels() {
            let run = programs.egress(frame).unwrap();
            assert_eq!(
                run.frame, copy,
                "kernel and host disagree about {frame:02x?}"
            );
        }
        copy
    }

    /// Lets the counters of kernel and host differ, after frames that the host did not see.
    pub(crate) fn forget_counters(&self) {
        self.forgotten.set(true);
    }

    /// How often a reason was counted, everywhere.
    pub(crate) fn drops(&self, reason: DropReason) -> u64 {
        self.memory
            .drops
            .borrow()
            .get(&reason)
            .copied()
            .unwrap_or(0)
    }

    fn kernels(&self) -> [(&'static str, &Programs); 2] {
        [
            (program::INGRESS, &self.programs),
            (program::INGRESS_LINEAR, &self.linear),
        ]
    }
}

impl Drop for World {
    /// Nothing was counted otherwise in the kernel than on the host.
    fn drop(&mut self) {
        if std::thread::panicking() || self.forgotten.get() {
            return;
        }
        let stats = self.memory.stats.borrow();
        let compared = if self.linear_spared.get() { 1 } else { 2 };
        for (name, programs) in self.kernels().into_iter().take(compared) {
            for reason in DropReason::ALL {
                let kernel = programs.drops(*reason).unwrap();
                assert_eq!(kernel, self.drops(*reason), "{name}: {reason:?}");
            }
            for id in 0..FRONTENDS {
                let host = stats.get(&id).copied().unwrap_or_default();
                let kernel = programs.frontend_stats(id).unwrap();
                assert_eq!(kernel, host, "{name}: frontend {id}");
            }
        }
    }
}

/// The flow tables in the object.
const FLOW_TABLES: [&str; 8] = [
    map::HALF_OPEN4,
    map::HALF_OPEN6,
    map::ESTABLISHED4,
    map::ESTABLISHED6,
    map::UNANSWERED4,
    map::UNANSWERED6,
    map::UDP4,
    map::UDP6,
];

/// No tag, one, and two.
pub(crate) const TAGS: [&[(u16, u16)]; 3] = [&[], &[(0x8100, 5)], &[(0x88a8, 6), (0x8100, 5)]];

/// How many frontends there are: per family TCP and UDP, here and on the peer.
const FRONTENDS: u32 = 8;

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
        identification: 0x1234,
        fragment: 0,
        window: 0x2000,
        payload: b"hello".to_vec(),
        tcp,
    }
}

/// What [`request`] looks like once it is addressed to the pod.
pub(crate) fn delivered(family: Family, tcp: Option<(u32, u32, u8)>) -> FrameBuilder {
    let mut frame = request(family, POD_PORT, tcp);
    (frame.destination, frame.ttl) = (family.pod, 59);
    frame
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

/// What [`response`] looks like once it comes from the VIP.
pub(crate) fn translated(family: Family, tcp: Option<(u32, u32, u8)>) -> Vec<u8> {
    let mut frame = response(family, tcp);
    (frame.source, frame.source_port) = (family.vip, LOCAL);
    frame.build()
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
