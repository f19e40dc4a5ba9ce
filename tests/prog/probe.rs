//! Probes of other nodes, and how a node fences itself.

use harness::frame::FrameBuilder;
use harness::program::Run;
use lb_common::abi::program;
use lb_common::maps::Config;
use lb_common::probe::{FENCE_AGE_MS, Kind, LEN, PORT, Probe};
use lb_userspace::net::clock;

use crate::neighbor::{arp_request, solicitation_from_router};
use crate::world::{Family, NODE, PEER, PEER_KEY, World, XDP_PASS, XDP_TX, families, request};

pub(crate) const REQUEST: Probe = Probe {
    kind: Kind::Request,
    sequence: 0x0102_0304_0506_0708,
    nonce: 0x1112_1314_1516_1718,
    age_ms: 0,
};

const SENDER_PORT: u16 = 40_321;

/// A probe from the peer to this node.
pub(crate) fn probe(family: Family, probe: Probe) -> FrameBuilder {
    FrameBuilder {
        from: PEER,
        source: family.client,
        destination: family.node,
        source_port: SENDER_PORT,
        destination_port: PORT,
        payload: probe.to_bytes(PEER_KEY).to_vec(),
        ..request(family, 0, None)
    }
}

/// The answer that is to come back, of an agent that wrote its heartbeat `age_ms` ago.
fn answer(family: Family, tags: &[(u16, u16)], age_ms: u64) -> Vec<u8> {
    let words = Probe {
        kind: Kind::Answer,
        age_ms,
        ..REQUEST
    };
    let mut frame = FrameBuilder {
        to: PEER,
        from: NODE,
        tags: tags.to_vec(),
        source: family.node,
        destination: family.client,
        source_port: PORT,
        destination_port: SENDER_PORT,
        ttl: 64,
        ..probe(family, words)
    }
    .build();
    if family.node.is_ipv4() {
        let checksum = frame.len() - LEN - 2;
        frame[checksum..checksum + 2].copy_from_slice(&[0, 0]);
    }
    frame
}

impl World {
    /// Lets the agent have written its heartbeat this long ago.
    fn set_age(&mut self, age_ms: u64) {
        let now = clock::monotonic_nanos();
        self.set_config(Config {
            heartbeat: now - age_ms * 1_000_000,
            ..self.memory.config
        });
        self.memory.clock.set(now);
    }

    /// Lets a frame in where time goes on by itself, so that the host's answer would differ.
    fn ingress_in_kernel(&self, frame: &[u8]) -> Run {
        self.programs.ingress(program::INGRESS, frame).unwrap()
    }
}

/// The age that an answer tells, which is the last word but one.
fn told_age(frame: &[u8]) -> u64 {
    let octets = frame[frame.len() - 16..].first_chunk().unwrap();
    u64::from_be_bytes(*octets)
}

#[test]
fn a_probe_comes_back_with_the_age_of_the_heartbeat() {
    let mut world = World::new(0);
    for family in families() {
        for tags in [&[][..], &[(0x8100, 5)], &[(0x88a8, 7), (0x8100, 5)]] {
            let frame = FrameBuilder {
                tags: tags.to_vec(),
                ..probe(family, REQUEST)
            }
            .build();
            // A heartbeat of the future is one of now: here and there the same.
            world.set_config(Config {
                heartbeat: u64::MAX,
                ..world.memory.config
            });
            let run = world.ingress(&frame);
            assert_eq!((run.action, run.frame), (XDP_TX, answer(family, tags, 0)));

            world.set_age(5_000);
            let run = world.ingress_in_kernel(&frame);
            let age = told_age(&run.frame);
            assert!((5_000..10_000).contains(&age), "{age}");
            assert_eq!((run.action, run.frame), (XDP_TX, answer(family, tags, age)));
        }
    }
}

#[test]
fn what_is_no_probe_to_this_node_passes_bit_for_bit() {
    let world = World::new(0);
    for family in families() {
        let good = || probe(family, REQUEST);
        let other_key = REQUEST.to_bytes([PEER_KEY[0], PEER_KEY[1] + 1]).to_vec();
        let answer = Probe {
            kind: Kind::Answer,
            ..REQUEST
        };
        let mut frames = vec![
            FrameBuilder {
                payload: other_key,
                ..good()
            },
            probe(family, answer),
            FrameBuilder {
                destination: family.pod,
                ..good()
            },
            FrameBuilder {
                destination_port: PORT + 1,
                ..good()
            },
            FrameBuilder { to: PEER, ..good() },
            FrameBuilder {
                payload: [&good().payload[..], &[0]].concat(),
                ..good()
            },
            FrameBuilder {
                payload: good().payload[1..].to_vec(),
                ..good()
            },
        ];
        if family.node.is_ipv4() {
            frames.push(FrameBuilder {
                fragment: 0x2000,
                ..good()
            });
        }
        for frame in frames {
            let frame = frame.build();
            let run = world.ingress(&frame);
            assert_eq!((run.action, run.frame), (XDP_PASS, frame));
        }
    }
}

#[test]
fn a_node_whose_agent_is_away_for_too_long_fences_itself() {
    let mut world = World::new(0);
    let probes = families().map(|family| probe(family, REQUEST).build());
    let others = [arp_request(), solicitation_from_router()];
    let frames: Vec<_> = probes.into_iter().chain(others).collect();
    // Far enough below the limit that the test does not reach it while it runs.
    world.set_age(FENCE_AGE_MS / 2);
    for frame in &frames {
        assert_eq!(
            world.ingress_in_kernel(frame).action,
            XDP_TX,
            "{frame:02x?}"
        );
    }
    world.set_age(FENCE_AGE_MS + 1);
    for frame in frames {
        let run = world.ingress(&frame);
        assert_eq!((run.action, run.frame), (XDP_PASS, frame));
    }
}
