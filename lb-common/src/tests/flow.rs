//! The owner's flows: how they begin, are promoted, close, and give way.

use std::collections::HashMap;
use std::hash::Hash;
use std::vec::Vec;

use crate::addr::Be16;
use crate::drop::DropReason;
use crate::flow::{CLOSED_TIMEOUT, FlowTable, expired};
use crate::maps::{Flow, backend_flags, config_flags, flow_direction, flow_state};
use crate::memory::{Action, MemoryTables};
use crate::tests::world::{
    Ends, HERE, POD_PORT, backend, delivered, drops, entries, establish, families, request,
    response, seconds, set_slots, tables, translated,
};
use crate::wire::protocol;
use crate::wire::tcp::flags::{ACK, FIN, RST, SYN};

type Segment = Option<(u32, u32, u8)>;

const SYN_1: Segment = Some((100, 0, SYN));
const SYN_ACK: Segment = Some((900, 101, SYN | ACK));
const HANDSHAKE: Segment = Some((101, 901, ACK));

/// Entries of the half-open and of the established table.
fn held(tables: &MemoryTables) -> (usize, usize) {
    (
        entries(tables, FlowTable::HalfOpen).len(),
        entries(tables, FlowTable::Established).len(),
    )
}

#[test]
fn no_segment_but_the_ack_of_the_syn_ack_promotes() {
    for ends in families() {
        let tables = tables(0);
        request(ends, HERE, SYN_1).ingress(&tables);
        // The pod has not answered: nothing acknowledges anything.
        request(ends, HERE, Some((101, 1, ACK))).ingress(&tables);
        request(ends, HERE, HANDSHAKE).ingress(&tables);
        assert_eq!(held(&tables), (2, 0));
        response(ends, SYN_ACK).egress(&tables);
        for (acknowledgment, control) in [
            (900, ACK),
            (902, ACK),
            (901, 0),
            (901, SYN | ACK),
            (901, RST | ACK),
            (901, FIN),
        ] {
            let segment = Some((101, acknowledgment, control));
            assert_eq!(
                request(ends, HERE, segment).ingress(&tables),
                delivered(ends, segment)
            );
            assert_eq!(held(&tables), (2, 0), "{segment:?}");
        }
        assert_eq!(
            request(ends, HERE, HANDSHAKE).ingress(&tables),
            delivered(ends, HANDSHAKE)
        );
        assert_eq!(held(&tables), (0, 2));
    }
}

#[test]
fn sequence_numbers_wrap() {
    for ends in families() {
        let tables = tables(0);
        request(ends, HERE, SYN_1).ingress(&tables);
        response(ends, Some((u32::MAX, 101, SYN | ACK))).egress(&tables);
        request(ends, HERE, Some((101, 0, ACK))).ingress(&tables);
        assert_eq!(held(&tables), (0, 2));
    }
}

#[test]
fn the_last_syn_ack_is_the_one_to_be_answered() {
    for ends in families() {
        let tables = tables(0);
        request(ends, HERE, SYN_1).ingress(&tables);
        response(ends, SYN_ACK).egress(&tables);
        response(ends, Some((5_000, 101, SYN | ACK))).egress(&tables);
        request(ends, HERE, HANDSHAKE).ingress(&tables);
        assert_eq!(held(&tables), (2, 0));
        request(ends, HERE, Some((101, 5_001, ACK))).ingress(&tables);
        assert_eq!(held(&tables), (0, 2));
    }
}

#[test]
fn fin_and_reset_are_noted_in_both_entries_whoever_sends_them() {
    let from_client: fn(Ends, u8, &MemoryTables) = |ends, control, tables| {
        request(ends, HERE, Some((101, 901, control))).ingress(tables);
    };
    let from_pod: fn(Ends, u8, &MemoryTables) = |ends, control, tables| {
        response(ends, Some((901, 101, control))).egress(tables);
    };
    for ends in families() {
        for (send, control, state) in [
            (from_client, FIN | ACK, flow_state::CLIENT_FIN),
            (from_pod, FIN | ACK, flow_state::POD_FIN),
            (from_client, RST, flow_state::RESET),
            (from_pod, RST | ACK, flow_state::RESET),
        ] {
            let tables = tables(0);
            establish(&tables, ends);
            send(ends, control, &tables);
            let both = entries(&tables, FlowTable::Established);
            assert!(both.iter().all(|flow| flow.state & state != 0), "{both:?}");
            assert_eq!(both.len(), 2);
        }
    }
}

