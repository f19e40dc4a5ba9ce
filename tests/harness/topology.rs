//! A client, a router, nodes on one segment, pods behind each: see README.md
//! for the picture.
//!
//! Numbers are dull on purpose: node *n* (from 1) has `192.0.2.1n` and `2001:db8:2::1n`, its pods `10.n.0.1…`
//! and `fd00:n::1…`. Documentation prefixes stand for what is outside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::netns::Netns;
use crate::peer::bird::Neighbor;
use crate::{netns, pass};

/// The client's addresses, behind the router.
pub const CLIENT: [IpAddr; 2] = [v4(198, 51, 100, 7), v6(0x51, 7)];
/// The router's addresses on the nodes' segment.
pub const TOR: [IpAddr; 2] = [v4(192, 0, 2, 1), v6(2, 1)];
/// The addresses of a host on the nodes' segment that is neither node nor router.
pub const HOST: [IpAddr; 2] = [v4(192, 0, 2, 100), v6(2, 0x100)];

/// What the router hashes: source and destination address, protocol, source and destination port.
const HASHED: u32 = 0x37;

/// How large the topology is.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Nodes, 1 to 26.
    pub nodes: u8,
    /// Pods on each at the start.
    pub pods: u8,
}

/// The whole laboratory network. Dropping it removes everything.
#[derive(Debug)]
pub struct Topology {
    lab: String,
    dir: PathBuf,
    /// Clients outside.
    pub client: Netns,
    /// The top-of-rack router.
    pub tor: Netns,
    /// A host on the nodes' segment.
    pub host: Netns,
    /// The nodes, by number.
    pub nodes: Vec<Node>,
}

/// A node.
#[derive(Debug)]
pub struct Node {
    /// `node-a`, `node-b`, …
    pub name: String,
    /// Its place, from 1.
    pub number: u8,
    /// Its addresses on the segment: v4, v6.
    pub addresses: [IpAddr; 2],
    /// Its network; the compute port is `eth0`.
    pub netns: Netns,
    /// Its pods, in the order in which they were added.
    pub pods: Vec<Pod>,
    /// How many pods it ever had.
    numbered: u8,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    /// `pod-a1`, `pod-a2`, …
    pub name: String,
    /// Name of its node.
    pub node: String,
    /// Its addresses: v4, v6.
    pub addresses: [IpAddr; 2],
    /// Its network.
    pub netns: Netns,
}

impl Drop for Topology {
    fn drop(&mut self) {
        netns::remove_dir(&self.lab);
    }
}

/// A route as `ip -j` prints it: one gateway, or several in `nexthops`.
#[derive(Deserialize)]
struct Route {
    gateway: Option<IpAddr>,
    #[serde(default)]
    nexthops: Vec<NextHop>,
}

#[derive(Deserialize)]
struct NextHop {
    gateway: IpAddr,
}

impl Topology {
    /// Builds the network; `lab` names it among those of this process.
    ///
    /// # Errors
    /// Without root, or when the kernel lacks something: the error says which command failed.
    pub fn new(lab: &str, shape: Shape) -> Result<Self> {
        let mut topology = Self {
            dir: netns::make_dir(lab)?,
            client: machine(lab, "client")?,
            tor: machine(lab, "tor")?,
            host: machine(lab, "host")?,
            nodes: Vec::new(),
            lab: lab.to_owned(),
        };
        topology
            .build_outside()
            .context("build the network around the nodes")?;
        for number in 1..=shape.nodes {
            topology.add_node(number)?;
        }
        topology.route_between_nodes()?;
        for index in 0..topology.nodes.len() {
            for _ in 0..shape.pods {
                topology.add_pod(index)?;
            }
        }
        Ok(topology)
    }

    /// The neighbours a router needs to hold a session of each family with each node.
    pub fn neighbors(&self) -> Vec<Neighbor> {
        let of_node = |node: &Node| {
            let letter = letter(node.number);
            TOR.into_iter()
                .zip(node.addresses)
                .map(move |(local, remote)| Neighbor {
                    name: format!("node_{letter}_v{}", if remote.is_ipv4() { 4 } else { 6 }),
                    local,
                    remote,
                })
        };
        self.nodes.iter().flat_map(of_node).collect()
    }

    /// A directory for files of this laboratory; it goes when the laboratory goes.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// All pods, node by node.
    pub fn pods(&self) -> impl Iterator<Item = &Pod> {
        self.nodes.iter().flat_map(|node| &node.pods)
    }

    /// The node of that name.
    ///
    /// # Errors
    /// When there is none.
    pub fn node(&self, name: &str) -> Result<&Node> {
        self.nodes
            .iter()
            .find(|node| node.name == name)
            .with_context(|| format!("no {name}"))
    }

