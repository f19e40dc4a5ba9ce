//! Messages as the kernel lays them out, and damaged ones.

use proptest::prelude::*;

use super::*;

/// `NLA_F_NESTED`.
const NESTED: u16 = 1 << 15;

const DONE_WHOLE: Message = Message::Done {
    is_interrupted: false,
};

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(((4 + value.len()) as u16).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(aligned(octets.len()), 0);
    octets
}

fn nested(kind: u16, parts: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | NESTED, &parts.concat())
}

fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut octets = Vec::new();
    octets.extend(((HEADER + payload.len()) as u32).to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(flags.to_ne_bytes());
    octets.extend([0; 8]);
    octets.extend(payload);
    octets
}

fn tuple(kind: u16, addresses: &[Vec<u8>], protocol: u8, ports: [u16; 2]) -> Vec<u8> {
    let [source, destination] = ports.map(u16::to_be_bytes);
    nested(
        kind,
        &[
            nested(TUPLE_IP, addresses),
            nested(
                TUPLE_PROTO,
                &[
                    attribute(PROTOCOL, &[protocol]),
                    attribute(SOURCE_PORT, &source),
                    attribute(DESTINATION_PORT, &destination),
                ],
            ),
        ],
    )
}

fn v4(source: [u8; 4], destination: [u8; 4]) -> [Vec<u8>; 2] {
    [
        attribute(V4_SOURCE, &source),
        attribute(V4_DESTINATION, &destination),
    ]
}

fn state(state: u8) -> Vec<u8> {
    // The kernel puts the window scales, `CTA_PROTOINFO_TCP_WSCALE_*`, behind it.
    let parts = [attribute(TCP_STATE, &[state]), attribute(2, &[7])];
    nested(PROTOINFO, &[nested(PROTOINFO_TCP, &parts)])
}

fn entry(parts: &[Vec<u8>]) -> Vec<u8> {
    let family_header = vec![2, 0, 0, 0];
    let payload = [&[family_header], parts].concat().concat();
    message(NEW, 2, &payload)
}

/// A connection from 198.51.100.7:41000 to 203.0.113.10:80 that goes to 10.1.0.5:8080.
fn translated(tcp_state: u8) -> Vec<u8> {
    let original = v4([198, 51, 100, 7], [203, 0, 113, 10]);
    let reply = v4([10, 1, 0, 5], [198, 51, 100, 7]);
    entry(&[
        tuple(TUPLE_ORIGINAL, &original, TCP, [41_000, 80]),
        tuple(2, &reply, TCP, [8080, 41_000]),
        attribute(STATUS, &0x01ae_u32.to_be_bytes()),
        state(tcp_state),
        // `CTA_TIMEOUT`, `CTA_ID`.
        attribute(7, &[0, 6, 0x97, 0x80]),
        attribute(12, &[1, 2, 3, 4]),
    ])
}

fn read(datagram: &[u8]) -> Result<Vec<Message>, MalformedError> {
    Messages::of(datagram).collect()
}

