//! What the agents say of themselves in objects of the API server.

use anyhow::{Context, Result, ensure};
use harness::wait;
use serde_json::{Value, json};

use crate::Scenario;
use crate::bench::{Bench, LIMIT};
use crate::objects::{NAMESPACE, SYSTEM, endpoints, metallb, node, pool, service};
use crate::rights::Right;

/// All of this file.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "4.2 l2: ServiceL2Status equals the announcing node, and goes with the Service",
            layer2_status,
        ),
        Scenario::new(
            "4.2 interface_selector: status interfaces",
            layer2_interfaces,
        ),
        Scenario::new(
            "4.1 ServiceBGPStatus: the peers follow peers and advertisements",
            bgp_status,
        ),
        Scenario::new("4.2 Pool Status: counters follow Services", pool_counters),
        Scenario::new("4.2 Pool Status: a manual edit is reverted", pool_edit),
        Scenario::new(
            "4.3 configurationstate: missing BFD profile, then created",
            profile_missing,
        ),
        Scenario::new(
            "4.3 configurationstate: several wrong peers, mended one by one",
            peers_mended,
        ),
        Scenario::new("4.3 configurationstate: all valid", all_valid),
        Scenario::new(
            "2.9 ConfigurationState: a kind that cannot be read is an InfraError",
            infra_error,
        ),
        Scenario::new(
            "4.3 configurationstate: it heals after deletion",
            deleted_state,
        ),
        Scenario::new(
            "2.10 BGPSessionState: a session is readable with kubectl",
            session_state,
        ),
        Scenario::new(
            "0 Secrets: the keys are made by the holder of the Lease",
            keys_are_made,
        ),
        Scenario::new(
            "3.5 Events: nodeAssigned names node and protocol",
            node_assigned,
        ),
        Scenario::new("3.2 reasons: noEndpoints is told in an event", no_endpoints),
        Scenario::new(
            "3.2 reasons: noMatchingAdvertisement is told in an event",
            no_advertisement,
        ),
        Scenario::new(
            "4.4 exclude-LB: nodeLabeledExcludeBalancers is told in an event",
            node_excluded,
        ),
        Scenario::new(
            "4.2 interface_selector: nonexistent interface, announceFailed",
            no_interface,
        ),
        Scenario::new("3.5 Events: deprecatedAnnotation", deprecated_annotation),
        Scenario::new(
            "3.5 Events: AdditionalAssignFailed without an address of the second family",
            second_family,
        ),
    ]
}

/// A kind in the agents' namespace.
fn any(kind: &str) -> Value {
    let group = if kind == "BGPSessionState" {
        "frrk8s.metallb.io"
    } else {
        "metallb.io"
    };
    json!({
        "apiVersion": format!("{group}/v1beta1"),
        "kind": kind,
        "metadata": {"namespace": SYSTEM},
    })
}

/// Waits until the statuses of all objects of a kind are these.
fn wait_for_statuses(bench: &Bench, kind: &str, wanted: &[Value]) -> Result<Vec<Value>> {
    wait::until(&format!("{kind}: {wanted:?}"), LIMIT, || {
        let found = bench.list(&any(kind))?;
        let statuses: Vec<_> = found.iter().map(|object| &object["status"]).collect();
        ensure!(statuses.iter().copied().eq(wanted), "{found:?}");
        Ok(found)
    })
}

fn wait_for_event(bench: &Bench, service: &str, reason: &str, words: &str) -> Result<()> {
    wait::until(&format!("the event {reason}"), LIMIT, || {
        let events = bench.events()?;
        let is_wanted = |event: &Value| {
            let note = event["note"].as_str().unwrap_or_default();
            event["regarding"]["name"] == service
                && event["reason"] == reason
                && note.contains(words)
        };
        ensure!(events.iter().any(is_wanted), "{events:?}");
        Ok(())
    })
}

fn peer(name: &str, address: &str) -> Value {
    let spec = json!({"myASN": 64513, "peerASN": 64512, "peerAddress": address});
    metallb("BGPPeer", name, &spec)
}

