//! What the router knows, and when it stops knowing it.

use std::net::SocketAddr;

use harness::cluster::SETTLE;

use crate::fixture::{DUAL, running, web};

#[test]
fn an_agent_that_stops_withdraws_its_routes_and_the_other_node_serves_on() {
    let Some(mut lab) = running(web(DUAL), &DUAL) else {
        return;
    };
    lab.cluster.agents.remove(0).stop().unwrap();
    for vip in DUAL {
        lab.cluster.wait_route(vip, &[1], SETTLE).unwrap();
    }
    lab.cluster
        .write_endpoints(|pod| pod.node == "node-b")
        .unwrap();
    let serves_alone = |status: &harness::agent::Status| {
        let slots = |frontend: &harness::agent::FrontendStatus| {
            frontend
                .backends
                .iter()
                .filter(|backend| backend.slots > 0)
                .count()
        };
        status.frontends.iter().all(|frontend| slots(frontend) == 2)
    };
    lab.cluster.agents[0]
        .wait_for("two pods", SETTLE, serves_alone)
        .unwrap();
    for vip in DUAL {
        assert_eq!(
            lab.client()
                .open(SocketAddr::new(vip, 80), 100)
                .all()
                .unwrap()
                .len(),
            100
        );
    }
}

#[test]
fn the_programs_are_attached_natively() {
    let Some(mut lab) = running(web(DUAL), &DUAL) else {
        return;
    };
    for status in lab.cluster.wait_ready().unwrap() {
        assert_eq!(status.attach.mode, "native");
    }
}
