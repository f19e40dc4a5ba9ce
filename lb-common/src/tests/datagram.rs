//! UDP flows: how they begin, are promoted, and give way.

use crate::drop::DropReason;
use crate::flow::{FlowTable, UDP_TIMEOUT};
use crate::maps::{flow_direction, flow_state};
use crate::memory::{Action, MemoryTables};
use crate::tests::world::{
    CLIENT_PORT, Ends, HERE, delivered, drops, entries, families, request, response, seconds,
    set_slots, tables, translated,
};

/// Entries of the table of unanswered and of that of answered UDP flows.
fn datagrams(tables: &MemoryTables) -> (usize, usize) {
    (
        entries(tables, FlowTable::Unanswered).len(),
        entries(tables, FlowTable::Udp).len(),
    )
}

/// A datagram from another port of the client, and the pod's answer; whether both got through.
fn is_served(tables: &MemoryTables, ends: Ends, port: u16) -> bool {
    let (mut there, mut back) = (request(ends, HERE, None), response(ends, None));
    there.source.1 = port;
    back.destination.1 = port;
    let mut expected = back.clone();
    expected.source = (ends.vip, HERE);
    there.ingress(tables).0 == Action::Pass && back.egress(tables) == expected.build()
}

#[test]
fn a_datagrams_flow_may_be_evicted_until_the_pod_answers() {
    for ends in families() {
        let tables = tables(0);
        for _ in 0..2 {
            let arrived = request(ends, HERE, None).ingress(&tables);
            assert_eq!(arrived, delivered(ends, None));
            assert_eq!(datagrams(&tables), (2, 0));
        }
        for _ in 0..2 {
            assert_eq!(response(ends, None).egress(&tables), translated(ends, None));
            assert_eq!(datagrams(&tables), (0, 2));
            let arrived = request(ends, HERE, None).ingress(&tables);
            assert_eq!(arrived, delivered(ends, None));
        }
        let udp = entries(&tables, FlowTable::Udp);
        assert!(udp.iter().all(|flow| flow.state == flow_state::ANSWERED));
        let flows = |id| tables.stats.borrow()[&id].flows;
        assert_eq!(flows(ends.id + 1), 1);
    }
}

#[test]
fn a_full_table_keeps_what_was_answered_and_new_flows_of_datagrams_work_beside_it() {
    for ends in families() {
        let mut tables = MemoryTables {
            capacity: 4,
            ..tables(0)
        };
        for count in 0..3 {
            assert!(is_served(&tables, ends, CLIENT_PORT + count));
        }
        assert_eq!(datagrams(&tables), (2, 4));
        assert_eq!(drops(&tables, DropReason::UdpFull), 1);
        for count in 0..3 {
            assert!(is_served(&tables, ends, CLIENT_PORT + count));
        }
        tables.capacity = 6;
        assert!(is_served(&tables, ends, CLIENT_PORT + 2));
        assert_eq!(datagrams(&tables), (0, 6));
    }
}

#[test]
fn an_unanswered_flow_is_over_once_it_was_idle_for_too_long() {
    for ends in families() {
        for (idle, is_over) in [(UDP_TIMEOUT, false), (UDP_TIMEOUT + 1, true)] {
            let mut tables = tables(0);
            request(ends, HERE, None).ingress(&tables);
            seconds(&tables, 1_000 + u64::from(idle));
            let answer = response(ends, None);
            let left = answer.egress(&tables);
            assert_eq!(left == answer.build(), is_over, "{idle}");
            // Its slot leads elsewhere by now.
            set_slots(&mut tables, ends.id + 1, |_| 0);
            let (action, _) = request(ends, HERE, None).ingress(&tables);
            assert_eq!(action == Action::Drop, is_over, "{idle}");
        }
    }
}

#[test]
fn a_flow_of_which_one_entry_was_evicted_begins_anew() {
    for ends in families() {
        for evicted in [flow_direction::FORWARD, flow_direction::REVERSE] {
            let tables = tables(0);
            request(ends, HERE, None).ingress(&tables);
            let mut flows = tables.flows4.borrow_mut();
            flows.retain(|(_, key), _| key.direction != evicted);
            drop(flows);
            let mut flows = tables.flows6.borrow_mut();
            flows.retain(|(_, key), _| key.direction != evicted);
            drop(flows);
            assert_eq!(datagrams(&tables), (1, 0));
            assert!(is_served(&tables, ends, CLIENT_PORT));
            assert_eq!(datagrams(&tables), (0, 2));
        }
    }
}

#[test]
fn an_entry_without_its_twin_is_not_left_behind() {
    for ends in families() {
        let tables = MemoryTables {
            capacity: 3,
            ..tables(0)
        };
        for count in 0..2 {
            assert!(is_served(&tables, ends, CLIENT_PORT + count));
        }
        assert_eq!(datagrams(&tables), (2, 2));
        assert_eq!(drops(&tables, DropReason::UdpFull), 1);
    }
}
