//! Connections and datagrams from a client through the router and either node
//! to every pod.

use std::net::SocketAddr;

use crate::fixture::{DUAL, TWO_PORTS, V4_TCP, V4_UDP, V6_TCP, five_services, running};

/// Ten mebibytes.
const BULK: usize = 10 << 20;

#[test]
fn tcp_over_ipv4_reaches_every_pod_and_ten_mebibytes_come_back_unchanged() {
    let Some(lab) = running(five_services(), &[V4_TCP]) else {
        return;
    };
    lab.assert_tcp(V4_TCP, 80);
    lab.client()
        .transfer(SocketAddr::new(V4_TCP, 80), BULK)
        .unwrap();
}

#[test]
fn tcp_over_ipv6_reaches_every_pod_and_ten_mebibytes_come_back_unchanged() {
    let Some(lab) = running(five_services(), &[V6_TCP]) else {
        return;
    };
    lab.assert_tcp(V6_TCP, 80);
    lab.client()
        .transfer(SocketAddr::new(V6_TCP, 80), BULK)
        .unwrap();
}

#[test]
fn udp_over_both_families_reaches_every_pod() {
    let Some(lab) = running(five_services(), &[V4_UDP, DUAL[1]]) else {
        return;
    };
    lab.assert_udp(V4_UDP, 53);
    lab.assert_udp(DUAL[1], 53);
}

#[test]
fn two_ports_of_a_service_lead_to_all_its_pods() {
    let Some(lab) = running(five_services(), &[TWO_PORTS]) else {
        return;
    };
    lab.assert_tcp(TWO_PORTS, 80);
    lab.assert_tcp(TWO_PORTS, 443);
}

#[test]
fn a_dual_stack_service_serves_both_families() {
    let Some(lab) = running(five_services(), &DUAL) else {
        return;
    };
    for vip in DUAL {
        lab.assert_tcp(vip, 80);
        lab.assert_udp(vip, 53);
    }
}
