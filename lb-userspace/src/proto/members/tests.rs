//! Agents that gossip over a wire which loses messages, in virtual time.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::proto::peer::MAX_GOSSIP;

const STEP_MS: u64 = 50;

struct World {
    now: Instant,
    agents: BTreeMap<String, MemberList>,
    wire: Vec<(String, Vec<u8>)>,
    /// Of each message, whether it is lost; nothing is when they have run out.
    losses: Box<dyn Iterator<Item = bool>>,
    names: Vec<String>,
    /// Nobody writes anything that the others cannot read.
    is_sound: bool,
}

impl World {
    fn new(count: u64, losses: Vec<bool>) -> Self {
        let mut world = Self {
            now: Instant::now(),
            agents: BTreeMap::new(),
            wire: Vec::new(),
            losses: Box::new(losses.into_iter().chain(std::iter::repeat(false))),
            names: (1..=count).map(|n| format!("node-{n}")).collect(),
            is_sound: true,
        };
        for name in world.names.clone() {
            world.start(&name, "1.0.0", 1_000);
        }
        world
    }

    /// Starts an agent, anew if it runs, with all others as seeds.
    fn start(&mut self, name: &str, version: &str, epoch: u64) {
        let seed = epoch + self.agents.len() as u64;
        let mut list = MemberList::new(name.into(), version.into(), epoch, seed, self.now);
        let others = self.names.iter().filter(|other| *other != name);
        list.set_seeds(others.cloned());
        list.set_addresses(&[[192, 0, 2, 1].into()], self.now);
        self.agents.insert(name.into(), list);
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(STEP_MS);
            let now = self.now;
            for (to, octets) in std::mem::take(&mut self.wire) {
                if let Some(agent) = self.agents.get_mut(&to) {
                    let read = agent.handle_datagram(&octets, now);
                    assert!(read.is_ok() || !self.is_sound, "{read:?}");
                }
            }
            for agent in self.agents.values_mut() {
                if agent.poll_timeout() <= now {
                    agent.handle_timeout(now);
                }
                while let Some((to, octets)) = agent.poll_transmit() {
                    assert!(octets.len() <= MAX_GOSSIP);
                    if !self.losses.next().unwrap() {
                        self.wire.push((to, octets));
                    }
                }
            }
        }
    }

    /// Lets time pass until all agents see one of them so, or a minute is over.
    fn converges(&mut self, name: &str, wanted: impl Fn(&Listed) -> bool) -> bool {
        for _ in 0..120 {
            if self
                .agents
                .values()
                .all(|agent| wanted(&agent.list()[name]))
            {
                return true;
            }
            self.pass(Duration::from_millis(500));
        }
        false
    }

    fn all_meet(&mut self) -> bool {
        (0..120).any(|_| {
            self.pass(Duration::from_millis(500));
            let mut agents = self.agents.values();
            agents.all(|agent| {
                let list = agent.list();
                list.len() == self.names.len() && list.values().all(|one| one.seen == Seen::Alive)
            })
        })
    }
}

fn names<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.map(str::to_owned).into()
}

#[test]
fn agents_that_were_told_of_one_another_meet_within_seconds() {
    let mut world = World::new(3, Vec::new());
    world.pass(Duration::from_secs(3));
    for agent in world.agents.values() {
        let list = agent.list();
        assert_eq!(list.len(), 3);
        for listed in list.values() {
            assert_eq!(listed.seen, Seen::Alive);
            assert_eq!(listed.version, "1.0.0");
            assert_eq!(listed.addresses, [IpAddr::from([192, 0, 2, 1])]);
        }
    }
}

#[test]
fn agents_meet_through_one_that_knows_them_all() {
    let mut world = World::new(5, Vec::new());
    for (name, agent) in &mut world.agents {
        if name != "node-1" {
            agent.set_seeds(["node-1".to_owned()]);
        }
    }
    assert!(world.all_meet());
}

#[test]
fn a_killed_agent_goes_down_and_comes_back_at_once_with_its_new_version() {
    let mut world = World::new(4, Vec::new());
    assert!(world.all_meet());
    world.agents.remove("node-2");
    assert!(world.converges("node-2", |listed| listed.seen == Seen::Down));
    world.start("node-2", "1.1.0", 2_000);
    world.pass(Duration::from_secs(5));
    for agent in world.agents.values() {
        let listed = &agent.list()["node-2"];
        assert_eq!((listed.seen, &*listed.version), (Seen::Alive, "1.1.0"));
    }
}

#[test]
fn an_agent_whose_clock_went_back_over_a_restart_comes_back_too() {
    let mut world = World::new(3, Vec::new());
    world.start("node-2", "1.1.0", 10 * STEP);
    assert!(world.all_meet());
    world.start("node-2", "1.0.9", 1_000);
    let is_back = |listed: &Listed| listed.seen == Seen::Alive && listed.version == "1.0.9";
    assert!(world.converges("node-2", is_back));
}

#[test]
fn an_agent_that_paused_objects_and_stays() {
    let mut world = World::new(3, Vec::new());
    assert!(world.all_meet());
    let paused = world.agents.remove("node-3").unwrap();
    world.pass(Duration::from_secs(4));
    world.agents.insert("node-3".into(), paused);
    assert!(world.all_meet());
    world.pass(Duration::from_secs(30));
    for agent in world.agents.values() {
        assert!(agent.list().values().all(|one| one.seen == Seen::Alive));
    }
}

