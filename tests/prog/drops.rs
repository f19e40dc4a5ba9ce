//! Every reason to drop a packet, reached and counted.

use harness::frame::{ACK, RST, SYN};
use lb_common::abi::map;
use lb_common::addr::{AddrWords, Be16};
use lb_common::drop::DropReason;
use lb_common::family::{self, Endpoints, V4, V6};
use lb_common::flow::FlowTable;
use lb_common::maps::{Flow, Node, Slot, config_flags, flow_direction, node_mode};

use crate::cluster::{Cluster, HERE, THERE};
use crate::world::{
    Family, LOCAL, PEER, POD_PORT, REMOTE, World, families, request, response, words,
};

const NOBODY: u16 = 4444;

/// Id of the frontend of IPv4 whose pod runs on the peer; that of IPv6 is four higher.
const TCP_REMOTE: u32 = 2;

/// Reasons that no frame brings about here, and why.
const UNREACHABLE: [(DropReason, &str); 2] = [
    (
        DropReason::NotRewritable,
        "a frame that was read has the octets to be written, and only an advertisement to a solicitation \
         without options or a port unreachable makes a frame longer, for which every driver has room",
    ),
    (
        DropReason::TableFull,
        "where flows begin an entry gives way, unless all that could are being taken at that moment",
    ),
];

#[test]
fn every_drop_reason_is_reached_or_named() {
    let mut reached = Vec::new();
    for reason in DropReason::ALL {
        if let Some(world) = bring_about(*reason) {
            // Once for each family, and each program has to agree with the host.
            let expected = if *reason == DropReason::Malformed {
                3
            } else {
                2
            };
            assert_eq!(world.drops(*reason), expected, "{reason:?}");
            reached.push(*reason);
        }
    }
    let named = UNREACHABLE.map(|(reason, _)| reason);
    for reason in DropReason::ALL {
        assert!(
            reached.contains(reason) != named.contains(reason),
            "{reason:?}"
        );
    }
}

/// A world in which one frame of each family met that end.
fn bring_about(reason: DropReason) -> Option<World> {
    let room = if reason == DropReason::ReverseTaken {
        1 << 16
    } else {
        4
    };
    let mut world = World::with_room(flags(reason), room);
    match reason {
        DropReason::NodeUnreachable => world.set_node(1, Node::default()),
        DropReason::ReplyLimited => world.spend_replies(),
        DropReason::NoBackend => (0..32).for_each(|slot| world.set_slot(slot, Slot::new([0; 4]))),
        DropReason::ReverseTaken => {
            for (family, id) in families().into_iter().zip([0, 4]) {
                world.set_backend_of(id + TCP_REMOTE, |backend| backend.node = 0);
                hold_ports(&mut world, family, id * 16 + 1);
            }
        }
        _ => {}
    }
    for family in families() {
        let tcp = |port, segment| request(family, port, Some(segment));
        let frame = match reason {
            DropReason::Malformed => {
                // Longer than the frame, in both families.
                let mut frame = tcp(LOCAL, (1, 2, SYN)).build();
                frame.truncate(frame.len() - 1);
                if family.vip.is_ipv4() {
                    world.ingress(&frame);
                    frame.push(0);
                    // A header of sixteen octets.
                    frame[14] = 0x44;
                }
                frame
            }
            DropReason::Fragment | DropReason::PassedToKernel => {
                let mut fragment = request(family, LOCAL, None);
                fragment.fragment = 0x2000;
                if family.vip.is_ipv4() {
                    fragment.build()
                } else {
                    fragment.wrap(44, &[17, 0, 0, 1, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0])
                }
            }
            DropReason::UnknownProtocol => request(family, LOCAL, None).wrap(50, &[0; 24]),
            DropReason::UnservedPort => tcp(NOBODY, (1, 0, SYN)).build(),
            DropReason::UnservedUdp => request(family, NOBODY, None).build(),
            DropReason::NoBackend => tcp(LOCAL, (1, 0, SYN)).build(),
            DropReason::NoTunnel => {
                let mut frame = tcp(REMOTE, (1, 0, SYN));
                frame.from = PEER;
                frame.build()
            }
            DropReason::NodeUnreachable => tcp(REMOTE, (1, 0, SYN)).build(),
            DropReason::TtlExpired => {
                let mut frame = tcp(REMOTE, (1, 0, SYN));
                frame.ttl = 1;
                frame.build()
            }
            DropReason::ReverseTaken => tcp(REMOTE, (1, 0, SYN)).build(),
            DropReason::UdpFull => {
                for source_port in [1, 2, 3] {
                    let mut frame = request(family, LOCAL, None);
                    frame.source_port = source_port;
                    world.ingress(&frame.build());
                    let mut answer = response(family, None);
                    answer.destination_port = source_port;
                    world.egress(&answer.build());
                }
                continue;
            }
            DropReason::UnknownFlow => tcp(LOCAL, (1, 2, RST)).build(),
            DropReason::Located => tcp(LOCAL, (1, 2, ACK)).build(),
            DropReason::ReplyLimited => tcp(LOCAL, (1, 2, ACK)).build(),
            DropReason::EstablishedFull => {
                for source_port in [1, 2, 3] {
                    let frame = |tcp| {
                        let mut frame = request(family, LOCAL, Some(tcp));
                        frame.source_port = source_port;
                        frame.build()
                    };
                    world.ingress(&frame((1, 0, SYN)));
                    let mut answer = response(family, Some((9, 2, SYN | ACK)));
                    answer.destination_port = source_port;
                    world.egress(&answer.build());
                    world.ingress(&frame((2, 10, ACK)));
                }
                continue;
            }
            DropReason::NotResumed => {
                world.ingress_without_calls(&tcp(LOCAL, (1, 0, SYN)).build());
                continue;
            }
            DropReason::TooBig | DropReason::NotOwner => return Some(between_nodes(reason)),
            DropReason::NotRewritable | DropReason::TableFull => return None,
        };
        world.ingress(&frame);
    }
    Some(world)
}

