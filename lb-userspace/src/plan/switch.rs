//! What a change to a virtual switch comes to: edits of objects, or a refusal.
//!
//! [`check`] looks at the request alone, so that the command line refuses before it asks anybody; [`decide`]
//! looks at what there is. An advertisement `hcs-<switch>` is made for peers that none selects, and goes
//! with the last of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;
use uuid::Uuid;

use crate::model::cluster::BgpPeer;
use crate::model::cluster::Cluster;
use crate::model::cluster::PeerAsn;
use crate::model::cluster::SWITCH_LABEL;
use crate::model::virtual_switch::Edit;
use crate::model::virtual_switch::PeerRequest;
use crate::model::virtual_switch::Purposes;
use crate::model::virtual_switch::SwitchChange;
use crate::model::virtual_switch::SwitchPort;
use crate::model::virtual_switch::SwitchRefusal;
use crate::model::virtual_switch::SwitchWarning;
use crate::model::virtual_switch::VirtualSwitch;
use crate::model::virtual_switch::shown_name;

/// What the cluster does not say.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Here {
    /// The interfaces of this node with their addresses; one without is there too.
    pub interfaces: Vec<Interface>,
}

/// An interface of this node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Interface {
    /// What the kernel calls it.
    pub name: String,
    /// What somebody else calls it (`ip link set … alias …`).
    pub alias: Option<String>,
    /// Its addresses with their prefix lengths.
    pub addresses: Vec<IpNet>,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Decision {
    /// In this order; none if all is as asked for.
    pub edits: Vec<Edit>,
    /// What the asker should know.
    pub warnings: Vec<SwitchWarning>,
}

/// Whether a request can be right at all.
///
/// # Errors
/// Which of its values is not.
pub fn check(change: &SwitchChange) -> Result<(), SwitchRefusal> {
    let SwitchChange::SetPeer(peer) = change else {
        return Ok(());
    };
    check_asn(peer.peer_asn.into(), false)?;
    check_asn(peer.self_asn.into(), true)?;
    check_hold_time(peer.hold_time_seconds.unwrap_or_default().into())?;
    check_address(peer.address)
}

/// Whether a peer of a switch may have this AS number: what the device's procedure allows.
///
/// # Errors
/// It may not.
pub fn check_asn(asn: u64, is_self: bool) -> Result<(), SwitchRefusal> {
    match asn {
        1..=65_534 | 131_072..=4_294_967_294 => Ok(()),
        _ => Err(SwitchRefusal::Asn { asn, is_self }),
    }
}

/// Whether it is a hold time (RFC 4271 §4.2).
///
/// # Errors
/// It is not.
pub fn check_hold_time(seconds: u64) -> Result<(), SwitchRefusal> {
    match seconds {
        0 | 3..=65_535 => Ok(()),
        _ => Err(SwitchRefusal::HoldTime { seconds }),
    }
}

fn check_address(address: IpAddr) -> Result<(), SwitchRefusal> {
    let is_link_local = matches!(address, IpAddr::V6(address) if address.is_unicast_link_local());
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    if address.is_unspecified() || address.is_multicast() || is_broadcast || is_link_local {
        return Err(SwitchRefusal::Address { address });
    }
    Ok(())
}

/// What a request comes to.
///
/// # Errors
/// Why nothing is to be done.
pub fn decide(
    cluster: &Cluster,
    here: &Here,
    change: &SwitchChange,
) -> Result<Decision, SwitchRefusal> {
    check(change)?;
    match change {
        SwitchChange::SetPeer(peer) => set_peer(cluster, here, peer),
        SwitchChange::RemovePeer { switch, address } => remove_peer(cluster, switch, *address),
        SwitchChange::EnableCompute { port, interface } => {
            enable_compute(cluster, here, port, interface.as_deref())
        }
        SwitchChange::DisableCompute { port } => disable_compute(cluster, port),
    }
}

/// The switch that a name means, in any case.
///
/// # Errors
/// There is none.
pub fn find<'a>(
    cluster: &'a Cluster,
    name: &str,
) -> Result<(&'a str, &'a VirtualSwitch), SwitchRefusal> {
    let mut switches = cluster.virtual_switches.iter();
    let found = switches.find(|(object, _)| object.eq_ignore_ascii_case(name));
    found
        .map(|(object, switch)| (object.as_str(), switch))
        .ok_or_else(|| SwitchRefusal::NoSwitch {
            switch: name.to_owned(),
            known: cluster
                .virtual_switches
                .keys()
                .map(|object| shown_name(object))
                .collect(),
        })
}

