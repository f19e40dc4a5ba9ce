//! The object itself: the verifier takes it, and its maps are those of the
//! contract.

use harness::frame::ACK;
use harness::program::Programs;
use lb_common::abi;
use lb_common::addr::Be32;
use lb_common::maps::{Node, node_mode};

use crate::world::{NODE, REMOTE, ROUTER, World, families, request};

#[test]
fn the_verifier_takes_every_program() {
    let programs = Programs::load().unwrap();
    for (name, program) in programs.ebpf().programs() {
        let info = program.info().unwrap();
        println!(
            "{name}: {:?} verified instructions",
            info.verified_instruction_count()
        );
    }
    assert!(programs.ebpf().map(abi::map::SLOTS).is_some());
}

/// Prints what the first hop costs; the figure to compare is the one of a frame that is for nobody.
#[test]
#[ignore = "prints figures of this machine and asserts nothing"]
fn cost_of_the_first_hop() {
    let mut world = World::new(0);
    // The frame goes round: it must come out as it went in, but for the TTL.
    let word = |octets: &[u8]| Be32::new(u32::from_be_bytes(octets.try_into().unwrap()));
    let octets = [NODE.0, ROUTER.0].concat();
    let ethernet = [word(&octets[..4]), word(&octets[4..8]), word(&octets[8..])];
    let node = Node {
        ethernet,
        mode: node_mode::L2,
        ..Node::default()
    };
    world.programs.set(abi::map::NODES, 1, node).unwrap();
    for name in [abi::program::INGRESS, abi::program::INGRESS_LINEAR] {
        for family in families() {
            let mut frame = request(family, REMOTE, Some((1, 2, ACK)));
            frame.ttl = 255;
            let mut other = frame.build();
            other[12..14].copy_from_slice(&[0x12, 0x34]);
            let best = |frame: &[u8]| {
                let run = || world.programs.repeat_ingress(name, frame, 250).unwrap().1;
                (0..2_000).map(|_| run()).min().unwrap()
            };
            println!(
                "{name} {}: {:?}, floor {:?}",
                family.vip,
                best(&frame.build()),
                best(&other)
            );
        }
    }
}
