//! Traffic that is none of Torline's business passes as if it were not there.

use std::net::SocketAddr;

use harness::traffic::client::Client;
use harness::traffic::echo::EchoServer;
use harness::traffic::ping::ping;

use crate::fixture::{DUAL, SOON, running, web};

#[test]
fn hosts_and_nodes_talk_to_each_other_past_the_programs() {
    let Some(lab) = running(web(DUAL), &DUAL) else {
        return;
    };
    let topology = &lab.cluster.topology;
    let [node, other] = topology.nodes.as_slice() else {
        panic!("two nodes")
    };
    let _server = EchoServer::start(&node.netns, &node.name, &[7]).unwrap();
    for from in [&topology.client, &topology.host, &other.netns] {
        let client = Client::new(from).unwrap();
        for address in node.addresses {
            let target = SocketAddr::new(address, 7);
            client.transfer(target, 1 << 20).unwrap();
            assert_eq!(client.datagrams(target, 20).all().unwrap().len(), 20);
            // More than one frame holds: fragments.
            ping(from, address, &[0xa5; 4000], SOON).unwrap();
        }
    }
}

#[test]
fn pods_talk_to_pods_of_the_other_node_and_to_the_outside() {
    let Some(lab) = running(web(DUAL), &DUAL) else {
        return;
    };
    let topology = &lab.cluster.topology;
    let [node, other] = topology.nodes.as_slice() else {
        panic!("two nodes")
    };
    let client = Client::new(&node.pods[0].netns).unwrap();
    for address in other.pods[0].addresses {
        client
            .transfer(
                SocketAddr::new(address, crate::fixture::TARGETS[0]),
                1 << 20,
            )
            .unwrap();
    }
    let _server = EchoServer::start(&topology.client, "outside", &[7]).unwrap();
    topology
        .tor
        .ip(&format!("route add 10.1.0.0/24 via {}", node.addresses[0]))
        .unwrap();
    client
        .transfer(SocketAddr::new(harness::topology::CLIENT[0], 7), 1 << 20)
        .unwrap();
}
