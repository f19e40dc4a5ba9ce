//! Agents that tell each other over a network that loses, and what a stranger
//! achieves.

use super::*;

const KEY: Key = [1, 2];

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn claim(addresses: &[&str]) -> Claim {
    Claim {
        interface: "eth0".to_owned(),
        is_ready: true,
        addresses: addresses.iter().map(|text| addr(text)).collect(),
    }
}

/// Two agents, `a` and `b`, at 192.0.2.1 and .2.
struct Pair {
    agents: [Exchange; 2],
    now: Instant,
    sent: usize,
}

fn place(index: usize) -> IpAddr {
    addr(["192.0.2.1", "192.0.2.2"][index])
}

fn agent(index: usize, epoch: u64, own: Claim, now: Instant) -> Exchange {
    let mut agent = Exchange::new(KEY, epoch, own);
    agent.set_local([Some(place(index)), None]);
    let other = [("b", 1), ("a", 0)][index];
    agent.set_members(&[(other.0.to_owned(), vec![place(other.1)])].into(), now);
    agent
}

impl Pair {
    fn new(a: Claim, b: Claim) -> Self {
        let now = Instant::now();
        Self {
            agents: [agent(0, 10, a, now), agent(1, 20, b, now)],
            now,
            sent: 0,
        }
    }

    /// Lets time pass; `loses` says of each datagram, by number, whether it is lost.
    fn run(&mut self, time: Duration, loses: impl Fn(usize) -> bool) {
        let end = self.now + time;
        loop {
            let due = self.agents.iter().filter_map(Exchange::poll_timeout).min();
            let Some(at) = due.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            for index in 0..2 {
                self.agents[index].handle_timeout(self.now);
                while let Some(Transmit { from, to, payload }) = self.agents[index].poll_transmit()
                {
                    assert!(payload.len() <= 1_200);
                    self.sent += 1;
                    if !loses(self.sent) {
                        let from = SocketAddr::new(from, PORT);
                        self.agents[1 - index].handle_datagram(from, to.ip(), &payload, self.now);
                    }
                }
            }
        }
        self.now = end;
    }

    /// What each knows of the other.
    fn known(&self) -> [Option<Claim>; 2] {
        [0, 1].map(|index| {
            let mut claims = self.agents[index].claims();
            claims.next().unwrap().1.cloned()
        })
    }
}

#[test]
fn what_is_claimed_is_known_at_once_and_then_little_is_said() {
    let mut pair = Pair::new(claim(&["192.0.2.200"]), claim(&[]));
    pair.run(Duration::ZERO, |_| false);
    assert_eq!(
        pair.known(),
        [Some(claim(&[])), Some(claim(&["192.0.2.200"]))]
    );
    assert_eq!(pair.agents[1].poll_event().as_deref(), Some("a"));
    assert!(pair.sent <= 8, "{}", pair.sent);
    let before = pair.sent;
    pair.run(Duration::from_secs(10), |_| false);
    assert!(pair.sent - before <= 2 * 11, "{}", pair.sent - before);
    assert_eq!(pair.agents[1].poll_event(), None);

    let now = pair.now;
    pair.agents[0].set_own(claim(&[]), now);
    pair.run(Duration::ZERO, |_| false);
    assert_eq!(pair.known()[1], Some(claim(&[])));
    assert_eq!(pair.agents[1].poll_event().as_deref(), Some("a"));
}

#[test]
fn ten_thousand_addresses_get_through_where_every_third_datagram_is_lost() {
    let addresses = (0..10_000_u16).map(|n| {
        let [high, low] = n.to_be_bytes();
        if n % 2 == 0 {
            IpAddr::from([203, 0, high, low])
        } else {
            IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])
        }
    });
    let many = Claim {
        addresses: addresses.collect(),
        ..claim(&[])
    };
    let mut pair = Pair::new(many.clone(), claim(&[]));
    pair.run(Duration::from_secs(5), |number| number % 3 == 0);
    assert_eq!(pair.known(), [Some(claim(&[])), Some(many)]);
}

#[test]
fn an_agent_that_starts_again_is_told_and_believed() {
    let mut pair = Pair::new(claim(&["192.0.2.200"]), claim(&["192.0.2.201"]));
    pair.run(Duration::from_secs(2), |_| false);
    // The second one's clock was set back.
    for (index, epoch) in [(0, 11), (1, 5)] {
        pair.agents[index] = agent(index, epoch, claim(&[]), pair.now);
        pair.run(Duration::from_secs(2), |_| false);
        assert_eq!(pair.known()[1 - index], Some(claim(&[])), "{index}");
        assert!(pair.known()[index].is_some());
    }
}

#[test]
fn what_was_forgotten_is_said_again() {
    let mut pair = Pair::new(claim(&["192.0.2.200"]), claim(&[]));
    pair.run(Duration::from_secs(2), |_| false);
    let now = pair.now;
    pair.agents[1].forget(now);
    assert_eq!(pair.known()[1], None);
    pair.run(Duration::from_secs(1), |_| true);
    assert_eq!(pair.known()[1], None);
    pair.run(REFRESH, |_| false);
    assert_eq!(pair.known()[1], Some(claim(&["192.0.2.200"])));
}

#[test]
fn what_is_old_forged_or_from_a_stranger_changes_nothing() {
    let now = Instant::now();
    let [mut a, mut b] = [
        agent(0, 10, claim(&["192.0.2.200"]), now),
        agent(1, 20, claim(&[]), now),
    ];
    a.handle_timeout(now);
    let old = a.poll_transmit().unwrap();
    a.set_own(claim(&[]), now);
    a.handle_timeout(now);
    let new = a.poll_transmit().unwrap();
    let at = SocketAddr::new(place(0), PORT);

    let stranger = SocketAddr::new(addr("192.0.2.3"), PORT);
    b.handle_datagram(stranger, place(1), &new.payload, now);
    b.handle_datagram(at, addr("192.0.2.4"), &new.payload, now);
    for octet in 0..new.payload.len() {
        let mut forged = new.payload.clone();
        forged[octet] ^= 1;
        b.handle_datagram(at, place(1), &forged, now);
        b.handle_datagram(at, place(1), &new.payload[..octet], now);
    }
    assert_eq!(b.claims().next(), Some(("a", None)));

    b.handle_datagram(at, place(1), &new.payload, now);
    b.handle_datagram(at, place(1), &old.payload, now);
    assert_eq!(b.claims().next(), Some(("a", Some(&claim(&[])))));
    // Not even when it has forgotten.
    b.forget(now);
    b.handle_datagram(at, place(1), &old.payload, now);
    assert_eq!(b.claims().next(), Some(("a", None)));
}
