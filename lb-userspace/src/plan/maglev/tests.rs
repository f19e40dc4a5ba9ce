//! Balance, disruption and determinism of the tables.

use std::net::Ipv4Addr;

use proptest::prelude::*;

use super::*;

fn candidate(n: u32, weight: u32) -> Candidate {
    Candidate {
        addr: IpAddr::V4(Ipv4Addr::from_bits(0x0af4_0000 + n * 257)),
        port: 8080,
        weight,
    }
}

fn candidates(n: u32) -> Vec<Candidate> {
    (1..=n).map(|n| candidate(n, 1)).collect()
}

/// The owner of each slot, by address.
fn owners(length: u32, candidates: &[Candidate]) -> Vec<IpAddr> {
    fill(length, candidates)
        .into_iter()
        .map(|slot| candidates[slot.unwrap()].addr)
        .collect()
}

fn share(table: &[Option<usize>], index: usize) -> usize {
    table.iter().filter(|slot| **slot == Some(index)).count()
}

#[test]
fn every_backend_gets_its_share_within_two_percent() {
    let list = candidates(100);
    let table = fill(16_384, &list);
    for index in 0..list.len() {
        let slots = share(&table, index) as f64;
        assert!((slots / 163.84 - 1.0).abs() < 0.02, "{index}: {slots}");
    }
}

#[test]
fn weights_are_proportional() {
    let list = [
        candidate(1, 1),
        candidate(2, 3),
        candidate(3, 0),
        candidate(4, 4),
    ];
    let table = fill(4_096, &list);
    assert_eq!(share(&table, 2), 0);
    for (index, expected) in [(0, 512.0), (1, 1536.0), (3, 2048.0)] {
        let slots = share(&table, index) as f64;
        assert!((slots / expected - 1.0).abs() < 0.02, "{index}: {slots}");
    }
}

#[test]
fn removing_one_of_a_hundred_moves_few_slots_of_the_others() {
    let length = table_length(None, 100);
    let before = candidates(100);
    for gone in (0..100).step_by(7) {
        let mut after = before.clone();
        let removed = after.remove(gone).addr;
        let moved = owners(length, &before)
            .into_iter()
            .zip(owners(length, &after))
            .filter(|(old, new)| *old != removed && old != new)
            .count();
        let share = moved as f64 / f64::from(length);
        assert!(share <= 0.015, "{:.2} % moved", share * 100.0);
    }
}

#[test]
fn adding_one_to_a_hundred_moves_few_slots_between_the_others() {
    let length = table_length(None, 100);
    let before = candidates(100);
    let after = candidates(101);
    let added = after[100].addr;
    let moved = owners(length, &before)
        .into_iter()
        .zip(owners(length, &after))
        .filter(|(old, new)| *new != added && old != new)
        .count();
    let share = moved as f64 / f64::from(length);
    assert!(share <= 0.02, "{:.2} % moved", share * 100.0);
}

#[test]
fn a_table_without_weights_has_no_owner() {
    assert_eq!(fill(4, &[]), vec![None; 4]);
    assert_eq!(fill(2, &[candidate(1, 0)]), vec![None; 2]);
    assert_eq!(fill(1, &[candidate(1, 5), candidate(2, 1)]), vec![Some(0)]);
}

#[test]
fn a_golden_table() {
    let list = [candidate(1, 1), candidate(2, 1), candidate(3, 2)];
    let table: Vec<usize> = fill(16, &list).into_iter().flatten().collect();
    assert_eq!(table, GOLDEN);
    let owners: Vec<_> = list.iter().map(|c| (c.addr, c.port)).collect();
    let slots: Vec<_> = table.iter().map(|index| Some(*index as u16)).collect();
    assert_eq!(digest(&owners, &slots), GOLDEN_DIGEST);
}

// Nodes of different versions must agree, so a change of these is a change of the wire contract.
const GOLDEN: [usize; 16] = [2, 2, 1, 2, 2, 2, 0, 0, 2, 1, 1, 1, 2, 0, 2, 0];
const GOLDEN_DIGEST: &str = "429dfd101878159d";

#[test]
fn a_table_is_born_with_a_hundred_slots_per_backend() {
    let births = [
        (0, 1),
        (1, 128),
        (2, 1_024),
        (10, 1_024),
        (11, 2_048),
        (100, 16_384),
        (9_000, 65_536),
    ];
    for (backends, length) in births {
        assert_eq!(table_length(None, backends), length, "{backends} backends");
    }
}

#[test]
fn a_published_length_stays_while_it_gives_25_to_1600_slots_per_backend() {
    assert_eq!(table_length(Some(1_024), 40), 1_024);
    assert_eq!(table_length(Some(1_024), 41), 8_192);
    assert_eq!(table_length(Some(16_384), 11), 16_384);
    assert_eq!(table_length(Some(16_384), 10), 1_024);
    assert_eq!(table_length(Some(16_384), 0), 16_384);
    assert_eq!(table_length(Some(65_536), 60_000), 65_536);
}

#[test]
fn an_illegal_published_length_is_replaced() {
    assert_eq!(table_length(Some(1_000), 2), 1_024);
    assert_eq!(table_length(Some(0), 2), 1_024);
    assert_eq!(table_length(Some(131_072), 2), 1_024);
}

proptest! {
    #[test]
    fn every_slot_has_an_owner_and_the_input_order_does_not_matter(
        (sorted, shuffled) in proptest::collection::btree_map(1u32..200, 0u32..5, 1..30)
            .prop_map(|map| map.into_iter().map(|(n, weight)| candidate(n, weight)).collect::<Vec<_>>())
            .prop_flat_map(|list| (Just(list.clone()), Just(list).prop_shuffle())),
        bits in 0u32..10,
    ) {
        let table = fill(1 << bits, &sorted);
        let any = sorted.iter().any(|c| c.weight > 0);
        prop_assert!(table.iter().all(|slot| slot.is_some() == any));
        let mut again = shuffled;
        again.sort();
        prop_assert_eq!(table, fill(1 << bits, &again));
    }
}
