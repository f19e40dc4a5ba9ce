//! The values of nodes and of the configuration.

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use lb_common::addr::AddrWords;
use lb_common::addr::Be16;
use lb_common::addr::Be32;
use lb_common::addr::Mac;
use lb_common::addr::words4;
use lb_common::addr::words6;
use lb_common::family::Version;
use lb_common::maps::Config;
use lb_common::maps::Node;
use lb_common::maps::config_flags;
use lb_common::maps::node_flags;
use lb_common::maps::node_mode;
use lb_common::maps::peer_filter_bit;
use lb_common::rewrite;
use lb_common::siphash::key_from_secret;

use super::Settings;
use crate::model::cluster::Forwarding;
use crate::model::intent::DataplaneIntent;
use crate::model::intent::PeerNode;
use crate::model::segment::Segment;

/// The value of another node, and its MAC if it is on this segment. `own` are this node's addresses.
///
/// Tunnels to it end at an address of a family that this node has too, on the segment if there is one; the
/// node expects them at an address of its compute port (see [`own_address`]).
///
/// A neighbour entry that the kernel dropped or has not made yet says nothing of the node: as long as
/// it is reached by the same address and in the same way, the MAC of its `former` value is good.
pub(super) fn value(
    peer: &PeerNode,
    former: Option<&Node>,
    segment: &Segment,
    own: &[IpAddr],
) -> (Node, Option<Mac>) {
    let is_foreign = |addr: &IpAddr| own.iter().all(|own| own.is_ipv4() != addr.is_ipv4());
    let addresses = peer.addresses.iter().copied();
    let addr = addresses
        .clone()
        .min_by_key(|addr| (is_foreign(addr), !segment.is_on_link(*addr)));
    let route = addr.and_then(|addr| segment.routes.get(&addr));
    let is_direct = |addr: &IpAddr| {
        let route = segment.routes.get(addr);
        segment.is_on_link(*addr) || route.is_some_and(|route| route.next_hop == *addr)
    };
    let neighbors: Vec<IpAddr> = addresses.filter(is_direct).collect();
    let is_neighbor = peer.mac.is_some() || !neighbors.is_empty();
    let (mode, next_hops) = match route {
        Some(route) if !is_neighbor => (node_mode::GENEVE, vec![route.next_hop]),
        _ => (node_mode::L2, neighbors),
    };
    let flag = |set: bool, flag: u16| if set { flag } else { 0 };
    let flags = flag(peer.is_gone, node_flags::DEAD)
        | flag(addr.is_some_and(|addr| addr.is_ipv6()), node_flags::IPV6);
    let addr = addr.map_or_else(AddrWords::default, words);
    let known = former.filter(|node| {
        let way = (node.mode, node.addr, node.ifindex);
        !next_hops.is_empty() && way == (mode, addr, segment.ifindex)
    });
    let mac = peer
        .mac
        .or_else(|| resolved(&next_hops, segment))
        .or_else(|| known.map(destination));
    let unreachable = Node {
        mode: node_mode::UNREACHABLE,
        addr,
        ifindex: segment.ifindex,
        flags,
        ..Node::default()
    };
    let of_node = mac.filter(|_| mode == node_mode::L2);
    match mac {
        // What comes from its MAC is a peer's all the same: it may only be us who do not hear it.
        Some(_) if peer.is_gone => (unreachable, of_node),
        None => (unreachable, None),
        Some(mac) => {
            let mtu = route.and_then(|route| route.mtu).unwrap_or(0);
            let node = Node {
                ethernet: ethernet(mac, segment.mac),
                mode,
                mtu: u16::try_from(mtu).unwrap_or(0),
                ..unreachable
            };
            (node, of_node)
        }
    }
}

/// The value of node 0, which stands for the way to clients: the router of the segment.
pub(super) fn router(former: &Node, segment: &Segment) -> Node {
    let known = (former.mode, former.ifindex) == (node_mode::L2, segment.ifindex)
        && !segment.gateways.is_empty();
    let mac = resolved(&segment.gateways, segment).or_else(|| known.then(|| destination(former)));
    mac.map_or_else(Node::default, |mac| Node {
        ethernet: ethernet(mac, segment.mac),
        mode: node_mode::L2,
        ifindex: segment.ifindex,
        ..Node::default()
    })
}

/// The first MAC that is known of any of these.
fn resolved<'a>(addresses: impl IntoIterator<Item = &'a IpAddr>, segment: &Segment) -> Option<Mac> {
    let mut macs = addresses
        .into_iter()
        .filter_map(|addr| segment.neighbors.get(addr));
    macs.next().copied()
}

