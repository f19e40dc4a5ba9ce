//! Nodes that speak over a wire which loses, doubles and delays.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const KEY: Key = [5, 6];

fn addr(node: u8) -> IpAddr {
    [192, 0, 2, node].into()
}

fn flow(port: u16) -> FlowName {
    FlowName {
        client: ([198, 51, 100, 7], port).into(),
        frontend: Frontend {
            vip: "203.0.113.10:80".parse().unwrap(),
            protocol: 6,
        },
    }
}

fn pod(node: u8) -> SocketAddr {
    ([10, 0, node, 1], 8080).into()
}

/// What became of a datagram: how many copies arrive, and after how many milliseconds.
type Fate = (u8, u64);

/// A node with its agent, its flows, and what was made of what others said.
struct Node {
    peer: Peer,
    flows: HashMap<FlowName, SocketAddr>,
    half_open: BTreeSet<FlowName>,
    excepted: BTreeMap<FlowName, (SocketAddr, Reason)>,
    denied: BTreeSet<FlowName>,
    remembered: Vec<Chunk>,
    gossip: Vec<(String, Vec<u8>)>,
    is_silent: bool,
}

/// Some nodes and the network between them.
struct World {
    now: Instant,
    nodes: BTreeMap<u8, Node>,
    wire: Vec<(Instant, Transmit)>,
    sent: Vec<Transmit>,
    fates: Box<dyn Iterator<Item = Fate>>,
}

impl World {
    fn new(count: u8) -> Self {
        Self::with_fates(count, Vec::new())
    }

    fn with_fates(count: u8, fates: Vec<Fate>) -> Self {
        let mut world = Self {
            now: Instant::now(),
            nodes: BTreeMap::new(),
            wire: Vec::new(),
            sent: Vec::new(),
            fates: Box::new(fates.into_iter().chain(std::iter::repeat((1, 1)))),
        };
        for node in 1..=count {
            world.start(node, 1);
        }
        let all: Vec<u8> = (1..=count).collect();
        for node in 1..=count {
            world.introduce(node, &all, &[]);
        }
        world
    }

    /// Starts the agent of a node, anew if it runs.
    fn start(&mut self, node: u8, life: u64) {
        let mut peer = Peer::new(KEY, [u64::from(node), life]);
        peer.set_own([Some(addr(node)), None]);
        peer.set_ready();
        let former = self.nodes.remove(&node);
        let node_state = Node {
            peer,
            flows: former.map(|node| node.flows).unwrap_or_default(),
            half_open: BTreeSet::new(),
            excepted: BTreeMap::new(),
            denied: BTreeSet::new(),
            remembered: Vec::new(),
            gossip: Vec::new(),
            is_silent: false,
        };
        self.nodes.insert(node, node_state);
    }

    /// Tells a node who the others are and which of them are not live.
    fn introduce(&mut self, node: u8, all: &[u8], states: &[(u8, Presence)]) {
        let others = all.iter().filter(|other| **other != node);
        let members = others.map(|other| {
            let state = states.iter().find(|(name, _)| name == other);
            let member = Member {
                addresses: vec![addr(*other)],
                presence: state.map_or(Presence::Live, |(_, presence)| *presence),
            };
            (other.to_string(), member)
        });
        let (members, now) = (members.collect(), self.now);
        self.peer(node).set_members(members, now);
    }

    fn peer(&mut self, node: u8) -> &mut Peer {
        &mut self.nodes.get_mut(&node).unwrap().peer
    }

    fn node(&self, node: u8) -> &Node {
        &self.nodes[&node]
    }

    fn unknown(&mut self, asker: u8, origin: Option<u8>, flow: FlowName) {
        let now = self.now;
        self.peer(asker).handle_unknown(flow, origin.map(addr), now);
    }