    /// Starts one more pod on a node, given by index, and returns it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn add_pod(&mut self, node: usize) -> Result<&Pod> {
        let node = self.nodes.get_mut(node).context("no such node")?;
        let pod = node
            .build_pod(&self.lab)
            .with_context(|| format!("add a pod to {}", node.name))?;
        node.pods.push(pod);
        node.pods.last().context("the pod just added")
    }

    /// Takes a pod and its network away.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let found = self.nodes.iter_mut().find_map(|node| {
            let index = node.pods.iter().position(|pod| pod.name == name)?;
            Some(node.pods.remove(index))
        });
        found.map(drop).with_context(|| format!("no pod {name}"))
    }

    /// Makes the router choose anew which node gets which flow, as after a change of its hardware's tables.
    ///
    /// # Errors
    /// When its kernel has no such setting (before 6.11).
    pub fn rehash(&self, seed: u32) -> Result<()> {
        self.tor.sysctl("net/ipv4/fib_multipath_hash_seed", seed)
    }

    /// Gateways of the router's route to an address, lowest first, as its kernel has them; none without a
    /// route of the address's own.
    ///
    /// # Errors
    /// When `ip` fails or says something unheard of.
    pub fn next_hops(&self, address: IpAddr) -> Result<Vec<IpAddr>> {
        let (family, length) = if address.is_ipv4() {
            ("-4", 32)
        } else {
            ("-6", 128)
        };
        let prefix = format!("{address}/{length}");
        let text = self
            .tor
            .run(["ip", family, "-j", "route", "show", "exact", &prefix])?;
        let routes: Vec<Route> = serde_json::from_str(&text).with_context(|| text.clone())?;
        let hops = routes.into_iter().flat_map(|route| {
            route
                .gateway
                .into_iter()
                .chain(route.nexthops.into_iter().map(|hop| hop.gateway))
        });
        let mut hops: Vec<_> = hops.collect();
        hops.sort_unstable();
        Ok(hops)
    }

    /// Lets the nodes' segment carry IP packets of this length; everything else stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn set_mtu(&self, mtu: u32) -> Result<()> {
        for Node { name, netns, .. } in &self.nodes {
            netns.ip(&format!("link set eth0 mtu {mtu}"))?;
            self.tor.ip(&format!("link set {name} mtu {mtu}"))?;
        }
        Ok(())
    }

    /// Drops all frames between a node and its switch port, both ways; every interface stays up.
    ///
    /// # Errors
    /// When nftables cannot do it.
    pub fn cut_off(&self, node: &Node) -> Result<()> {
        let Node { name, .. } = node;
        let rules = format!(
            "table netdev {name} {{
               chain from_node {{ type filter hook ingress device {name} priority 0; policy drop; }}
               chain to_node {{ type filter hook egress device {name} priority 0; policy drop; }}
             }}"
        );
        self.tor.run(["nft", &rules]).map(drop)
    }

    /// Drops all frames from each of two nodes to the other, but those for everybody.
    ///
    /// # Errors
    /// When nftables cannot do it.
    pub fn cut_between(&self, one: &Node, other: &Node) -> Result<()> {
        let chain = |from: &Node, to: &Node| {
            let mac = to.netns.run(["cat", "/sys/class/net/eth0/address"])?;
            anyhow::Ok(format!(
                "chain {port} {{ type filter hook ingress device {port} priority 0; ether daddr {mac} drop; }}",
                port = from.name,
                mac = mac.trim(),
            ))
        };
        let rules = format!(
            "table netdev between {{ {} \n {} \n }}",
            chain(one, other)?,
            chain(other, one)?
        );
        self.tor.run(["nft", &rules]).map(drop)
    }

    /// Undoes [`Self::cut_between`].
    ///
    /// # Errors
    /// When no two nodes are cut off from each other.
    pub fn reconnect_between(&self) -> Result<()> {
        self.tor
            .run(["nft", "delete", "table", "netdev", "between"])
            .map(drop)
    }

    /// Undoes [`Self::cut_off`].
    ///
    /// # Errors
    /// When the node is not cut off.
    pub fn reconnect(&self, node: &Node) -> Result<()> {
        self.tor
            .run(["nft", "delete", "table", "netdev", &node.name])
            .map(drop)
    }

    /// Leaves everything up when this process ends.
    ///
    /// # Errors
    /// When the mark that says so cannot be written.
    pub fn keep(self) -> Result<()> {
        Ok(netns::keep(&self.lab)?)
    }

    fn build_outside(&self) -> Result<()> {
        self.tor.ip(&format!(
            "link add client type veth peer name eth0 netns {client}
             link add host type veth peer name eth0 netns {host}
             link add br0 type bridge forward_delay 0 mcast_snooping 0
             link set host master br0",
            client = self.client.name(),
            host = self.host.name(),
        ))?;
        forwarding(&self.tor)?;
        for family in ["ipv4", "ipv6"] {
            let setting = |name| format!("net/{family}/fib_multipath_hash_{name}");
            // Policy 1 would take the hash that the client's socket gave the packet, which no switch sees.
            self.tor.sysctl(&setting("policy"), 3)?;
            self.tor.sysctl(&setting("fields"), HASHED)?;
        }
        self.tor.ip("addr add 198.51.100.1/24 dev client
             addr add 2001:db8:51::1/64 dev client nodad
             addr add 192.0.2.1/24 dev br0
             addr add 2001:db8:2::1/64 dev br0 nodad
             link set client up
             link set host up
             link set br0 up")?;
        host_on(&self.client, CLIENT, "198.51.100.1", "2001:db8:51::1")?;
        host_on(&self.host, HOST, "192.0.2.1", "2001:db8:2::1")
    }

    fn add_node(&mut self, number: u8) -> Result<()> {
        let name = format!("node-{}", letter(number));
        let netns = machine(&self.lab, &name)?;
        let node = Node {
            number,
            addresses: [v4(192, 0, 2, 10 + number), v6(2, 0x10 + u16::from(number))],
            netns,
            pods: Vec::new(),
            numbered: 0,
            name,
        };
        node.build(&self.tor)
            .with_context(|| format!("build {}", node.name))?;
        self.nodes.push(node);
        Ok(())
    }

    fn route_between_nodes(&self) -> Result<()> {
        for node in &self.nodes {
            for peer in self.nodes.iter().filter(|peer| peer.number != node.number) {
                let (number, [gateway4, gateway6]) = (peer.number, peer.addresses);
                node.netns.ip(&format!(
                    "route add 10.{number}.0.0/24 via {gateway4}
                     route add fd00:{number}::/64 via {gateway6}"
                ))?;
            }
        }
        Ok(())
    }
}