/// The configuration, with `heartbeat` left to whoever writes it. `has_tunnelled` says that some frontend has
/// tunnels used always.
pub(super) fn config<'a>(
    intent: &DataplaneIntent,
    peers: impl Iterator<Item = &'a Mac>,
    nodes: impl Iterator<Item = Node>,
    segment: &Segment,
    settings: Settings,
    has_tunnelled: bool,
) -> Config {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(intent.flow_key.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let flag = |set: bool, flag: u32| if set { flag } else { 0 };
    let (mac_head, mac_tail) = halves(segment.mac);
    let [tunnel4, ..] = own_address(intent, segment, IpAddr::is_ipv4);
    let tunnels_always = settings.forwarding == Some(Forwarding::Geneve) || has_tunnelled;
    let tunnelled = nodes.filter(|node| {
        node.mode == node_mode::GENEVE || (tunnels_always && node.mode == node_mode::L2)
    });
    let (mss4, mss6) = tunnel_mss(tunnelled, segment.mtu);
    Config {
        flow_key: words,
        peer_filter: peers.fold(0, |filter, mac| {
            let (head, tail) = halves(*mac);
            filter | peer_filter_bit(head, tail)
        }),
        heartbeat: 0,
        flags: flag(settings.kernel_knows_vips, config_flags::KERNEL_KNOWS_VIPS)
            | flag(settings.reject_unserved, config_flags::REJECT_UNSERVED)
            | flag(settings.locates, config_flags::LOCATE),
        ifindex: segment.ifindex,
        mac_head,
        mac_tail,
        geneve_port: Be16::new(settings.geneve_port),
        peer_key: key_from_secret(&intent.peer_key),
        tunnel6: own_address(intent, segment, IpAddr::is_ipv6),
        tunnel4,
        mtu: segment.mtu,
        mss4,
        mss6,
        zero: 0,
    }
}

/// Largest MSS over IPv4 and over IPv6 that fits through the tunnel to each of the nodes; 0 if there are none.
fn tunnel_mss(nodes: impl Iterator<Item = Node>, mtu: u32) -> (u16, u16) {
    let narrowest = nodes
        .map(|node| {
            let mtu = match node.mtu {
                0 => mtu,
                mtu => mtu.into(),
            };
            let outer = match node.flags & node_flags::IPV6 {
                0 => Version::V4,
                _ => Version::V6,
            };
            let over = |inner| rewrite::tunnel_mss(mtu, outer, inner);
            (over(Version::V4), over(Version::V6))
        })
        .min();
    narrowest.unwrap_or_default()
}

/// The address of one family to which other nodes send: one on the compute port, if there is one.
fn own_address(
    intent: &DataplaneIntent,
    segment: &Segment,
    is_of_family: impl Fn(&IpAddr) -> bool,
) -> AddrWords {
    let own = || intent.addresses.iter().filter(|addr| is_of_family(addr));
    let is_on_port = |addr: &&IpAddr| segment.addresses.iter().any(|net| net.addr() == **addr);
    let addr = own().find(is_on_port).or_else(|| own().next());
    addr.map_or_else(AddrWords::default, |addr| words(*addr))
}

/// An address as map values hold it.
pub(super) fn words(addr: IpAddr) -> AddrWords {
    match addr {
        IpAddr::V4(addr) => words4(addr),
        IpAddr::V6(addr) => words6(addr),
    }
}

/// The address that a map value holds, of the same family as `like`.
pub(super) fn address(words: AddrWords, like: IpAddr) -> IpAddr {
    let [first, ..] = words;
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits(first.host())),
        IpAddr::V6(_) => IpAddr::V6(address6(words)),
    }
}

/// The IPv6 address that a map key or value holds.
pub(crate) fn address6(words: AddrWords) -> Ipv6Addr {
    let words = words.map(|word| u128::from(word.host()));
    Ipv6Addr::from_bits(words.iter().fold(0, |bits, word| bits << 32 | word))
}

/// The address at which a tunnel begins or ends. An IPv6 address that is zero but for the first word is
/// shown as one of IPv4.
pub(crate) fn tunnel_end(words: AddrWords) -> IpAddr {
    match words {
        [first, second, third, fourth] if [second, third, fourth] == [Be32::default(); 3] => {
            IpAddr::V4(Ipv4Addr::from_bits(first.host()))
        }
        _ => IpAddr::V6(address6(words)),
    }
}

fn halves(mac: Mac) -> (Be32, Be16) {
    let [a, b, c, d, e, f] = mac.0;
    (
        Be32::new(u32::from_be_bytes([a, b, c, d])),
        Be16::new(u16::from_be_bytes([e, f])),
    )
}

