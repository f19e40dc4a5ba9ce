//! The agent that holds the Lease gives addresses, and writes them where
//! MetalLB does.

use anyhow::{Context, Result, ensure};
use harness::wait;
use serde_json::{Value, json};

use crate::Scenario;
use crate::bench::{Bench, LIMIT};
use crate::objects::{NAMESPACE, SYSTEM, node, pool, service};

const POOL: &str = "metallb.io/ip-allocated-from-pool";

/// All of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("4.4 controller mutation: simple", simple),
        Scenario::new(
            "4.4 controller mutation: requested IP by spec, annotation, both",
            requested,
        ),
        Scenario::new(
            "4.4 controller mutation: foreign status IP cleared",
            foreign_is_cleared,
        ),
        Scenario::new("4.4 controller mutation: LB to NodePort", type_changes),
        Scenario::new("4.4 TestDeleteRecyclesIP", freed_is_reused),
        Scenario::new(
            "4.2 assignment: controller restart, same IP kept",
            restart_keeps,
        ),
        Scenario::new("4.2 assignment: remove all pools, status cleared", pools_go),
        Scenario::new(
            "4.2 assignment: delete pool, other pool exists",
            pool_is_replaced,
        ),
        Scenario::new(
            "5.2 split brain: nobody writes who does not hold it",
            lease_is_respected,
        ),
    ]
}

/// The addresses of a Service's status.
fn addresses(service: &Value) -> Vec<String> {
    let ingress = service["status"]["loadBalancer"]["ingress"].as_array();
    let ips = ingress.into_iter().flatten().map(|entry| &entry["ip"]);
    ips.filter_map(|ip| ip.as_str().map(str::to_owned))
        .collect()
}

fn wait_for_addresses(bench: &Bench, service: &Value, wanted: &[&str]) -> Result<Value> {
    wait::until(&format!("the addresses {wanted:?}"), LIMIT, || {
        let found = bench.get(service)?;
        ensure!(addresses(&found) == wanted, "{found}");
        Ok(found)
    })
}

fn wait_for_event(bench: &Bench, service: &str, reason: &str) -> Result<()> {
    wait::until(&format!("the event {reason}"), LIMIT, || {
        let events = bench.events()?;
        let is_wanted =
            |event: &Value| event["regarding"]["name"] == service && event["reason"] == reason;
        ensure!(events.iter().any(is_wanted), "{events:?}");
        Ok(())
    })
}

/// A pool of one address, and an agent.
fn start(bench: &mut Bench) -> Result<()> {
    bench.apply([node(), pool("one", "203.0.113.1/32")])?;
    bench.start(&[])
}

fn simple(bench: &mut Bench) -> Result<()> {
    start(bench)?;
    let web = service("web", json!({}));
    bench.apply([web.clone()])?;
    let found = wait_for_addresses(bench, &web, &["203.0.113.1"])?;
    ensure!(
        found["status"]["loadBalancer"]["ingress"][0]["ipMode"] == "VIP",
        "{found}"
    );
    ensure!(found["metadata"]["annotations"][POOL] == "one", "{found}");
    wait_for_event(bench, "web", "IPAllocated")
}

fn requested(bench: &mut Bench) -> Result<()> {
    bench.apply([node(), pool("few", "203.0.113.0/28")])?;
    bench.start(&[])?;
    let by_spec = service("spec", json!({"loadBalancerIP": "203.0.113.7"}));
    let mut by_annotation = service("annotation", json!({}));
    by_annotation["metadata"]["annotations"] = json!({"metallb.io/loadBalancerIPs": "203.0.113.8"});
    let mut both = service("both", json!({"loadBalancerIP": "203.0.113.9"}));
    both["metadata"]["annotations"] = json!({"metallb.io/loadBalancerIPs": "203.0.113.9"});
    bench.apply([by_spec.clone(), by_annotation.clone(), both.clone()])?;
    wait_for_addresses(bench, &by_spec, &["203.0.113.7"])?;
    wait_for_addresses(bench, &by_annotation, &["203.0.113.8"])?;
    wait_for_event(bench, "both", "LoadBalancerFailed")?;
    wait_for_addresses(bench, &both, &[])?;
    Ok(())
}

