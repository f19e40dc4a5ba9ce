//! How often an agent may ask: in all, for one frontend, for one network of
//! clients.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::flow::{FlowName, Frontend};

/// Questions in all: 1,000 a second, a burst of 500.
const TOTAL: Rate = Rate::new(Duration::from_millis(1), 500);
/// Questions about one frontend: 500 a second, a burst of 250.
const FRONTEND: Rate = Rate::new(Duration::from_millis(2), 250);
/// Questions about one network of clients: 100 a second, a burst of 100.
const NETWORK: Rate = Rate::new(Duration::from_millis(10), 100);

/// Frontends and networks, each, that are counted at a time. Where there are more, the others wait.
const BUCKETS: usize = 4_096;

/// A rate, by the generic cell rate algorithm (ITU-T I.371).
#[derive(Clone, Copy, Debug)]
struct Rate {
    interval: Duration,
    burst: Duration,
}

impl Rate {
    const fn new(interval: Duration, burst: u32) -> Self {
        Self {
            interval,
            burst: interval.saturating_mul(burst),
        }
    }

    /// When the next one is due if one more is within the rate.
    fn admit(self, due: Option<Instant>, now: Instant) -> Option<Instant> {
        let start = due.map_or(now, |due| due.max(now));
        (start.duration_since(now) <= self.burst).then(|| start + self.interval)
    }
}

/// What was spent.
#[derive(Debug, Default)]
pub(super) struct Budget {
    total: Option<Instant>,
    frontends: Buckets<Frontend>,
    networks: Buckets<IpAddr>,
}

impl Budget {
    /// Spends one question, if all three budgets have it.
    pub(super) fn spend(&mut self, flow: &FlowName, now: Instant) -> bool {
        let network = flow.network();
        let (Some(total), Some(of_frontend), Some(of_network)) = (
            TOTAL.admit(self.total, now),
            self.frontends.admit(FRONTEND, &flow.frontend, now),
            self.networks.admit(NETWORK, &network, now),
        ) else {
            return false;
        };
        self.total = Some(total);
        self.frontends.0.insert(flow.frontend, of_frontend);
        self.networks.0.insert(network, of_network);
        true
    }
}

/// When the next question of each is due; one that is due by now need not be kept.
#[derive(Debug)]
struct Buckets<K>(HashMap<K, Instant>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<K: Eq + Hash> Buckets<K> {
    fn admit(&mut self, rate: Rate, key: &K, now: Instant) -> Option<Instant> {
        let due = self.0.get(key).copied();
        if due.is_none() && self.0.len() >= BUCKETS {
            self.0.retain(|_, due| *due > now);
            if self.0.len() >= BUCKETS {
                return None;
            }
        }
        rate.admit(due, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(client: [u8; 4], port: u16, vip_port: u16) -> FlowName {
        FlowName {
            client: (client, port).into(),
            frontend: Frontend {
                vip: ([203, 0, 113, 10], vip_port).into(),
                protocol: 6,
            },
        }
    }

    #[test]
    fn a_flood_from_one_network_leaves_the_others_their_share() {
        let now = Instant::now();
        let mut budget = Budget::default();
        let flood =
            (0..60_000).filter(|port| budget.spend(&flow([198, 51, 100, 7], *port, 80), now));
        assert_eq!(flood.count(), 101);
        assert!(!budget.spend(&flow([198, 51, 100, 200], 1, 80), now));
        assert!(budget.spend(&flow([198, 51, 101, 7], 1, 80), now));
    }

    #[test]
    fn a_flood_at_one_frontend_leaves_the_others_their_share() {
        let now = Instant::now();
        let mut budget = Budget::default();
        let clients = (0..250u8).flat_map(|network| (0..100).map(move |port| (network, port)));
        let flood = clients
            .filter(|(network, port)| budget.spend(&flow([10, 0, *network, 1], *port, 80), now));
        assert_eq!(flood.count(), 251);
        assert!(budget.spend(&flow([10, 1, 0, 1], 1, 443), now));
    }

    #[test]
    fn no_flood_costs_more_than_the_whole_budget() {
        let now = Instant::now();
        let mut budget = Budget::default();
        let spent = |budget: &mut Budget, now| {
            let flows = (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| (a, b)));
            flows
                .filter(|(a, b)| budget.spend(&flow([10, *a, *b, 1], 1, u16::from(*a)), now))
                .count()
        };
        assert_eq!(spent(&mut budget, now), 501);
        assert_eq!(spent(&mut budget, now + Duration::from_millis(100)), 100);
        assert!(budget.networks.0.len() <= BUCKETS);
    }

    #[test]
    fn clients_share_a_budget_by_24_and_56_bits() {
        let of = |client: &str| FlowName {
            client: client.parse().unwrap(),
            ..flow([0; 4], 0, 80)
        };
        assert_eq!(
            of("198.51.100.7:1").network(),
            of("198.51.100.9:2").network()
        );
        assert_ne!(
            of("198.51.100.7:1").network(),
            of("198.51.101.7:1").network()
        );
        let [a, b, c] = [
            "[2001:db8:0:1::1]:1",
            "[2001:db8:0:ff::2]:1",
            "[2001:db8:0:100::1]:1",
        ]
        .map(|client| of(client).network());
        assert_eq!(a, b);
        assert_ne!(a, c);
    }
}
