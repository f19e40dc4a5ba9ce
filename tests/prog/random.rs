//! Frames that chance made: kernel and host agree, and what is for no VIP
//! passes untouched.

use harness::frame::{ACK, SYN};

use crate::world::{LOCAL, NODE, REJECT, REMOTE, World, XDP_PASS, families, request};

/// Marsaglia's xorshift64: the same frames in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit
    }
}

#[test]
fn random_octets_pass_bit_for_bit() {
    let world = World::new(REJECT);
    let mut random = Random(0x5eed_0001);
    for _ in 0..5_000 {
        let mut frame: Vec<u8> = (0..14 + random.below(120))
            .map(|_| random.next() as u8)
            .collect();
        let ether_type: [u8; 2] =
            [[0x08, 0x00], [0x86, 0xdd], [0x08, 0x06], [0x81, 0x00]][random.below(4)];
        frame[..6].copy_from_slice(&NODE.0);
        frame[12..14].copy_from_slice(&ether_type);
        let run = world.ingress(&frame);
        assert_eq!((run.action, run.frame), (XDP_PASS, frame));
    }
}

#[test]
fn damaged_frames_for_a_vip_are_judged_alike() {
    let world = World::new(REJECT);
    let mut random = Random(0x5eed_0002);
    for _ in 0..5_000 {
        let family = families()[random.below(2)];
        let port = [LOCAL, REMOTE, 4444][random.below(3)];
        let flags = [SYN, ACK, random.next() as u8][random.below(3)];
        let tcp = [
            Some((random.next() as u32, random.next() as u32, flags)),
            None,
        ];
        let mut frame = request(family, port, tcp[random.below(2)]);
        frame.source_port = 40_000 + random.below(50) as u16;
        frame.tags = vec![(0x8100, 1); random.below(4)];
        if family.vip.is_ipv4() {
            frame.options = vec![1; random.below(11) * 4];
        }
        let mut frame = frame.build();
        for _ in 0..random.below(3) {
            let at = random.below(frame.len());
            frame[at] = random.next() as u8;
        }
        frame.truncate(14 + random.below(frame.len() * 4));
        world.ingress(&frame);
    }
}
