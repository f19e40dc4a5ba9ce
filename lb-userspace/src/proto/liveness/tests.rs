//! Nodes that answer, fall silent, lose their agent, and are cut off.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

const KEY: Key = [3, 4];

/// A node's view of others, with a clock of its own and answers that arrive at once.
struct World {
    liveness: Liveness,
    now: Instant,
    addrs: BTreeMap<String, Vec<IpAddr>>,
    silent: BTreeSet<String>,
    ages: BTreeMap<String, u64>,
    router: bool,
}

impl World {
    fn of(names: &[&str]) -> Self {
        let now = Instant::now();
        let addrs: BTreeMap<_, _> = (1..)
            .zip(names)
            .map(|(host, name)| ((*name).to_owned(), vec![IpAddr::from([10, 0, 0, host])]))
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
                let mut addrs = self.addrs.iter();
                let name = addrs.find(|(_, a)| a.contains(&to.ip())).unwrap().0;
                if self.silent.contains(name) {
                    continue;
                }
                let Some(mut probe) = Probe::from_bytes(KEY, &payload) else {
                    continue;
                };
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
        let mut members = self.liveness.members();
        members.find(|(n, ..)| *n == name).unwrap().1
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
    // The router's last sign is younger than a second when they fall silent, but older than their silence.
    assert_eq!(world.run(Duration::from_secs(3)), []);
    assert!(world.liveness.is_cut_off());
    for name in ["a", "b", "c"] {
        assert_eq!(world.state(name), State::Live, "{name}");
    }
    world.router = true;
    world.run(RETURN + SILENCE);
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
fn a_router_that_answered_before_the_suspicion_may_have_been_lost_with_the_others() {
    let mut world = World::of(&["a"]);
    // The last answer is on its way when the first probe goes out that gets none.
    world.silent.insert("a".into());
    world.run(INTERVAL);
    world.router = false;
    assert_eq!(world.run(Duration::from_secs(5)), []);
    assert!(world.liveness.is_cut_off());
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
    world.addrs.insert("z".into(), vec![[10, 0, 0, 9].into()]);
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
    let addr = SocketAddr::new(world.addrs["b"][0], PORT);
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
    for from in [([10, 0, 0, 99], PORT), ([10, 0, 0, 2], PORT + 1)] {
        world
            .liveness
            .handle_datagram(from.into(), &elsewhere.to_bytes(KEY), world.now);
        assert_eq!(world.state("b"), State::Gone);
    }
    world
        .liveness
        .handle_datagram(addr, &elsewhere.to_bytes(KEY), world.now);
    assert_eq!(world.state("b"), State::Live);
}

#[test]
fn a_stopped_agent_that_wakes_up_blames_nobody() {
    let mut world = World::of(&["a", "b", "c"]);
    // SIGSTOP for two seconds: no timeouts, no datagrams, then both at once.
    world.now += Duration::from_secs(2);
    let verdicts = world.run(Duration::from_millis(300));
    assert!(verdicts.is_empty(), "{verdicts:?}");
}

#[test]
fn a_starved_agent_that_wakes_up_late_finds_a_dead_node_all_the_same() {
    let mut world = World::of(&["a", "b", "c"]);
    world.silent.insert("b".into());
    // Every timeout comes 300 ms late.
    for _ in 0..8 {
        world.now += Duration::from_millis(300);
        world.run(Duration::from_millis(50));
    }
    assert_eq!(world.state("b"), State::Gone);
    assert_eq!(world.state("a"), State::Live);
}

#[test]
fn a_node_that_was_cut_off_blames_nobody_when_it_comes_back() {
    for router_first in [true, false] {
        let mut world = World::of(&["a", "b", "c"]);
        world.router = false;
        world.run(Duration::from_secs(2));
        let all = ["a", "b", "c"].map(str::to_owned);
        world.silent.extend(all.clone());
        assert_eq!(world.run(Duration::from_secs(5)), []);
        assert!(world.liveness.is_cut_off() && world.liveness.wants_router(world.now));
        if router_first {
            world.router = true;
            assert_eq!(world.run(INTERVAL), []);
        }
        // They come back one after the other.
        for name in all {
            world.silent.remove(&name);
            assert_eq!(world.run(INTERVAL), []);
        }
        assert!(!world.liveness.is_cut_off());
    }
}

#[test]
fn a_node_that_comes_back_waits_for_those_that_it_finds_later() {
    let mut world = World::of(&["a", "b"]);
    world.router = false;
    let both = ["a", "b"].map(str::to_owned);
    world.silent.extend(both);
    assert_eq!(world.run(Duration::from_secs(5)), []);
    // The kernel asks for the address of the other one a second later.
    world.silent.remove("a");
    assert_eq!(world.run(Duration::from_millis(1_200)), []);
    assert!(!world.liveness.is_cut_off());
    world.silent.remove("b");
    assert_eq!(world.run(Duration::from_secs(5)), []);
    // One that does not come back is gone all the same.
    world.silent.extend(["a", "b"].map(str::to_owned));
    assert_eq!(world.run(Duration::from_secs(5)), []);
    world.silent.remove("a");
    assert_eq!(world.run(RETURN + SILENCE), [("b".to_owned(), State::Gone)]);
}

#[test]
fn an_agent_that_starts_on_a_node_that_is_cut_off_takes_nobody_for_gone() {
    let mut world = World::of(&[]);
    world.router = false;
    world.run(Duration::from_secs(2));
    for (host, name) in [(1, "a"), (2, "b")] {
        world
            .addrs
            .insert(name.into(), vec![[10, 0, 0, host].into()]);
        world.silent.insert(name.into());
    }
    let addrs = world.addrs.clone();
    world.liveness.set_members(&addrs, world.now);
    assert_eq!(world.run(Duration::from_secs(5)), []);
    world.silent.remove("a");
    world.run(Duration::from_millis(200));
    assert_eq!(world.state("a"), State::Live);
    world.run(GRACE);
    assert_eq!(world.state("b"), State::Gone);
}

#[test]
fn a_node_is_asked_at_its_other_address_when_one_falls_silent() {
    let mut world = World::of(&["a", "b", "c"]);
    let second = IpAddr::from([10, 0, 1, 2]);
    let first = world.addrs["b"][0];
    let both = BTreeMap::from([("b".to_owned(), vec![first, second])]);
    world.liveness.set_members(&both, world.now);
    let mut asked = Vec::new();
    for _ in 0..4 {
        world.now += INTERVAL;
        world.liveness.handle_timeout(world.now);
        let sent = std::iter::from_fn(|| world.liveness.poll_transmit());
        asked.push(sent.map(|transmit| transmit.to.ip()).collect::<Vec<_>>());
    }
    assert_eq!(asked[0], [first]);
    assert_eq!(asked[3], [first, second]);
}

#[test]
fn another_key_gives_all_others_the_time_to_take_it() {
    let mut world = World::of(&["a", "b"]);
    world.liveness.set_key([9, 9], world.now);
    // They answer with the old key, which is not read.
    let verdicts = world.run(GRACE - INTERVAL);
    assert!(verdicts.iter().all(|(_, state)| state.is_reachable()));
    world.liveness.set_key(KEY, world.now);
    world.run(Duration::from_millis(200));
    assert_eq!(world.state("a"), State::Live);
}

#[test]
fn a_router_heard_while_it_mattered_need_not_be_heard_for_ever() {
    let mut world = World::of(&["a"]);
    world.silent.insert("a".into());
    let mut ever_gone = false;
    for _ in 0..100 {
        // As the task does it: the router is asked for only while that is wanted.
        world.router = world.liveness.wants_router(world.now);
        world.run(Duration::from_millis(50));
        let is_gone = world.state("a") == State::Gone;
        assert!(is_gone || !ever_gone, "taken back");
        ever_gone = is_gone;
    }
    assert!(ever_gone && !world.liveness.is_cut_off());
    assert!(!world.liveness.wants_router(world.now));
}
