//! What is said when, and the octets of it.

use super::*;

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0b];

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn set(texts: &[&str]) -> BTreeSet<IpAddr> {
    texts.iter().map(|text| addr(text)).collect()
}

/// What is announced until `end`, in milliseconds after `start`.
fn run(announcer: &mut Announcer, start: Instant, end: Duration) -> Vec<(u128, IpAddr)> {
    let mut said = Vec::new();
    while let Some(at) = announcer.poll_timeout().filter(|at| *at <= start + end) {
        announcer.handle_timeout(at);
        while let Some(addr) = announcer.poll_transmit() {
            said.push(((at - start).as_millis(), addr));
        }
    }
    said
}

#[test]
fn a_new_address_is_announced_at_once_and_for_five_seconds_and_then_seldom() {
    let start = Instant::now();
    let mut announcer = Announcer::new(1);
    assert_eq!(announcer.poll_timeout(), None);
    announcer.set_addresses(&set(&["192.0.2.9"]), start);
    let said = run(&mut announcer, start, Duration::from_secs(6));
    let times: Vec<_> = said.iter().map(|(at, _)| *at).collect();
    assert_eq!(times, [0, 100, 1_100, 2_200, 3_300, 4_400]);
    let hour = run(&mut announcer, start, Duration::from_secs(3_600));
    assert!((60..=80).contains(&hour.len()), "{}", hour.len());
}

#[test]
fn what_is_here_already_is_not_announced_anew_unless_it_was_in_doubt() {
    let start = Instant::now();
    let mut announcer = Announcer::new(1);
    announcer.set_addresses(&set(&["192.0.2.9", "192.0.2.8"]), start);
    run(&mut announcer, start, Duration::from_secs(6));
    let later = start + Duration::from_secs(7);
    announcer.set_addresses(&set(&["192.0.2.9", "2001:db8::9"]), later);
    announcer.handle_timeout(later);
    assert_eq!(announcer.poll_transmit(), Some(addr("2001:db8::9")));
    assert_eq!(announcer.poll_transmit(), None);
    announcer.repeat(addr("192.0.2.8"), later);
    announcer.repeat(addr("192.0.2.9"), later);
    announcer.handle_timeout(later);
    assert_eq!(announcer.poll_transmit(), Some(addr("192.0.2.9")));
    announcer.repeat_all(later);
    announcer.handle_timeout(later);
    assert_eq!(announcer.poll_transmit(), Some(addr("192.0.2.9")));
    assert_eq!(announcer.poll_transmit(), Some(addr("2001:db8::9")));
}

#[test]
fn what_is_gone_is_not_announced_even_if_it_was_due() {
    let start = Instant::now();
    let mut announcer = Announcer::new(1);
    announcer.set_addresses(&set(&["192.0.2.9"]), start);
    announcer.handle_timeout(start);
    announcer.set_addresses(&BTreeSet::new(), start);
    assert_eq!(announcer.poll_transmit(), None);
    assert_eq!(announcer.poll_timeout(), None);
}

#[test]
fn gratuitous_arp_has_both_forms() {
    let [request, reply] = <[_; 2]>::try_from(frames(addr("192.0.2.200"), MAC, None)).unwrap();
    let common = [
        0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 0x0b, 8, 6, 0, 1, 8, 0, 6, 4, 0,
    ];
    assert_eq!(request[..21], common);
    assert_eq!(reply[..21], common);
    let sender = [2, 0, 0, 0, 0, 0x0b, 192, 0, 2, 200];
    assert_eq!(
        request[21..],
        [&[1][..], &sender, &[0; 6], &[192, 0, 2, 200]].concat()
    );
    assert_eq!(
        reply[21..],
        [&[2][..], &sender, &[0xff; 6], &[192, 0, 2, 200]].concat()
    );
}

#[test]
fn an_unsolicited_advertisement_overrides_and_its_checksum_is_right() {
    let vip = addr("2001:db8:2::200");
    let [frame] = <[_; 1]>::try_from(frames(vip, MAC, None)).unwrap();
    assert_eq!(frame.len(), 14 + 40 + 32);
    assert_eq!(
        frame[..14],
        [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0x0b, 0x86, 0xdd]
    );
    assert_eq!(frame[18..22], [0, 32, 58, 255]);
    assert_eq!(frame[54..56], [136, 0]);
    assert_eq!(frame[58], 0x20, "Override alone");
    let IpAddr::V6(vip) = vip else { unreachable!() };
    assert_eq!(frame[22..38], vip.octets());
    assert_eq!(frame[62..78], vip.octets());
    assert_eq!(frame[78..], [2, 1, 2, 0, 0, 0, 0, 0x0b]);
    // A sum over all of it, checksum included, is all ones.
    let pseudo = [&frame[22..54], &[0, 0, 0, 32, 0, 0, 0, 58]].concat();
    assert_eq!(checksum(&[&pseudo[..], &frame[54..]].concat()), 0);
}

#[test]
fn in_a_vlan_the_same_frames_have_its_tag() {
    for vip in ["192.0.2.200", "2001:db8:2::200"].map(addr) {
        let plain = frames(vip, MAC, None);
        for (tagged, plain) in frames(vip, MAC, Some(0x123)).iter().zip(&plain) {
            assert_eq!(tagged[..12], plain[..12]);
            assert_eq!(tagged[12..16], [0x81, 0, 0x01, 0x23]);
            assert_eq!(tagged[16..], plain[12..]);
        }
    }
}

#[test]
fn the_solicited_node_group_has_the_low_24_bits() {
    let group = solicited_node("2001:db8::12:3456:789a".parse().unwrap());
    assert_eq!(group.to_string(), "ff02::1:ff56:789a");
}
