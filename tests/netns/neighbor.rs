//! Who answers ARP requests and neighbour solicitations on the nodes' segment.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use harness::netns::Netns;
use harness::traffic::client::Client;

use crate::fixture::{DUAL, SOON, running, web};

/// VIPs that an L2Advertisement covers.
const L2: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, 0x200)),
];

#[test]
fn a_vip_on_the_segment_is_answered_for_by_its_leader_alone() {
    let Some(mut lab) = running(web(L2), &[]) else {
        return;
    };
    let statuses = lab.cluster.wait_ready().unwrap();
    let leaders: Vec<_> = statuses
        .iter()
        .map(|status| status.services[0].l2_leader.clone())
        .collect();
    assert_eq!(leaders[0], leaders[1]);
    let leader = lab
        .cluster
        .topology
        .node(leaders[0].as_deref().unwrap())
        .unwrap();
    let mac = leader
        .netns
        .run(["cat", "/sys/class/net/eth0/address"])
        .unwrap();
    let host = &lab.cluster.topology.host;
    for vip in L2 {
        let client = Client::new(host).unwrap();
        let connections = client.open(SocketAddr::new(vip, 80), 40).all().unwrap();
        assert_eq!(client.verify(connections).all().unwrap().len(), 40);
        assert_eq!(neighbor(host, vip).as_deref(), Some(mac.trim()));
    }
}

#[test]
fn a_vip_that_bgp_alone_announces_is_not_answered_for() {
    let Some(lab) = running(web(DUAL), &DUAL) else {
        return;
    };
    let host = &lab.cluster.topology.host;
    // As if the VIPs were on the segment.
    host.ip("route add 203.0.113.0/24 dev eth0\nroute add 2001:db8:113::/64 dev eth0")
        .unwrap();
    let mut client = Client::new(host).unwrap();
    client.limit = SOON;
    for vip in DUAL {
        assert!(client.open(SocketAddr::new(vip, 80), 1).good.is_empty());
        assert_eq!(neighbor(host, vip), None);
    }
}

/// The MAC that a host has learnt for an address.
fn neighbor(host: &Netns, address: IpAddr) -> Option<String> {
    let text = host
        .run(["ip", "neigh", "show", &address.to_string()])
        .unwrap();
    let mut words = text.split_whitespace().skip_while(|word| *word != "lladdr");
    words.nth(1).map(str::to_owned)
}