/// The peers of a switch, by BGPPeer.
pub fn peers_of<'a>(
    cluster: &'a Cluster,
    object: &'a str,
) -> impl Iterator<Item = (&'a str, &'a BgpPeer)> {
    let peers = cluster.peers.iter();
    peers
        .filter(move |(_, peer)| is_on(peer, object))
        .map(|(name, peer)| (name.as_str(), peer))
}

/// The pools of a switch, by name.
pub fn pools_of<'a>(cluster: &'a Cluster, object: &'a str) -> impl Iterator<Item = &'a str> {
    let pools = cluster.pools.iter();
    pools
        .filter(move |(_, pool)| {
            let label = pool.labels.get(SWITCH_LABEL);
            label.is_some_and(|label| label.eq_ignore_ascii_case(object))
        })
        .map(|(name, _)| name.as_str())
}

fn is_on(peer: &BgpPeer, object: &str) -> bool {
    let switch = peer.switch.as_deref();
    switch.is_some_and(|switch| switch.eq_ignore_ascii_case(object))
}

/// Whether the source has the object of an edit.
pub fn exists(cluster: &Cluster, edit: &Edit) -> bool {
    match edit {
        Edit::PutPeer { name, .. } | Edit::DeletePeer { name } => cluster.peers.contains_key(name),
        Edit::PutAdvertisement { name, .. } | Edit::DeleteAdvertisement { name } => {
            cluster.bgp_advertisements.contains_key(name)
        }
        Edit::PutSwitch { name, .. } | Edit::DeleteSwitch { name } => {
            cluster.virtual_switches.contains_key(name)
        }
    }
}

/// Whether the source says what an edit makes it say.
pub fn is_done(cluster: &Cluster, edit: &Edit) -> bool {
    match edit {
        Edit::PutPeer {
            name,
            peer: request,
            ebgp_multi_hop,
        } => {
            let peer = cluster.peers.get(name);
            peer.is_some_and(|peer| says(peer, request, *ebgp_multi_hop))
        }
        Edit::PutAdvertisement { name, peers, .. } => {
            let advertisement = cluster.bgp_advertisements.get(name);
            advertisement.is_some_and(|ad| ad.peers.iter().eq(peers))
        }
        Edit::PutSwitch { name, switch } => cluster.virtual_switches.get(name) == Some(switch),
        Edit::DeletePeer { .. } | Edit::DeleteAdvertisement { .. } | Edit::DeleteSwitch { .. } => {
            !exists(cluster, edit)
        }
    }
}

/// UUID of a node's virtual interface on a switch, the same at all times.
pub fn host_vnic(node: &str, object: &str) -> String {
    let name = format!("{object}.{node}.torline.io");
    Uuid::new_v5(&Uuid::NAMESPACE_DNS, name.as_bytes()).to_string()
}

fn set_peer(
    cluster: &Cluster,
    here: &Here,
    request: &PeerRequest,
) -> Result<Decision, SwitchRefusal> {
    let (object, switch) = find(cluster, &request.switch)?;
    let shown = shown_name(object);
    let address = request.address;
    if let Some(owner) = owner(cluster, here, address) {
        return Err(SwitchRefusal::OwnAddress { address, owner });
    }
    let same = cluster
        .peers
        .iter()
        .filter(|(_, p)| p.peer_address == address);
    let (ours, others): (Vec<_>, Vec<_>) = same.partition(|(_, peer)| is_on(peer, object));
    if let Some((other, peer)) = others.first() {
        return Err(SwitchRefusal::Taken {
            address,
            switch: peer
                .switch
                .as_deref()
                .map(|name| shown_name(&name.to_lowercase())),
            object: (*other).clone(),
        });
    }
    let subnets = subnets(switch, here);
    if !request.multi_hop && !subnets.iter().any(|subnet| subnet.contains(&address)) {
        return Err(SwitchRefusal::OutsideSubnets {
            address,
            switch: shown,
            subnets: subnets.iter().map(|net| net.trunc().to_string()).collect(),
        });
    }
    let known = ours.first().map(|(name, peer)| (name.as_str(), *peer));
    let name = known.map_or_else(|| peer_name(object, address), |(name, _)| name.to_owned());
    let mut decision = Decision::default();
    decision.edits.extend(advertise(cluster, object, &name));
    // Within an AS a peer may be any number of hops away by itself.
    let ebgp_multi_hop = request.multi_hop && request.peer_asn != request.self_asn;
    if !known.is_some_and(|(_, peer)| says(peer, request, ebgp_multi_hop)) {
        decision.edits.push(Edit::PutPeer {
            name,
            peer: PeerRequest {
                switch: shown.clone(),
                ..request.clone()
            },
            ebgp_multi_hop,
        });
    }
    if !switch.enabled_for.compute {
        decision.warnings.push(SwitchWarning::NoCompute {
            switch: shown,
            port: first_alias(switch),
        });
    }
    Ok(decision)
}

