//! The daisy chain, exceptions and what the agent is told.

use harness::frame::{ACK, FIN, SYN};
use lb_common::addr::words4;
use lb_common::drop::DropReason;
use lb_common::maps::{
    Exception, Slot, config_flags, event_kind, exception_state, node_mode, tour_flags,
};
use lb_common::outcome::Outcome;

use crate::cluster::{Cluster, HERE, THERE};
use crate::world::{Family, LOCAL, XDP_DROP, XDP_PASS, XDP_TX, families, request};

/// Octet of the option's flags in a frame without VLAN tags that came through an IPv4 tunnel.
const FLAGS: usize = 14 + 20 + 8 + 12;

/// A connection is established there; then the slot's owner moves here.
fn moved(flags: u32) -> Cluster {
    let mut cluster = Cluster::new(node_mode::L2, 0, flags);
    cluster.set_slots(LOCAL, Slot::new([2, 1, 0, 0]));
    for family in families() {
        cluster.establish(THERE, family, LOCAL);
    }
    cluster.set_slots(LOCAL, Slot::new([1, 2, 0, 0]));
    cluster
}

fn data(family: Family) -> Vec<u8> {
    request(family, LOCAL, Some((101, 901, ACK))).build()
}

#[test]
fn a_flow_is_found_at_the_former_owner_and_its_origin_is_told() {
    let mut cluster = moved(0);
    for family in families() {
        let sent = cluster.send(HERE, &data(family));
        assert_eq!(sent.action, XDP_TX);
        assert_eq!(sent.frame[FLAGS], tour_flags::CHAIN);
        assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_PASS);
        // At most one report a second and flow.
        cluster.send(THERE, &sent.frame);
    }
    assert_eq!(cluster.count(HERE, Outcome::ChainBegun), 2);
    assert_eq!(cluster.count(THERE, Outcome::ChainHit), 4);
    let events = cluster.events(THERE);
    assert_eq!(events.len(), 2);
    for event in events {
        assert_eq!(event.kind, event_kind::CHAIN_HIT);
        assert_eq!(event.origin, words4([192, 0, 2, 1].into()));
        assert_eq!(event.source_port.host(), 41_000);
    }
}

#[test]
fn an_exception_is_one_hop_and_is_not_reported() {
    let mut cluster = moved(0);
    for family in families() {
        cluster.except(HERE, family, LOCAL, 2, 0);
        let sent = cluster.send(HERE, &data(family));
        assert_eq!(sent.frame[FLAGS], tour_flags::CHAIN | tour_flags::KNOWN);
        assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_PASS);
    }
    assert_eq!(cluster.count(HERE, Outcome::Excepted), 2);
    assert!(cluster.events(THERE).is_empty());
}

#[test]
fn a_syn_after_the_clients_fin_is_a_new_flow_despite_an_exception() {
    let mut cluster = moved(0);
    for family in families() {
        cluster.except(HERE, family, LOCAL, 2, 0);
        let fin = request(family, LOCAL, Some((101, 901, ACK | FIN)));
        assert_eq!(cluster.send(HERE, &fin.build()).action, XDP_TX);
        let syn = request(family, LOCAL, Some((700, 0, SYN)));
        assert_eq!(cluster.send(HERE, &syn.build()).action, XDP_PASS);
    }
}

#[test]
fn a_syn_that_an_exception_led_astray_comes_back_and_begins_a_flow() {
    let mut cluster = Cluster::new(node_mode::L2, 0, 0);
    cluster.set_slots(LOCAL, Slot::new([1, 2, 0, 0]));
    for family in families() {
        cluster.except(HERE, family, LOCAL, 2, 0);
        let syn = request(family, LOCAL, Some((700, 0, SYN)));
        let there = cluster.send(HERE, &syn.build());
        let back = cluster.send(THERE, &there.frame);
        assert_eq!(back.action, XDP_TX);
        assert_eq!(back.frame[FLAGS], tour_flags::FINAL | tour_flags::RETURNED);
        assert_eq!(cluster.send(HERE, &back.frame).action, XDP_PASS);
    }
}

#[test]
fn a_flow_nobody_on_the_list_has_is_reset_where_the_list_ends() {
    let mut cluster = Cluster::new(node_mode::L2, 0, 0);
    cluster.set_slots(LOCAL, Slot::new([1, 2, 0, 0]));
    for family in families() {
        let sent = cluster.send(HERE, &data(family));
        let run = cluster.send(THERE, &sent.frame);
        assert_eq!(run.action, XDP_TX);
        assert!(run.frame.len() < sent.frame.len() - 40);
    }
    assert_eq!(cluster.count(THERE, Outcome::ChainEnded), 2);
}

#[test]
fn with_locate_the_agent_is_asked_and_nobody_is_reset_before_it_answers() {
    let mut cluster = Cluster::new(node_mode::L2, 0, config_flags::LOCATE);
    cluster.set_slots(LOCAL, Slot::new([1, 2, 0, 0]));
    for family in families() {
        let sent = cluster.send(HERE, &data(family));
        assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_DROP);
        cluster.except(HERE, family, LOCAL, 0, exception_state::NOBODY);
        assert_eq!(cluster.send(HERE, &data(family)).action, XDP_TX);
    }
    assert_eq!(cluster.drops(THERE, DropReason::Located), 2);
    let events = cluster.events(THERE);
    assert_eq!(events.len(), 2);
    for event in events {
        assert_eq!(event.kind, event_kind::LOCATE);
        assert_eq!(event.origin, words4([192, 0, 2, 1].into()));
    }
}

/// The pod addresses on a list in a frame that came through an IPv4 tunnel.
fn list(frame: &[u8]) -> Vec<[u8; 16]> {
    let count = usize::from(frame[FLAGS + 2]);
    let owners = frame[FLAGS + 28..].chunks(20).take(count);
    owners
        .map(|owner| owner[..16].try_into().unwrap())
        .collect()
}

