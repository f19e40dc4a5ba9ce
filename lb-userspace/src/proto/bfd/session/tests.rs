//! One session against packets and time, and two against each other.

use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn config(tx: u32, rx: u32, multiplier: u8) -> Config {
    Config {
        desired_min_tx: MS * tx,
        required_min_rx: MS * rx,
        detect_multiplier: NonZeroU8::new(multiplier).unwrap(),
        is_passive: false,
        minimum_ttl: 255,
    }
}

fn number(number: u32) -> Discriminator {
    Discriminator::new(number).unwrap()
}

fn session(config: Config, now: Instant) -> Session {
    Session::new(config, number(7), 1, now)
}

/// What a peer with number 9 says that can receive and send every 50 ms, three times.
fn packet(state: State) -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::None,
        state,
        is_poll: false,
        is_final: false,
        is_control_plane_independent: false,
        wants_demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: number(9),
        your_discriminator: Some(number(7)),
        desired_min_tx: MS * 50,
        required_min_rx: MS * 50,
        required_min_echo_rx: Duration::ZERO,
    }
}

fn last(state: State) -> ControlPacket {
    ControlPacket {
        is_final: true,
        ..packet(state)
    }
}

fn sent(session: &mut Session) -> Option<ControlPacket> {
    let octets = session.poll_transmit()?;
    Some(ControlPacket::decode(&octets).unwrap())
}

/// A session that a peer has brought Up at 50 ms × 3, its poll answered and its queues empty.
fn up(config: Config, now: Instant) -> Session {
    let mut session = session(config, now);
    session.handle_packet(&packet(State::Down), now).unwrap();
    session.handle_packet(&packet(State::Init), now).unwrap();
    session.handle_packet(&last(State::Up), now).unwrap();
    while session.poll_transmit().is_some() {}
    while session.poll_change().is_some() {}
    assert_eq!(session.state().0, State::Up);
    session
}

/// When a timer fires.
fn timer(session: &mut Session, timer: Timer) -> Instant {
    let other = match timer {
        Timer::Detect => Timer::Transmit,
        Timer::Transmit => Timer::Detect,
    };
    let (at, first) = session.timers.next().unwrap();
    if first == timer {
        return at;
    }
    session.timers.stop(other);
    let later = session.timers.next();
    session.timers.set(other, at);
    later.unwrap().0
}

#[test]
fn every_state_answers_every_state_of_the_peer_as_the_rfc_says() {
    use State::{AdminDown, Down, Init, Up};
    let now = Instant::now();
    let rows = [
        // Ours; then what becomes of it when the peer says AdminDown, Down, Init, Up.
        (Down, [Down, Init, Up, Down]),
        (Init, [Down, Init, Up, Up]),
        (Up, [Down, Down, Up, Up]),
        (AdminDown, [AdminDown; 4]),
    ];
    for (before, after) in rows {
        for (said, after) in [AdminDown, Down, Init, Up].into_iter().zip(after) {
            let mut session = session(config(50, 50, 3), now);
            match before {
                Down => {}
                Init => session.handle_packet(&packet(Down), now).unwrap(),
                Up => session = up(config(50, 50, 3), now),
                AdminDown => session.handle_admin_down(now),
            }
            let taken = session.handle_packet(&packet(said), now);
            assert_eq!(session.state().0, after, "{before:?}, {said:?}");
            assert_eq!(taken.is_err(), before == AdminDown);
        }
    }
}

#[test]
fn a_session_comes_up_in_three_packets_and_polls_for_its_fast_pace() {
    let now = Instant::now();
    let mut a = Session::new(config(50, 50, 3), number(7), 1, now);
    let mut b = Session::new(config(100, 20, 5), number(9), 2, now);
    let hello = sent(&mut a).unwrap();
    assert_eq!(hello.your_discriminator, None);
    assert_eq!(hello.desired_min_tx, SLOW);
    b.handle_packet(&hello, now).unwrap();
    let init = sent(&mut b).unwrap();
    assert_eq!(
        (init.state, init.your_discriminator),
        (State::Init, Some(number(7)))
    );
    a.handle_packet(&init, now).unwrap();
    let poll = sent(&mut a).unwrap();
    assert!(poll.is_poll && poll.state == State::Up && poll.desired_min_tx == MS * 50);
    b.handle_packet(&poll, now).unwrap();
    let answer = sent(&mut b).unwrap();
    assert!(answer.is_final && !answer.is_poll && answer.state == State::Up);
    a.handle_packet(&answer, now).unwrap();
    assert_eq!(a.poll, Poll::Idle);
    assert_eq!(sent(&mut a), None, "a final packet is not answered");

    assert_eq!(a.transmit_interval(), Some(MS * 50));
    assert_eq!(a.detection_time(), MS * 100 * 5);
    assert_eq!(b.transmit_interval(), Some(MS * 100));
    assert_eq!(b.detection_time(), MS * 50 * 3);
}

