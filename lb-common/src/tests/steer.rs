//! Steering: affinity, nodes out of reach, hops, what is too hard.

use std::collections::HashSet;

use crate::addr::{Be16, Be32};
use crate::decide::{Verdict, ingress};
use crate::drop::DropReason;
use crate::flow::FlowTable;
use crate::maps::{Backend, Node, backend_flags, config_flags, frontend_flags, node_mode};
use crate::memory::{Action, MemoryTables};
use crate::tests::world::{
    Ends, HERE, NOWHERE, PEER, THERE, backend, delivered, drops, entries, establish, families,
    request, set_slots, tables,
};
use crate::wire::tcp::flags::{ACK, RST, SYN};

const OPENING: Option<(u32, u32, u8)> = Some((1, 0, SYN));

/// Sixteen slots with sixteen pods of this node, told apart by their ports.
fn spread(tables: &mut MemoryTables, id: u32, flags: u32) {
    for pod in 1..=16 {
        let one = *backend(tables, id);
        let port = Be16::new(9_000 + pod);
        let pod = id * 64 + 1_000 + u32::from(pod);
        tables.backends.insert(pod, Backend { port, ..one });
    }
    set_slots(tables, id, |slot| slot + 1);
    let four = tables.frontends4.values_mut();
    for frontend in four.chain(tables.frontends6.values_mut()) {
        if frontend.id == id {
            (frontend.flags, frontend.backends) = (flags, id * 64 + 1_000);
        }
    }
}

/// The pods that a client's datagrams from many ports go to.
fn pods(tables: &MemoryTables, ends: Ends) -> HashSet<u16> {
    let pod = |port| {
        let mut packet = request(ends, HERE, None);
        packet.source.1 = port;
        let (action, frame) = packet.ingress(tables);
        assert_eq!(action, Action::Pass);
        let port = 14 + if ends.vip.is_ipv4() { 20 } else { 40 } + 2;
        u16::from_be_bytes([frame[port], frame[port + 1]])
    };
    (1..400).map(pod).collect()
}

#[test]
fn a_client_with_affinity_gets_one_pod_whatever_its_port() {
    for ends in families() {
        let mut tables = tables(0);
        spread(&mut tables, ends.id + 1, 0);
        assert_eq!(pods(&tables, ends).len(), 16);
        spread(&mut tables, ends.id + 1, frontend_flags::CLIENT_AFFINITY);
        tables.flows4.borrow_mut().clear();
        tables.flows6.borrow_mut().clear();
        assert_eq!(pods(&tables, ends).len(), 1);
    }
}

#[test]
fn a_frontend_says_which_way_its_packets_go() {
    for ends in families() {
        let mut tables = tables(0);
        let way = |tables: &mut MemoryTables, mode: u32, flags: u32| {
            let node = Node {
                mode,
                ..tables.nodes[&1]
            };
            tables.nodes.insert(1, node);
            let four = tables.frontends4.values_mut();
            for frontend in four.chain(tables.frontends6.values_mut()) {
                frontend.flags = flags;
            }
            ingress(&request(ends, THERE, OPENING).build()[..], tables)
        };
        for (mode, flags, wanted) in [
            (node_mode::L2, 0, "over the segment"),
            (node_mode::L2, frontend_flags::SEGMENT, "over the segment"),
            (node_mode::L2, frontend_flags::TUNNEL, "on"),
            (node_mode::GENEVE, 0, "on"),
            (node_mode::GENEVE, frontend_flags::TUNNEL, "on"),
            (node_mode::GENEVE, frontend_flags::SEGMENT, "nowhere"),
            (node_mode::UNREACHABLE, frontend_flags::TUNNEL, "nowhere"),
        ] {
            let found = match way(&mut tables, mode, flags) {
                Verdict::Forward(_) => "over the segment",
                Verdict::Resume => "on",
                Verdict::Drop(DropReason::NodeUnreachable) => "nowhere",
                other => panic!("{other:?}"),
            };
            assert_eq!(found, wanted, "mode {mode}, flags {flags}");
        }
    }
}

#[test]
fn a_node_without_a_known_mac_is_out_of_reach() {
    for (number, ends) in families().into_iter().enumerate() {
        let mut tables = tables(0);
        let unreachable = Node {
            mode: node_mode::UNREACHABLE,
            ..tables.nodes[&1]
        };
        tables.nodes.insert(1, unreachable);
        let (action, _) = request(ends, THERE, OPENING).ingress(&tables);
        assert_eq!(action, Action::Drop);
        // A node that is in no table at all.
        backend(&mut tables, ends.id + 2).node = 9;
        request(ends, THERE, OPENING).ingress(&tables);
        assert_eq!(drops(&tables, DropReason::NodeUnreachable), 2, "{number}");
        assert!(tables.stats.borrow().is_empty());
    }
}

#[test]
fn a_peers_frame_goes_on_in_a_tunnel_or_not_at_all() {
    for ends in families() {
        let tables = tables(0);
        for tcp in [OPENING, Some((1, 2, ACK)), None] {
            let mut packet = request(ends, THERE, tcp);
            packet.from = PEER;
            assert_eq!(packet.ingress(&tables).0, Action::Drop);
        }
        assert_eq!(drops(&tables, DropReason::NoTunnel), 3);
    }
}

