//! Packets for a VIP that nobody can serve are seen once, not until their TTL
//! ends.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use harness::netns::Netns;
use harness::traffic::client::Client;

use crate::fixture::{DUAL, SOON, running, web};

#[test]
fn a_packet_for_a_port_nobody_serves_does_not_come_back_to_the_router() {
    let Some(lab) = running(web(DUAL), &DUAL) else {
        return;
    };
    let tor = &lab.cluster.topology.tor;
    let [vip4, vip6] = DUAL;
    let rules = format!(
        "table netdev returned {{
           chain from_nodes {{
             type filter hook ingress devices = {{ node-a, node-b }} priority -10;
             ip daddr {vip4} counter
             ip6 daddr {vip6} counter
           }}
         }}"
    );
    tor.run(["nft", &rules]).unwrap();
    let mut client = Client::new(&lab.cluster.topology.client).unwrap();
    client.limit = SOON;
    for vip in DUAL {
        let target = SocketAddr::new(vip, 81);
        assert_eq!(client.open(target, 20).bad.len(), 20);
        assert_eq!(client.datagrams(target, 20).bad.len(), 20);
        assert_eq!(returned(tor, vip).unwrap(), 0);
    }
}

/// How many packets for the VIP came out of a node.
fn returned(tor: &Netns, vip: IpAddr) -> Result<u64> {
    let text = tor.run(["nft", "list", "table", "netdev", "returned"])?;
    let rule = text
        .lines()
        .find(|line| line.contains(&vip.to_string()))
        .context("no rule")?;
    ensure!(rule.contains("packets"), "{rule}");
    let mut words = rule
        .split_whitespace()
        .skip_while(|word| *word != "packets");
    Ok(words.nth(1).context("no count")?.parse()?)
}