/// The MAC of a node on this segment.
pub(super) fn mac(node: &Node) -> Option<Mac> {
    (node.mode == node_mode::L2).then(|| destination(node))
}

/// The MAC that frames to a node carry.
fn destination(node: &Node) -> Mac {
    let [head, tail, _] = node.ethernet.map(|word| word.host().to_be_bytes());
    let ([a, b, c, d], [e, f, ..]) = (head, tail);
    Mac([a, b, c, d, e, f])
}

fn ethernet(destination: Mac, source: Mac) -> [Be32; 3] {
    let [a, b, c, d, e, f] = destination.0;
    let [g, h, i, j, k, l] = source.0;
    [[a, b, c, d], [e, f, g, h], [i, j, k, l]].map(|bytes| Be32::new(u32::from_be_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::segment::Route;

    const OURS: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const PEERS: Mac = Mac([2, 0, 0, 0, 0, 2]);
    const ROUTERS: Mac = Mac([2, 0, 0, 0, 0, 3]);
    const OWN: [IpAddr; 1] = [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))];

    fn segment() -> Segment {
        Segment {
            ifindex: 7,
            mac: OURS,
            addresses: vec!["192.0.2.1/24".parse().unwrap()],
            neighbors: [
                ("192.0.2.2".parse().unwrap(), PEERS),
                ("198.51.100.2".parse().unwrap(), PEERS),
                ("192.0.2.254".parse().unwrap(), ROUTERS),
            ]
            .into(),
            gateways: ["192.0.2.254".parse().unwrap()].into(),
            ..Segment::default()
        }
    }

    fn peer(addresses: &[&str], mac: Option<Mac>) -> PeerNode {
        PeerNode {
            addresses: addresses.iter().map(|addr| addr.parse().unwrap()).collect(),
            mac,
            is_gone: false,
        }
    }

    #[test]
    fn an_address_comes_back_from_its_words() {
        for addr in ["192.0.2.1", "2001:db8:1:2:3:4:5:6"] {
            let addr: IpAddr = addr.parse().unwrap();
            assert_eq!(address(words(addr), addr), addr);
        }
    }

    #[test]
    fn a_resolved_node_on_the_segment_is_reached_by_its_mac() {
        let (node, mac) = value(
            &peer(&["2001:db8::2", "192.0.2.2"], None),
            None,
            &segment(),
            &OWN,
        );
        assert_eq!(mac, Some(PEERS));
        assert_eq!((node.mode, node.ifindex), (node_mode::L2, 7));
        let octets: Vec<u8> = node
            .ethernet
            .iter()
            .flat_map(|word| word.host().to_be_bytes())
            .collect();
        assert_eq!(octets, [PEERS.0, OURS.0].concat());
        assert_eq!(node.addr, words("192.0.2.2".parse().unwrap()));
    }

    #[test]
    fn a_node_that_is_gone_is_unreachable_but_still_a_peer() {
        let gone = PeerNode {
            is_gone: true,
            ..peer(&["192.0.2.2"], None)
        };
        let (node, mac) = value(&gone, None, &segment(), &OWN);
        assert_eq!((node.mode, mac), (node_mode::UNREACHABLE, Some(PEERS)));
        assert_eq!(node.flags, node_flags::DEAD);
    }

    #[test]
    fn a_node_off_the_segment_is_unreachable_unless_its_mac_is_given() {
        assert_eq!(
            value(&peer(&["198.51.100.2"], None), None, &segment(), &OWN)
                .0
                .mode,
            node_mode::UNREACHABLE
        );
        let (node, mac) = value(
            &peer(&["198.51.100.2"], Some(PEERS)),
            None,
            &segment(),
            &OWN,
        );
        assert_eq!((node.mode, mac), (node_mode::L2, Some(PEERS)));
    }

    #[test]
    fn a_node_off_the_segment_is_reached_through_a_tunnel_by_the_next_hop() {
        let mut segment = segment();
        let route = Route {
            next_hop: "192.0.2.254".parse().unwrap(),
            mtu: Some(1_400),
        };
        let addr: IpAddr = "198.51.100.9".parse().unwrap();
        segment.routes.insert(addr, route);
        let peer = peer(&["2001:db8:9::9", "198.51.100.9"], None);
        let (node, mac) = value(&peer, None, &segment, &OWN);
        assert_eq!((node.mode, node.mtu), (node_mode::GENEVE, 1_400));
        assert_eq!((destination(&node), mac), (ROUTERS, None));
        assert_eq!(node.addr, words(addr), "we have no IPv6 address");
        segment.neighbors.clear();
        assert_eq!(value(&peer, Some(&node), &segment, &OWN).0, node);
        let direct = Route {
            next_hop: addr,
            ..route
        };
        segment.routes.insert(addr, direct);
        segment.neighbors.insert(addr, PEERS);
        let (node, mac) = value(&peer, Some(&node), &segment, &OWN);
        assert_eq!((node.mode, mac), (node_mode::L2, Some(PEERS)));
    }

    #[test]
    fn the_router_is_known_as_long_as_there_is_one() {
        let known = router(&Node::default(), &segment());
        assert_eq!((known.mode, destination(&known)), (node_mode::L2, ROUTERS));
        let mut segment = segment();
        segment.neighbors.clear();
        assert_eq!(router(&known, &segment), known);
        segment.gateways.clear();
        assert_eq!(router(&known, &segment), Node::default());
    }

    #[test]
    fn a_node_whose_mac_is_not_known_is_unreachable() {
        let (node, mac) = value(&peer(&["192.0.2.3"], None), None, &segment(), &OWN);
        assert_eq!((node.mode, mac), (node_mode::UNREACHABLE, None));
    }

    #[test]
    fn a_mac_is_good_until_another_one_is_known() {
        let here = peer(&["192.0.2.2"], None);
        let (known, _) = value(&here, None, &segment(), &OWN);
        let mut forgotten = segment();
        forgotten.neighbors.clear();
        assert_eq!(
            value(&here, Some(&known), &forgotten, &OWN),
            (known, Some(PEERS))
        );
        let (elsewhere, mac) = value(&peer(&["192.0.2.3"], None), Some(&known), &forgotten, &OWN);
        assert_eq!((elsewhere.mode, mac), (node_mode::UNREACHABLE, None));
        forgotten.ifindex += 1;
        assert_eq!(value(&here, Some(&known), &forgotten, &OWN).1, None);
    }

    #[test]
    fn the_mss_fits_the_narrowest_tunnel() {
        let node = |mtu, flags| Node {
            mtu,
            flags,
            ..Node::default()
        };
        let of = |nodes: &[Node]| tunnel_mss(nodes.iter().copied(), 1_500);
        assert_eq!(of(&[]), (0, 0));
        assert_eq!(of(&[node(0, 0)]), (1_392, 1_372));
        let (narrow, six) = (node(1_400, 0), node(0, node_flags::IPV6));
        assert_eq!(of(&[six, node(0, 0)]), (1_372, 1_352));
        assert_eq!(of(&[six, narrow]), (1_292, 1_272));
    }

    #[test]
    fn the_configuration_carries_key_filter_flags_and_mac() {
        let settings = Settings {
            kernel_knows_vips: true,
            reject_unserved: true,
            locates: true,
            geneve_port: 6082,
            forwarding: None,
        };
        let mut intent = DataplaneIntent {
            addresses: peer(&["198.51.100.1", "192.0.2.1", "2001:db8::1"], None).addresses,
            ..DataplaneIntent::default()
        };
        intent.flow_key[8] = 1;
        intent.peer_key[0] = 1;
        let peers = [PEERS];
        let near = value(&peer(&["192.0.2.2"], None), None, &segment(), &OWN).0;
        let made = |settings| {
            config(
                &intent,
                peers.iter(),
                [near].into_iter(),
                &segment(),
                settings,
                false,
            )
        };
        let config = made(settings);
        assert_eq!(config.flow_key, [0, 1, 0, 0]);
        assert_eq!(config.peer_key, [1, 0]);
        let [tunnel4, ..] = words("192.0.2.1".parse().unwrap());
        assert_eq!(config.tunnel4, tunnel4, "the one on the compute port");
        assert_eq!(config.tunnel6, words("2001:db8::1".parse().unwrap()));
        assert_eq!(config.flags, 7);
        assert_eq!(config.geneve_port.host(), 6082);
        let (head, tail) = halves(PEERS);
        assert_eq!(config.peer_filter, peer_filter_bit(head, tail));
        assert_eq!(
            (config.mac_head.host(), config.mac_tail.host()),
            (0x0200_0000, 1)
        );
        assert_eq!((config.mss4, config.mss6), (0, 0), "no tunnels, no limit");
        let forced = made(Settings {
            forwarding: Some(Forwarding::Geneve),
            ..settings
        });
        let room = |inner| rewrite::tunnel_mss(segment().mtu, Version::V4, inner);
        assert_eq!(
            (forced.mss4, forced.mss6),
            (room(Version::V4), room(Version::V6))
        );
    }
}
