//! One client port that meets one pod port behind two frontends.

use std::vec::Vec;

use crate::drop::DropReason;
use crate::flow::{FlowTable, HALF_OPEN_TIMEOUT};
use crate::maps::{Backend, Slot, backend_flags, flow_state};
use crate::memory::{Action, MemoryTables};
use crate::outcome::Outcome;
use crate::tests::world::{
    self, CLIENT_PORT, Ends, HERE, POD_PORT, THERE, backend, drops, entries, establish, families,
    request, response, seconds, tables, translated, words,
};
use crate::wire::tcp::flags::{ACK, FIN, RST, SYN};

type Segment = Option<(u32, u32, u8)>;

const SYN_1: Segment = Some((100, 0, SYN));
const SYN_ACK: Segment = Some((900, 101, SYN | ACK));
const HANDSHAKE: Segment = Some((101, 901, ACK));

/// Leads the other service to the same port of the same pod.
fn twin(tables: &mut MemoryTables, ends: Ends) {
    for id in [ends.id + 2, ends.id + 3] {
        backend(tables, id).node = 0;
    }
}

/// A node where a connection and a UDP flow to one service are open, and the other has the same pod.
fn prepared(ends: Ends) -> MemoryTables {
    let mut tables = tables(0);
    twin(&mut tables, ends);
    establish(&tables, ends);
    request(ends, HERE, None).ingress(&tables);
    response(ends, None).egress(&tables);
    tables
}

/// Sends a packet to the other service; which port of the client's the pod sees in it, if it is delivered
/// there and nothing else of it was changed.
fn seen_port(tables: &MemoryTables, ends: Ends, tcp: Segment) -> u16 {
    let (action, frame) = request(ends, THERE, tcp).ingress(tables);
    assert_eq!(action, Action::Pass);
    let at = if ends.vip.is_ipv4() { 34 } else { 54 };
    let port = u16::from_be_bytes([frame[at], frame[at + 1]]);
    let mut expected = request(ends, HERE, tcp);
    (expected.source.1, expected.destination, expected.ttl) = (port, (ends.pod, POD_PORT), 59);
    assert_eq!(frame, expected.build());
    port
}

/// Lets both sides end the connection to the one service.
fn close(tables: &MemoryTables, ends: Ends) {
    request(ends, HERE, Some((101, 901, FIN | ACK))).ingress(tables);
    response(ends, Some((901, 102, FIN | ACK))).egress(tables);
}

/// What the client gets of the other service.
fn answer(ends: Ends, tcp: Segment) -> Vec<u8> {
    let mut packet = response(ends, tcp);
    packet.source = (ends.vip, THERE);
    packet.build()
}

/// The pod's packet to that port of the client's, as it leaves.
fn leaves(tables: &MemoryTables, ends: Ends, port: u16, tcp: Segment) -> Vec<u8> {
    let mut packet = response(ends, tcp);
    packet.destination.1 = port;
    packet.egress(tables)
}

#[test]
fn the_second_flow_gets_another_port_there_and_the_clients_own_back() {
    for ends in families() {
        let tables = prepared(ends);
        let port = seen_port(&tables, ends, SYN_1);
        assert_ne!(port, CLIENT_PORT);
        for _ in 0..2 {
            assert_eq!(seen_port(&tables, ends, SYN_1), port);
            assert_eq!(leaves(&tables, ends, port, SYN_ACK), answer(ends, SYN_ACK));
        }
        // Half-open, as it is promoted, and established.
        for _ in 0..2 {
            assert_eq!(seen_port(&tables, ends, HANDSHAKE), port);
            let data = Some((901, 101, ACK));
            assert_eq!(leaves(&tables, ends, port, data), answer(ends, data));
        }
        assert_eq!(entries(&tables, FlowTable::Established).len(), 4);
        assert!(entries(&tables, FlowTable::HalfOpen).is_empty());
        let of_datagrams = seen_port(&tables, ends, None);
        assert_ne!(of_datagrams, CLIENT_PORT);
        for _ in 0..2 {
            let left = leaves(&tables, ends, of_datagrams, None);
            assert_eq!(left, answer(ends, None));
            assert_eq!(seen_port(&tables, ends, None), of_datagrams);
        }
        assert_eq!(entries(&tables, FlowTable::Udp).len(), 4);
        assert!(entries(&tables, FlowTable::Unanswered).is_empty());
        // And what was there is whole.
        for tcp in [HANDSHAKE, None] {
            assert_eq!(response(ends, tcp).egress(&tables), translated(ends, tcp));
        }
        assert_eq!(tables.outcomes.borrow()[&Outcome::PortTranslated], 2);
    }
}