#[test]
fn packets_are_slow_until_the_session_is_up() {
    let now = Instant::now();
    let mut session = session(config(10, 10, 3), now);
    assert_eq!(session.transmit_interval(), Some(SLOW));
    session.handle_packet(&packet(State::Down), now).unwrap();
    assert_eq!(session.transmit_interval(), Some(SLOW));
    session.handle_packet(&packet(State::Init), now).unwrap();
    assert_eq!(session.transmit_interval(), Some(MS * 50));
}

#[test]
fn packets_leave_between_three_quarters_and_the_whole_of_the_interval() {
    for (multiplier, most) in [(1, 90), (3, 100)] {
        let mut now = Instant::now();
        let mut session = up(config(100, 50, multiplier), now);
        // The pace of the state before may still run.
        let mut gaps = Vec::new();
        for _ in 0..500 {
            let due = timer(&mut session, Timer::Transmit);
            gaps.push(due - now);
            now = due;
            session.handle_packet(&packet(State::Up), now).unwrap();
            session.handle_timeout(now);
            assert!(session.poll_transmit().is_some());
        }
        let gaps = &gaps[1..];
        assert!(gaps.iter().all(|gap| (MS * 75..=MS * most).contains(gap)));
        assert!(gaps.iter().any(|gap| *gap < MS * 78));
        assert!(gaps.iter().any(|gap| *gap > MS * (most - 3)));
    }
}

#[test]
fn silence_for_the_detection_time_is_a_loss() {
    let now = Instant::now();
    let mut session = up(config(50, 50, 3), now);
    let deadline = timer(&mut session, Timer::Detect);
    assert_eq!(deadline, now + MS * 150);
    session.handle_timeout(deadline - MS);
    assert_eq!(session.state().0, State::Up);
    session.handle_timeout(deadline);
    let change = session.poll_change().unwrap();
    assert_eq!((change.from, change.to), (State::Up, State::Down));
    assert!(change.is_loss());
    let said = sent(&mut session).unwrap();
    assert_eq!(said.diagnostic, Diagnostic::DetectionTimeExpired);
    assert_eq!(said.your_discriminator, None);
    assert_eq!(said.desired_min_tx, SLOW);
    assert_eq!(session.state(), (State::Down, deadline));
    assert_eq!(session.count().losses, 1);
}

#[test]
fn a_peer_that_went_down_is_a_loss_and_one_held_down_on_purpose_is_none() {
    for (said, is_loss) in [(State::Down, true), (State::AdminDown, false)] {
        let now = Instant::now();
        let mut session = up(config(50, 50, 3), now);
        session.handle_packet(&packet(said), now).unwrap();
        let change = session.poll_change().unwrap();
        assert_eq!(change.to, State::Down);
        assert_eq!(change.is_loss(), is_loss);
        let answer = sent(&mut session).unwrap();
        assert_eq!(answer.diagnostic, Diagnostic::NeighborSignaledDown);
    }
}

#[test]
fn admin_down_says_why_and_stays() {
    let now = Instant::now();
    let mut session = up(config(50, 50, 3), now);
    session.handle_admin_down(now);
    assert!(!session.poll_change().unwrap().is_loss());
    let said = sent(&mut session).unwrap();
    assert_eq!(said.state, State::AdminDown);
    assert_eq!(said.diagnostic, Diagnostic::AdministrativelyDown);
    assert_eq!(session.transmit_interval(), Some(SLOW));
    let poll = ControlPacket {
        is_poll: true,
        ..packet(State::Up)
    };
    assert_eq!(session.handle_packet(&poll, now), Err(Discard::AdminDown));
    assert_eq!(sent(&mut session), None);
}

#[test]
fn a_poll_is_answered_with_final_at_once_even_when_down() {
    let now = Instant::now();
    let mut session = session(config(50, 50, 3), now);
    let hello = sent(&mut session).unwrap();
    assert_eq!(hello.state, State::Down);
    let poll = ControlPacket {
        is_poll: true,
        ..packet(State::AdminDown)
    };
    session.handle_packet(&poll, now).unwrap();
    let answer = sent(&mut session).unwrap();
    assert!(answer.is_final && !answer.is_poll && answer.state == State::Down);
    assert_eq!(sent(&mut session), None);
}