#[test]
fn a_syn_on_a_flow_that_ends_begins_another() {
    let ends_of = [
        (true, FIN | ACK),
        (false, FIN | ACK),
        (true, RST),
        (false, RST),
    ];
    for ends in families() {
        for (from_client, control) in ends_of {
            let tables = tables(0);
            establish(&tables, ends);
            if from_client {
                request(ends, HERE, Some((101, 901, control))).ingress(&tables);
            } else {
                response(ends, Some((901, 101, control))).egress(&tables);
            }
            assert_eq!(
                request(ends, HERE, SYN_1).ingress(&tables),
                delivered(ends, SYN_1)
            );
            assert_eq!(held(&tables), (2, 0));
            assert!(
                entries(&tables, FlowTable::HalfOpen)
                    .iter()
                    .all(|flow| flow.state == 0)
            );
        }
    }
}

#[test]
fn a_syn_on_an_open_flow_changes_nothing() {
    for ends in families() {
        let tables = tables(0);
        establish(&tables, ends);
        let before = entries(&tables, FlowTable::Established).len();
        assert_eq!(
            request(ends, HERE, SYN_1).ingress(&tables),
            delivered(ends, SYN_1)
        );
        assert_eq!(held(&tables), (0, before));
        let flows = |id| tables.stats.borrow()[&id].flows;
        assert_eq!(flows(ends.id), 1);
    }
}

#[test]
fn a_flow_of_another_generation_is_dead_in_both_directions() {
    for ends in families() {
        let mut tables = tables(0);
        establish(&tables, ends);
        request(ends, HERE, None).ingress(&tables);
        for id in [ends.id, ends.id + 1] {
            backend(&mut tables, id).generation += 1;
        }
        let (action, _) = request(ends, HERE, HANDSHAKE).ingress(&tables);
        assert_eq!(action, Action::Transmit, "a reset");
        for tcp in [SYN_ACK, HANDSHAKE, None] {
            let answer = response(ends, tcp);
            assert_eq!(answer.egress(&tables), answer.build());
        }
        // A datagram begins again with the pod that has the place now.
        assert_eq!(
            request(ends, HERE, None).ingress(&tables),
            delivered(ends, None)
        );
        assert_eq!(response(ends, None).egress(&tables), translated(ends, None));
    }
}

#[test]
fn a_pod_that_drains_keeps_its_flows() {
    for ends in families() {
        let mut tables = tables(0);
        establish(&tables, ends);
        request(ends, HERE, None).ingress(&tables);
        for id in [ends.id, ends.id + 1] {
            backend(&mut tables, id).flags |= backend_flags::DRAINING;
            set_slots(&mut tables, id, |_| 0);
        }
        for tcp in [HANDSHAKE, None] {
            assert_eq!(
                request(ends, HERE, tcp).ingress(&tables),
                delivered(ends, tcp)
            );
            assert_eq!(response(ends, tcp).egress(&tables), translated(ends, tcp));
        }
        let mut other = request(ends, HERE, SYN_1);
        other.source.1 += 1;
        assert_eq!(other.ingress(&tables).0, Action::Drop);
        assert_eq!(drops(&tables, DropReason::NoBackend), 1);
    }
}

/// Adds half-open entries under the keys of the established ones, translated elsewhere.
fn twins<K: Copy + Eq + Hash>(flows: &mut HashMap<(FlowTable, K), Flow>) {
    let port = Be16::new(1);
    let elsewhere: Vec<_> = flows
        .iter()
        .map(|((_, key), flow)| ((FlowTable::HalfOpen, *key), Flow { port, ..*flow }))
        .collect();
    flows.extend(elsewhere);
}

#[test]
fn the_established_entry_comes_before_the_half_open_one() {
    for ends in families() {
        let tables = tables(0);
        establish(&tables, ends);
        twins(&mut tables.flows4.borrow_mut());
        twins(&mut tables.flows6.borrow_mut());
        assert_eq!(held(&tables), (2, 2));
        assert_eq!(
            request(ends, HERE, HANDSHAKE).ingress(&tables),
            delivered(ends, HANDSHAKE)
        );
        assert_eq!(
            response(ends, HANDSHAKE).egress(&tables),
            translated(ends, HANDSHAKE)
        );
    }
}