#[test]
fn fin_and_reset_of_a_flow_with_another_port_are_noted_in_both_its_entries() {
    for ends in families() {
        for (is_pods, control, state) in [
            (false, FIN | ACK, flow_state::CLIENT_FIN),
            (true, FIN | ACK, flow_state::POD_FIN),
            (false, RST, flow_state::RESET),
            (true, RST | ACK, flow_state::RESET),
        ] {
            let tables = prepared(ends);
            let port = seen_port(&tables, ends, SYN_1);
            leaves(&tables, ends, port, SYN_ACK);
            seen_port(&tables, ends, HANDSHAKE);
            if is_pods {
                leaves(&tables, ends, port, Some((901, 101, control)));
            } else {
                seen_port(&tables, ends, Some((101, 901, control)));
            }
            let closed = || entries(&tables, FlowTable::Established).into_iter();
            assert_eq!(closed().filter(|flow| flow.state & state != 0).count(), 2);
            // Both go when another begins.
            assert_eq!(seen_port(&tables, ends, SYN_1), port);
            assert_eq!(closed().count(), 2);
            assert_eq!(entries(&tables, FlowTable::HalfOpen).len(), 2);
        }
    }
}

#[test]
fn a_port_that_a_flow_was_given_is_anothers_to_go_round() {
    for ends in families() {
        let tables = prepared(ends);
        let port = seen_port(&tables, ends, SYN_1);
        let mut own = request(ends, HERE, SYN_1);
        own.source.1 = port;
        let (action, frame) = own.ingress(&tables);
        assert_eq!(action, Action::Pass);
        let at = if ends.vip.is_ipv4() { 34 } else { 54 };
        assert_ne!(frame[at..at + 2], port.to_be_bytes());
        assert_eq!(leaves(&tables, ends, port, SYN_ACK), answer(ends, SYN_ACK));
    }
}

#[test]
fn a_new_flow_goes_to_another_candidate_before_it_gets_another_port_but_to_none_that_drains() {
    for ends in families() {
        for (flags, is_translated) in [(0, false), (backend_flags::DRAINING, true)] {
            let mut tables = prepared(ends);
            let id = ends.id + 2;
            let second = Backend {
                addr: words(ends.client),
                flags: backend_flags::IN_USE | flags,
                ..*backend(&mut tables, id)
            };
            tables.backends.insert(id * 16 + 2, second);
            for slot in id * 16..id * 16 + 16 {
                tables.slots.insert(slot, Slot::new([1, 2, 0, 0]));
            }
            request(ends, THERE, SYN_1).ingress(&tables);
            let outcomes = tables.outcomes.borrow();
            assert_eq!(
                outcomes.contains_key(&Outcome::PortTranslated),
                is_translated
            );
            let mut flows = entries(&tables, FlowTable::HalfOpen).into_iter();
            assert_eq!(flows.all(|flow| flow.backend == id * 16 + 1), is_translated);
        }
    }
}

#[test]
fn a_client_that_holds_every_port_gets_no_other() {
    for ends in families() {
        let tables = prepared(ends);
        for port in 0x8000..=u16::MAX {
            let mut packet = request(ends, HERE, SYN_1);
            packet.source.1 = port;
            packet.ingress(&tables);
        }
        let (action, _) = request(ends, THERE, SYN_1).ingress(&tables);
        assert_eq!(action, Action::Drop);
        assert_eq!(drops(&tables, DropReason::ReverseTaken), 1);
    }
}

#[test]
fn a_flow_that_ends_leaves_a_younger_one_the_reverse_entry() {
    for ends in families() {
        let tables = prepared(ends);
        close(&tables, ends);
        assert_eq!(seen_port(&tables, ends, SYN_1), CLIENT_PORT);
        response(ends, SYN_ACK).egress(&tables);
        seen_port(&tables, ends, HANDSHAKE);
        // The older one's client opens it anew.
        assert_eq!(request(ends, HERE, SYN_1).ingress(&tables).0, Action::Pass);
        assert_eq!(
            response(ends, HANDSHAKE).egress(&tables),
            answer(ends, HANDSHAKE)
        );
    }
}

#[test]
fn a_reverse_entry_is_free_again_once_its_flow_ends_or_was_half_open_too_long() {
    for ends in families() {
        let mut tables = tables(0);
        twin(&mut tables, ends);
        establish(&tables, ends);
        // As long as the pod talks, its segments are of the older flow.
        request(ends, HERE, Some((101, 901, FIN | ACK))).ingress(&tables);
        let mut other = request(ends, THERE, SYN_1).build();
        tables.run_ingress(&mut other);
        assert_eq!(
            response(ends, HANDSHAKE).egress(&tables),
            translated(ends, HANDSHAKE)
        );

        let mut tables = world::tables(0);
        twin(&mut tables, ends);
        establish(&tables, ends);
        close(&tables, ends);
        assert_eq!(seen_port(&tables, ends, SYN_1), CLIENT_PORT);
        assert_eq!(
            response(ends, SYN_ACK).egress(&tables),
            answer(ends, SYN_ACK),
            "the newer flow has the reply"
        );

        for (idle, is_free) in [(HALF_OPEN_TIMEOUT, false), (HALF_OPEN_TIMEOUT + 1, true)] {
            let mut tables = world::tables(0);
            twin(&mut tables, ends);
            request(ends, HERE, SYN_1).ingress(&tables);
            seconds(&tables, 1_000 + u64::from(idle));
            let port = seen_port(&tables, ends, SYN_1);
            assert_eq!(port == CLIENT_PORT, is_free, "{idle}");
        }
    }
}
