//! The object itself: the verifier takes it.

use harness::program::Programs;
use lb_common::abi;

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