#[test]
fn a_confirmed_flow_waits_half_open_for_room_and_then_is_established() {
    for ends in families() {
        let mut tables = MemoryTables {
            capacity: 1,
            ..tables(0)
        };
        establish(&tables, ends);
        assert_eq!(held(&tables), (2, 0));
        assert_eq!(drops(&tables, DropReason::EstablishedFull), 1);
        // It works meanwhile, and does not try again with each packet.
        let data = Some((150, 950, ACK));
        assert_eq!(
            request(ends, HERE, data).ingress(&tables),
            delivered(ends, data)
        );
        assert_eq!(response(ends, data).egress(&tables), translated(ends, data));
        assert_eq!(drops(&tables, DropReason::EstablishedFull), 1);
        tables.capacity = 0;
        seconds(&tables, 1_001);
        request(ends, HERE, data).ingress(&tables);
        assert_eq!(held(&tables), (0, 2));
    }
}

#[test]
fn packets_of_either_side_refresh_both_entries() {
    for ends in families() {
        let tables = tables(0);
        establish(&tables, ends);
        request(ends, HERE, None).ingress(&tables);
        let seen = |table| -> Vec<u32> {
            entries(&tables, table)
                .iter()
                .map(|flow| flow.seen)
                .collect()
        };
        seconds(&tables, 1_010);
        request(ends, HERE, HANDSHAKE).ingress(&tables);
        request(ends, HERE, None).ingress(&tables);
        assert_eq!(seen(FlowTable::Established), [1_010, 1_010]);
        assert_eq!(seen(FlowTable::Unanswered), [1_010, 1_010]);
        seconds(&tables, 1_020);
        response(ends, HANDSHAKE).egress(&tables);
        response(ends, None).egress(&tables);
        assert_eq!(seen(FlowTable::Established), [1_020, 1_020]);
        assert_eq!(seen(FlowTable::Udp), [1_020, 1_020]);
        seconds(&tables, 1_030);
        request(ends, HERE, None).ingress(&tables);
        assert_eq!(seen(FlowTable::Udp), [1_030, 1_030]);
        let udp = entries(&tables, FlowTable::Udp);
        assert!(udp.iter().all(|flow| flow.state == flow_state::ANSWERED));
    }
}

#[test]
fn a_closed_flow_is_over_when_its_time_is_and_not_before() {
    let [ends, _] = families();
    let tables = tables(0);
    establish(&tables, ends);
    request(ends, HERE, Some((101, 901, FIN | ACK))).ingress(&tables);
    response(ends, Some((901, 102, FIN | ACK))).egress(&tables);
    for flow in entries(&tables, FlowTable::Established) {
        assert!(!expired(&flow, protocol::TCP, 1_000 + CLOSED_TIMEOUT));
        assert!(expired(&flow, protocol::TCP, 1_001 + CLOSED_TIMEOUT));
        assert!(
            !expired(&flow, protocol::TCP, 0),
            "the clock of the sweep is behind"
        );
    }
}

#[test]
fn a_closed_flow_takes_what_is_late_and_nothing_of_another_connection() {
    for ends in families() {
        let tables = tables(config_flags::LOCATE);
        establish(&tables, ends);
        request(ends, HERE, Some((101, 901, FIN | ACK))).ingress(&tables);
        response(ends, Some((901, 102, FIN | ACK))).egress(&tables);
        for late in [(102, 902, ACK), (101, 901, FIN | ACK), (50, 901, ACK)] {
            assert!(!is_asked_for(&tables, ends, Some(late)), "{late:?}");
        }
        // The client uses the port again, and began on another node.
        for other in [(3_000_000_000, 7, ACK), (90_000_000, 7, FIN | ACK)] {
            assert!(is_asked_for(&tables, ends, Some(other)), "{other:?}");
        }
        let both = entries(&tables, FlowTable::Established);
        assert_eq!(both.len(), 2);
    }
}

#[test]
fn a_syn_on_a_half_open_flow_that_lost_an_entry_begins_anew() {
    for ends in families() {
        let tables = tables(0);
        request(ends, HERE, SYN_1).ingress(&tables);
        let forward = flow_direction::FORWARD;
        let mut flows = tables.flows4.borrow_mut();
        flows.retain(|(_, key), _| key.direction == forward);
        let mut flows6 = tables.flows6.borrow_mut();
        flows6.retain(|(_, key), _| key.direction == forward);
        drop((flows, flows6));
        assert_eq!(held(&tables), (1, 0));
        request(ends, HERE, SYN_1).ingress(&tables);
        assert_eq!(held(&tables), (2, 0));
        response(ends, SYN_ACK).egress(&tables);
        request(ends, HERE, HANDSHAKE).ingress(&tables);
        assert_eq!(held(&tables), (0, 2));
    }
}

