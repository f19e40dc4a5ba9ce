//! OPEN on the wire, and at every boundary that broke other speakers.

use proptest::prelude::*;

use super::*;

const ROUTER_ID: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

fn ours() -> Open {
    Open {
        my_as: Open::narrow_asn(4_200_000_000),
        hold_time: 90,
        router_id: ROUTER_ID,
        capabilities: vec![
            Capability::Multiprotocol { afi: 1, safi: 1 },
            Capability::Multiprotocol { afi: 2, safi: 1 },
            Capability::RouteRefresh,
            Capability::FourOctetAs(4_200_000_000),
        ],
    }
}

/// The fixed part of an OPEN body, then `parameters` (with their length octets).
fn body(parameters: &[u8]) -> Vec<u8> {
    [&[4, 0xfd, 0xe9, 0, 90, 10, 99, 0, 1], parameters].concat()
}

#[test]
fn golden_bytes_both_ways() {
    let wire = ours().encode();
    let golden = [
        &[0xff; 16][..],
        &[0, 51, 1, 4, 0x5b, 0xa0, 0, 90, 10, 99, 0, 2, 22, 2, 20],
        &[
            1, 4, 0, 1, 0, 1, 1, 4, 0, 2, 0, 1, 2, 0, 65, 4, 0xfa, 0x56, 0xea, 0,
        ],
    ]
    .concat();
    assert_eq!(wire[..], golden);
    let read = Open::decode(&wire[19..]).unwrap();
    assert_eq!(read, ours());
    assert_eq!(read.asn(), 4_200_000_000);
    assert_eq!(
        read.families(),
        BTreeSet::from([Family::Ipv4Unicast, Family::Ipv6Unicast])
    );
}

#[test]
fn one_parameter_per_capability_parses_too() {
    let read = Open::decode(&body(&[14, 2, 6, 1, 4, 0, 1, 0, 1, 2, 2, 2, 0, 2, 0])).unwrap();
    assert_eq!(read.capabilities.len(), 2);
    assert_eq!(read.asn(), 65001);
}

#[test]
fn no_multiprotocol_capability_means_ipv4() {
    let silent = Open::decode(&body(&[0])).unwrap();
    assert_eq!(silent.families(), BTreeSet::from([Family::Ipv4Unicast]));
    let vpn_only = Open::decode(&body(&[8, 2, 6, 1, 4, 0, 1, 0, 128])).unwrap();
    assert_eq!(vpn_only.families(), BTreeSet::new());
}

#[test]
fn every_cut_of_a_valid_open_is_malformed() {
    let wire = ours().encode();
    let whole = &wire[19..];
    for length in 0..whole.len() {
        assert_eq!(
            Open::decode(&whole[..length]),
            Err(DecodeError::MalformedOpen),
            "cut at {length}"
        );
    }
    let longer = [whole, &[0]].concat();
    assert_eq!(Open::decode(&longer), Err(DecodeError::MalformedOpen));
}

#[test]
fn extended_parameters_are_read_and_every_cut_of_them_is_malformed() {
    let whole = body(&[255, 255, 0, 9, 2, 0, 6, 1, 4, 0, 2, 0, 1]);
    let read = Open::decode(&whole).unwrap();
    assert_eq!(read.families(), BTreeSet::from([Family::Ipv6Unicast]));
    for length in 9..whole.len() {
        assert_eq!(
            Open::decode(&whole[..length]),
            Err(DecodeError::MalformedOpen),
            "cut at {length}"
        );
    }
    assert_eq!(
        Open::decode(&body(&[255, 255, 0, 0])).unwrap().capabilities,
        []
    );
    for lie in [
        &[255, 255, 0, 1][..],
        &[255, 255, 255, 255],
        &[255, 255, 0, 4, 2, 0, 6, 1],
    ] {
        assert_eq!(Open::decode(&body(lie)), Err(DecodeError::MalformedOpen));
    }
}

#[test]
fn many_capabilities_are_sent_in_the_extended_form() {
    let mut open = ours();
    let long = Capability::Other {
        code: 75,
        value: vec![0x41; 200],
    };
    open.capabilities.extend([long.clone(), long]);
    let wire = open.encode();
    assert_eq!(wire[28..30], [255, 255]);
    assert_eq!(Open::decode(&wire[19..]).unwrap(), open);
}

#[test]
fn lengths_that_overrun_are_malformed_and_other_parameters_are_unsupported() {
    for lie in [&[2, 2, 1][..], &[4, 2, 2, 65, 4], &[1, 2], &[3, 2, 1, 65]] {
        assert_eq!(Open::decode(&body(lie)), Err(DecodeError::MalformedOpen));
    }
    let authentication = Open::decode(&body(&[3, 1, 1, 0]));
    assert_eq!(
        authentication,
        Err(DecodeError::UnsupportedOptionalParameter(1))
    );
}

#[test]
fn the_fixed_fields_are_checked() {
    let with = |index: usize, octets: &[u8]| {
        let mut bytes = body(&[0]);
        bytes[index..index + octets.len()].copy_from_slice(octets);
        Open::decode(&bytes)
    };
    assert_eq!(with(0, &[3]), Err(DecodeError::UnsupportedVersion(3)));
    for seconds in [1_u8, 2] {
        assert_eq!(
            with(3, &[0, seconds]),
            Err(DecodeError::UnacceptableHoldTime(seconds.into()))
        );
    }
    for seconds in [0_u8, 3] {
        assert_eq!(
            with(3, &[0, seconds]).unwrap().hold_time,
            u16::from(seconds)
        );
    }
    assert_eq!(
        with(5, &[0; 4]),
        Err(DecodeError::BadBgpIdentifier(Ipv4Addr::UNSPECIFIED))
    );
    assert!(with(5, &[255; 4]).is_ok());
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_panic(bytes: Vec<u8>, parameters: Vec<u8>) {
        let _ = Open::decode(&bytes);
        let _ = Open::decode(&body(&parameters));
    }
}