#[test]
fn a_slower_pace_and_a_shorter_wait_hold_only_when_the_peer_has_agreed() {
    let now = Instant::now();
    let mut session = up(config(50, 50, 3), now);
    session.handle_config(config(200, 20, 3), now);
    let poll = sent(&mut session).unwrap();
    assert!(poll.is_poll);
    assert_eq!(poll.desired_min_tx, MS * 200);
    assert_eq!(poll.required_min_rx, MS * 20);
    assert_eq!(session.transmit_interval(), Some(MS * 50));
    let fast = ControlPacket {
        desired_min_tx: MS * 10,
        ..packet(State::Up)
    };
    session.handle_packet(&fast, now).unwrap();
    assert_eq!(session.detection_time(), MS * 150);
    let confirmed = ControlPacket {
        is_final: true,
        ..fast
    };
    session.handle_packet(&confirmed, now).unwrap();
    assert_eq!(session.transmit_interval(), Some(MS * 200));
    assert_eq!(session.detection_time(), MS * 60);
}

#[test]
fn a_faster_pace_and_a_longer_wait_hold_at_once() {
    let now = Instant::now();
    let mut session = up(config(200, 50, 3), now);
    session.handle_config(config(60, 400, 3), now);
    assert_eq!(session.transmit_interval(), Some(MS * 60));
    assert_eq!(session.detection_time(), MS * 1200);
    assert!(timer(&mut session, Timer::Transmit) <= now + MS * 60);
    assert_eq!(timer(&mut session, Timer::Detect), now + MS * 1200);
}

#[test]
fn an_answer_to_former_intervals_confirms_nothing() {
    let now = Instant::now();
    let mut session = up(config(50, 50, 3), now);
    session.handle_config(config(200, 50, 3), now);
    sent(&mut session).unwrap();
    session.handle_config(config(300, 50, 3), now);
    session.handle_packet(&last(State::Up), now).unwrap();
    assert_eq!(session.transmit_interval(), Some(MS * 50));
    assert!(sent(&mut session).unwrap().is_poll);
    session.handle_packet(&last(State::Up), now).unwrap();
    assert_eq!(session.transmit_interval(), Some(MS * 300));
}

#[test]
fn another_multiplier_needs_no_poll() {
    let now = Instant::now();
    let mut session = up(config(50, 50, 3), now);
    session.handle_config(config(50, 50, 9), now);
    assert_eq!(sent(&mut session), None);
    let due = timer(&mut session, Timer::Transmit);
    session.handle_timeout(due);
    let said = sent(&mut session).unwrap();
    assert!(!said.is_poll);
    assert_eq!(said.detect_multiplier.get(), 9);
}

#[test]
fn a_passive_session_waits_to_be_spoken_to_and_falls_silent_with_the_peer() {
    let now = Instant::now();
    let passive = Config {
        is_passive: true,
        ..config(50, 50, 3)
    };
    let mut session = session(passive, now);
    assert_eq!(session.poll_timeout(), None);
    assert_eq!(sent(&mut session), None);
    session.handle_packet(&packet(State::Down), now).unwrap();
    assert_eq!(sent(&mut session).unwrap().state, State::Init);
    assert_eq!(session.transmit_interval(), Some(SLOW));
    let due = timer(&mut session, Timer::Detect);
    session.handle_timeout(due);
    assert_eq!(session.state().0, State::Down);
    assert_eq!(sent(&mut session), None);
    assert_eq!(session.poll_timeout(), None);
}

#[test]
fn a_peer_that_wants_nothing_gets_nothing_but_answers() {
    let now = Instant::now();
    let mut session = up(config(50, 50, 3), now);
    let deaf = ControlPacket {
        required_min_rx: Duration::ZERO,
        ..packet(State::Up)
    };
    let demanding = ControlPacket {
        wants_demand: true,
        ..packet(State::Up)
    };
    for quiet in [deaf, demanding] {
        session.handle_packet(&quiet, now).unwrap();
        assert_eq!(session.transmit_interval(), None);
        assert!(!session.timers.is_running(Timer::Transmit));
        let poll = ControlPacket {
            is_poll: true,
            ..quiet
        };
        session.handle_packet(&poll, now).unwrap();
        assert!(sent(&mut session).unwrap().is_final);
        session.handle_packet(&packet(State::Up), now).unwrap();
        assert_eq!(session.transmit_interval(), Some(MS * 50));
    }
}

#[test]
fn the_slower_of_what_we_wish_and_what_the_peer_takes_is_the_pace() {
    let now = Instant::now();
    let mut session = up(config(50, 50, 3), now);
    let slow = ControlPacket {
        required_min_rx: MS * 700,
        ..packet(State::Up)
    };
    session.handle_packet(&slow, now).unwrap();
    assert_eq!(session.transmit_interval(), Some(MS * 700));
}