fn remove_peer(
    cluster: &Cluster,
    switch: &str,
    address: IpAddr,
) -> Result<Decision, SwitchRefusal> {
    let (object, _) = find(cluster, switch)?;
    let (gone, left): (Vec<_>, Vec<_>) =
        peers_of(cluster, object).partition(|(_, peer)| peer.peer_address == address);
    if gone.is_empty() {
        return Err(SwitchRefusal::NoPeer {
            switch: shown_name(object),
            address,
            known: left
                .iter()
                .map(|(_, peer)| peer.peer_address.to_string())
                .collect(),
        });
    }
    let deletions = gone.iter().map(|(name, _)| Edit::DeletePeer {
        name: (*name).to_owned(),
    });
    let mut edits: Vec<_> = deletions.collect();
    let name = advertisement_name(object);
    if let Some(advertisement) = cluster.bgp_advertisements.get(&name) {
        let mut peers = advertisement.peers.clone();
        peers.retain(|peer| !gone.iter().any(|(name, _)| name == peer));
        if left.is_empty() || peers.is_empty() {
            edits.push(Edit::DeleteAdvertisement { name });
        } else if peers != advertisement.peers {
            edits.push(put_advertisement(cluster, object, peers));
        }
    }
    Ok(Decision {
        edits,
        warnings: Vec::new(),
    })
}

fn enable_compute(
    cluster: &Cluster,
    here: &Here,
    port: &str,
    interface: Option<&str>,
) -> Result<Decision, SwitchRefusal> {
    if let Some((object, switch, _)) = with_port(cluster, |p| p.alias.eq_ignore_ascii_case(port)) {
        return Ok(put_purpose(object, switch, true));
    }
    let interface = match interface {
        Some(interface) => here.interfaces.iter().find(|it| it.name == interface),
        None => find_interface(here, port),
    };
    let Some(interface) = interface else {
        return Err(SwitchRefusal::NoPort {
            port: port.to_owned(),
        });
    };
    if let Some((object, _, taken)) = with_port(cluster, |p| p.interface == interface.name) {
        return Err(SwitchRefusal::InterfaceTaken {
            interface: taken.interface.clone(),
            alias: taken.alias.clone(),
            switch: shown_name(object),
        });
    }
    let mut names = (1_u32..).map(|number| format!("vswitch{number}"));
    let name = names.find(|name| !cluster.virtual_switches.contains_key(name));
    let switch = VirtualSwitch {
        ports: vec![SwitchPort {
            alias: port.to_owned(),
            interface: interface.name.clone(),
        }],
        enabled_for: Purposes {
            compute: true,
            ..Purposes::default()
        },
        is_managed: true,
    };
    let edits = name.map(|name| Edit::PutSwitch { name, switch });
    Ok(Decision {
        edits: edits.into_iter().collect(),
        warnings: Vec::new(),
    })
}

fn disable_compute(cluster: &Cluster, port: &str) -> Result<Decision, SwitchRefusal> {
    let found = with_port(cluster, |p| p.alias.eq_ignore_ascii_case(port));
    let Some((object, switch, _)) = found else {
        return Err(SwitchRefusal::NoSwitch {
            switch: format!("with a port {port}"),
            known: cluster
                .virtual_switches
                .values()
                .flat_map(|switch| &switch.ports)
                .map(|port| port.alias.clone())
                .collect(),
        });
    };
    let decision = put_purpose(object, switch, false);
    let remains = Purposes {
        compute: false,
        ..switch.enabled_for
    };
    if !switch.is_managed || remains != Purposes::default() {
        return Ok(decision);
    }
    let peers: Vec<_> = peers_of(cluster, object)
        .map(|(_, peer)| peer.peer_address.to_string())
        .collect();
    if !peers.is_empty() {
        return Err(SwitchRefusal::HasPeers {
            switch: shown_name(object),
            peers,
        });
    }
    Ok(Decision {
        edits: vec![Edit::DeleteSwitch {
            name: object.to_owned(),
        }],
        warnings: Vec::new(),
    })
}

