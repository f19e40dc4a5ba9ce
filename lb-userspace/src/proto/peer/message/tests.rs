//! Messages as octets, and octets that are none.

use std::net::SocketAddr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::proto::peer::flow::Frontend;
use crate::proto::peer::history::DEPTH;

fn end(is_v6: bool) -> BoxedStrategy<SocketAddr> {
    if is_v6 {
        any::<([u8; 16], u16)>().prop_map(Into::into).boxed()
    } else {
        any::<([u8; 4], u16)>().prop_map(Into::into).boxed()
    }
}

fn flow(is_v6: bool) -> impl Strategy<Value = FlowName> {
    (end(is_v6), end(is_v6), any::<u8>()).prop_map(|(client, vip, protocol)| FlowName {
        client,
        frontend: Frontend { vip, protocol },
    })
}

fn located() -> impl Strategy<Value = Located> {
    any::<bool>()
        .prop_flat_map(|is_v6| (flow(is_v6), end(is_v6)))
        .prop_map(|(flow, pod)| Located { flow, pod })
}

fn reason() -> impl Strategy<Value = Reason> {
    prop_oneof![
        Just(Reason::Chain),
        Just(Reason::Push),
        Just(Reason::Locate)
    ]
}

fn chunk() -> impl Strategy<Value = Chunk> {
    any::<bool>()
        .prop_flat_map(|is_v6| (flow(is_v6), vec(end(is_v6), 0..20)))
        .prop_flat_map(|(flow, pods)| {
            let places = vec(prop::array::uniform4(0..=pods.len() as u8), 1..40);
            (Just(flow), Just(pods), option::of(places), 0..1_000u32)
        })
        .prop_map(|(flow, pods, owners, from)| {
            let owners: Vec<[u8; DEPTH]> = owners.unwrap_or_default();
            let count = if owners.is_empty() {
                30
            } else {
                owners.len() as u32
            };
            Chunk {
                frontend: flow.frontend,
                length: from + count,
                from,
                count,
                pods,
                owners,
            }
        })
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<u32>(), reason(), vec(located(), 0..30)).prop_map(|(number, reason, flows)| {
            Message::Found {
                number,
                reason,
                flows,
            }
        }),
        any::<u32>().prop_map(Message::Acknowledge),
        (any::<u32>(), located())
            .prop_map(|(question, Located { flow, .. })| Message::Ask { question, flow }),
        (any::<u32>(), located(), any::<Option<bool>>()).prop_map(|(question, located, state)| {
            Message::Answer {
                question,
                flow: located.flow,
                holder: state.map(|is_half_open| Holder {
                    pod: located.pod,
                    is_half_open,
                }),
            }
        }),
        located().prop_map(|located| Message::Nobody(located.flow)),
        (located(), any::<(u32, u32, u64)>()).prop_map(|(located, (from, to, digest))| {
            Message::Recall(Range {
                frontend: located.flow.frontend,
                from,
                to,
                digest,
            })
        }),
        chunk().prop_map(Message::Remember),
        vec(any::<u8>(), 0..50).prop_map(Message::Gossip),
    ]
}

fn written(messages: &[Message]) -> Vec<u8> {
    let mut octets = Vec::new();
    messages
        .iter()
        .for_each(|message| message.write(&mut octets));
    octets
}

proptest! {
    #[test]
    fn messages_survive_the_wire_and_are_as_long_as_they_say(messages in vec(message(), 0..5)) {
        let octets = written(&messages);
        let lengths = messages.iter().map(Message::length);
        prop_assert_eq!(lengths.sum::<usize>(), octets.len());
        prop_assert_eq!(Message::read_all(&octets), Ok(messages));
    }

    #[test]
    fn any_octets_are_read_without_panic(octets in vec(any::<u8>(), 0..300)) {
        let _ = Message::read_all(&octets);
    }

    #[test]
    fn octets_that_were_changed_are_read_without_panic(
        message in message(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut octets = written(&[message]);
        for (at, octet) in changes {
            let at = at.index(octets.len());
            octets[at] = octet;
        }
        let _ = Message::read_all(&octets);
        let _ = Message::read_all(&octets[..cut.index(octets.len())]);
    }

    #[test]
    fn a_message_that_was_cut_is_malformed(message in message(), cut in any::<prop::sample::Index>()) {
        let octets = written(&[message]);
        let cut = cut.index(octets.len());
        prop_assume!(cut > 0);
        prop_assert_eq!(Message::read_all(&octets[..cut]), Err(Malformed));
    }
}

#[test]
fn a_message_of_a_later_version_is_skipped() {
    let mut octets = written(&[Message::Acknowledge(7)]);
    octets.extend([200, 0, 0, 3, 1, 2, 3]);
    octets.extend(written(&[Message::Acknowledge(8)]));
    let messages = Message::read_all(&octets);
    assert_eq!(
        messages,
        Ok(vec![Message::Acknowledge(7), Message::Acknowledge(8)])
    );
}

#[test]
fn a_flow_has_these_octets() {
    let located = Located {
        flow: FlowName {
            client: "198.51.100.7:41000".parse().unwrap(),
            frontend: Frontend {
                vip: "203.0.113.10:443".parse().unwrap(),
                protocol: 6,
            },
        },
        pod: "10.0.1.2:8443".parse().unwrap(),
    };
    let found = Message::Found {
        number: 5,
        reason: Reason::Push,
        flows: vec![located],
    };
    assert_eq!(
        written(&[found]),
        [
            &[1, 0, 0, 25][..],
            &[0, 0, 0, 5, 2],
            &[4, 6],
            &[198, 51, 100, 7, 0xa0, 0x28],
            &[203, 0, 113, 10, 0x01, 0xbb],
            &[10, 0, 1, 2, 0x20, 0xfb],
        ]
        .concat()
    );
}

#[test]
fn a_family_that_does_not_exist_is_malformed() {
    let mut octets = vec![5, 0, 0, 14, 5, 6];
    octets.extend([0; 12]);
    assert_eq!(Message::read_all(&octets), Err(Malformed));
}

#[test]
fn a_chunk_that_names_no_pod_or_lies_beyond_the_table_is_malformed() {
    let flow: SocketAddr = "203.0.113.10:443".parse().unwrap();
    let good = Chunk {
        frontend: Frontend {
            vip: flow,
            protocol: 6,
        },
        length: 8,
        from: 6,
        count: 2,
        pods: vec!["10.0.1.2:8443".parse().unwrap()],
        owners: vec![[1, 0, 0, 0]; 2],
    };
    let read = |chunk: &Chunk| Message::read_all(&written(&[Message::Remember(chunk.clone())]));
    assert!(read(&good).is_ok());
    for bad in [
        Chunk {
            owners: vec![[2, 0, 0, 0]; 2],
            ..good.clone()
        },
        Chunk {
            from: 7,
            ..good.clone()
        },
        Chunk {
            owners: vec![[1, 0, 0, 0]; 3],
            ..good.clone()
        },
        Chunk {
            length: u32::MAX,
            ..good.clone()
        },
    ] {
        assert_eq!(read(&bad), Err(Malformed), "{bad:?}");
    }
}
