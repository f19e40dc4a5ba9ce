//! Connections and datagrams from a client through the router and either node
//! to every pod.

use std::net::SocketAddr;

use harness::source::{Port, Service};
use harness::topology::CLIENT;

use crate::fixture::{DUAL, TARGETS, TWO_PORTS, V4_TCP, V4_UDP, V6_TCP, five_services, running};

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
fn one_client_port_reaches_two_ports_that_lead_to_one_port_of_a_pod() {
    let port = |name, port| Port {
        name,
        protocol: "TCP",
        port,
        target: TARGETS[0],
    };
    let service = Service {
        name: "twins",
        addresses: DUAL.to_vec(),
        ports: vec![port("http", 80), port("alternative", 8_000)],
        forwarding: None,
    };
    let Some(lab) = running(vec![service], &DUAL) else {
        return;
    };
    let client = lab.client();
    for (vip, address) in DUAL.into_iter().zip(CLIENT) {
        // A quarter of them meets one pod twice.
        let sources = || (20_000..20_200).map(move |port| SocketAddr::new(address, port));
        let open = |port| {
            client
                .open_from(sources(), SocketAddr::new(vip, port))
                .all()
                .unwrap()
        };
        let (first, second) = (open(80), open(8_000));
        client.verify(first).all().unwrap();
        client.verify(second).all().unwrap();
    }
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
