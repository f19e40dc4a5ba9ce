//! Prints what the programs cost, beside a program that only swaps MACs. Run
//! with `--ignored --nocapture`.

use std::time::Duration;

use harness::frame::ACK;
use harness::pass::Floor;
use lb_common::abi::{map, program};
use lb_common::addr::{Be16, Be32};
use lb_common::maps::{Flow, FlowKey4, Frontend, FrontendKey4, Node, node_mode};

use crate::world::{LOCAL, NODE, POD_PORT, REMOTE, ROUTER, World, families, request, words};

/// As many runs as a TTL allows in which one frame goes round.
const REPEAT: u32 = 250;

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

#[test]
#[ignore = "prints figures of this machine and asserts nothing"]
fn cost_of_the_first_hop_over_the_floor() {
    let mut world = World::new(0);
    // The frame goes round: it must come out as it went in, but for the TTL.
    let octets = [NODE.0, ROUTER.0].concat();
    let word = |at: usize| Be32::new(u32::from_be_bytes(octets[at..at + 4].try_into().unwrap()));
    let node = Node {
        ethernet: [word(0), word(4), word(8)],
        mode: node_mode::L2,
        ..Node::default()
    };
    world.set_node(1, node);
    let floor = Floor::load().unwrap();
    let frames = families().map(|family| {
        let mut frame = request(family, REMOTE, Some((1, 2, ACK)));
        frame.ttl = 255;
        frame.build()
    });
    let mut times = [const { Vec::new() }; 5];
    // Interleaved, so that what else the machine does meets all alike.
    for _ in 0..200 {
        let [four, six] = &frames;
        times[0].push(floor.run(four, REPEAT).unwrap());
        for (place, frame) in [(1, four), (2, six)] {
            let (frags, linear) = (program::INGRESS, program::INGRESS_LINEAR);
            let run = world.programs.repeat_ingress(frags, frame, REPEAT);
            times[place].push(run.unwrap().1);
            let run = world.linear.repeat_ingress(linear, frame, REPEAT);
            times[place + 2].push(run.unwrap().1);
        }
    }
    let names = ["floor", "IPv4", "IPv6", "IPv4, linear", "IPv6, linear"];
    for (name, times) in names.into_iter().zip(times) {
        println!("{name}: {:?}", median(times));
    }
    world.forget_counters();
}

/// How many frontends and flows the tables hold when it is measured.
const FRONTENDS: u16 = 10_000;
const FLOWS: u32 = 100_000;

#[test]
#[ignore = "prints figures of this machine and asserts nothing"]
fn cost_of_a_flow_and_of_a_frontend_that_is_not_in_the_cache() {
    let mut world = World::with_room(0, 2 * FLOWS);
    let [family, _] = families();
    let [vip, ..] = words(family.vip);
    for port in 0..FRONTENDS {
        let key = FrontendKey4 {
            addr: vip,
            port: Be16::new(10_000 + port),
            protocol: 6,
            zero: 0,
        };
        let remote = Frontend {
            slots: 8,
            mask: 3,
            backends: 32,
            id: 2,
            ..Frontend::default()
        };
        world.programs.insert(map::FRONTENDS4, key, remote).unwrap();
    }
    let client = |number: u32| Be32::new(0x0b00_0000 + number);
    for number in 0..FLOWS {
        let key = FlowKey4 {
            source: client(number),
            destination: vip,
            source_port: Be16::new(41_000),
            destination_port: Be16::new(LOCAL),
            protocol: 6,
            ..FlowKey4::default()
        };
        let flow = Flow {
            addr: words(family.pod),
            port: Be16::new(POD_PORT),
            client_port: Be16::new(41_000),
            generation: 7,
            backend: 1,
            ..Flow::default()
        };
        world.programs.insert(map::ESTABLISHED4, key, flow).unwrap();
    }
    // A stride that is prime to both numbers: neighbours in time are strangers in memory.
    let of_flows = (0..20_000u32).map(|count| {
        let mut frame = request(family, LOCAL, Some((1, 2, ACK)));
        frame.source = std::net::Ipv4Addr::from_bits(client(count * 7_919 % FLOWS).host()).into();
        frame.build()
    });
    let of_frontends = (0..20_000u32).map(|count| {
        let port = 10_000 + (count * 7_919 % u32::from(FRONTENDS)) as u16;
        request(family, port, Some((1, 2, ACK))).build()
    });
    let run = |frame: Vec<u8>| {
        let run = world.programs.repeat_ingress(program::INGRESS, &frame, 1);
        run.unwrap().1
    };
    println!(
        "a flow of {FLOWS}: {:?}",
        median(of_flows.map(run).collect())
    );
    println!(
        "a frontend of {FRONTENDS}: {:?}",
        median(of_frontends.map(run).collect())
    );
    world.forget_counters();
}
