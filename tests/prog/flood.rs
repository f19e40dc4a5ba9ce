//! Floods of all that a generator can send: they break no connection, keep no
//! new one away, and cost no more than the budgets.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZero;
use std::thread;
use std::time::{Duration, Instant};

use harness::frame::{ACK, FrameBuilder, SYN};
use harness::program::Element;
use lb_common::abi::{map, program};
use lb_common::addr::{Be16, Be32};
use lb_common::drop::DropReason;
use lb_common::maps::{
    Flow, FlowKey4, FlowKey6, Slot, config_flags, flow_direction, flow_state, node_mode,
};
use lb_common::outcome::Outcome;

use crate::cluster::{Cluster, HERE, THERE};
use crate::random::Random;
use crate::world::{
    Family, LOCAL, POD_PORT, ROUTER, World, XDP_DROP, XDP_PASS, XDP_TX, delivered, families,
    request, response, translated, words,
};

/// Connections that are open in each family when a flood begins.
const OPEN: u16 = 10_000;
/// Entries that each flow table holds.
const ROOM: u32 = 32_768;
/// Port of the first of the connections.
const FIRST: u16 = 20_000;
/// Packets after which somebody connects.
const PAUSE: u32 = 500;

/// What a flood is made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// SYNs from anywhere.
    Syn,
    /// The same, each with an ACK of what nobody has sent.
    SynAck,
    /// ACKs from random ports of anywhere.
    Ack,
    /// ACKs from random ports of one network.
    AckOfOneNetwork,
    /// Datagrams from random ports of anywhere.
    Udp,
}

/// How long one lasts.
fn duration() -> Duration {
    let is_full = std::env::var_os("TORLINE_TEST_FULL").is_some();
    Duration::from_secs(if is_full { 10 } else { 1 })
}

/// The most that a budget of every CPU gives in a time.
fn budget(rate: u64, burst: u64, elapsed: Duration) -> u64 {
    let cpus = thread::available_parallelism().map_or(1, NonZero::get) as u64;
    // The first is not of the burst, and what a second begins it has.
    (rate * elapsed.as_millis() as u64 / 1_000 + burst + 2) * cpus
}

impl Kind {
    fn frames(self, family: Family, random: &mut Random) -> Vec<FrameBuilder> {
        let tcp = match self {
            Self::Syn | Self::SynAck => Some((random.next() as u32, 0, SYN)),
            Self::Ack | Self::AckOfOneNetwork => {
                Some((random.next() as u32, random.next() as u32, ACK))
            }
            Self::Udp => None,
        };
        let mut frame = request(family, LOCAL, tcp);
        frame.payload.truncate(1);
        frame.source_port = random.next() as u16;
        let host = random.next() as u32;
        frame.source = match (family.vip, self) {
            (IpAddr::V4(_), Self::AckOfOneNetwork) => {
                Ipv4Addr::from_bits(0x0b00_0000 | host & 0xff).into()
            }
            (IpAddr::V4(_), _) => Ipv4Addr::from_bits(0x0b00_0000 | host & 0x00ff_ffff).into(),
            (IpAddr::V6(_), Self::AckOfOneNetwork) => v6(0, host),
            (IpAddr::V6(_), _) => v6(host, 1),
        };
        if self != Self::SynAck {
            return vec![frame];
        }
        let mut ack = frame.clone();
        let sequence = frame.tcp.map_or(0, |(sequence, ..)| sequence);
        ack.tcp = Some((sequence.wrapping_add(1), random.next() as u32, ACK));
        vec![frame, ack]
    }
}

fn v6(network: u32, host: u32) -> IpAddr {
    let network = u128::from(0x2001_0db9_0000_0000 | u64::from(network & 0xffff) << 16);
    Ipv6Addr::from_bits(network << 64 | u128::from(host)).into()
}

/// Where what is open is: of TCP, and of UDP.
const OPENED4: [(u8, &str); 2] = [(6, map::ESTABLISHED4), (17, map::UDP4)];
const OPENED6: [(u8, &str); 2] = [(6, map::ESTABLISHED6), (17, map::UDP6)];

