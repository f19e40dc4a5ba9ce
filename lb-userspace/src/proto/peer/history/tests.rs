//! Ranges, their fetch and its retries.

use proptest::prelude::*;

use super::*;
use crate::proto::peer::message::{MAX_DATAGRAM, Message};

fn frontend(port: u16) -> Frontend {
    Frontend {
        vip: ([203, 0, 113, 10], port).into(),
        protocol: 6,
    }
}

fn pod(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    ([10, a, b, c], 8080).into()
}

/// A table of which every slot remembers something else.
fn owners(index: u32) -> Owners {
    [
        Some(pod(index % 40)),
        Some(pod(index / 7)),
        index.is_multiple_of(3).then(|| pod(1_000 + index % 11)),
        None,
    ]
}

fn whole(port: u16) -> Range {
    Range {
        frontend: frontend(port),
        from: 0,
        to: u32::MAX,
        digest: 1,
    }
}

#[test]
fn a_history_fits_datagrams_and_comes_back_whole() {
    let chunks = whole(80).chunks(1_024, owners);
    assert!(chunks.len() > 4, "{}", chunks.len());
    let now = Instant::now();
    let mut fetch = Fetch::new([(frontend(80), 1)], vec!["b".into()]);
    assert_eq!(fetch.poll(now).len(), 1);
    for chunk in chunks.iter().rev() {
        let mut octets = Vec::new();
        Message::Remember(chunk.clone()).write(&mut octets);
        assert!(octets.len() <= MAX_DATAGRAM - 40, "{}", octets.len());
        let read = Message::read_all(&octets).unwrap();
        assert_eq!(read, [Message::Remember(chunk.clone())]);
        fetch.handle_chunk("b", chunk);
    }
    assert!(fetch.is_done());
    let (histories, unknown) = fetch.finish();
    let slots: Vec<_> = (0..1_024).map(owners).collect();
    let frontend = frontend(80);
    assert_eq!((histories, unknown), (vec![History { frontend, slots }], 0));
}

#[test]
fn a_table_that_is_equal_and_remembers_nobody_takes_one_message() {
    let now = Instant::now();
    let mut fetch = Fetch::new([(frontend(80), 1)], vec!["b".into()]);
    let questions = fetch.poll(now);
    let (_, range) = &questions[0];
    fetch.handle_chunk("b", &range.nothing(1_024));
    let (histories, _) = fetch.finish();
    assert_eq!(histories[0].slots, vec![[None; DEPTH]; 1_024]);
}

#[test]
fn a_long_table_is_asked_for_in_ranges() {
    let mut now = Instant::now();
    let mut fetch = Fetch::new([(frontend(80), 1)], vec!["b".into()]);
    let mut questions = 0;
    while !fetch.is_done() {
        for (peer, range) in fetch.poll(now) {
            questions += 1;
            assert!(range.to - range.from <= RANGE);
            for chunk in range.chunks(1 << 14, owners) {
                fetch.handle_chunk(&peer, &chunk);
            }
        }
        now += Duration::from_millis(1);
    }
    assert_eq!(questions, 4);
    assert_eq!(fetch.finish().0[0].slots.len(), 1 << 14);
}

#[test]
fn a_peer_that_does_not_know_or_does_not_answer_is_followed_by_the_next() {
    let mut now = Instant::now();
    let peers = ["b", "c", "d"].map(str::to_owned);
    let mut fetch = Fetch::new([(frontend(80), 1)], peers.into());
    let (peer, range) = fetch.poll(now).remove(0);
    assert_eq!(peer, "b");
    fetch.handle_chunk("b", &range.unknown());
    assert_eq!(fetch.poll(now)[0].0, "c");
    // A stranger's word does not count.
    fetch.handle_chunk("d", &range.nothing(8));
    assert!(!fetch.is_done());
    for _ in 0..TRIES {
        now = fetch.poll_timeout().unwrap();
        let asked = fetch.poll(now);
        assert_eq!(asked.len(), 1);
    }
    fetch.handle_loss("d");
    assert!(fetch.poll(now).is_empty() && fetch.is_done());
    assert_eq!(fetch.finish(), (Vec::new(), 1));
}

#[test]
fn without_peers_there_is_nothing_to_wait_for() {
    let fetch = Fetch::new([(frontend(80), 1)], Vec::new());
    assert!(fetch.is_done());
    assert_eq!(fetch.finish(), (Vec::new(), 1));
}

proptest! {
    #[test]
    fn a_history_is_whole_whatever_was_lost_or_came_twice(
        fate in proptest::collection::vec(0..4u8, 1..200),
        length in (0..14u32).prop_map(|bits| 1 << bits),
        frontends in 1..4u16,
    ) {
        let mut now = Instant::now();
        let wanted = (0..frontends).map(|port| (frontend(port), 1));
        let mut fetch = Fetch::new(wanted, vec!["b".into()]);
        let mut fate = fate.into_iter().chain(std::iter::repeat(1));
        while !fetch.is_done() {
            for (peer, range) in fetch.poll(now) {
                for chunk in range.chunks(length, owners) {
                    // The first two tries may lose something, the last never does.
                    let partial = fetch.wanted.get(&range.frontend);
                    let is_last = partial.is_some_and(|partial| partial.tries == TRIES - 1);
                    let copies = if is_last { 1 } else { fate.next().unwrap_or(1) };
                    for _ in 0..copies {
                        fetch.handle_chunk(&peer, &chunk);
                    }
                }
            }
            now += RETRY;
        }
        let (histories, unknown) = fetch.finish();
        prop_assert_eq!((histories.len(), unknown), (usize::from(frontends), 0));
        for history in histories {
            prop_assert_eq!(history.slots, (0..length).map(owners).collect::<Vec<_>>());
        }
    }
}
