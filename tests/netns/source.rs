//! A source that is wrong.

use std::net::SocketAddr;

use harness::cluster::SETTLE;

use crate::fixture::{DUAL, running, web};

#[test]
fn a_broken_file_is_reported_and_the_service_goes_on() {
    let Some(mut lab) = running(web(DUAL), &DUAL) else {
        return;
    };
    let open = lab
        .client()
        .open(SocketAddr::new(DUAL[0], 80), 50)
        .all()
        .unwrap();
    lab.cluster
        .directory
        .write("web", "apiVersion: v1\nkind: Service\nspec: [oops\n")
        .unwrap();
    for agent in &mut lab.cluster.agents {
        let reported = agent.wait_for("a finding", SETTLE, |status| !status.findings.is_empty());
        let findings = reported.unwrap().findings;
        assert!(findings[0].source.contains("web.yaml"), "{findings:?}");
    }
    assert_eq!(lab.client().verify(open).all().unwrap().len(), 50);
    for vip in DUAL {
        lab.assert_tcp(vip, 80);
    }
    lab.cluster
        .directory
        .write("web", &lab.cluster.services[0].yaml())
        .unwrap();
    for agent in &mut lab.cluster.agents {
        agent
            .wait_for("no finding", SETTLE, |status| status.findings.is_empty())
            .unwrap();
    }
}