/// Opens the connections and as many UDP flows, as the tables show them a moment after.
fn open(world: &mut World, family: Family) {
    let opened = if family.vip.is_ipv4() {
        OPENED4
    } else {
        OPENED6
    };
    for (protocol, table) in opened {
        open_in(world, family, protocol, table);
    }
}

fn open_in(world: &mut World, family: Family, protocol: u8, table: &str) {
    let frontend = if family.vip.is_ipv4() { 0 } else { 4 } + u32::from(protocol == 17);
    let flow = |to: IpAddr, to_port, port| Flow {
        addr: words(to),
        port: Be16::new(to_port),
        state: if protocol == 6 {
            flow_state::SYN_ACK_SEEN | flow_state::CONFIRMED
        } else {
            flow_state::ANSWERED
        },
        generation: 7,
        backend: frontend * 16 + 1,
        client_port: port,
        zero: 0,
        seen: 1,
        sequence: 0,
    };
    let (client, vip, pod) = (words(family.client), words(family.vip), words(family.pod));
    for number in 0..OPEN {
        let port = Be16::new(FIRST + number);
        for (from, from_port, to, to_port, direction, value) in [
            (
                client,
                port,
                vip,
                Be16::new(LOCAL),
                flow_direction::FORWARD,
                flow(family.pod, POD_PORT, port),
            ),
            (
                pod,
                Be16::new(POD_PORT),
                client,
                port,
                flow_direction::REVERSE,
                flow(family.vip, LOCAL, port),
            ),
        ] {
            if family.vip.is_ipv4() {
                let key = FlowKey4 {
                    source: from[0],
                    destination: to[0],
                    source_port: from_port,
                    destination_port: to_port,
                    protocol,
                    direction,
                    zero: 0,
                };
                world.programs.insert(table, key, value).unwrap();
            } else {
                let key = FlowKey6 {
                    source: from,
                    destination: to,
                    source_port: from_port,
                    destination_port: to_port,
                    protocol,
                    direction,
                    zero: 0,
                };
                world.programs.insert(table, key, value).unwrap();
            }
        }
    }
}

/// The entries of a table.
fn held<K: Element + Eq + Hash>(world: &World, table: &str) -> HashMap<K, Flow> {
    world.programs.entries(table).unwrap().into_iter().collect()
}

/// Somebody connects, and says something.
fn connect(world: &World, family: Family, port: u16) {
    let (ingress, programs) = (program::INGRESS, &world.programs);
    let arrives = |tcp| {
        let mut frame = request(family, LOCAL, Some(tcp));
        frame.source_port = port;
        let mut expected = delivered(family, Some(tcp));
        expected.source_port = port;
        let run = programs.ingress(ingress, &frame.build()).unwrap();
        assert_eq!((run.action, run.frame), (XDP_PASS, expected.build()));
    };
    arrives((100, 0, SYN));
    let mut answer = response(family, Some((900, 101, SYN | ACK)));
    answer.destination_port = port;
    programs.egress(&answer.build()).unwrap();
    arrives((101, 901, ACK));
    arrives((106, 901, ACK));
}

/// Somebody asks, is answered, and asks again.
fn ask(world: &World, family: Family, port: u16) {
    let programs = &world.programs;
    let arrives = || {
        let (mut frame, mut expected) = (request(family, LOCAL, None), delivered(family, None));
        frame.source_port = port;
        expected.source_port = port;
        let run = programs.ingress(program::INGRESS, &frame.build()).unwrap();
        assert_eq!((run.action, run.frame), (XDP_PASS, expected.build()));
    };
    arrives();
    let mut answer = response(family, None);
    answer.destination_port = port;
    let out = programs.egress(&answer.build()).unwrap();
    (answer.source, answer.source_port) = (family.vip, LOCAL);
    assert_eq!(out.frame, answer.build());
    arrives();
}

