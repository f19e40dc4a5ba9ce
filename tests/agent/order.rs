//! Where the program for replies stands among the tc programs of others.

use anyhow::{Context, Result, ensure};
use aya::Ebpf;
use aya::programs::tc::{TcAttachOptions, TcAttachType};
use aya::programs::{LinkOrder, SchedClassifier};
use harness::machine;
use harness::program::object_path;
use harness::wait;
use lb_common::abi::program;
use nix::sys::signal::Signal;

use crate::bench::{Bench, LIMIT};

/// Somebody's tc program on `eth0`.
struct Other {
    /// Attached as long as this lives.
    _object: Ebpf,
    id: u32,
}

impl Other {
    /// Any program serves: the very one that Torline would attach.
    fn attach(bench: &Bench) -> Result<Self> {
        bench.netns.enter(|| {
            let mut object = Ebpf::load_file(object_path())?;
            let program: &mut SchedClassifier = object
                .program_mut(program::EGRESS)
                .context("no egress program")?
                .try_into()?;
            program.load()?;
            let options = TcAttachOptions::TcxOrder(LinkOrder::default());
            program.attach_with_options("eth0", TcAttachType::Egress, options)?;
            let id = program.info()?.id();
            Ok(Self {
                _object: object,
                id,
            })
        })
    }
}

/// Numbers of the tc programs on `eth0`, in the order in which they run.
fn order(bench: &Bench) -> Result<Vec<u32>> {
    bench.netns.enter(|| {
        let (_, programs) = SchedClassifier::query_tcx("eth0", TcAttachType::Egress)?;
        Ok(programs.iter().map(|program| program.id()).collect())
    })
}

#[test]
fn the_program_for_replies_stands_before_or_after_others_as_told() {
    if !machine::can_test() {
        return;
    }
    let bench = Bench::new("agent-order").unwrap();
    let other = Other::attach(&bench).unwrap();
    for (arguments, place) in [
        (["--tc-order", "first"].as_slice(), 1),
        (&["--tc-order", "last"], 0),
        (&[], 0),
    ] {
        let pins = [&["--pin", "none"], arguments].concat();
        let agent = bench.start_with(&pins).unwrap();
        let programs = wait::until("both programs", LIMIT, || {
            let programs = order(&bench)?;
            ensure!(programs.len() == 2, "{programs:?}");
            Ok(programs)
        })
        .unwrap();
        assert_eq!(programs[place], other.id, "{arguments:?}: {programs:?}");

        let end = agent.stop(Signal::SIGTERM, LIMIT).unwrap();
        assert!(end.success(), "{end}");
        assert_eq!(order(&bench).unwrap(), [other.id]);
    }
}

#[test]
fn an_agent_that_comes_back_keeps_its_place_and_leaves_others_alone() {
    if !machine::can_test() {
        return;
    }
    let bench = Bench::new("agent-place").unwrap();
    let agent = bench.start_with(&["--tc-order", "first"]).unwrap();
    let [first] = order(&bench).unwrap()[..] else {
        panic!("one program")
    };
    let other = Other::attach(&bench).unwrap();
    assert_eq!(order(&bench).unwrap(), [first, other.id]);

    agent.stop(Signal::SIGTERM, LIMIT).unwrap();
    assert_eq!(
        order(&bench).unwrap(),
        [first, other.id],
        "it outlives the agent"
    );
    let agent = bench.start_with(&["--tc-order", "last"]).unwrap();
    let [second, behind] = order(&bench).unwrap()[..] else {
        panic!("two programs")
    };
    assert_eq!(behind, other.id);
    assert_ne!(second, first, "the program is another, in the same link");

    agent.stop(Signal::SIGTERM, LIMIT).unwrap();
    assert!(bench.detach().unwrap().status.success());
    assert_eq!(order(&bench).unwrap(), [other.id]);
}