/// A Service with a pod and an agent; it is announced by what else is applied.
fn serve(bench: &mut Bench, more: impl IntoIterator<Item = Value>) -> Result<Value> {
    let web = service("web", json!({}));
    bench.apply([
        node(),
        pool("public", "203.0.113.0/28"),
        web.clone(),
        endpoints("web", &["10.0.0.1"]),
    ])?;
    bench.apply(more)?;
    bench.start(&[])?;
    Ok(web)
}

fn layer2_status(bench: &mut Bench) -> Result<()> {
    let web = serve(bench, [metallb("L2Advertisement", "all", &json!({}))])?;
    let status = json!({
        "node": "node-a",
        "serviceName": "web",
        "serviceNamespace": NAMESPACE,
        "interfaces": [],
    });
    let found = wait_for_statuses(bench, "ServiceL2Status", &[status])?;
    let labels = &found[0]["metadata"]["labels"];
    ensure!(labels["metallb.io/node"] == "node-a", "{labels}");
    ensure!(labels["metallb.io/service-name"] == "web", "{labels}");
    ensure!(
        labels["metallb.io/service-namespace"] == NAMESPACE,
        "{labels}"
    );
    bench.delete(&web)?;
    wait_for_statuses(bench, "ServiceL2Status", &[])?;
    Ok(())
}

fn layer2_interfaces(bench: &mut Bench) -> Result<()> {
    let spec = json!({"interfaces": ["eth0", "eth7"]});
    serve(bench, [metallb("L2Advertisement", "some", &spec)])?;
    let status = json!({
        "node": "node-a",
        "serviceName": "web",
        "serviceNamespace": NAMESPACE,
        "interfaces": [{"name": "eth0"}, {"name": "eth7"}],
    });
    wait_for_statuses(bench, "ServiceL2Status", &[status])?;
    Ok(())
}

fn bgp_status(bench: &mut Bench) -> Result<()> {
    let all = metallb("BGPAdvertisement", "all", &json!({}));
    serve(bench, [all.clone(), peer("one", "192.0.2.1")])?;
    let status = |peers: &[&str]| {
        json!({
            "node": "node-a",
            "serviceName": "web",
            "serviceNamespace": NAMESPACE,
            "peers": peers,
        })
    };
    wait_for_statuses(bench, "ServiceBGPStatus", &[status(&["one"])])?;
    bench.apply([peer("another", "192.0.2.2")])?;
    wait_for_statuses(bench, "ServiceBGPStatus", &[status(&["another", "one"])])?;
    let limited = metallb("BGPAdvertisement", "all", &json!({"peers": ["another"]}));
    bench.apply([limited])?;
    wait_for_statuses(bench, "ServiceBGPStatus", &[status(&["another"])])?;
    bench.delete(&all)?;
    wait_for_statuses(bench, "ServiceBGPStatus", &[])?;
    Ok(())
}

fn wait_for_counters(bench: &Bench, wanted: [i64; 2]) -> Result<()> {
    let [assigned, available] = wanted;
    let status = json!({
        "assignedIPv4": assigned,
        "assignedIPv6": 0,
        "availableIPv4": available,
        "availableIPv6": 0,
    });
    wait_for_statuses(bench, "IPAddressPool", &[status]).map(drop)
}

fn pool_counters(bench: &mut Bench) -> Result<()> {
    let web = serve(bench, [])?;
    wait_for_counters(bench, [1, 15])?;
    bench.apply([service("other", json!({}))])?;
    wait_for_counters(bench, [2, 14])?;
    bench.delete(&web)?;
    wait_for_counters(bench, [1, 15])
}

fn pool_edit(bench: &mut Bench) -> Result<()> {
    serve(bench, [])?;
    wait_for_counters(bench, [1, 15])?;
    let mut edited = any("IPAddressPool");
    edited["metadata"]["name"] = json!("public");
    edited["status"] = json!({
        "assignedIPv4": 7, "assignedIPv6": 7, "availableIPv4": 7, "availableIPv6": 7,
    });
    bench.apply_status(&edited)?;
    wait_for_counters(bench, [1, 15])
}

