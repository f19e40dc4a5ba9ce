//! ICMP echo to VIPs.

use harness::traffic::ping::ping;

use crate::fixture::{DUAL, SOON, five_services, running};

#[test]
fn an_echo_request_to_a_vip_is_answered_while_it_has_a_backend() {
    let Some(lab) = running(five_services(), &DUAL) else {
        return;
    };
    let client = &lab.cluster.topology.client;
    for vip in DUAL {
        ping(client, vip, b"a payload of an odd length.", SOON).unwrap();
        ping(client, vip, &[0x5a; 1400], SOON).unwrap();
    }
}
