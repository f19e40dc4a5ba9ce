//! Nodes that answer, fall silent, lose their agent, and are cut off.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const KEY: Key = [3, 4];

/// A node's view of others, with a clock of its own and answers that arrive at once.
struct World {
    liveness: Liveness,
    now: Instant,
    addrs: BTreeMap<String, SocketAddr>,
    silent: BTreeSet<String>,
    ages: BTreeMap<String, u64>,
    router: bool,
}

impl World {
    fn of(names: &[&str]) -> Self {
        let now = Instant::now();
        let addrs: BTreeMap<_, _> = (1..)
            .zip(names)
            .map(|(host, name)| {
                (
                    (*name).to_owned(),
                    SocketAddr::from(([10, 0, 0, host], 17473)),
                )
            })
            .collect();
        let mut liveness = Liveness::new(KEY, 42, now);
        liveness.set_members(&addrs, now);
        let mut world = Self {
            liveness,
            now,
            addrs,
            silent: BTreeSet::new(),
            ages: BTreeMap::new(),
            router: true,
        };
        world.run(Duration::from_millis(300));
        world
    }

    fn run(&mut self, time: Duration) -> Vec<(String, State)> {
        let end = self.now + time;
        let mut verdicts = Vec::new();
        while self.now < end {
            self.now += Duration::from_millis(50);
            if self.router {
                self.liveness.handle_router(self.now);
            }
            if self.now >= self.liveness.poll_timeout() {
                self.liveness.handle_timeout(self.now);
            }
            while let Some(Transmit { to, payload }) = self.liveness.poll_transmit() {
                let name = self.addrs.iter().find(|(_, a)| **a == to).unwrap().0;
                if self.silent.contains(name) {
                    continue;
                }
                let mut probe = Probe::from_bytes(KEY, &payload).unwrap();
                probe.kind = Kind::Answer;
                probe.age_ms = self.ages.get(name).copied().unwrap_or(100);
                self.liveness
                    .handle_datagram(to, &probe.to_bytes(KEY), self.now);
            }
            while let Some(Verdict { node, state }) = self.liveness.poll_verdict() {
                verdicts.push((node, state));
            }
        }
        verdicts
    }

    fn state(&self, name: &str) -> State {
        self.liveness.states().find(|(n, _)| *n == name).unwrap().1
    }
}

#[test]
fn a_silent_node_is_gone_within_a_second() {
    let mut world = World::of(&["a", "b", "c"]);
    world.silent.insert("b".into());
    assert_eq!(
        world.run(Duration::from_millis(700)),
        [("b".to_owned(), State::Gone)]
    );
    assert_eq!(world.state("a"), State::Live);
}

#[test]
fn a_returning_node_is_live_with_its_first_answer() {
    let mut world = World::of(&["a", "b", "c"]);
    world.silent.insert("b".into());
    world.run(Duration::from_secs(1));
    world.silent.clear();
    assert_eq!(
        world.run(Duration::from_millis(200)),
        [("b".to_owned(), State::Live)]
    );
}

#[test]
fn an_agent_that_is_away_removes_nobody_until_the_fence() {
    let mut world = World::of(&["a", "b"]);
    world.ages.insert("a".into(), 10_000);
    assert_eq!(
        world.run(Duration::from_secs(1)),
        [("a".to_owned(), State::AgentAway)]
    );
    assert!(world.state("a").is_reachable());
    world.ages.insert("a".into(), FENCE_AGE_MS);
    assert_eq!(
        world.run(Duration::from_secs(1)),
        [("a".to_owned(), State::Gone)]
    );
}

#[test]
fn a_node_cut_off_from_all_changes_nothing() {
    let mut world = World::of(&["a", "b", "c"]);
    world.router = false;
    world
        .silent
        .extend(["a".to_owned(), "b".to_owned(), "c".to_owned()]);
    // The router's last sign still counts for a second, so verdicts may come and be taken back.
    world.run(Duration::from_secs(3));
    assert!(world.liveness.is_cut_off());
    for name in ["a", "b", "c"] {
        assert_eq!(world.state(name), State::Live, "{name}");
    }
    world.router = true;
    world.run(Duration::from_secs(1));
    for name in ["a", "b", "c"] {
        assert_eq!(world.state(name), State::Gone, "{name}");
    }
}

#[test]
fn of_two_nodes_the_one_that_hears_the_router_takes_over() {
    let mut world = World::of(&["a"]);
    world.silent.insert("a".into());
    world.run(Duration::from_secs(1));
    assert_eq!(world.state("a"), State::Gone);

    let mut cut = World::of(&["a"]);
    cut.router = false;
    cut.run(Duration::from_secs(2));
    cut.silent.insert("a".into());
    cut.run(Duration::from_secs(5));
    assert_eq!(cut.state("a"), State::Live);
}

#[test]
fn one_of_many_vanishes_even_without_a_router() {
    let mut world = World::of(&["a", "b", "c", "d"]);
    world.router = false;
    world.run(Duration::from_secs(2));
    world.silent.insert("d".into());
    assert_eq!(
        world.run(Duration::from_secs(1)),
        [("d".to_owned(), State::Gone)]
    );
}

#[test]
fn a_node_never_heard_counts_as_live_for_the_grace_time_only() {
    let mut world = World::of(&["a", "b"]);
    let stranger = SocketAddr::from(([10, 0, 0, 9], 17473));
    world.addrs.insert("z".into(), stranger);
    world.silent.insert("z".into());
    let addrs = world.addrs.clone();
    world.liveness.set_members(&addrs, world.now);
    assert_eq!(world.state("z"), State::Unheard);
    assert_eq!(
        world.run(GRACE + INTERVAL * 2),
        [("z".to_owned(), State::Gone)]
    );
}

#[test]
fn answers_of_another_start_or_another_sender_do_not_count() {
    let mut world = World::of(&["a", "b", "c"]);
    world.silent.insert("b".into());
    let addr = world.addrs["b"];
    let forged = Probe {
        kind: Kind::Answer,
        sequence: 4,
        nonce: 41,
        age_ms: 0,
    };
    world.run(Duration::from_secs(1));
    world
        .liveness
        .handle_datagram(addr, &forged.to_bytes(KEY), world.now);
    assert_eq!(world.state("b"), State::Gone);
    let elsewhere = Probe {
        nonce: 42,
        ..forged
    };
    let from = SocketAddr::from(([10, 0, 0, 99], 17473));
    world
        .liveness
        .handle_datagram(from, &elsewhere.to_bytes(KEY), world.now);
    assert_eq!(world.state("b"), State::Gone);
}

#[test]
fn a_stopped_agent_that_wakes_up_blames_nobody() {
    let mut world = World::of(&["a", "b", "c"]);
    // SIGSTOP for two seconds: no timeouts, no datagrams, then both at once.
    world.now += Duration::from_secs(2);
    let verdicts = world.run(Duration::from_millis(300));
    assert!(verdicts.is_empty(), "{verdicts:?}");
}