/// Two sessions and the wire between them.
struct Wire {
    now: Instant,
    ends: [Session; 2],
    /// When, to whom, what.
    flying: Vec<(Instant, usize, [u8; LENGTH])>,
    delay: Duration,
    random: Jitter,
}

impl Wire {
    fn new(configs: [Config; 2], delay: Duration, seed: u64) -> Self {
        let now = Instant::now();
        let [a, b] = configs;
        Self {
            now,
            ends: [
                Session::new(a, number(7), seed, now),
                Session::new(b, number(9), seed ^ 1, now),
            ],
            flying: Vec::new(),
            delay,
            random: Jitter::new(seed),
        }
    }

    /// Goes on for a while, with so many packets of a hundred lost.
    fn run(&mut self, time: Duration, lost: u64) {
        let end = self.now + time;
        loop {
            for (index, session) in self.ends.iter_mut().enumerate() {
                while let Some(octets) = session.poll_transmit() {
                    if self.random.draw() % 100 >= lost {
                        self.flying.push((self.now + self.delay, 1 - index, octets));
                    }
                }
            }
            let arrivals = self.flying.iter().map(|(at, ..)| *at);
            let timers = self.ends.iter().filter_map(|s| s.poll_timeout());
            let next = arrivals.chain(timers.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                self.now = end;
                return;
            };
            self.now = next;
            let now = self.now;
            for (_, to, octets) in self.flying.extract_if(.., |(at, ..)| *at <= now) {
                let packet = ControlPacket::decode(&octets).unwrap();
                let theirs = self.ends[to].discriminator();
                if packet
                    .your_discriminator
                    .is_none_or(|yours| yours == theirs)
                {
                    let _ = self.ends[to].handle_packet(&packet, now);
                }
            }
            for session in &mut self.ends {
                session.handle_timeout(now);
            }
        }
    }

    fn states(&self) -> [State; 2] {
        [0, 1].map(|index| self.ends[index].state().0)
    }
}

fn any_config() -> impl Strategy<Value = Config> {
    (10..2_000_u32, 10..2_000_u32, 3..10_u8).prop_map(|(tx, rx, mult)| config(tx, rx, mult))
}

proptest! {
    #[test]
    fn two_sessions_come_up_after_loss_agree_and_stay(
        a in any_config(),
        b in any_config(),
        c in any_config(),
        seed in any::<u64>(),
        lost in 0..80_u64,
    ) {
        // No packet overtakes another: one that brings back former intervals may cost the session.
        let mut wire = Wire::new([a, b], MS * 5, seed);
        wire.run(Duration::from_secs(30), lost);
        wire.run(Duration::from_secs(60), 0);
        prop_assert_eq!(wire.states(), [State::Up; 2]);

        let losses = wire.ends[0].count().losses + wire.ends[1].count().losses;
        wire.ends[0].handle_config(c, wire.now);
        wire.run(Duration::from_secs(60), 0);
        let after = wire.ends[0].count().losses + wire.ends[1].count().losses;
        prop_assert_eq!(after, losses, "a change of parameters breaks nothing");
        for (us, them) in [(0, 1), (1, 0)] {
            let [us, them] = [&wire.ends[us], &wire.ends[them]];
            prop_assert_eq!(us.poll, Poll::Idle);
            let interval = them.transmit_interval().unwrap();
            let multiplier = u32::from(them.config.detect_multiplier.get());
            prop_assert_eq!(us.detection_time(), interval * multiplier);
        }
    }

    #[test]
    fn random_packets_at_random_times_never_panic_nor_are_amplified(
        config in any_config(),
        steps in prop::collection::vec(
            (prop::array::uniform24(any::<u8>()), 0..5_000_u64, any::<bool>()), 0..200),
    ) {
        let start = Instant::now();
        let mut now = start;
        let mut session = session(config, now);
        let (mut came, mut went) = (0_u64, 0_u64);
        for (mut octets, wait, is_timer) in steps {
            now += Duration::from_millis(wait);
            if is_timer {
                session.handle_timeout(now);
                went += u64::from(session.poll_transmit().is_some());
                continue;
            }
            octets[0] = 0x20 | octets[0] & 0x1f;
            octets[1] &= 0xfa;
            octets[3] = 24;
            if let Ok(packet) = ControlPacket::decode(&octets) {
                came += 1;
                let _ = session.handle_packet(&packet, now);
                while session.poll_transmit().is_some() {
                    went += 1;
                }
                while session.poll_change().is_some() {}
            }
        }
        let by_the_clock = now.duration_since(start).as_millis() / 7 + 201;
        prop_assert!(u128::from(went) <= u128::from(came) + by_the_clock);
    }
}
