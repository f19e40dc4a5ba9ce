//! A flood of SYNs: it fills the table of half-open flows and breaks no
//! established one.

use harness::frame::{ACK, SYN};
use lb_common::abi::{map, program};
use lb_common::maps::{Flow, FlowKey4, FlowKey6};

use crate::world::{LOCAL, World, XDP_PASS, delivered, families, request, response, translated};

/// Entries that each flow table holds, and the SYNs of the flood: twice as many as find room.
const ROOM: u32 = 1_024;
const FLOOD: u16 = 2_048;

#[test]
fn a_flood_of_syns_fills_the_half_open_table_and_breaks_no_established_flow() {
    let world = World::with_room(0, ROOM);
    let data = Some((101, 901, ACK));
    for family in families() {
        world.ingress(&request(family, LOCAL, Some((100, 0, SYN))).build());
        world.egress(&response(family, Some((900, 101, SYN | ACK))).build());
        world.ingress(&request(family, LOCAL, data).build());
    }
    for family in families() {
        for port in 0..FLOOD {
            let mut syn = request(family, LOCAL, Some((1, 0, SYN)));
            syn.source_port = 50_000 + port;
            let syn = syn.build();
            let run = world.programs.ingress(program::INGRESS, &syn).unwrap();
            assert_eq!(run.action, XDP_PASS, "a new connection is never refused");
        }
    }
    let four = world.programs.entries::<FlowKey4, Flow>(map::HALF_OPEN4);
    let six = world.programs.entries::<FlowKey6, Flow>(map::HALF_OPEN6);
    for held in [four.unwrap().len(), six.unwrap().len()] {
        assert!(
            (ROOM as usize / 2..=ROOM as usize).contains(&held),
            "{held}"
        );
    }
    for family in families() {
        let run = world.ingress(&request(family, LOCAL, data).build());
        assert_eq!(
            (run.action, run.frame),
            (XDP_PASS, delivered(family, data).build())
        );
        let answer = world.egress(&response(family, data).build());
        assert_eq!(answer, translated(family, data));
    }
    world.forget_counters();
}
