//! What must be true whatever happens.

use std::sync::LazyLock;

use lb_userspace::model::cluster::Family;
use proptest::prelude::*;
use proptest::sample::select;

use crate::agent::Way;
use crate::cluster::Policy;
use crate::script::{Change, FOR_EVER, GRACE, Task};
use crate::tally::Tally;
use crate::world::{Setup, World};

/// Milliseconds for all clients to connect, and after the last change for all to have spoken.
const SETTLING: u64 = 4_000;

static CASES: LazyLock<u32> = LazyLock::new(|| {
    let full = std::env::var_os("TORLINE_TEST_FULL").is_some();
    if full { 1_000 } else { 40 }
});

/// Runs a script; each change comes so many milliseconds after the one before.
pub(crate) fn run(setup: Setup, script: &[(u64, Change)], settling: u64) -> Tally {
    let mut world = World::new(setup);
    world.run_until(SETTLING);
    let mut at = 0;
    for (delay, change) in script {
        at += delay;
        world.after(at, Task::Change(*change));
    }
    world.run_until(SETTLING + at + settling);
    world.tally
}

fn setups() -> impl Strategy<Value = Setup> {
    let sizes = (2u8..=5, 1u16..=8, select(vec![Family::V4, Family::V6]));
    let policies = select(vec![Policy::Cluster, Policy::Local, Policy::Zones]);
    let late_copies = select(vec![0, 200]);
    (
        sizes,
        policies,
        any::<bool>(),
        any::<bool>(),
        late_copies,
        any::<u64>(),
    )
        .prop_map(
            |((nodes, pods, family), policy, churn, uneven, late_copies, seed)| Setup {
                family,
                policy,
                nodes,
                pods,
                connections: 40,
                udp_clients: 10,
                depth: 4,
                churn,
                reuses_ports: false,
                late_copies,
                uneven,
                seed,
            },
        )
}

fn changes() -> impl Strategy<Value = Change> {
    let drains = select(vec![500, 5_000, GRACE, FOR_EVER]);
    prop_oneof![
        (1u8..8).prop_map(Change::ScaleUp),
        (1u8..8).prop_map(Change::ScaleDown),
        any::<u8>().prop_map(Change::Flap),
        (100u64..2_000, drains, any::<bool>()).prop_map(|(every, drain, reuse)| Change::Roll {
            every,
            drain,
            reuse
        }),
        any::<u8>().prop_map(Change::Kill),
        Just(Change::Rehash),
        any::<u8>().prop_map(Change::Withdraw),
        any::<u8>().prop_map(Change::Announce),
        any::<u8>().prop_map(Change::LoseNode),
        (0u8..4).prop_map(Change::Join),
        (any::<u8>(), 1u8..10).prop_map(|(node, seconds)| Change::RestartAgent(node, seconds)),
        any::<u8>().prop_map(Change::Slow),
    ]
}

/// Changes that leave every pod and every table as they are.
fn path_changes() -> impl Strategy<Value = Change> {
    prop_oneof![
        Just(Change::Rehash),
        any::<u8>().prop_map(Change::Withdraw),
        any::<u8>().prop_map(Change::Announce),
        (any::<u8>(), 1u8..10).prop_map(|(node, seconds)| Change::RestartAgent(node, seconds)),
    ]
}