#[test]
fn what_a_pod_sends_to_others_leaves_untouched() {
    for ends in families() {
        let tables = tables(0);
        establish(&tables, ends);
        request(ends, HERE, None).ingress(&tables);
        for tcp in [HANDSHAKE, None] {
            let mut packet = response(ends, tcp);
            packet.destination.1 += 1;
            assert_eq!(packet.egress(&tables), packet.build());
            let mut packet = response(ends, tcp);
            packet.source.1 = POD_PORT + 1;
            assert_eq!(packet.egress(&tables), packet.build());
        }
    }
}

/// Whether the agent is asked where the flow of a segment is, rather than that the segment is delivered.
fn is_asked_for(tables: &MemoryTables, ends: Ends, segment: Segment) -> bool {
    let located = drops(tables, DropReason::Located);
    let (action, frame) = request(ends, HERE, segment).ingress(tables);
    let is_asked_for = drops(tables, DropReason::Located) > located;
    if is_asked_for {
        assert_eq!(action, Action::Drop);
    } else {
        assert_eq!((action, frame), delivered(ends, segment), "{segment:?}");
    }
    is_asked_for
}

#[test]
fn a_half_open_flow_leaves_alone_what_does_not_answer_its_syn_ack() {
    for ends in families() {
        let tables = tables(config_flags::LOCATE);
        request(ends, HERE, SYN_1).ingress(&tables);
        let foreign = [
            (101, 5_000, ACK),
            (101, 5_000, FIN | ACK),
            (5_000, 0, RST),
            (5_000, 5_000, RST | ACK),
            (101, 5_000, SYN | ACK),
        ];
        // An answer before the pod has said anything is none.
        for segment in foreign.into_iter().chain([(101, 901, ACK), (101, 0, RST)]) {
            assert!(is_asked_for(&tables, ends, Some(segment)), "{segment:?}");
        }
        response(ends, SYN_ACK).egress(&tables);
        for segment in foreign {
            assert!(is_asked_for(&tables, ends, Some(segment)), "{segment:?}");
        }
        for segment in [SYN_1, HANDSHAKE, HANDSHAKE] {
            assert!(!is_asked_for(&tables, ends, segment), "{segment:?}");
        }
        assert_eq!(held(&tables), (0, 2));
    }
}

#[test]
fn a_client_that_resets_what_it_did_not_open_is_heard() {
    // With and without an acknowledgment, which is right in both or not there.
    for reset in [(101, 0, RST), (101, 901, RST | ACK), (7, 901, RST | ACK)] {
        for ends in families() {
            let tables = tables(config_flags::LOCATE);
            request(ends, HERE, SYN_1).ingress(&tables);
            response(ends, SYN_ACK).egress(&tables);
            assert!(!is_asked_for(&tables, ends, Some(reset)));
            let both = entries(&tables, FlowTable::HalfOpen);
            assert!(both.iter().all(|flow| flow.state & flow_state::RESET != 0));
        }
    }
}

#[test]
fn data_that_overtakes_the_ack_of_the_syn_ack_promotes() {
    for ends in families() {
        let tables = tables(config_flags::LOCATE);
        request(ends, HERE, SYN_1).ingress(&tables);
        response(ends, SYN_ACK).egress(&tables);
        assert!(!is_asked_for(&tables, ends, Some((106, 901, ACK))));
        assert_eq!(held(&tables), (0, 2));
        assert!(!is_asked_for(&tables, ends, HANDSHAKE));
    }
}

#[test]
fn a_segment_that_nobody_else_knows_is_left_to_the_pod_of_the_half_open_flow() {
    for ends in families() {
        let other = Some((101, 5_000, ACK));
        let tables = tables(0);
        request(ends, HERE, SYN_1).ingress(&tables);
        response(ends, SYN_ACK).egress(&tables);
        // Nobody is asked, and then nobody had it.
        assert_eq!(
            request(ends, HERE, other).ingress(&tables),
            delivered(ends, other)
        );
        assert_eq!(held(&tables), (2, 0));
    }
}