#[test]
fn a_peers_frame_of_a_flow_of_ours_is_delivered_though_the_slot_moved() {
    for ends in families() {
        let mut tables = tables(0);
        establish(&tables, ends);
        request(ends, HERE, None).ingress(&tables);
        for id in [ends.id, ends.id + 1] {
            let elsewhere = Backend {
                node: 1,
                ..*backend(&mut tables, id)
            };
            tables.backends.insert(id * 16 + 2, elsewhere);
            set_slots(&mut tables, id, |_| 2);
        }
        for tcp in [Some((101, 901, ACK)), None] {
            let mut packet = request(ends, HERE, tcp);
            packet.from = PEER;
            let mut expected = delivered(ends, tcp);
            expected.1[6..12].copy_from_slice(&PEER);
            assert_eq!(packet.ingress(&tables), expected);
        }
    }
}

#[test]
fn a_mac_that_shares_a_peers_filter_bit_is_no_peers() {
    let mut tables = tables(0);
    tables.config.peer_filter = u64::MAX;
    for ends in families() {
        let (action, _) = request(ends, THERE, OPENING).ingress(&tables);
        assert_eq!(action, Action::Transmit);
    }
}

#[test]
fn a_frame_for_another_mac_passes() {
    let tables = tables(config_flags::REJECT_UNSERVED);
    for ends in families() {
        for port in [HERE, THERE, NOWHERE] {
            for to in [PEER, [0xff; 6], [0x33, 0x33, 0, 0, 0, 1]] {
                let mut packet = request(ends, port, OPENING);
                packet.to = to;
                assert_eq!(packet.ingress(&tables), (Action::Pass, packet.build()));
            }
        }
    }
}

#[test]
fn a_packet_that_would_leave_without_ttl_is_dropped() {
    let tables = tables(0);
    for ends in families() {
        for port in [HERE, THERE] {
            for (ttl, is_dropped) in [(0, true), (1, true), (2, false)] {
                let mut packet = request(ends, port, OPENING);
                packet.ttl = ttl;
                let (action, frame) = packet.ingress(&tables);
                assert_eq!(action == Action::Drop, is_dropped, "{ttl}");
                let at = if ends.vip.is_ipv4() { 22 } else { 21 };
                assert_eq!(frame[at], ttl - u8::from(!is_dropped));
            }
        }
    }
    assert_eq!(drops(&tables, DropReason::TtlExpired), 8);
    assert_eq!(entries(&tables, FlowTable::HalfOpen).len(), 4);
}

#[test]
fn what_is_too_hard_goes_to_a_kernel_that_knows_the_vip_and_else_ends() {
    let silent = tables(0);
    let known = tables(config_flags::KERNEL_KNOWS_VIPS);
    for ends in families() {
        let mut frame = request(ends, HERE, None).build();
        // A protocol that is not balanced.
        let at = if ends.vip.is_ipv4() { 23 } else { 20 };
        frame[at] = 50;
        let mut copy = frame.clone();
        assert_eq!(silent.run_ingress(&mut copy), Action::Drop);
        assert_eq!(known.run_ingress(&mut copy), Action::Pass);
        assert_eq!(copy, frame);
    }
    assert_eq!(drops(&silent, DropReason::UnknownProtocol), 2);
    assert_eq!(drops(&known, DropReason::PassedToKernel), 2);
    assert_eq!(drops(&known, DropReason::UnknownProtocol), 0);
}

#[test]
fn what_nobody_serves_ends_here_even_where_the_kernel_knows_the_vip() {
    let tables = tables(config_flags::KERNEL_KNOWS_VIPS);
    for ends in families() {
        for tcp in [OPENING, None] {
            let (action, _) = request(ends, NOWHERE, tcp).ingress(&tables);
            assert_eq!(action, Action::Drop);
        }
    }
    assert_eq!(drops(&tables, DropReason::UnservedPort), 2);
    assert_eq!(drops(&tables, DropReason::UnservedUdp), 2);
}

#[test]
fn a_frontend_whose_backend_is_gone_has_none() {
    for ends in families() {
        let mut tables = tables(0);
        for id in [ends.id, ends.id + 1] {
            backend(&mut tables, id).flags &= !backend_flags::IN_USE;
        }
        for tcp in [OPENING, Some((1, 2, RST)), None] {
            let (action, _) = request(ends, HERE, tcp).ingress(&tables);
            assert_eq!(action, Action::Drop);
        }
        assert_eq!(drops(&tables, DropReason::NoBackend), 2);
        assert_eq!(drops(&tables, DropReason::UnknownFlow), 1);
    }
}

#[test]
fn packets_and_octets_are_counted_where_they_are_steered_and_where_they_are_delivered() {
    let tables = tables(0);
    let [ends, _] = families();
    let octets = request(ends, THERE, OPENING).build().len() as u64;
    request(ends, THERE, OPENING).ingress(&tables);
    let stats = tables.stats.borrow()[&(ends.id + 2)];
    let counted = (stats.packets, stats.bytes, stats.flows, stats.delivered);
    assert_eq!(counted, (1, octets, 0, 0));
    establish(&tables, ends);
    let stats = tables.stats.borrow()[&ends.id];
    let counted = (stats.packets, stats.bytes, stats.flows, stats.delivered);
    assert_eq!(counted, (2, 2 * octets, 1, 2));
}

#[test]
fn the_hop_gets_the_macs_of_the_node_entry() {
    let mut tables = tables(0);
    let ethernet = [
        Be32::new(0x0102_0304),
        Be32::new(0x0506_0708),
        Be32::new(0x090a_0b0c),
    ];
    let node = Node {
        ethernet,
        ..tables.nodes[&1]
    };
    tables.nodes.insert(1, node);
    for ends in families() {
        let (_, frame) = request(ends, THERE, OPENING).ingress(&tables);
        assert_eq!(frame[..12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
    }
}