/// Lets the client talk to the pod from each port that it may seem to have, and from its own among them.
fn hold_ports(world: &mut World, family: Family, backend: u32) {
    for port in (0x8000..=u16::MAX).map(Be16::new) {
        let flow = Flow {
            addr: words(family.vip),
            port: Be16::new(LOCAL),
            client_port: port,
            generation: 7,
            backend,
            ..Flow::default()
        };
        let (pod, client) = (words(family.pod), words(family.client));
        if family.vip.is_ipv4() {
            let key = reverse_key::<V4>(pod, client, port);
            world.insert(map::ESTABLISHED4, key, flow);
            let mut flows = world.memory.flows4.borrow_mut();
            flows.insert((FlowTable::Established, key), flow);
        } else {
            let key = reverse_key::<V6>(pod, client, port);
            world.insert(map::ESTABLISHED6, key, flow);
            let mut flows = world.memory.flows6.borrow_mut();
            flows.insert((FlowTable::Established, key), flow);
        }
    }
}

fn reverse_key<A: family::Family>(pod: AddrWords, client: AddrWords, port: Be16) -> A::FlowKey {
    let ends = Endpoints {
        source: A::from_words(&pod),
        destination: A::from_words(&client),
        source_port: Be16::new(POD_PORT),
        destination_port: port,
    };
    A::flow_key(&ends, 6, flow_direction::REVERSE)
}

/// A node of two, of which one frame of each family met an end that takes a peer.
fn between_nodes(reason: DropReason) -> World {
    if reason == DropReason::TooBig {
        let cluster = Cluster::new(node_mode::GENEVE, 0, 0);
        for family in families() {
            let mut frame = request(family, REMOTE, Some((1, 2, ACK)));
            frame.payload = vec![7; 1_440];
            // No error may answer: there is no DF in IPv4, and to a group.
            if !family.vip.is_ipv4() {
                frame.source = "ff02::1".parse().unwrap();
            }
            cluster.send(HERE, &frame.build());
        }
        return cluster.into_world(HERE);
    }
    let mut cluster = Cluster::new(node_mode::L2, 0, 0);
    // The other node believes that the pod is here.
    cluster.swap_owners(THERE);
    for family in families() {
        let mut frame = request(family, REMOTE, Some((1, 0, SYN)));
        frame.from = PEER;
        let sent = cluster.send(HERE, &frame.build());
        cluster.send(THERE, &sent.frame);
    }
    cluster.into_world(THERE)
}

fn flags(reason: DropReason) -> u32 {
    match reason {
        DropReason::PassedToKernel => config_flags::KERNEL_KNOWS_VIPS,
        DropReason::Located => config_flags::LOCATE,
        _ => 0,
    }
}