    /// Lets time pass, a millisecond at a time.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(1);
            self.tick();
        }
    }

    fn tick(&mut self) {
        let now = self.now;
        let (due, later) = std::mem::take(&mut self.wire)
            .into_iter()
            .partition(|(at, _)| *at <= now);
        self.wire = later;
        let due: Vec<(Instant, Transmit)> = due;
        for (_, transmit) in due {
            self.deliver(&transmit);
        }
        for node in self.nodes.values_mut() {
            if node.is_silent {
                continue;
            }
            while let Some(action) = node.peer.poll_action() {
                node.act(action, now);
            }
            if node.peer.poll_timeout().is_some_and(|due| due <= now) {
                node.peer.handle_timeout(now);
            }
            while let Some(transmit) = node.peer.poll_transmit() {
                assert!(transmit.payload.len() <= MAX_DATAGRAM);
                self.sent.push(transmit.clone());
                let (copies, delay) = self.fates.next().unwrap();
                for copy in 0..copies {
                    let at = now + Duration::from_millis(delay + u64::from(copy));
                    self.wire.push((at, transmit.clone()));
                }
            }
        }
    }

    fn deliver(&mut self, transmit: &Transmit) {
        let now = self.now;
        let mut nodes = self.nodes.iter_mut();
        let to = nodes.find(|(name, _)| addr(**name) == transmit.to.ip());
        if let Some((_, node)) = to.filter(|(_, node)| !node.is_silent) {
            let (from, to) = (transmit.from, transmit.to.ip());
            node.peer.handle_datagram(from, to, &transmit.payload, now);
            while let Some(action) = node.peer.poll_action() {
                node.act(action, now);
            }
        }
    }
}

impl Node {
    fn act(&mut self, action: Action, now: Instant) {
        match action {
            Action::Look { inquiry, flow } => {
                let holder = self.flows.get(&flow).map(|pod| Holder {
                    pod: *pod,
                    is_half_open: self.half_open.contains(&flow),
                });
                self.peer.handle_look(&inquiry, flow, holder, now);
            }
            Action::Except(Located { flow, pod }, reason) => {
                self.denied.remove(&flow);
                self.excepted.insert(flow, (pod, reason));
            }
            Action::Deny(flow) => {
                self.denied.insert(flow);
            }
            Action::Doubt(flow) => {
                self.denied.remove(&flow);
            }
            Action::Recall(node, range) => {
                self.peer.remember(&node, vec![range.unknown()], now);
            }
            Action::Remembered(_, chunk) => self.remembered.push(chunk),
            Action::Gossip(from, octets) => self.gossip.push((from, octets)),
        }
    }
}

const SOON: Duration = Duration::from_millis(20);

#[test]
fn the_node_that_has_the_flow_tells_c0s_owner_which_makes_an_exception() {
    let mut world = World::new(2);
    let located = Located {
        flow: flow(1),
        pod: pod(2),
    };
    let now = world.now;
    world.peer(2).handle_chain(located, addr(1), now);
    world.pass(SOON);
    assert_eq!(
        world.node(1).excepted,
        BTreeMap::from([(flow(1), (pod(2), Reason::Chain))])
    );
}

#[test]
fn the_agent_of_the_last_hop_asks_the_peers_who_has_the_flow() {
    let mut world = World::new(4);
    world
        .nodes
        .get_mut(&4)
        .unwrap()
        .flows
        .insert(flow(1), pod(4));
    world.unknown(3, Some(1), flow(1));
    world.pass(SOON);
    assert_eq!(
        world.node(1).excepted,
        BTreeMap::from([(flow(1), (pod(4), Reason::Locate))])
    );
    assert!(world.nodes.values().all(|node| node.denied.is_empty()));
    assert_eq!(world.node(3).peer.counts().found, 1);
}

#[test]
fn an_owner_without_history_asks_for_itself() {
    let mut world = World::new(2);
    world
        .nodes
        .get_mut(&2)
        .unwrap()
        .flows
        .insert(flow(1), pod(2));
    world.unknown(1, None, flow(1));
    world.unknown(1, Some(1), flow(2));
    world.pass(SOON);
    assert!(world.node(1).excepted.contains_key(&flow(1)));
    assert!(world.node(1).denied.contains(&flow(2)));
}

