//! Golden bytes of tunnels, and what is taken for one of ours.

extern crate std;

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::addr::words4;
use crate::family::V4;

const KEY: Key = [1, 2];

fn ends() -> Endpoints<Be32> {
    Endpoints {
        source: Be32::new(0xc633_6407),
        destination: Be32::new(0xcb00_710a),
        source_port: Be16::new(41_000),
        destination_port: Be16::new(80),
    }
}

fn plain() -> Tour {
    let mut tour = Tour {
        hops: 1,
        sender: words4([192, 0, 2, 1].into()),
        ..Tour::default()
    };
    tour.tag = tag::<V4>(KEY, &tour, &ends(), 6);
    tour
}

fn chained(count: u8) -> Tour {
    let mut tour = Tour {
        flags: tour_flags::CHAIN,
        count,
        origin: words4([192, 0, 2, 9].into()),
        ..plain()
    };
    for (position, owner) in tour.owners.iter_mut().enumerate().take(count.into()) {
        owner.addr = words4([10, 1, 0, position as u8].into());
        owner.port = Be16::new(8080);
    }
    tour.tag = tag::<V4>(KEY, &tour, &ends(), 6);
    tour
}

fn written(tour: &Tour) -> Vec<u8> {
    let mut octets = vec![0; length(tour)];
    write(octets.as_mut_slice(), 0, tour, ether_type::IPV4).unwrap();
    octets
}

/// The tour in the octets, if it is ours and the tag is right.
fn read_back(octets: &[u8]) -> Option<Tour> {
    let mut tour = Tour {
        sender: plain().sender,
        ..Tour::default()
    };
    let inner = read(octets, 0, &mut tour)?;
    let is_ours = inner.ether_type == ether_type::IPV4
        && inner.length == octets.len()
        && tag::<V4>(KEY, &tour, &ends(), 6) == tour.tag;
    is_ours.then_some(tour)
}

#[test]
fn a_plain_tunnel_has_these_octets() {
    let octets = written(&plain());
    assert_eq!(
        octets[..16],
        [4, 0x40, 8, 0, 0, 0, 0, 0, 0xff, 0x54, 0x81, 3, 0, 1, 0, 0]
    );
    assert_eq!(octets.len(), 24);
}

#[test]
fn a_list_has_these_octets() {
    let octets = written(&chained(1));
    assert_eq!(
        octets[..16],
        [13, 0x40, 8, 0, 0, 0, 0, 0, 0xff, 0x54, 0x81, 12, 1, 1, 1, 0]
    );
    let mut expected = [0; 36];
    expected[..4].copy_from_slice(&[192, 0, 2, 9]);
    expected[16..20].copy_from_slice(&[10, 1, 0, 0]);
    expected[32..34].copy_from_slice(&8080u16.to_be_bytes());
    assert_eq!(octets[24..], expected);
}

#[test]
fn what_is_written_is_read() {
    for tour in [plain(), chained(0), chained(1), chained(2), chained(3)] {
        assert_eq!(read_back(&written(&tour)), Some(tour));
    }
}

#[test]
fn another_key_sender_or_flow_has_another_tag() {
    let tour = chained(2);
    let other = Tour {
        sender: words4([192, 0, 2, 2].into()),
        ..tour
    };
    assert_ne!(tag::<V4>(KEY, &other, &ends(), 6), tour.tag);
    assert_ne!(tag::<V4>([1, 3], &tour, &ends(), 6), tour.tag);
    assert_ne!(tag::<V4>(KEY, &tour, &ends(), 17), tour.tag);
    let ends = Endpoints {
        source_port: Be16::new(41_001),
        ..ends()
    };
    assert_ne!(tag::<V4>(KEY, &tour, &ends, 6), tour.tag);
}

proptest! {
    #[test]
    fn any_changed_bit_is_noticed(count in 0u8..=4, bit in any::<prop::sample::Index>()) {
        let mut octets = written(&if count == 4 { plain() } else { chained(count) });
        let bit = bit.index(octets.len() * 8);
        octets[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(read_back(&octets), None);
    }

    #[test]
    fn any_octets_are_read_without_panic(octets in proptest::collection::vec(any::<u8>(), 0..140)) {
        let _ = read(octets.as_slice(), 0, &mut Tour::default());
    }
}