#[test]
fn a_list_holds_neither_this_node_nor_one_twice_nor_a_dead_one() {
    let mut cluster = Cluster::new(node_mode::L2, 0, 0);
    cluster.add_third_node();
    // Number 1 runs here, 2 there, 3 on the third node.
    for (slot, dead, names_third) in [
        ([1, 2, 3, 2], false, true),
        ([1, 2, 2, 3], false, true),
        ([1, 2, 1, 0], false, false),
        ([1, 1, 2, 2], false, false),
        ([1, 2, 3, 0], true, false),
    ] {
        cluster.set_slots(LOCAL, Slot::new(slot));
        if dead {
            cluster.kill(HERE);
        }
        for family in families() {
            let sent = cluster.send(HERE, &data(family));
            assert_eq!(sent.action, XDP_TX, "{slot:?}");
            let third = cluster.third_pod(family);
            let expected: &[_] = if names_third { &[third] } else { &[] };
            assert_eq!(list(&sent.frame), expected, "{slot:?}");
            // Last octet of where the tunnel leads.
            let to = if dead { 3 } else { 2 };
            assert_eq!(sent.frame[14 + 19], to, "{slot:?}");
        }
    }
}

#[test]
fn a_packet_without_ttl_ends_in_its_tunnel() {
    let cluster = moved(0);
    for family in families() {
        let mut frame = request(family, LOCAL, Some((101, 901, ACK)));
        frame.ttl = 2;
        let sent = cluster.send(HERE, &frame.build());
        assert_eq!(sent.action, XDP_TX);
        assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_DROP);
    }
    assert_eq!(cluster.drops(THERE, DropReason::TtlExpired), 2);
}

#[test]
fn a_dead_node_is_not_on_a_list() {
    let mut cluster = moved(0);
    cluster.kill(HERE);
    for family in families() {
        cluster.send(HERE, &data(family));
    }
    assert_eq!(cluster.count(HERE, Outcome::ChainBegun), 0);
}

#[test]
fn a_datagram_walks_the_list_after_a_change_alone_and_then_begins_a_flow() {
    let mut cluster = Cluster::new(node_mode::L2, 0, 0);
    cluster.set_slots(LOCAL, Slot::new([1, 2, 0, 0]));
    cluster.set_changed(true);
    for family in families() {
        let sent = cluster.send(HERE, &request(family, LOCAL, None).build());
        assert_eq!(sent.frame[FLAGS], tour_flags::CHAIN);
        let back = cluster.send(THERE, &sent.frame);
        assert_eq!(cluster.send(HERE, &back.frame).action, XDP_PASS);
    }
    cluster.set_changed(false);
    for family in families() {
        let mut frame = request(family, LOCAL, None);
        frame.source_port = 41_001;
        assert_eq!(cluster.send(HERE, &frame.build()).action, XDP_PASS);
    }
}

#[test]
fn an_exception_takes_twelve_octets() {
    assert_eq!(size_of::<Exception>(), 12);
}

#[test]
fn a_late_copy_of_a_syn_does_not_hide_the_flow_that_lives_elsewhere() {
    for flags in [0, config_flags::LOCATE] {
        let cluster = moved(flags);
        for family in families() {
            let syn = request(family, LOCAL, Some((100, 0, SYN)));
            assert_eq!(cluster.send(HERE, &syn.build()).action, XDP_PASS);
            cluster.answer(HERE, family, (7_000, 101));
            for _ in 0..2 {
                let sent = cluster.send(HERE, &data(family));
                assert_eq!(sent.frame[FLAGS], tour_flags::CHAIN | tour_flags::HALF_OPEN);
                assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_PASS);
            }
        }
        assert_eq!(cluster.count(THERE, Outcome::ChainHit), 4);
    }
}

#[test]
fn a_segment_that_does_not_fit_a_half_open_flow_comes_back_if_nobody_has_another() {
    let mut cluster = Cluster::new(node_mode::L2, 0, 0);
    cluster.set_slots(LOCAL, Slot::new([1, 2, 0, 0]));
    for family in families() {
        let syn = request(family, LOCAL, Some((100, 0, SYN)));
        assert_eq!(cluster.send(HERE, &syn.build()).action, XDP_PASS);
        cluster.answer(HERE, family, (7_000, 101));
        let sent = cluster.send(HERE, &data(family));
        let back = cluster.send(THERE, &sent.frame);
        assert_eq!(back.frame[FLAGS], tour_flags::FINAL | tour_flags::RETURNED);
        assert_eq!(cluster.send(HERE, &back.frame).action, XDP_PASS);
    }
    assert_eq!(cluster.count(HERE, Outcome::Promoted), 0);
}

#[test]
fn what_the_peers_do_not_know_either_is_left_to_the_half_open_flow() {
    let mut cluster = Cluster::new(node_mode::L2, 0, config_flags::LOCATE);
    cluster.set_slots(LOCAL, Slot::new([1, 2, 0, 0]));
    for family in families() {
        let syn = request(family, LOCAL, Some((100, 0, SYN)));
        assert_eq!(cluster.send(HERE, &syn.build()).action, XDP_PASS);
        cluster.answer(HERE, family, (7_000, 101));
        let sent = cluster.send(HERE, &data(family));
        assert_eq!(cluster.send(THERE, &sent.frame).action, XDP_DROP);
        cluster.except(HERE, family, LOCAL, 0, exception_state::NOBODY);
        assert_eq!(cluster.send(HERE, &data(family)).action, XDP_PASS);
    }
    assert_eq!(cluster.drops(THERE, DropReason::Located), 2);
}