#[test]
fn nobody_has_it_once_every_living_agent_said_so_and_for_a_second() {
    let mut world = World::new(3);
    world.unknown(3, Some(1), flow(1));
    world.pass(SOON);
    assert!(world.node(1).denied.contains(&flow(1)));
    world.pass(DENIAL);
    assert!(world.node(1).denied.is_empty());
}

#[test]
fn an_established_flow_is_preferred_to_a_half_open_one_and_the_origins_half_open_one_does_not_count()
 {
    let hold = |world: &mut World, node: u8, is_half_open: bool| {
        let owner = world.nodes.get_mut(&node).unwrap();
        owner.flows.insert(flow(1), pod(node));
        if is_half_open {
            owner.half_open.insert(flow(1));
        }
    };
    for (established, half_open, expected) in [
        (Some(4), vec![2], Some(4)),
        (None, vec![2], Some(2)),
        (Some(4), vec![1], Some(4)),
        (None, vec![1], None),
        (None, vec![1, 3], Some(3)),
    ] {
        let mut world = World::new(4);
        half_open
            .iter()
            .for_each(|node| hold(&mut world, *node, true));
        established
            .iter()
            .for_each(|node| hold(&mut world, *node, false));
        world.unknown(3, Some(1), flow(1));
        world.pass(SOON);
        let origin = world.node(1);
        let excepted = origin.excepted.get(&flow(1)).map(|(pod, _)| *pod);
        assert_eq!(excepted, expected.map(pod), "{established:?} {half_open:?}");
        assert_eq!(origin.denied.contains(&flow(1)), expected.is_none());
    }
}

#[test]
fn two_half_open_flows_leave_it_open_which_of_them_the_client_answers() {
    let mut world = World::new(4);
    for node in [2, 4] {
        let owner = world.nodes.get_mut(&node).unwrap();
        owner.flows.insert(flow(1), pod(node));
        owner.half_open.insert(flow(1));
    }
    world.unknown(3, Some(1), flow(1));
    world.pass(SOON);
    let origin = world.node(1);
    assert!(origin.excepted.is_empty() && origin.denied.is_empty());
    assert_eq!(world.node(3).peer.counts().uncertain, 1);
}

#[test]
fn a_node_that_does_not_answer_leaves_it_open() {
    let mut world = World::new(4);
    world.nodes.get_mut(&4).unwrap().is_silent = true;
    world.unknown(3, Some(1), flow(1));
    world.pass(Duration::from_secs(1));
    assert!(world.nodes.values().all(|node| node.denied.is_empty()));
    assert_eq!(world.node(3).peer.counts().uncertain, 1);
    // The client's next retransmission asks again.
    world.nodes.get_mut(&4).unwrap().is_silent = false;
    world.unknown(3, Some(1), flow(1));
    world.pass(Duration::from_millis(200));
    assert!(world.node(1).denied.contains(&flow(1)));
}

#[test]
fn a_node_that_is_gone_does_not_count_and_one_whose_agent_is_away_leaves_it_open() {
    for (presence, is_denied) in [(Presence::Gone, true), (Presence::Away, false)] {
        let mut world = World::new(4);
        world.nodes.get_mut(&4).unwrap().is_silent = true;
        world.introduce(3, &[1, 2, 3, 4], &[(4, presence)]);
        world.unknown(3, Some(1), flow(1));
        world.pass(SOON);
        assert_eq!(
            world.node(1).denied.contains(&flow(1)),
            is_denied,
            "{presence:?}"
        );
        // The same while the question is open.
        let mut world = World::new(4);
        world.nodes.get_mut(&4).unwrap().is_silent = true;
        world.unknown(3, Some(1), flow(1));
        world.pass(SOON);
        world.introduce(3, &[1, 2, 3, 4], &[(4, presence)]);
        world.pass(SOON);
        assert_eq!(
            world.node(1).denied.contains(&flow(1)),
            is_denied,
            "{presence:?}"
        );
    }
}

