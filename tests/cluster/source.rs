//! The agent sees what the cluster has, and goes on seeing it.

use anyhow::{Result, ensure};
use lb_userspace::model::status::Status;
use serde_json::json;

use crate::Scenario;
use crate::bench::Bench;
use crate::objects::{NAMESPACE, SYSTEM, endpoints, metallb, node, plural, pool, service};

/// Addresses of the backends of all frontends that new connections go to, sorted.
fn backends(status: &Status) -> Vec<String> {
    let frontends = status.frontends.iter();
    let backends = frontends.flat_map(|frontend| &frontend.backends);
    let mut addresses: Vec<_> = backends
        .filter(|backend| backend.weight > 0)
        .map(|backend| backend.address.clone())
        .collect();
    addresses.sort();
    addresses
}

/// A Service with two pods, and an agent that serves it.
fn serve(bench: &mut Bench) -> Result<()> {
    bench.apply([
        node(),
        pool("public", "203.0.113.10-203.0.113.20"),
        metallb("L2Advertisement", "all", &json!({})),
        service("web", json!({})),
        endpoints("web", &["10.0.0.1", "10.0.0.2"]),
    ])?;
    bench.start(&[])?;
    wait_for_backends(bench, &["10.0.0.1", "10.0.0.2"])
}

fn wait_for_backends(bench: &mut Bench, wanted: &[&str]) -> Result<()> {
    bench.wait_for(&format!("the backends {wanted:?}"), |status| {
        status.in_sync && backends(status) == wanted
    })?;
    Ok(())
}

/// All of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "4.4 speaker EPSlices: endpoints appear, change and go",
            endpoints_change,
        ),
        Scenario::new(
            "4.4 controller: a Service appears and goes",
            services_come_and_go,
        ),
        Scenario::new(
            "4.2 loadbalancer_class: a Service with a class is nobody's",
            class_unset,
        ),
        Scenario::new(
            "4.4 LB class table: --lb-class takes its own alone",
            class_set,
        ),
        Scenario::new(
            "4.5 Secret absent (T), then there: the session comes",
            secret_comes,
        ),
        Scenario::new(
            "4.5 community alias undefined (T), then there",
            community_comes,
        ),
        Scenario::new(
            "4.5 overlapping pools: the first stays in force",
            pools_overlap,
        ),
        Scenario::with_double(
            "4.4 initial load order: nothing before every list has come",
            a_list_is_late,
        ),
        Scenario::with_double(
            "3.7 watches: an expired one (410) begins again",
            history_expires,
        ),
        Scenario::with_double("3.7 watches: the API server restarts", server_restarts),
        Scenario::with_double(
            "4.4 config: an object of a newer definition takes only itself out",
            a_field_is_unknown,
        ),
        Scenario::with_double(
            "0 RBAC used: no Secret is read but those named",
            secrets_are_left_alone,
        ),
    ]
}

fn endpoints_change(bench: &mut Bench) -> Result<()> {
    serve(bench)?;
    bench.apply([endpoints("web", &["10.0.0.2", "10.0.0.3", "10.0.0.4"])])?;
    wait_for_backends(bench, &["10.0.0.2", "10.0.0.3", "10.0.0.4"])?;
    let mut unready = endpoints("web", &["10.0.0.2", "10.0.0.3"]);
    unready["endpoints"][1]["conditions"] = json!({"ready": false, "serving": false});
    bench.apply([unready.clone()])?;
    wait_for_backends(bench, &["10.0.0.2"])?;
    bench.delete(&unready)?;
    wait_for_backends(bench, &[])
}

fn services_come_and_go(bench: &mut Bench) -> Result<()> {
    serve(bench)?;
    let other = service("other", json!({}));
    bench.apply([other.clone()])?;
    let status = bench.wait_for("two Services", |status| status.services.len() == 2)?;
    ensure!(
        status.services[0].addresses != status.services[1].addresses,
        "{status:?}"
    );
    bench.delete(&other)?;
    bench.wait_for("one Service", |status| status.services.len() == 1)?;
    wait_for_backends(bench, &["10.0.0.1", "10.0.0.2"])
}

fn names(status: &Status) -> Vec<&str> {
    let services = status.services.iter();
    services.map(|service| service.name.as_str()).collect()
}

fn class_unset(bench: &mut Bench) -> Result<()> {
    bench.apply([service(
        "foreign",
        json!({"loadBalancerClass": "example.com/other"}),
    )])?;
    serve(bench)?;
    let status = bench.status()?;
    let ours = format!("{NAMESPACE}/web");
    ensure!(names(&status) == [ours.as_str()], "{status:?}");
    Ok(())
}

fn class_set(bench: &mut Bench) -> Result<()> {
    let class = "example.com/other";
    bench.apply([
        node(),
        pool("public", "203.0.113.10-203.0.113.20"),
        service("web", json!({})),
        service("foreign", json!({"loadBalancerClass": class})),
        service("third", json!({"loadBalancerClass": "example.com/third"})),
    ])?;
    bench.start(&["--lb-class", class])?;
    let ours = format!("{NAMESPACE}/foreign");
    bench.wait_for("the Service of the class", |status| {
        names(status) == [ours.as_str()]
    })?;
    Ok(())
}

