//! Peers of virtual switches, set by the command line where an API server keeps
//! the objects.

use anyhow::{Result, ensure};
use harness::wait;
use serde_json::{Value, json};

use crate::Scenario;
use crate::bench::{Bench, LIMIT};
use crate::objects::{SYSTEM, metallb, node, pool};

/// What is tried.
pub(crate) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new(
            "edge: a peer is set, advertised, changed and removed",
            set_and_remove,
        ),
        Scenario::new("edge: without switches there are none", without_switches),
    ]
}

fn switch() -> Value {
    json!({
        "apiVersion": "torline.io/v1alpha1",
        "kind": "VirtualSwitch",
        "metadata": {"name": "vswitch1", "namespace": SYSTEM},
        "spec": {"ports": [{"alias": "Port2", "interface": "eth0"}], "enabledFor": ["compute"]},
    })
}

fn set_and_remove(bench: &mut Bench) -> Result<()> {
    let mut labelled = pool("public", "203.0.113.0/28");
    labelled["metadata"]["labels"] = json!({"torline.io/switch": "vSwitch1"});
    bench.apply([node(), labelled, switch()])?;
    bench.start(&[])?;
    wait::until("the switch", LIMIT, || {
        let text = bench.torline(&["vswitch", "show", "vSwitch1"])?;
        ensure!(text.contains("public"), "{text}");
        Ok(())
    })?;
    let set = |hold_time| {
        let line = [
            "peer",
            "set",
            "192.0.2.1",
            "--switch",
            "vswitch1",
            "--peer-asn",
            "64512",
            "--self-asn",
            "64513",
            "--hold-time",
            hold_time,
        ];
        bench.torline(&line)
    };
    set("15")?;
    let peer = metallb("BGPPeer", "hcs-vswitch1-192.0.2.1", &json!({}));
    let advertisement = metallb("BGPAdvertisement", "hcs-vswitch1", &json!({}));
    let found = bench.get(&peer)?;
    ensure!(found["spec"]["holdTime"] == "15s", "{found}");
    ensure!(
        found["metadata"]["labels"]["torline.io/switch"] == "vSwitch1",
        "{found}"
    );
    let found = bench.get(&advertisement)?;
    ensure!(
        found["spec"]["peers"] == json!(["hcs-vswitch1-192.0.2.1"]),
        "{found}"
    );
    let selector = &found["spec"]["ipAddressPoolSelectors"][0]["matchLabels"];
    ensure!(selector["torline.io/switch"] == "vSwitch1", "{found}");

    let said = set("15")?;
    ensure!(said == "nothing to do\n", "{said}");
    let said = set("30")?;
    ensure!(said == "BGPPeer hcs-vswitch1-192.0.2.1 written\n", "{said}");
    let found = bench.get(&peer)?;
    ensure!(found["spec"]["holdTime"] == "30s", "{found}");

    bench.torline(&["peer", "remove", "192.0.2.1", "--switch", "vSwitch1"])?;
    ensure!(bench.get(&peer).is_err(), "the peer is still there");
    ensure!(
        bench.get(&advertisement).is_err(),
        "the advertisement is still there"
    );

    bench.torline(&["compute", "disable", "--port", "Port2"])?;
    let found = bench.get(&switch())?;
    ensure!(found["spec"]["enabledFor"] == json!([]), "{found}");
    Ok(())
}

fn without_switches(bench: &mut Bench) -> Result<()> {
    bench.apply([node(), pool("public", "203.0.113.0/28")])?;
    bench.start(&[])?;
    bench.wait_for("the agent to be in sync", |status| status.in_sync)?;
    let text = bench.torline(&["vswitch", "list"])?;
    ensure!(text.contains("compute is enabled on no port"), "{text}");
    Ok(())
}
