//! What the router knows, and when it stops knowing it.

use std::net::SocketAddr;

use anyhow::ensure;
use harness::agent::binary;
use harness::cluster::SETTLE;
use harness::{source, wait};

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

#[test]
fn an_agent_that_restarts_gracefully_keeps_its_routes_all_the_while() {
    let Some(mut lab) = running(web(DUAL), &DUAL) else {
        return;
    };
    let graceful = source::network_yaml().replace(
        "  connectTime: 1s\n",
        "  connectTime: 1s\n  enableGracefulRestart: true\n",
    );
    lab.cluster.directory.write("network", &graceful).unwrap();
    let program = binary().unwrap();
    // The first restart is one without: what the router keeps is agreed when a session begins.
    for _ in 0..2 {
        lab.cluster.agents[0].end().unwrap();
        lab.cluster.restart_agent(0, &program).unwrap();
        lab.cluster.wait_ready().unwrap();
        for vip in DUAL {
            lab.cluster.wait_route(vip, &[0, 1], SETTLE).unwrap();
        }
    }

    lab.cluster.agents[0].end().unwrap();
    wait::until("the end of the sessions", SETTLE, || {
        let sessions = lab.cluster.router.sessions()?;
        let down = sessions.iter().filter(|s| s.state != "Established");
        ensure!(down.count() == 2, "{sessions:?}");
        Ok(())
    })
    .unwrap();
    for vip in DUAL {
        assert_eq!(lab.cluster.topology.next_hops(vip).unwrap().len(), 2);
        // The programs go on without the agent.
        let opened = lab.client().open(SocketAddr::new(vip, 80), 100).all();
        assert_eq!(opened.unwrap().len(), 100);
    }
}
