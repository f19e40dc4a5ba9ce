//! Configuration that MetalLB refuses is refused, and says why.
//!
//! Much of it the definitions refuse: then the API server does, and nobody gets to see the object.

use anyhow::{Result, bail};
use serde_json::{Value, json};

use crate::Scenario;
use crate::bench::Bench;
use crate::objects::{metallb, node};

/// A wrong object: the row of MetalLB's, its kind, its spec, and words of the finding.
type Wrong = (&'static str, &'static str, Value, &'static str);

fn rows() -> Vec<Wrong> {
    let pool = |addresses: &[&str]| json!({"addresses": addresses});
    let peer = |more: Value| {
        let mut peer = json!({"myASN": 64513, "peerASN": 64512, "peerAddress": "192.0.2.1"});
        if let (Value::Object(peer), Value::Object(more)) = (&mut peer, more) {
            for (name, value) in more {
                match value {
                    Value::Null => drop(peer.remove(&name)),
                    value => drop(peer.insert(name, value)),
                }
            }
        }
        peer
    };
    vec![
        (
            "pools: no addresses",
            "IPAddressPool",
            pool(&[]),
            "addresses",
        ),
        (
            "pools: 1.2.3.0/33",
            "IPAddressPool",
            pool(&["1.2.3.0/33"]),
            "CIDR",
        ),
        (
            "pools: a bare IP",
            "IPAddressPool",
            pool(&["1.2.3.4"]),
            "addresses",
        ),
        (
            "pools: start is after the end",
            "IPAddressPool",
            pool(&["1.2.3.10-1.2.3.1"]),
            "start",
        ),
        (
            "pools: overlap inside a pool",
            "IPAddressPool",
            pool(&["10.0.0.0/8", "10.0.0.0/16"]),
            "overlaps",
        ),
        (
            "peers: address 1.2.3.400",
            "BGPPeer",
            peer(json!({"peerAddress": "1.2.3.400"})),
            "peerAddress",
        ),
        (
            "peers: myASN 0",
            "BGPPeer",
            peer(json!({"myASN": 0})),
            "myASN",
        ),
        (
            "peers: neither peerASN nor dynamicASN",
            "BGPPeer",
            peer(json!({"peerASN": null})),
            "ASN",
        ),
        (
            "peers: both peerASN and dynamicASN",
            "BGPPeer",
            peer(json!({"dynamicASN": "internal"})),
            "ASN",
        ),
        (
            "peers: another dynamicASN",
            "BGPPeer",
            peer(json!({"peerASN": null, "dynamicASN": "sideways"})),
            "dynamicASN",
        ),
        (
            "peers: keepalive longer than hold",
            "BGPPeer",
            peer(json!({"holdTime": "30s", "keepaliveTime": "90s"})),
            "keepaliveTime",
        ),
        (
            "peers: hold 1 s",
            "BGPPeer",
            peer(json!({"holdTime": "1s"})),
            "hold",
        ),
        (
            "peers: routerID is no IP",
            "BGPPeer",
            peer(json!({"routerID": "1.2.3.x"})),
            "routerID",
        ),
        (
            "peers: password and passwordSecret",
            "BGPPeer",
            peer(json!({"password": "a", "passwordSecret": {"name": "b"}})),
            "password",
        ),
        (
            "BGPAdvertisement: aggregationLength 34",
            "BGPAdvertisement",
            json!({"aggregationLength": 34}),
            "aggregationLength",
        ),
        (
            "BGPAdvertisement: v6 longer than 128",
            "BGPAdvertisement",
            json!({"aggregationLengthV6": 129}),
            "aggregationLengthV6",
        ),
        (
            "BGPAdvertisement: community 99999999:1",
            "BGPAdvertisement",
            json!({"communities": ["99999999:1"]}),
            "community",
        ),
        (
            "BGPAdvertisement: serviceSelectors with another length than 32",
            "BGPAdvertisement",
            json!({"aggregationLength": 24, "serviceSelectors": [{"matchLabels": {"a": "b"}}]}),
            "mutually exclusive",
        ),
        (
            "BGPAdvertisement: duplicate peers",
            "BGPAdvertisement",
            json!({"peers": ["a", "a"]}),
            "duplicate",
        ),
        (
            "L2Advertisement: duplicate pools",
            "L2Advertisement",
            json!({"ipAddressPools": ["a", "a"]}),
            "duplicate",
        ),
        (
            "Community: value of the form 1234",
            "Community",
            json!({"communities": [{"name": "a", "value": "1234"}]}),
            "communit",
        ),
        (
            "Community: AS part too big",
            "Community",
            json!({"communities": [{"name": "a", "value": "99999:1"}]}),
            "communit",
        ),
        (
            "BFDProfile: receiveInterval 2",
            "BFDProfile",
            json!({"receiveInterval": 2}),
            "receiveInterval",
        ),
        (
            "BFDProfile: detectMultiplier 1",
            "BFDProfile",
            json!({"detectMultiplier": 1}),
            "detectMultiplier",
        ),
    ]
}

/// One for each row.
pub(crate) fn scenarios() -> Vec<Scenario> {
    let rows = rows().into_iter();
    rows.map(|(row, kind, spec, words)| {
        Scenario::new(format!("4.5 {row}"), move |bench| {
            is_refused(bench, kind, &spec, words)
        })
    })
    .collect()
}

fn is_refused(bench: &mut Bench, kind: &str, spec: &Value, words: &str) -> Result<()> {
    bench.apply([node()])?;
    bench.start(&[])?;
    let object = metallb(kind, "wrong", spec);
    let Err(error) = bench.apply([object]) else {
        return bench.wait_for_finding_of(&format!("{kind} wrong"), words);
    };
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) if status.code == 422 => {
            let message = &status.message;
            if !message.contains(words) {
                bail!("refused without the word {words:?}: {message}");
            }
            Ok(())
        }
        _ => Err(error),
    }
}