fn put_purpose(object: &str, switch: &VirtualSwitch, compute: bool) -> Decision {
    let mut next = switch.clone();
    next.enabled_for.compute = compute;
    let edits = (next != *switch).then(|| Edit::PutSwitch {
        name: object.to_owned(),
        switch: next,
    });
    Decision {
        edits: edits.into_iter().collect(),
        warnings: Vec::new(),
    }
}

/// The interface that a port is: the one of that name, or the one that is called so.
fn find_interface<'a>(here: &'a Here, port: &str) -> Option<&'a Interface> {
    let interfaces = &here.interfaces;
    let named = |it: &&Interface| it.name.eq_ignore_ascii_case(port);
    let called = |it: &&Interface| {
        let alias = it.alias.as_deref();
        alias.is_some_and(|alias| alias.eq_ignore_ascii_case(port))
    };
    let by_alias = || interfaces.iter().find(called);
    interfaces.iter().find(named).or_else(by_alias)
}

fn with_port(
    cluster: &Cluster,
    wanted: impl Fn(&SwitchPort) -> bool,
) -> Option<(&str, &VirtualSwitch, &SwitchPort)> {
    cluster.virtual_switches.iter().find_map(|(name, switch)| {
        let port = switch.ports.iter().find(|port| wanted(port))?;
        Some((name.as_str(), switch, port))
    })
}

/// Who has an address, if it is one of ours.
fn owner(cluster: &Cluster, here: &Here, address: IpAddr) -> Option<String> {
    let has = |it: &&Interface| it.addresses.iter().any(|net| net.addr() == address);
    if let Some(interface) = here.interfaces.iter().find(has) {
        let port = with_port(cluster, |port| port.interface == interface.name);
        return Some(match port {
            Some((_, _, port)) => format!("{}, interface {}", port.alias, interface.name),
            None => format!("interface {}", interface.name),
        });
    }
    let mut nodes = cluster.nodes.iter();
    let node = nodes.find(|(_, node)| node.addresses.contains(&address));
    node.map(|(name, _)| format!("node {name}"))
}

fn subnets(switch: &VirtualSwitch, here: &Here) -> Vec<IpNet> {
    let is_port = |it: &&Interface| switch.ports.iter().any(|port| port.interface == it.name);
    let interfaces = here.interfaces.iter().filter(is_port);
    let addresses = interfaces.flat_map(|it| it.addresses.iter().copied());
    // Of IPv6, link-local is no network in which a peer could be named.
    let addresses = addresses.filter(|net| match net.addr() {
        IpAddr::V4(_) => true,
        IpAddr::V6(addr) => !addr.is_unicast_link_local(),
    });
    addresses.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Whether a peer is as asked for.
fn says(peer: &BgpPeer, request: &PeerRequest, ebgp_multi_hop: bool) -> bool {
    peer.peer_asn == PeerAsn::Number(request.peer_asn)
        && peer.my_asn == request.self_asn
        && peer.hold_time == request.hold_time()
        && peer.ebgp_multi_hop == ebgp_multi_hop
}

/// What makes a peer learn routes, if nothing does yet.
fn advertise(cluster: &Cluster, object: &str, peer: &str) -> Option<Edit> {
    let advertisements = &cluster.bgp_advertisements;
    let selects = |names: &BTreeSet<String>| names.is_empty() || names.contains(peer);
    if cluster.is_implied || advertisements.values().any(|ad| selects(&ad.peers)) {
        return None;
    }
    let present = advertisements.get(&advertisement_name(object));
    let mut peers = present.map(|ad| ad.peers.clone()).unwrap_or_default();
    peers.insert(peer.to_owned());
    Some(put_advertisement(cluster, object, peers))
}

fn put_advertisement(cluster: &Cluster, object: &str, peers: BTreeSet<String>) -> Edit {
    Edit::PutAdvertisement {
        name: advertisement_name(object),
        switch: shown_name(object),
        peers: peers.into_iter().collect(),
        of_switch: pools_of(cluster, object).next().is_some(),
    }
}

fn advertisement_name(object: &str) -> String {
    format!("hcs-{object}")
}

/// Names of objects have no colons, and end in a letter or digit.
fn peer_name(object: &str, address: IpAddr) -> String {
    let address = address.to_string().replace(':', "-");
    let end = if address.ends_with('-') { "0" } else { "" };
    format!("hcs-{object}-{address}{end}")
}

fn first_alias(switch: &VirtualSwitch) -> String {
    let port = switch.ports.first();
    port.map(|port| port.alias.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