#[test]
fn the_request_is_what_the_kernel_wants() {
    let expected = [20, 0, 0, 0, 1, 1, 1, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    #[cfg(target_endian = "little")]
    assert_eq!(request(), expected);
    assert_eq!(request().len(), expected.len());
}

#[test]
fn a_connection_is_told_as_its_first_packet_had_it() {
    let datagram = [translated(3), message(DONE, 2, &[0; 4])].concat();
    let expected = Connection {
        source: "198.51.100.7:41000".parse().unwrap(),
        destination: "203.0.113.10:80".parse().unwrap(),
        protocol: 6,
        is_served: true,
        has_ended: false,
    };
    assert_eq!(
        read(&datagram),
        Ok(vec![Message::Connection(expected), DONE_WHOLE])
    );
}

#[test]
fn ipv6_and_udp_are_told_too() {
    let [source, destination] = [1, 2].map(|last| {
        let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
        address.octets()
    });
    let addresses = [
        attribute(V6_SOURCE, &source),
        attribute(V6_DESTINATION, &destination),
    ];
    let datagram = entry(&[
        tuple(TUPLE_ORIGINAL, &addresses, UDP, [5353, 53]),
        attribute(STATUS, &8_u32.to_be_bytes()),
    ]);
    let expected = Connection {
        source: "[2001:db8::1]:5353".parse().unwrap(),
        destination: "[2001:db8::2]:53".parse().unwrap(),
        protocol: 17,
        is_served: false,
        has_ended: false,
    };
    assert_eq!(read(&datagram), Ok(vec![Message::Connection(expected)]));
}

#[test]
fn a_connection_has_ended_once_both_sides_closed_or_one_reset_it() {
    for state in 0..=9 {
        let messages = read(&translated(state)).unwrap();
        let [Message::Connection(connection)] = messages.as_slice() else {
            panic!("{messages:?}")
        };
        assert_eq!(connection.has_ended, state == 7 || state == 8, "{state}");
    }
}

#[test]
fn what_is_neither_tcp_nor_udp_is_skipped() {
    let addresses = v4([192, 0, 2, 1], [192, 0, 2, 2]);
    // `CTA_PROTO_ICMP_ID` and so on in the place of ports.
    let icmp = nested(
        TUPLE_ORIGINAL,
        &[
            nested(TUPLE_IP, &addresses),
            nested(
                TUPLE_PROTO,
                &[attribute(PROTOCOL, &[1]), attribute(4, &[0, 9])],
            ),
        ],
    );
    assert_eq!(read(&entry(&[icmp])), Ok(vec![Message::Other]));
    assert_eq!(read(&message(1, 0, &[])), Ok(vec![Message::Other]));
}

#[test]
fn a_refusal_and_an_interruption_are_told() {
    let refusal = message(ERROR, 0, &[(-1_i32).to_ne_bytes(), [0; 4]].concat());
    assert_eq!(read(&refusal), Ok(vec![Message::Refused(1)]));
    let mut interrupted = translated(3);
    interrupted[6..8].copy_from_slice(&(2 | INTERRUPTED).to_ne_bytes());
    assert_eq!(read(&interrupted), Ok(vec![Message::Interrupted]));
    let done = message(DONE, 2 | INTERRUPTED, &[0; 4]);
    let is_interrupted = true;
    assert_eq!(read(&done), Ok(vec![Message::Done { is_interrupted }]));
    let failed = message(DONE, 2, &(-12_i32).to_ne_bytes());
    assert_eq!(read(&failed), Ok(vec![Message::Refused(12)]));
}

#[test]
fn a_connection_without_its_addresses_is_refused() {
    let status = attribute(STATUS, &[0; 4]);
    assert_eq!(
        read(&entry(&[status])),
        Err(MalformedError::Missing(TUPLE_ORIGINAL))
    );
    let [source, _] = v4([192, 0, 2, 1], [192, 0, 2, 2]);
    let half = tuple(TUPLE_ORIGINAL, &[source], TCP, [1, 2]);
    assert_eq!(
        read(&entry(&[half])),
        Err(MalformedError::Missing(TUPLE_IP))
    );
}

#[test]
fn an_attribute_of_another_size_is_refused() {
    let original = v4([192, 0, 2, 1], [192, 0, 2, 2]);
    let tuple = tuple(TUPLE_ORIGINAL, &original, TCP, [1, 2]);
    let status = attribute(STATUS, &[0; 2]);
    assert_eq!(
        read(&entry(&[tuple, status])),
        Err(MalformedError::Size(STATUS))
    );
}

#[test]
fn an_attribute_that_is_longer_than_what_encloses_it_is_refused() {
    let mut datagram = translated(3);
    // The tuple's length is the first thing behind both headers.
    let at = HEADER + FAMILY_HEADER;
    for length in [0_u16, 3, u16::MAX] {
        datagram[at..at + 2].copy_from_slice(&length.to_ne_bytes());
        assert_eq!(read(&datagram), Err(MalformedError::Truncated), "{length}");
    }
}

proptest! {
    #[test]
    fn a_message_that_is_cut_off_is_refused(length in 1usize..200) {
        let whole = translated(3);
        prop_assume!(length < whole.len());
        prop_assert_eq!(read(&whole[..length]), Err(MalformedError::Truncated));
    }

    #[test]
    fn nothing_that_comes_makes_it_panic_or_go_on_for_ever(
        mut datagram in Just([translated(3), translated(7)].concat()),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (at, octet) in damage {
            let at = at.index(datagram.len());
            datagram[at] = octet;
        }
        prop_assert!(Messages::of(&datagram).count() <= datagram.len() / 4);
    }
}