/// Lets a flood in here for its time, in both families; what of it was answered, and how long it took.
fn flood(cluster: &mut Cluster, kind: Kind) -> (u64, Duration) {
    let mut random = Random(0x5eed_f10d ^ kind as u64);
    let (mut answers, mut sent) = (0, 0u32);
    let mut port = 1_024;
    let began = Instant::now();
    while began.elapsed() < duration() {
        for family in families() {
            for frame in kind.frames(family, &mut random) {
                sent += 1;
                let frame = frame.build();
                let here = &cluster.world(HERE).programs;
                let run = here.ingress(program::INGRESS, &frame).unwrap();
                match run.action {
                    XDP_TX if run.frame[..6] == ROUTER.0 => answers += 1,
                    // Chained: one packet for one packet, which comes back at most.
                    XDP_TX => {
                        let there = &cluster.world(THERE).programs;
                        let there = there.ingress(program::INGRESS, &run.frame).unwrap();
                        assert!(matches!(there.action, XDP_DROP | XDP_TX), "{there:?}");
                        if there.action == XDP_TX && kind != Kind::Udp {
                            answers += 1;
                        }
                    }
                    XDP_PASS => {
                        assert!(!matches!(kind, Kind::Ack | Kind::AckOfOneNetwork));
                    }
                    _ => {}
                }
            }
        }
        if sent.is_multiple_of(PAUSE) {
            for family in families() {
                connect(cluster.world(HERE), family, port);
                ask(cluster.world(HERE), family, port);
            }
            port = 1_024 + (port - 1_023) % 4_000;
        }
    }
    let elapsed = began.elapsed();
    (answers, elapsed)
}

/// A flood at a node with open connections, whose slots remember another node or do not.
fn endure(kind: Kind, flags: u32, history: u16) {
    let mut cluster = Cluster::with_room(node_mode::L2, 0, flags, ROOM);
    cluster.set_slots(LOCAL, Slot::new([1, history, 0, 0]));
    for family in families() {
        open(cluster.world(HERE), family);
    }
    let four = OPENED4.map(|(_, table)| held::<FlowKey4>(cluster.world(HERE), table));
    let six = OPENED6.map(|(_, table)| held::<FlowKey6>(cluster.world(HERE), table));
    assert!(four.iter().all(|held| held.len() == 2 * OPEN as usize));
    assert!(six.iter().all(|held| held.len() == 2 * OPEN as usize));

    let (answers, elapsed) = flood(&mut cluster, kind);

    // No entry of what was open was touched, and who is promoted was answered.
    for ((_, table), before) in OPENED4.into_iter().zip(four) {
        let after: HashMap<FlowKey4, Flow> = held(cluster.world(HERE), table);
        let kept = before
            .iter()
            .all(|(key, flow)| after.get(key) == Some(flow));
        assert!(kept, "{table}");
        let mut held = after.keys();
        assert!(held.all(|key| of_client(key.source, key.destination)));
    }
    for ((_, table), before) in OPENED6.into_iter().zip(six) {
        let after: HashMap<FlowKey6, Flow> = held(cluster.world(HERE), table);
        let kept = before
            .iter()
            .all(|(key, flow)| after.get(key) == Some(flow));
        assert!(kept, "{table}");
    }
    for table in [map::HALF_OPEN4, map::UNANSWERED4] {
        let entries: HashMap<FlowKey4, Flow> = held(cluster.world(HERE), table);
        assert!(entries.len() <= ROOM as usize, "{table}: {}", entries.len());
    }
    // The connections go on, and new ones begin.
    for family in families() {
        for (number, tcp) in (0..OPEN)
            .step_by(97)
            .flat_map(|number| [(number, Some((101, 901, ACK))), (number, None)])
        {
            let mut frame = request(family, LOCAL, tcp);
            frame.source_port = FIRST + number;
            let programs = &cluster.world(HERE).programs;
            let run = programs.ingress(program::INGRESS, &frame.build()).unwrap();
            let mut expected = delivered(family, tcp);
            expected.source_port = frame.source_port;
            assert_eq!((run.action, run.frame), (XDP_PASS, expected.build()));
        }
        connect(cluster.world(HERE), family, 1_000);
        ask(cluster.world(HERE), family, 1_000);
    }
    // Two nodes answer, each within its budget.
    assert!(
        answers <= 2 * budget(10_000, 1_000, elapsed),
        "{answers} answers"
    );
    for node in [HERE, THERE] {
        let world = cluster.world(node);
        let wanted = world.programs.outcomes(Outcome::LocateWanted).unwrap();
        let lost = world.programs.outcomes(Outcome::EventLost).unwrap();
        let located = world.programs.drops(DropReason::Located).unwrap();
        assert_eq!(wanted + lost, located);
        // A bucket for each family.
        let buckets = if kind == Kind::AckOfOneNetwork {
            2
        } else {
            256
        };
        let most = buckets * budget(100, 20, elapsed);
        assert!(wanted <= most, "{wanted} events of at most {most}");
        assert_eq!(world.programs.events().unwrap().len() as u64, wanted);
        world.forget_counters();
    }
}