/// Waits until the state of a component has this result, and its summary these words.
fn wait_for_state(bench: &Bench, name: &str, result: &str, words: &str) -> Result<Value> {
    let mut state = any("ConfigurationState");
    state["metadata"]["name"] = json!(name);
    wait::until(&format!("{name} {result} {words}"), LIMIT, || {
        let found = bench.get(&state)?;
        let status = &found["status"];
        let summary = status["errorSummary"].as_str().context("no summary")?;
        ensure!(
            status["result"] == result && summary.contains(words),
            "{found}"
        );
        ensure!(summary.is_empty() == (result == "Valid"), "{found}");
        Ok(found)
    })
}

const SPEAKER: &str = "speaker-node-a";

fn profile_missing(bench: &mut Bench) -> Result<()> {
    let mut router = peer("router", "192.0.2.1");
    router["spec"]["bfdProfile"] = json!("fast");
    serve(bench, [router])?;
    let words = "referencing non existing bfd profile \"fast\"";
    wait_for_state(bench, SPEAKER, "Invalid", words)?;
    bench.apply([metallb("BFDProfile", "fast", &json!({}))])?;
    wait_for_state(bench, SPEAKER, "Valid", "")?;
    Ok(())
}

fn peers_mended(bench: &mut Bench) -> Result<()> {
    let wrong = |name: &str| {
        let mut wrong = peer(name, "192.0.2.1");
        wrong["spec"]["passwordSecret"] = json!({"name": format!("of-{name}")});
        wrong
    };
    serve(bench, [wrong("a"), wrong("b")])?;
    wait_for_state(bench, SPEAKER, "Invalid", "of-a")?;
    wait_for_state(bench, SPEAKER, "Invalid", "of-b")?;
    bench.delete(&wrong("a"))?;
    let found = wait_for_state(bench, SPEAKER, "Invalid", "of-b")?;
    let reason = &found["status"]["conditions"][0]["reason"];
    ensure!(reason == "ConfigurationError", "{found}");
    bench.delete(&wrong("b"))?;
    wait_for_state(bench, SPEAKER, "Valid", "")?;
    Ok(())
}

fn all_valid(bench: &mut Bench) -> Result<()> {
    serve(bench, [metallb("L2Advertisement", "all", &json!({}))])?;
    for (name, component, condition) in [
        (SPEAKER, "speaker", "configReconcilerValid"),
        ("controller", "controller", "poolReconcilerValid"),
    ] {
        let found = wait_for_state(bench, name, "Valid", "")?;
        let labels = &found["metadata"]["labels"];
        ensure!(labels["metallb.io/component-type"] == component, "{found}");
        let told = &found["status"]["conditions"][0];
        ensure!(
            told["type"] == condition && told["status"] == "True",
            "{found}"
        );
        ensure!(told["reason"] == "Reconciled", "{found}");
    }
    Ok(())
}

fn infra_error(bench: &mut Bench) -> Result<()> {
    let right = Right {
        verb: "list",
        resource: "bfdprofiles",
        group: "metallb.io",
        is_cluster_wide: false,
    };
    bench.refuse(&right)?;
    serve(bench, [])?;
    let found = wait_for_state(bench, SPEAKER, "Unknown", "not allowed to list bfdprofiles")?;
    let told = &found["status"]["conditions"][0];
    ensure!(told["reason"] == "InfraError", "{found}");
    bench.permit(&right)?;
    wait_for_state(bench, SPEAKER, "Valid", "")?;
    Ok(())
}

fn deleted_state(bench: &mut Bench) -> Result<()> {
    serve(bench, [])?;
    let found = wait_for_state(bench, SPEAKER, "Valid", "")?;
    bench.delete(&found)?;
    let again = wait_for_state(bench, SPEAKER, "Valid", "")?;
    ensure!(
        again["metadata"]["uid"] != found["metadata"]["uid"],
        "{again}"
    );
    Ok(())
}