impl Node {
    fn build(&self, tor: &Netns) -> Result<()> {
        let Self { name, netns, .. } = self;
        forwarding(netns)?;
        // One queue each way: a peer with more transmit than receive queues refuses native XDP.
        tor.ip(&format!(
            "link add {name} numtxqueues 1 numrxqueues 1 type veth \
               peer name eth0 numtxqueues 1 numrxqueues 1 netns {}
             link set {name} master br0 up",
            netns.name()
        ))?;
        // Frames sent into a node with partial checksums would leave it again by XDP_TX with that mark lost.
        tor.run(["ethtool", "-K", name, "tx", "off"])?;
        tor.enter(|| pass::attach(name))
            .with_context(|| format!("pass program on {name}"))?;
        host_on(netns, self.addresses, "192.0.2.1", "2001:db8:2::1")
    }

    fn build_pod(&mut self, lab: &str) -> Result<Pod> {
        let number = self.number;
        let index = self.numbered.checked_add(1).context("too many pods")?;
        self.numbered = index;
        let name = format!("pod-{}{index}", letter(number));
        let netns = machine(lab, &name)?;
        let [node4, node6] = self.addresses;
        let pod4 = v4(10, number, 0, index);
        let pod6 = Ipv6Addr::new(0xfd00, number.into(), 0, 0, 0, 0, 0, index.into());
        self.netns.ip(&format!(
            "link add {name} type veth peer name eth0 netns {pod}
             addr add 169.254.1.1/32 dev {name}
             addr add fe80::1/64 dev {name} nodad
             link set {name} up
             route add {pod4} dev {name} src {node4}
             route add {pod6} dev {name} src {node6}",
            pod = netns.name()
        ))?;
        netns.ip(&format!(
            "addr add {pod4}/32 dev eth0
             addr add {pod6}/128 dev eth0 nodad
             link set eth0 up
             route add 169.254.1.1 dev eth0
             route add default via 169.254.1.1
             route add default via fe80::1 dev eth0"
        ))?;
        Ok(Pod {
            name,
            node: self.name.clone(),
            addresses: [pod4, pod6.into()],
            netns,
        })
    }
}

/// A namespace in which addresses can be used at once.
fn machine(lab: &str, role: &str) -> Result<Netns> {
    let netns = Netns::in_lab(lab, role)?;
    // Link-local addresses too would wait a second for duplicates to speak up.
    netns.sysctl("net/ipv6/conf/all/accept_dad", 0)?;
    netns.sysctl("net/ipv6/conf/default/accept_dad", 0)?;
    Ok(netns)
}

/// Sysctls of a machine that forwards, as production has them.
fn forwarding(netns: &Netns) -> Result<()> {
    for (path, value) in [
        ("net/ipv4/ip_forward", 1),
        ("net/ipv6/conf/all/forwarding", 1),
        ("net/ipv6/conf/all/keep_addr_on_down", 1),
        ("net/ipv6/conf/default/keep_addr_on_down", 1),
        ("net/ipv4/conf/all/rp_filter", 1),
        ("net/ipv4/conf/default/rp_filter", 1),
    ] {
        netns.sysctl(path, value)?;
    }
    Ok(())
}

/// Brings up `eth0` with its addresses and a default route for both families.
fn host_on(netns: &Netns, addresses: [IpAddr; 2], gateway4: &str, gateway6: &str) -> Result<()> {
    let [addr4, addr6] = addresses;
    netns.ip(&format!(
        "addr add {addr4}/24 dev eth0
         addr add {addr6}/64 dev eth0 nodad
         link set eth0 up
         route add default via {gateway4}
         route add default via {gateway6}"
    ))
}

/// The letter of a node: 1 is `a`.
fn letter(number: u8) -> char {
    char::from(b'a' + (number - 1) % 26)
}

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(a, b, c, d))
}

const fn v6(network: u16, host: u16) -> IpAddr {
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, network, 0, 0, 0, 0, host))
}