fn foreign_is_cleared(bench: &mut Bench) -> Result<()> {
    let web = service("web", json!({}));
    bench.apply([web.clone()])?;
    let mut claimed = web.clone();
    claimed["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}});
    bench.apply_status(&claimed)?;
    start(bench)?;
    wait_for_addresses(bench, &web, &["203.0.113.1"])?;
    Ok(())
}

fn type_changes(bench: &mut Bench) -> Result<()> {
    start(bench)?;
    let web = service("web", json!({}));
    bench.apply([web.clone()])?;
    wait_for_addresses(bench, &web, &["203.0.113.1"])?;
    bench.apply([service("web", json!({"type": "NodePort"}))])?;
    // The API server takes the addresses back by itself.
    wait::until("no pool", LIMIT, || {
        let found = wait_for_addresses(bench, &web, &[])?;
        ensure!(found["metadata"]["annotations"][POOL].is_null(), "{found}");
        Ok(())
    })
}

fn freed_is_reused(bench: &mut Bench) -> Result<()> {
    start(bench)?;
    let (first, second) = (service("first", json!({})), service("second", json!({})));
    bench.apply([first.clone()])?;
    wait_for_addresses(bench, &first, &["203.0.113.1"])?;
    bench.apply([second.clone()])?;
    wait_for_event(bench, "second", "AllocationFailed")?;
    bench.delete(&first)?;
    wait_for_addresses(bench, &second, &["203.0.113.1"])?;
    Ok(())
}

fn restart_keeps(bench: &mut Bench) -> Result<()> {
    bench.apply([node(), pool("few", "203.0.113.0/28")])?;
    bench.start(&[])?;
    let web = service("web", json!({}));
    bench.apply([web.clone()])?;
    wait_for_addresses(bench, &web, &["203.0.113.0"])?;
    bench.stop()?;
    // Alone, this Service would be the first by name and get the first address.
    let first = service("a", json!({}));
    bench.apply([first.clone()])?;
    bench.start(&[])?;
    wait_for_addresses(bench, &first, &["203.0.113.1"])?;
    wait_for_addresses(bench, &web, &["203.0.113.0"])?;
    Ok(())
}

fn pools_go(bench: &mut Bench) -> Result<()> {
    start(bench)?;
    let web = service("web", json!({}));
    bench.apply([web.clone()])?;
    wait_for_addresses(bench, &web, &["203.0.113.1"])?;
    bench.delete(&pool("one", ""))?;
    wait_for_addresses(bench, &web, &[])?;
    wait_for_event(bench, "web", "ClearAssignment")
}

fn pool_is_replaced(bench: &mut Bench) -> Result<()> {
    start(bench)?;
    let web = service("web", json!({}));
    bench.apply([web.clone()])?;
    wait_for_addresses(bench, &web, &["203.0.113.1"])?;
    bench.apply([pool("two", "203.0.113.2/32")])?;
    bench.delete(&pool("one", ""))?;
    let found = wait_for_addresses(bench, &web, &["203.0.113.2"])?;
    ensure!(found["metadata"]["annotations"][POOL] == "two", "{found}");
    Ok(())
}

fn lease_is_respected(bench: &mut Bench) -> Result<()> {
    let lease = |holder: &str| {
        json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": "torline", "namespace": SYSTEM},
            "spec": {
                "holderIdentity": holder,
                "leaseDurationSeconds": 600,
                "renewTime": "2026-01-01T00:00:00.000000Z",
            },
        })
    };
    bench.apply([lease("somebody")])?;
    start(bench)?;
    let web = service("web", json!({}));
    bench.apply([web.clone()])?;
    // The agent serves the Service as the holder will write it, once it looks.
    bench.wait_for("the Service", |status| {
        let name = format!("{NAMESPACE}/web");
        status.services.iter().any(|service| service.name == name)
    })?;
    let found = bench.get(&web)?;
    ensure!(addresses(&found).is_empty(), "{found}");
    bench.apply([lease("")])?;
    wait_for_addresses(bench, &web, &["203.0.113.1"])?;
    let lease = bench.get(&lease("")).context("no Lease")?;
    ensure!(lease["spec"]["holderIdentity"] == "node-a", "{lease}");
    Ok(())
}