fn session_state(bench: &mut Bench) -> Result<()> {
    let router = peer("router", "192.0.2.1");
    serve(bench, [router.clone()])?;
    wait::until("the session", LIMIT, || {
        let found = bench.list(&any("BGPSessionState"))?;
        let status = &found.first().context("no BGPSessionState")?["status"];
        ensure!(status["node"] == "node-a", "{status}");
        ensure!(status["peer"] == "192.0.2.1", "{status}");
        ensure!(status["bfdStatus"] == "N/A", "{status}");
        // Nobody is there.
        ensure!(status["bgpStatus"] != "Established", "{status}");
        Ok(())
    })?;
    bench.delete(&router)?;
    wait_for_statuses(bench, "BGPSessionState", &[])?;
    Ok(())
}

fn keys_are_made(bench: &mut Bench) -> Result<()> {
    serve(bench, [])?;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "torline", "namespace": SYSTEM},
    });
    let found = wait::until("Secret torline", LIMIT, || bench.get(&secret))?;
    for key in ["flow-key", "peer-key"] {
        let key = found["data"][key].as_str().context("no key")?;
        // 32 octets in base64.
        ensure!(key.len() == 44, "{} characters", key.len());
    }
    ensure!(found["data"]["flow-key"] != found["data"]["peer-key"]);
    bench.wait_for("the keys in use", |status| {
        let mut findings = status.findings.iter();
        !findings.any(|finding| finding.object == "Secret torline")
    })?;
    Ok(())
}

fn node_assigned(bench: &mut Bench) -> Result<()> {
    serve(bench, [metallb("L2Advertisement", "all", &json!({}))])?;
    let words = "announcing from node \"node-a\" with protocol \"layer2\"";
    wait_for_event(bench, "web", "nodeAssigned", words)
}

fn no_endpoints(bench: &mut Bench) -> Result<()> {
    serve(bench, [metallb("L2Advertisement", "all", &json!({}))])?;
    bench.apply([endpoints("web", &[])])?;
    wait_for_event(bench, "web", "notAnnounced", "noEndpoints")
}

fn no_advertisement(bench: &mut Bench) -> Result<()> {
    serve(bench, [])?;
    wait_for_event(bench, "web", "notAnnounced", "noMatchingAdvertisement")
}

fn node_excluded(bench: &mut Bench) -> Result<()> {
    let mut excluded = node();
    excluded["metadata"]["labels"] =
        json!({"node.kubernetes.io/exclude-from-external-load-balancers": ""});
    serve(
        bench,
        [metallb("L2Advertisement", "all", &json!({})), excluded],
    )?;
    wait_for_event(bench, "web", "notAnnounced", "nodeLabeledExcludeBalancers")
}

fn no_interface(bench: &mut Bench) -> Result<()> {
    let spec = json!({"interfaces": ["eth7"]});
    serve(bench, [metallb("L2Advertisement", "some", &spec)])?;
    wait_for_event(bench, "web", "announceFailed", "eth7")?;
    wait_for_statuses(bench, "ServiceL2Status", &[])?;
    Ok(())
}

fn deprecated_annotation(bench: &mut Bench) -> Result<()> {
    let mut old = service("old", json!({}));
    old["metadata"]["annotations"] = json!({"metallb.universe.tf/loadBalancerIPs": "203.0.113.7"});
    serve(bench, [old.clone()])?;
    wait_for_event(
        bench,
        "old",
        "deprecatedAnnotation",
        "write metallb.io/loadBalancerIPs",
    )?;
    let found = bench.get(&old)?;
    let address = &found["status"]["loadBalancer"]["ingress"][0]["ip"];
    ensure!(address == "203.0.113.7", "{found}");
    Ok(())
}

fn second_family(bench: &mut Bench) -> Result<()> {
    let both = json!({
        "ipFamilyPolicy": "PreferDualStack",
        "ipFamilies": ["IPv4", "IPv6"],
    });
    serve(bench, [service("both", both)])?;
    wait_for_event(bench, "both", "AdditionalAssignFailed", "no v6 address")
}