#[test]
fn everybody_learns_who_takes_whom_for_gone_until_that_is_over() {
    let mut world = World::new(4, Vec::new());
    assert!(world.all_meet());
    for teller in ["node-1", "node-3"] {
        let agent = world.agents.get_mut(teller).unwrap();
        agent.set_gone(names(["node-4", "node-9"]), world.now);
    }
    let tellers = names(["node-1", "node-3"]);
    for gone in ["node-4", "node-9"] {
        let listed = |world: &World| world.agents["node-2"].list().get(gone).cloned();
        world.pass(Duration::from_secs(10));
        assert_eq!(listed(&world).unwrap().taken_for_gone_by, tellers);
        // Longer than a word is believed without being repeated.
        world.pass(2 * LAPSE);
        assert_eq!(listed(&world).unwrap().taken_for_gone_by, tellers);
    }
    assert_eq!(world.agents["node-2"].list()["node-4"].seen, Seen::Alive);
    for teller in ["node-1", "node-3"] {
        let agent = world.agents.get_mut(teller).unwrap();
        agent.set_gone(BTreeSet::new(), world.now);
    }
    assert!(world.converges("node-4", |listed| listed.taken_for_gone_by.is_empty()));
    let list = world.agents["node-2"].list();
    assert!(!list.contains_key("node-9"), "{list:?}");
}

#[test]
fn what_the_verdicts_of_a_node_take_is_bounded() {
    let gone = (0..1_000).map(|n| format!("node-{n}")).collect();
    let word = Word {
        teller: "node".into(),
        epoch: 1,
        number: 2,
        gone,
    };
    let octets = word.written();
    assert!(octets.len() < 450, "{}", octets.len());
    let read = Word::read(&octets).unwrap();
    assert!(read.gone.len() > 40 && read.gone.is_subset(&word.gone));
}

#[test]
fn names_of_full_length_and_addresses_of_both_families_fit() {
    let long = |digit: &str| digit.repeat(253);
    let mut lists = ["1", "2", "3"].map(|digit| {
        let mut list = MemberList::new(long(digit), "10.20.30-rc.1".into(), 1, 1, Instant::now());
        let mut addresses = vec![IpAddr::from([0xfd; 16]); 3];
        addresses.push([192, 0, 2, 1].into());
        list.set_addresses(&addresses, Instant::now());
        list.set_seeds(
            ["1", "2", "3"]
                .map(long)
                .into_iter()
                .filter(|name| *name != long(digit)),
        );
        list
    });
    let mut now = Instant::now();
    for _ in 0..200 {
        now += Duration::from_millis(100);
        for from in 0..3 {
            lists[from].handle_timeout(now);
            while let Some((to, octets)) = lists[from].poll_transmit() {
                assert!(octets.len() <= MAX_GOSSIP);
                let mut to = lists
                    .iter_mut()
                    .filter(|list| list.foca.identity().name == to);
                to.next().unwrap().handle_datagram(&octets, now).unwrap();
            }
        }
    }
    for list in &lists {
        let list = list.list();
        assert_eq!(list.len(), 3);
        assert!(
            list.values()
                .all(|one| one.seen == Seen::Alive && one.addresses.len() == 4)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn agents_meet_over_a_wire_that_loses_a_third(
        losses in vec(prop::bool::weighted(0.33), 0..2_000),
        count in 3..6u64,
    ) {
        let mut world = World::new(count, losses);
        prop_assert!(world.all_meet());
        world.agents.remove("node-1");
        prop_assert!(world.converges("node-1", |listed| listed.seen == Seen::Down));
        world.start("node-1", "2.0.0", 5_000);
        let is_back = |one: &Listed| one.seen == Seen::Alive && one.version == "2.0.0";
        prop_assert!(world.converges("node-1", is_back));
        prop_assert!(world.all_meet());
    }

    #[test]
    fn any_octets_are_read_without_panic(octets in vec(any::<u8>(), 0..200)) {
        let mut world = World::new(3, Vec::new());
        world.is_sound = false;
        world.pass(Duration::from_secs(3));
        let now = world.now;
        for agent in world.agents.values_mut() {
            let _ = agent.handle_datagram(&octets, now);
        }
        let _ = Word::read(&octets);
        world.pass(Duration::from_secs(3));
    }

    #[test]
    fn octets_that_were_changed_are_read_without_panic(
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..200),
    ) {
        let mut world = World::new(4, Vec::new());
        world.is_sound = false;
        let gone = world.agents.get_mut("node-1").unwrap();
        gone.set_gone(names(["node-2"]), world.now);
        for (at, octet) in changes {
            world.pass(Duration::from_millis(STEP_MS));
            let now = world.now;
            for (to, mut octets) in world.wire.clone() {
                let at = at.index(octets.len());
                octets[at] = octet;
                let Some(agent) = world.agents.get_mut(&to) else {
                    continue;
                };
                let _ = agent.handle_datagram(&octets, now);
                let _ = agent.handle_datagram(&octets[..at], now);
                agent.list();
            }
        }
    }
}
