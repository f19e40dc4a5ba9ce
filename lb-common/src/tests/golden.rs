//! Whole frames, octet by octet, and the numbers of resets.

use std::vec::Vec;

use crate::memory::{Action, MemoryTables};
use crate::tests::world::tables;
use crate::wire::tcp::TcpHeader;
use crate::wire::tcp::flags::{ACK, FIN, RST, SYN};

/// Octets from hexadecimal digits.
fn octets(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

fn assert_answered(tables: &MemoryTables, question: &str, answer: &str) {
    let mut frame = octets(question);
    assert_eq!(
        tables.run_ingress(&mut frame),
        Action::Transmit,
        "{question}"
    );
    assert_eq!(frame, octets(answer), "{question}");
}

#[test]
fn arp_requests_and_their_replies() {
    let tables = tables(0);
    for (question, answer) in [
        (
            "ffffffffffff 020000000001 0806 0001 0800 06 04 0001
             020000000001 c0000201 000000000000 cb00710a",
            "020000000001 02000000000a 0806 0001 0800 06 04 0002
             02000000000a cb00710a 020000000001 c0000201",
        ),
        // A probe of RFC 5227, from nobody.
        (
            "ffffffffffff 020000000001 0806 0001 0800 06 04 0001
             020000000001 00000000 000000000000 cb00710a",
            "020000000001 02000000000a 0806 0001 0800 06 04 0002
             02000000000a cb00710a 020000000001 00000000",
        ),
        // Of a router that looks again, to us alone, in two tags.
        (
            "02000000000a 020000000001 88a8 0006 8100 0005 0806 0001 0800 06 04 0001
             020000000001 c0000201 02000000000a cb00710a",
            "020000000001 02000000000a 88a8 0006 8100 0005 0806 0001 0800 06 04 0002
             02000000000a cb00710a 020000000001 c0000201",
        ),
    ] {
        assert_answered(&tables, question, answer);
    }
}

#[test]
fn other_arp_passes() {
    let tables = tables(0);
    for text in [
        // A reply.
        "ffffffffffff 020000000001 0806 0001 0800 06 04 0002
         020000000001 c0000201 000000000000 cb00710a",
        // An announcement.
        "ffffffffffff 020000000001 0806 0001 0800 06 04 0001
         020000000001 cb00710a 000000000000 cb00710a",
        // From a group.
        "ffffffffffff 030000000001 0806 0001 0800 06 04 0001
         030000000001 c0000201 000000000000 cb00710a",
        // For an address of nobody here.
        "ffffffffffff 020000000001 0806 0001 0800 06 04 0001
         020000000001 c0000201 000000000000 cb00710b",
        // Hardware that is not Ethernet, addresses of other lengths, another protocol.
        "ffffffffffff 020000000001 0806 0006 0800 06 04 0001
         020000000001 c0000201 000000000000 cb00710a",
        "ffffffffffff 020000000001 0806 0001 0800 08 04 0001
         020000000001 c0000201 000000000000 cb00710a",
        "ffffffffffff 020000000001 0806 0001 86dd 06 04 0001
         020000000001 c0000201 000000000000 cb00710a",
    ] {
        let mut frame = octets(text);
        assert_eq!(tables.run_ingress(&mut frame), Action::Pass, "{text}");
        assert_eq!(frame, octets(text));
    }
}

/// The advertisement to whoever asked from `fe80::1`.
const SOLICITED: &str = "020000000001 02000000000a 86dd 60000000 0020 3a ff
    20010db8000f00000000000000000010 fe800000000000000000000000000001
    8800b967 60000000 20010db8000f00000000000000000010 0201 02000000000a";

/// The advertisement to all nodes.
const UNSOLICITED: &str = "333300000001 02000000000a 86dd 60000000 0020 3a ff
    20010db8000f00000000000000000010 ff020000000000000000000000000001
    8800f8e5 20000000 20010db8000f00000000000000000010 0201 02000000000a";

#[test]
fn solicitations_and_their_advertisements() {
    let tables = tables(0);
    for (question, answer) in [
        // Without options.
        (
            "3333ff000010 020000000001 86dd 60000000 0018 3a ff
             fe800000000000000000000000000001 ff0200000000000000000001ff000010
             87004e3e 00000000 20010db8000f00000000000000000010",
            SOLICITED,
        ),
        // With the asker's address.
        (
            "3333ff000010 020000000001 86dd 60000000 0020 3a ff
             fe800000000000000000000000000001 ff0200000000000000000001ff000010
             87004b34 00000000 20010db8000f00000000000000000010 0101020000000001",
            SOLICITED,
        ),
        // With a nonce (RFC 7527) behind it.
        (
            "3333ff000010 020000000001 86dd 60000000 0028 3a ff
             fe800000000000000000000000000001 ff0200000000000000000001ff000010
             87002819 00000000 20010db8000f00000000000000000010 0101020000000001
             0e01090807060504",
            SOLICITED,
        ),
        // Duplicate address detection, without and with a nonce.
        (
            "3333ff000010 020000000001 86dd 60000000 0018 3a ff
             00000000000000000000000000000000 ff0200000000000000000001ff000010
             87004cc0 00000000 20010db8000f00000000000000000010",
            UNSOLICITED,
        ),
        (
            "3333ff000010 020000000001 86dd 60000000 0020 3a ff
             00000000000000000000000000000000 ff0200000000000000000001ff000010
             870029a5 00000000 20010db8000f00000000000000000010 0e01090807060504",
            UNSOLICITED,
        ),
    ] {
        assert_answered(&tables, question, answer);
    }
}

#[test]
fn echo_requests_and_their_replies() {
    let tables = tables(0);
    assert_answered(
        &tables,
        "02000000000a 020000000001 0800 4500 0021 1234 0000 3c 01 0663 c6336407 cb00710a
         0800dcc4 12340001 0102030405",
        "020000000001 02000000000a 0800 4500 0021 1234 0000 40 01 0263 cb00710a c6336407
         0000e4c4 12340001 0102030405",
    );
    assert_answered(
        &tables,
        "02000000000a 020000000001 86dd 60000000 000d 3a 3c
         20010db8000c00000000000000000007 20010db8000f00000000000000000010
         800008d9 12340001 0102030405",
        "020000000001 02000000000a 86dd 60000000 000d 3a 40
         20010db8000f00000000000000000010 20010db8000c00000000000000000007
         810007d9 12340001 0102030405",
    );
}

#[test]
fn resets_take_their_numbers_from_what_they_answer() {
    // RFC 9293 §3.5.2 and §3.10.7.1: sequence and acknowledgment number, flags, octets of data.
    for (sequence, acknowledgment, control, data, expected) in [
        (7, 99, ACK, 0, (99, 0, RST)),
        (7, 99, ACK, 500, (99, 0, RST)),
        (7, 99, SYN | ACK, 0, (99, 0, RST)),
        (7, 99, FIN | ACK, 3, (99, 0, RST)),
        (7, 99, SYN, 0, (0, 8, RST | ACK)),
        (7, 99, SYN, 10, (0, 18, RST | ACK)),
        (7, 99, FIN, 0, (0, 8, RST | ACK)),
        (7, 99, SYN | FIN, 1, (0, 10, RST | ACK)),
        (7, 99, 0, 0, (0, 7, RST | ACK)),
        (7, 99, 0, 5, (0, 12, RST | ACK)),
        (u32::MAX, 99, SYN, 0, (0, 0, RST | ACK)),
        (u32::MAX - 1, 99, 0, 5, (0, 3, RST | ACK)),
        (7, u32::MAX, ACK, 0, (u32::MAX, 0, RST)),
    ] {
        for header_length in [20, 32, 60] {
            let segment = TcpHeader {
                sequence,
                acknowledgment,
                header_length,
                flags: control,
                ..TcpHeader::default()
            };
            let reset = segment.reset(header_length + data);
            let answer = (reset.sequence, reset.acknowledgment, reset.flags);
            assert_eq!(answer, expected, "{segment:?}");
        }
    }
}

#[test]
fn a_header_that_claims_more_than_the_segment_has_no_data() {
    let segment = TcpHeader {
        sequence: 7,
        header_length: 60,
        flags: SYN,
        ..TcpHeader::default()
    };
    assert_eq!(segment.reset(20).acknowledgment, 8);
}
