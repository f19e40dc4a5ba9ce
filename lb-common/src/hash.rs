//! The keyed flow hash that picks a slot, equal on every node that holds the
//! same key.
//!
//! Rounds of keyed multiplication and xor-shift over 64 bits: the multiplication spreads upwards, the
//! shift brings the high half back down, where the slot mask looks. No 128-bit product, which BPF lacks.

use crate::addr::{AddrWords, Be16, Be32};

/// What a packet is hashed by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ports {
    /// Source port; zero where the client's address alone decides (`sessionAffinity: ClientIP`).
    pub source: Be16,
    /// Destination port.
    pub destination: Be16,
    /// IP protocol number.
    pub protocol: u8,
}

impl Ports {
    #[inline(always)]
    const fn bits(self) -> u64 {
        self.protocol as u64
            | (self.source.raw() as u64) << 16
            | (self.destination.raw() as u64) << 32
    }
}

/// Hash of an IPv4 flow.
#[inline(always)]
pub const fn hash4(key: &[u64; 4], source: Be32, destination: Be32, ports: Ports) -> u32 {
    let state = round(key[0], join(source, destination), key[1]);
    finish(round(state ^ key[2], ports.bits(), key[3]))
}

/// Hash of an IPv6 flow.
#[inline(always)]
pub const fn hash6(key: &[u64; 4], source: AddrWords, destination: AddrWords, ports: Ports) -> u32 {
    let [a, b, c, d] = source;
    let [e, f, g, h] = destination;
    let state = round(key[0], join(a, b), key[1]);
    let state = round(state, join(c, d), key[1]);
    let state = round(state, join(e, f), key[1]);
    let state = round(state, join(g, h), key[1]);
    finish(round(state ^ key[2], ports.bits(), key[3]))
}

#[inline(always)]
const fn join(high: Be32, low: Be32) -> u64 {
    (high.raw() as u64) << 32 | low.raw() as u64
}

#[inline(always)]
const fn round(state: u64, input: u64, multiplier: u64) -> u64 {
    // An odd factor keeps the round a permutation of the state.
    let product = (state ^ input).wrapping_mul(multiplier | 1);
    product ^ product >> 32
}

#[inline(always)]
const fn finish(state: u64) -> u32 {
    (state.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u64; 4] = [
        0x0123_4567_89ab_cdef,
        0xf1e2_d3c4_b5a6_9788,
        0x1357_9bdf_0246_8ace,
        0x5a69_788f_9e8d_7c6b,
    ];

    fn of_port(key: &[u64; 4], port: u16) -> u32 {
        let ports = Ports {
            source: Be16::new(port),
            destination: Be16::new(80),
            protocol: 6,
        };
        hash4(key, Be32::new(0xc633_6407), Be32::new(0xcb00_710a), ports)
    }

    /// Pearson's statistic of counts against an even spread.
    fn chi_squared(counts: &[u32]) -> f64 {
        let total: u32 = counts.iter().sum();
        let expected = f64::from(total) / counts.len() as f64;
        counts
            .iter()
            .map(|count| (f64::from(*count) - expected).powi(2) / expected)
            .sum()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn ports_alone_spread_evenly_over_low_bits(key in any::<[u64; 4]>()) {
            let mut counts = [0u32; 256];
            for port in 0..=u16::MAX {
                counts[(of_port(&key, port) & 0xff) as usize] += 1;
            }
            // 255 degrees of freedom: mean 255, standard deviation 22.6. A structured input may do
            // better than chance, never much worse.
            prop_assert!(chi_squared(&counts) < 255.0 + 10.0 * 22.6);
        }

        #[test]
        fn addresses_alone_spread_evenly_over_low_bits(key in any::<[u64; 4]>(), shift in 0u32..16) {
            let mut counts = [0u32; 256];
            let ports = Ports { source: Be16::new(0), destination: Be16::new(443), protocol: 6 };
            for client in 0..=u16::MAX {
                let words = [Be32::new(0x2001_0db8), Be32::new(0), Be32::new(0), Be32::new(u32::from(client) << shift)];
                let vip = [Be32::new(0x2001_0db8), Be32::new(1), Be32::new(0), Be32::new(1)];
                counts[(hash6(&key, words, vip, ports) & 0xff) as usize] += 1;
            }
            prop_assert!(chi_squared(&counts) < 255.0 + 10.0 * 22.6);
        }

        #[test]
        fn another_key_places_flows_elsewhere(other in any::<[u64; 4]>()) {
            let moved = (0..4096).filter(|port| (of_port(&KEY, *port) ^ of_port(&other, *port)) & 0xff != 0);
            prop_assert!(moved.count() > 3_900);
        }
    }

    #[test]
    fn the_value_is_the_same_on_every_node() {
        assert_eq!(of_port(&KEY, 41_000), of_port(&KEY.clone(), 41_000));
        assert_ne!(of_port(&KEY, 41_000), of_port(&KEY, 41_001));
    }
}
