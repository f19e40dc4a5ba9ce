//! Which node each flow went to first, seen at the router's ports.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::topology::Topology;

/// Flows that one port may have at most.
const FLOWS: usize = 65_535;
/// UDP port of GENEVE (RFC 8926).
const GENEVE: u16 = 6081;

/// Watches the ports from [`Hops::watch`] to [`Hops::end`].
#[derive(Debug)]
pub struct Hops<'a> {
    topology: &'a Topology,
}

/// What was seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Name of the node to which the router sent a client's TCP packets; the last by name, if to several.
    pub first: BTreeMap<SocketAddr, String>,
    /// GENEVE packets that nodes sent.
    pub tunnelled: u64,
}

impl<'a> Hops<'a> {
    /// Begins to watch: everything until now is forgotten.
    ///
    /// # Errors
    /// When nftables cannot do it, or somebody watches already.
    pub fn watch(topology: &'a Topology) -> Result<Self> {
        // What nodes send each other leaves by the same ports with other source addresses.
        let mac = topology.tor.run(["cat", "/sys/class/net/br0/address"])?;
        let mac = mac.trim();
        let mut table = String::from("table netdev hops {\n");
        for node in &topology.nodes {
            let name = &node.name;
            let _ = writeln!(
                table,
                "counter {name}-tunnelled {{ }}
                 set {name}-v4 {{ type ipv4_addr . inet_service; flags dynamic; size {FLOWS}; }}
                 set {name}-v6 {{ type ipv6_addr . inet_service; flags dynamic; size {FLOWS}; }}
                 chain {name}-in {{
                   type filter hook ingress device {name} priority 0;
                   udp dport {GENEVE} counter name {name}-tunnelled
                 }}
                 chain {name} {{
                   type filter hook egress device {name} priority 0;
                   ether saddr {mac} ether type ip add @{name}-v4 {{ ip saddr . tcp sport }}
                   ether saddr {mac} ether type ip6 add @{name}-v6 {{ ip6 saddr . tcp sport }}
                 }}"
            );
        }
        table.push('}');
        topology.tor.run(["nft", &table])?;
        Ok(Self { topology })
    }

    /// What was seen since.
    ///
    /// # Errors
    /// When nftables does not say.
    pub fn end(self) -> Result<Seen> {
        let mut seen = Seen::default();
        let text = self
            .topology
            .tor
            .run(["nft", "-j", "list", "table", "netdev", "hops"])?;
        let listing: Value = serde_json::from_str(&text)?;
        let objects = listing["nftables"].as_array().context("no objects")?;
        for object in objects {
            seen.tunnelled += object["counter"]["packets"].as_u64().unwrap_or(0);
            let set = &object["set"];
            let Some(elements) = set["elem"].as_array() else {
                continue;
            };
            let name = set["name"].as_str().context("a set without a name")?;
            let node = name.trim_end_matches("-v4").trim_end_matches("-v6");
            for element in elements {
                seen.first.insert(flow(element)?, node.to_owned());
            }
        }
        Ok(seen)
    }
}

impl Drop for Hops<'_> {
    fn drop(&mut self) {
        let _ = self
            .topology
            .tor
            .run(["nft", "delete", "table", "netdev", "hops"]);
    }
}

/// `{"concat": ["198.51.100.7", 40000]}`.
fn flow(element: &Value) -> Result<SocketAddr> {
    let parts = &element["concat"];
    let address: IpAddr = parts[0].as_str().context("no address")?.parse()?;
    let port = parts[1].as_u64().context("no port")?;
    Ok(SocketAddr::new(address, port.try_into()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_flow_is_read_from_an_element_of_a_set() {
        let element = json!({ "concat": ["2001:db8:51::7", 40000] });
        let expected: SocketAddr = "[2001:db8:51::7]:40000".parse().unwrap();
        assert_eq!(flow(&element).unwrap(), expected);
        assert!(flow(&json!("198.51.100.7")).is_err());
    }
}