/// Whether one end is the client that connects.
fn of_client(source: Be32, destination: Be32) -> bool {
    let [client, ..] = words(families()[0].client);
    source == client || destination == client
}

#[test]
fn a_flood_of_forged_syns_breaks_no_connection() {
    endure(Kind::Syn, config_flags::LOCATE, 2);
}

#[test]
fn a_flood_of_forged_syns_and_acks_promotes_nothing() {
    endure(Kind::SynAck, config_flags::LOCATE, 2);
}

#[test]
fn a_flood_of_acks_asks_no_more_than_its_budget() {
    endure(Kind::Ack, config_flags::LOCATE, 2);
}

#[test]
fn a_flood_of_acks_from_one_network_asks_where_the_slot_remembers_nobody() {
    endure(Kind::AckOfOneNetwork, config_flags::LOCATE, 0);
}

#[test]
fn a_flood_of_acks_is_reset_no_more_than_its_budget() {
    endure(Kind::Ack, 0, 0);
}

#[test]
fn a_flood_of_datagrams_breaks_no_connection() {
    endure(Kind::Udp, config_flags::LOCATE, 2);
}

#[test]
fn a_flood_of_datagrams_that_nobody_answers_keeps_no_new_flow_out() {
    const ROOM: u32 = 1_024;
    let world = World::with_room(0, ROOM);
    for family in families() {
        ask(&world, family, 41_000);
    }
    for family in families() {
        // Twice as many as find room.
        for port in 0..2 * ROOM as u16 {
            let mut datagram = request(family, LOCAL, None);
            datagram.source_port = 50_000 + port;
            let datagram = datagram.build();
            let run = world.programs.ingress(program::INGRESS, &datagram).unwrap();
            assert_eq!(run.action, XDP_PASS, "a new flow is never refused");
        }
        ask(&world, family, 42_000);
        ask(&world, family, 41_000);
    }
    assert_eq!(held::<FlowKey4>(&world, map::UDP4).len(), 4);
    assert_eq!(held::<FlowKey6>(&world, map::UDP6).len(), 4);
    world.forget_counters();
}

#[test]
fn a_flood_of_datagrams_that_a_pod_answers_keeps_no_new_flow_out() {
    const ROOM: u16 = 1_024;
    let world = World::with_room(0, ROOM.into());
    for family in families() {
        for port in 0..ROOM {
            ask(&world, family, 50_000 + port);
        }
        ask(&world, family, 42_000);
        ask(&world, family, 50_000);
    }
    assert!(world.programs.drops(DropReason::UdpFull).unwrap() > 0);
    world.forget_counters();
}

#[test]
fn a_flood_of_syns_fills_the_half_open_table_and_breaks_no_established_flow() {
    const ROOM: u32 = 1_024;
    let world = World::with_room(0, ROOM);
    let data = Some((101, 901, ACK));
    for family in families() {
        world.ingress(&request(family, LOCAL, Some((100, 0, SYN))).build());
        world.egress(&response(family, Some((900, 101, SYN | ACK))).build());
        world.ingress(&request(family, LOCAL, data).build());
    }
    for family in families() {
        // Twice as many as find room.
        for port in 0..2 * ROOM as u16 {
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