#[test]
fn a_verdict_that_a_lost_node_settles_reaches_the_origin_whatever_its_name() {
    for origin in [1, 4] {
        let mut world = World::new(4);
        world.nodes.get_mut(&2).unwrap().is_silent = true;
        world.unknown(3, Some(origin), flow(1));
        world.pass(SOON);
        world.introduce(3, &[1, 2, 3, 4], &[(2, Presence::Gone)]);
        world.pass(SOON);
        assert!(world.node(origin).denied.contains(&flow(1)), "{origin}");
    }
}

#[test]
fn an_agent_that_is_killed_while_it_is_asked_resets_nothing() {
    let mut world = World::new(4);
    world
        .nodes
        .get_mut(&4)
        .unwrap()
        .flows
        .insert(flow(1), pod(4));
    world.unknown(3, Some(1), flow(1));
    world.nodes.get_mut(&4).unwrap().is_silent = true;
    world.pass(Duration::from_millis(150));
    assert!(world.nodes.values().all(|node| node.denied.is_empty()));
    // It comes back, with another epoch, and is asked again.
    world.start(4, 2);
    world.introduce(4, &[1, 2, 3, 4], &[]);
    world.pass(Duration::from_millis(200));
    assert!(world.node(1).denied.is_empty());
    world.unknown(3, Some(1), flow(1));
    world.pass(Duration::from_millis(250));
    assert!(world.node(1).excepted.contains_key(&flow(1)));
}

#[test]
fn questions_are_merged_and_negatively_cached() {
    let mut world = World::new(3);
    for _ in 0..10 {
        world.unknown(3, Some(1), flow(1));
    }
    world.pass(SOON);
    world.unknown(3, Some(1), flow(1));
    let counts = world.node(3).peer.counts();
    assert_eq!((counts.asked, counts.merged, counts.nobody), (1, 10, 1));
    world.pass(DENIAL);
    world.unknown(3, Some(1), flow(1));
    assert_eq!(world.node(3).peer.counts().asked, 2);
}

#[test]
fn a_flood_costs_no_more_than_its_budget() {
    let mut world = World::new(3);
    for port in 0..50_000 {
        world.unknown(3, Some(1), flow(port));
    }
    let counts = world.node(3).peer.counts();
    assert_eq!((counts.asked, counts.over_budget), (101, 49_899));
    world.sent.clear();
    world.pass(SOON);
    let asked = world.sent.iter().filter(|sent| sent.from == addr(3));
    // Questions to two nodes and answers to one, in batches.
    assert!(asked.count() < 30);
}

#[test]
fn pushed_flows_are_sent_until_all_have_arrived() {
    let lost = |at: u64| at * 7_919 % 10 < 3;
    let fates = (0..400)
        .map(|at| (u8::from(!lost(at)), 1 + at % 5))
        .collect();
    let mut world = World::with_fates(2, fates);
    let flows = (0..5_000).map(|port| Located {
        flow: flow(port),
        pod: pod(1),
    });
    let now = world.now;
    world.peer(1).push("2", flows, now);
    assert!(world.node(1).peer.outstanding() > 90);
    while world.node(1).peer.outstanding() > 0 {
        world.pass(SOON);
    }
    assert_eq!(world.node(2).excepted.len(), 5_000);
    let counts = world.node(1).peer.counts();
    assert_eq!((counts.pushed, counts.unacknowledged), (5_000, 0));
}