fn scripts(change: impl Strategy<Value = Change>) -> impl Strategy<Value = Vec<(u64, Change)>> {
    // Zero makes two at once.
    let delays = prop_oneof![Just(0), 0u64..6_000];
    prop::collection::vec((delays, change), 0..7)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: *CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn nothing_loops_is_misdelivered_or_breaks(setup in setups(), script in scripts(changes())) {
        let tally = run(setup, &script, 30_000);
        prop_assert_eq!(&tally.violations, &Default::default());
        prop_assert_eq!(tally.loops, 0);
        prop_assert_eq!(tally.broken, 0);
    }

    #[test]
    fn a_change_of_the_path_breaks_nothing(setup in setups(), script in scripts(path_changes())) {
        let tally = run(setup, &script, 15_000);
        prop_assert_eq!(&tally.violations, &Default::default());
        prop_assert_eq!((tally.broken, tally.lost_with_pod, tally.datagrams_lost), (0, 0, 0));
        prop_assert!(tally.connections >= u64::from(setup.connections));
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let setup = Setup {
        family: Family::V6,
        policy: Policy::Cluster,
        nodes: 3,
        pods: 4,
        connections: 30,
        udp_clients: 5,
        depth: 4,
        churn: true,
        reuses_ports: false,
        late_copies: 10,
        uneven: true,
        seed: 7,
    };
    let script = [(0, Change::ScaleUp(3)), (500, Change::LoseNode(1))];
    let counts = |tally: Tally| serde_json::to_string(&tally).unwrap();
    assert_eq!(
        counts(run(setup, &script, 20_000)),
        counts(run(setup, &script, 20_000))
    );
}

/// The node that gets a connection after the re-hash chooses among other pods than the node before.
fn rehash_under(policy: Policy) -> Tally {
    let setup = Setup {
        family: Family::V4,
        policy,
        nodes: 4,
        pods: 8,
        connections: 200,
        udp_clients: 20,
        depth: 4,
        churn: false,
        reuses_ports: false,
        late_copies: 0,
        uneven: false,
        seed: 11,
    };
    run(setup, &[(0, Change::Rehash)], 30_000)
}

#[test]
fn a_rehash_breaks_nothing_where_nodes_or_zones_keep_to_their_own_pods() {
    for policy in [Policy::Local, Policy::Zones] {
        let tally = rehash_under(policy);
        assert_eq!(tally.violations, Default::default(), "{policy:?}");
        assert_eq!((tally.broken, tally.lost_with_pod), (0, 0), "{policy:?}");
        // Slots name what the other three nodes choose.
        assert!(tally.by(Way::Chain(1)) > 20, "{policy:?}");
        assert_eq!(
            (tally.by(Way::Locate), tally.questions),
            (0, 0),
            "{policy:?}"
        );
    }
}

#[test]
fn a_lost_first_hop_breaks_no_connection() {
    let setup = Setup {
        family: Family::V4,
        policy: Policy::Cluster,
        nodes: 4,
        pods: 3,
        connections: 200,
        udp_clients: 20,
        depth: 4,
        churn: false,
        reuses_ports: false,
        late_copies: 0,
        uneven: false,
        seed: 11,
    };
    let last = setup.nodes - 1;
    let tally = run(setup, &[(0, Change::LoseNode(last))], 30_000);
    assert_eq!(tally.violations, Default::default());
    assert_eq!((tally.broken, tally.lost_with_pod), (0, 0));
}

/// A connection of each client, pods that come, and late copies of the SYNs that opened the connections.
#[test]
fn a_late_copy_of_a_syn_breaks_nothing() {
    let setup = Setup {
        family: Family::V4,
        policy: Policy::Cluster,
        nodes: 3,
        pods: 3,
        connections: 100,
        udp_clients: 0,
        depth: 4,
        churn: false,
        reuses_ports: false,
        late_copies: 1_000,
        uneven: false,
        seed: 5,
    };
    let tally = run(setup, &[(0, Change::ScaleUp(6))], 40_000);
    assert_eq!((tally.broken, tally.violations), (0, Default::default()));
}

#[test]
fn a_late_copy_of_a_syn_may_inherit_what_a_lost_node_had() {
    let setup = Setup {
        family: Family::V4,
        policy: Policy::Cluster,
        nodes: 2,
        pods: 4,
        connections: 40,
        udp_clients: 10,
        depth: 4,
        churn: false,
        reuses_ports: false,
        late_copies: 200,
        uneven: true,
        seed: 11843391284469478977,
    };
    let tally = run(setup, &[(0, Change::LoseNode(1))], 30_000);
    assert_eq!(tally.violations, Default::default());
    assert!(tally.delivered_to_heir > 0);
}

#[test]
fn a_node_that_withdraws_leaves_the_router_one_with_pods() {
    let setup = Setup {
        family: Family::V4,
        policy: Policy::Local,
        nodes: 2,
        pods: 1,
        connections: 40,
        udp_clients: 10,
        depth: 4,
        churn: false,
        reuses_ports: false,
        late_copies: 0,
        uneven: false,
        seed: 0,
    };
    for which in 0..2 {
        let tally = run(setup, &[(0, Change::Withdraw(which))], 15_000);
        assert_eq!((tally.broken, tally.datagrams_lost), (0, 0), "{which}");
    }
}