fn secret_comes(bench: &mut Bench) -> Result<()> {
    bench.apply([
        node(),
        metallb(
            "BGPPeer",
            "router",
            &json!({
                "myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.1",
                "passwordSecret": {"name": "router-password"},
            }),
        ),
    ])?;
    bench.start(&[])?;
    bench.wait_for_finding("BGPPeer router", "secret ref not found")?;
    bench.apply([json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "router-password", "namespace": SYSTEM},
        "type": "kubernetes.io/basic-auth",
        // "secret"
        "data": {"password": "c2VjcmV0"},
    })])?;
    bench.wait_for("the session", |status| {
        status.sessions.len() == 1 && !status.findings.iter().any(|f| f.object == "BGPPeer router")
    })?;
    Ok(())
}

fn community_comes(bench: &mut Bench) -> Result<()> {
    bench.apply([metallb(
        "BGPAdvertisement",
        "all",
        &json!({"communities": ["customers"]}),
    )])?;
    bench.start(&[])?;
    bench.wait_for_finding("BGPAdvertisement all", "\"customers\" is not defined")?;
    bench.apply([metallb(
        "Community",
        "names",
        &json!({"communities": [{"name": "customers", "value": "64512:100"}]}),
    )])?;
    bench.wait_for("no finding", |status| {
        !status
            .findings
            .iter()
            .any(|f| f.object.starts_with("BGPAdvertisement"))
    })?;
    Ok(())
}

fn pools_overlap(bench: &mut Bench) -> Result<()> {
    serve(bench)?;
    bench.apply([pool("another", "203.0.113.0/24")])?;
    bench.wait_for_finding(
        "IPAddressPool another",
        "overlaps with already defined CIDR",
    )?;
    wait_for_backends(bench, &["10.0.0.1", "10.0.0.2"])
}

fn a_list_is_late(bench: &mut Bench) -> Result<()> {
    bench.double()?.hold("endpointslices");
    bench.apply([
        node(),
        pool("public", "203.0.113.10-203.0.113.20"),
        service("web", json!({})),
        endpoints("web", &["10.0.0.1"]),
    ])?;
    bench.start(&[])?;
    for resource in ["services", "nodes", "ipaddresspools"] {
        harness::wait::until("a watch", crate::bench::LIMIT, || {
            let watches = bench.double()?.requests("watch", resource);
            ensure!(watches > 0, "no watch of {resource}");
            Ok(())
        })?;
    }
    let status = bench.wait_for("the agent", |_| true)?;
    ensure!(status.services.is_empty(), "{status:?}");
    bench.double()?.release("endpointslices");
    wait_for_backends(bench, &["10.0.0.1"])
}

fn history_expires(bench: &mut Bench) -> Result<()> {
    serve(bench)?;
    let other = endpoints("web", &["10.0.0.2"]);
    bench.double()?.stop();
    bench.double()?.lose("services", NAMESPACE, "web");
    bench.double()?.expire();
    bench.double()?.start()?;
    bench.wait_for("no Service", |status| {
        status.in_sync && status.services.is_empty()
    })?;
    bench.apply([service("web", json!({})), other])?;
    wait_for_backends(bench, &["10.0.0.2"])
}

fn server_restarts(bench: &mut Bench) -> Result<()> {
    serve(bench)?;
    bench.double()?.stop();
    bench.wait_for_finding("", "the API server does not answer")?;
    wait_for_backends(bench, &["10.0.0.1", "10.0.0.2"])?;
    bench.double()?.start()?;
    bench.apply([endpoints("web", &["10.0.0.3"])])?;
    wait_for_backends(bench, &["10.0.0.3"])?;
    bench.wait_for("no finding", |status| {
        !status.findings.iter().any(|f| f.object.is_empty())
    })?;
    Ok(())
}

fn a_field_is_unknown(bench: &mut Bench) -> Result<()> {
    serve(bench)?;
    let newer = json!({"addresses": ["198.51.100.0/24"], "onlyOnSundays": true});
    bench.apply([
        metallb("IPAddressPool", "newer", &newer),
        pool("good", "198.51.100.0/28"),
    ])?;
    bench.wait_for_finding("IPAddressPool newer", "unknown field")?;
    bench.apply([service("picky", json!({"loadBalancerIP": "198.51.100.5"}))])?;
    bench.wait_for("an address of the good pool", |status| {
        let mut services = status.services.iter();
        services.any(|service| service.pool.as_deref() == Some("good"))
    })?;
    Ok(())
}

fn secrets_are_left_alone(bench: &mut Bench) -> Result<()> {
    serve(bench)?;
    let lists = bench.double()?.requests("list", &plural("Secret"));
    ensure!(
        lists == 1,
        "{lists} lists of Secrets, of which `torline` is one"
    );
    Ok(())
}