#[test]
fn a_push_to_a_node_that_died_is_given_up() {
    let mut world = World::new(2);
    world.nodes.get_mut(&2).unwrap().is_silent = true;
    let now = world.now;
    let located = Located {
        flow: flow(1),
        pod: pod(1),
    };
    world.peer(1).push("2", [located], now);
    world.pass(SOON);
    assert_eq!(world.node(1).peer.outstanding(), 1);
    world.introduce(1, &[1, 2], &[(2, Presence::Gone)]);
    assert_eq!(world.node(1).peer.outstanding(), 0);
    assert_eq!(world.node(1).peer.counts().unacknowledged, 1);

    // Or that nobody names any more, with more flows than may be on their way at a time.
    let mut world = World::new(2);
    world.nodes.get_mut(&2).unwrap().is_silent = true;
    let now = world.now;
    let many = (0..5_000).map(|port| Located {
        flow: flow(port),
        pod: pod(1),
    });
    world.peer(1).push("2", many, now);
    world.pass(SOON);
    world.introduce(1, &[1], &[]);
    assert_eq!(world.node(1).peer.counts().unacknowledged, 5_000);

    let mut world = World::new(2);
    world.nodes.get_mut(&2).unwrap().is_silent = true;
    let now = world.now;
    world.peer(1).push("2", [located], now);
    world.pass(Duration::from_secs(20));
    assert_eq!(world.node(1).peer.outstanding(), 0);
    assert_eq!(world.node(1).peer.counts().unacknowledged, 1);
}

#[test]
fn what_is_pushed_to_an_agent_that_does_not_know_its_maps_yet_is_sent_until_it_does() {
    let mut world = World::new(1);
    let mut peer = Peer::new(KEY, [2, 1]);
    peer.set_own([Some(addr(2)), None]);
    world.start(2, 1);
    world.nodes.get_mut(&2).unwrap().peer = peer;
    for node in [1, 2] {
        world.introduce(node, &[1, 2], &[]);
    }
    let now = world.now;
    let located = Located {
        flow: flow(1),
        pod: pod(1),
    };
    world.peer(1).push("2", [located], now);
    world.pass(Duration::from_secs(2));
    assert_eq!(world.node(1).peer.outstanding(), 1);
    assert!(world.node(2).excepted.is_empty());

    world.peer(2).set_ready();
    world.pass(Duration::from_secs(2));
    assert_eq!(world.node(1).peer.outstanding(), 0);
    assert!(world.node(2).excepted.contains_key(&flow(1)));
}

#[test]
fn a_push_survives_the_restart_of_the_one_who_is_told() {
    let mut world = World::new(2);
    world.pass(SOON);
    let located = |port| Located {
        flow: flow(port),
        pod: pod(1),
    };
    let now = world.now;
    world.peer(1).push("2", [located(1)], now);
    world.pass(SOON);
    world.start(2, 2);
    world.introduce(2, &[1, 2], &[]);
    let now = world.now;
    world.peer(1).push("2", [located(2)], now);
    world.pass(Duration::from_secs(1));
    assert!(world.node(2).excepted.contains_key(&flow(2)));
}

#[test]
fn a_node_that_joins_is_answered_though_its_program_answers_no_probe_yet() {
    let mut world = World::new(2);
    world.introduce(1, &[1, 2], &[(2, Presence::Gone)]);
    let now = world.now;
    let range = Range {
        frontend: flow(1).frontend,
        from: 0,
        to: 8,
        digest: 0,
    };
    world.peer(2).recall("1", range, now);
    world.pass(SOON);
    assert_eq!(world.node(2).remembered, [range.unknown()]);
}

#[test]
fn what_was_recorded_is_worth_nothing_later() {
    let mut world = World::new(2);
    let located = Located {
        flow: flow(1),
        pod: pod(2),
    };
    let now = world.now;
    world.peer(2).handle_chain(located, addr(1), now);
    world.pass(SOON);
    let recorded = std::mem::take(&mut world.sent);
    let replay = |world: &mut World, recorded: &[Transmit]| {
        world.nodes.get_mut(&1).unwrap().excepted.clear();
        for transmit in recorded {
            world.deliver(transmit);
        }
        world.pass(SOON);
        assert!(world.node(1).excepted.is_empty());
    };
    replay(&mut world, &recorded);
    assert!(world.node(1).peer.counts().replayed > 0);
    // The receiver in another life.
    world.start(1, 2);
    world.introduce(1, &[1, 2], &[]);
    replay(&mut world, &recorded);
    // The sender in another life.
    world.start(2, 2);
    world.introduce(2, &[1, 2], &[]);
    let now = world.now;
    world.peer(2).handle_chain(located, addr(1), now);
    world.pass(SOON);
    assert!(world.node(1).excepted.contains_key(&flow(1)));
    replay(&mut world, &recorded);
    // It is still understood afterwards.
    let now = world.now;
    world.peer(2).handle_chain(located, addr(1), now);
    world.pass(SOON);
    assert!(world.node(1).excepted.contains_key(&flow(1)));
}

#[test]
fn forged_datagrams_and_strangers_are_refused() {
    let mut world = World::new(2);
    world.pass(SOON);
    let now = world.now;
    let located = Located {
        flow: flow(1),
        pod: pod(2),
    };
    let mut forger = Peer::new([9, 9], [1, 1]);
    forger.set_own([Some(addr(2)), None]);
    let target = Member {
        addresses: vec![addr(1)],
        presence: Presence::Live,
    };
    forger.set_members([("1".to_owned(), target)].into(), now);
    forger.handle_chain(located, addr(1), now);
    forger.handle_timeout(now + LINGER);
    let datagram = forger.poll_transmit().unwrap();
    world.deliver(&datagram);
    let stranger = Transmit {
        from: addr(77),
        ..datagram
    };
    world.deliver(&stranger);
    assert_eq!(world.node(1).peer.counts().refused, 2);
    world.pass(SOON);
    assert!(world.sent.is_empty(), "not even answered");
}

#[test]
fn gossip_comes_from_those_who_have_the_key_once_and_a_dead_peer_is_asked_for_one_ticket_at_a_time()
{
    let mut world = World::new(2);
    let say = |world: &mut World, text: &[u8]| {
        let now = world.now;
        world.peer(1).gossip("2", text.to_vec(), now);
        world.pass(SOON);
    };
    say(&mut world, b"lost");
    say(&mut world, b"hello");
    let heard = [("1".to_owned(), b"hello".to_vec())];
    assert_eq!(world.node(2).gossip, heard);
    let datagram = world.sent.last().unwrap().clone();
    for forged in 0..datagram.payload.len() {
        let mut forgery = datagram.clone();
        forgery.payload[forged] ^= 1;
        world.deliver(&forgery);
    }
    world.deliver(&datagram);
    assert_eq!(world.node(2).gossip, heard);

    let mut world = World::new(2);
    world.nodes.get_mut(&2).unwrap().is_silent = true;
    for _ in 0..3 {
        say(&mut world, b"anybody?");
    }
    assert_eq!(world.sent.len(), 3);
    say(&mut world, &[0; MAX_GOSSIP]);
    world.nodes.get_mut(&2).unwrap().is_silent = false;
    say(&mut world, b"asks");
    say(&mut world, &[1; MAX_GOSSIP + 1]);
    say(&mut world, &[2; MAX_GOSSIP]);
    assert_eq!(
        world.node(2).gossip,
        [("1".to_owned(), vec![2; MAX_GOSSIP])]
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn loss_duplication_and_reordering_deny_no_flow_that_lives(
        fates in proptest::collection::vec((0..3u8, 1..150u64), 0..400),
        has in proptest::collection::vec(proptest::option::of(1..5u8), 1..40),
    ) {
        let mut world = World::with_fates(4, fates);
        for (port, node) in (0..).zip(&has) {
            if let Some(node) = node {
                world.nodes.get_mut(node).unwrap().flows.insert(flow(port), pod(*node));
            }
        }
        // Clients send again and again; in the end the network loses nothing any more.
        let is_told = |world: &World| {
            (0..).zip(&has).all(|(port, node)| {
                let told = world.node(1).excepted.get(&flow(port)).map(|(pod, _)| *pod);
                told == node.map(pod)
            })
        };
        for round in 0.. {
            prop_assert!(round < 100);
            if round > 3 && is_told(&world) {
                break;
            }
            for (port, node) in (0..).zip(&has) {
                let is_told = world.node(1).excepted.contains_key(&flow(port));
                if !is_told {
                    world.unknown(3, Some(1), flow(port));
                }
                prop_assert!(node.is_none() || !world.node(1).denied.contains(&flow(port)));
            }
            world.pass(Duration::from_millis(600));
        }
    }
}
