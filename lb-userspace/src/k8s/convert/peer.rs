//! BGPPeers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::IpNet;

use super::annotation::ours;
use super::{Problems, duration, selector, virtual_switch};
use crate::k8s::api::{BgpPeerSpec, Resource};
use crate::k8s::object::{Kind, SYSTEM_NAMESPACE};
use crate::model::cluster::{BgpPeer, Labels, PeerAsn};
use crate::model::name::ObjectName;
use crate::model::peer_options::{Connect, ListenRange, PeerOptions, PeerRole, RestartProfile};

/// A BGPPeer whose password and BFDProfile are not looked up yet.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenPeer {
    /// The peer; `password` is set if the object holds it itself.
    pub peer: BgpPeer,
    /// The Secret that holds the password.
    pub password_secret: Option<ObjectName>,
    /// The BFDProfile.
    pub bfd_profile: Option<String>,
}

/// Converts a BGPPeer.
pub(super) fn convert(
    peer: &Resource<BgpPeerSpec>,
    annotations: &Labels,
    problems: &mut Problems,
) -> OpenPeer {
    let spec = &peer.spec;
    if spec.my_asn == 0 {
        problems.refuse("spec.myASN", "missing local ASN: write our AS number");
    }
    let peer_asn = peer_asn(spec, problems);
    let local_asn = spec.local_asn;
    if local_asn == Some(0) {
        problems.refuse("spec.localASN", "write the AS number to show to this peer");
    }
    let internal = match peer_asn {
        PeerAsn::Number(asn) => asn == local_asn.unwrap_or(spec.my_asn),
        PeerAsn::Internal => true,
        PeerAsn::External => false,
    };
    if spec.ebgp_multi_hop && internal {
        problems.refuse(
            "spec.ebgpMultiHop",
            "invalid ebgp-multihop parameter set for an ibgp peer",
        );
    }
    let (hold_time, keepalive_time) = timers(spec, problems);
    let password_secret = password_secret(peer, problems);
    let listen_range = listen_range(spec, annotations, problems);
    let peer_address = match listen_range {
        Some(ListenRange { network, .. }) => unspecified(network.addr()),
        None => peer_address(spec, problems),
    };
    let peer = BgpPeer {
        my_asn: spec.my_asn,
        peer_asn,
        peer_address,
        peer_port: port(spec, problems),
        source_address: source_address(spec, peer_address, problems),
        hold_time,
        keepalive_time,
        connect_time: connect_time(spec, problems),
        router_id: router_id(spec, problems),
        node_selectors: selector::convert_all(
            &spec.node_selectors,
            "spec.nodeSelectors",
            "node",
            problems,
        ),
        password: (!spec.password.is_empty()).then(|| spec.password.clone()),
        ebgp_multi_hop: spec.ebgp_multi_hop,
        dual_stack: spec.dual_stack_address_family,
        bfd: None,
        awaits_bfd: awaits_bfd(spec, annotations, problems),
        local_asn,
        options: PeerOptions {
            listen_range,
            ..options(spec, internal, annotations, problems)
        },
        switch: peer
            .metadata
            .labels
            .as_ref()
            .and_then(virtual_switch::of)
            .cloned(),
    };
    OpenPeer {
        peer,
        password_secret,
        bfd_profile: (!spec.bfd_profile.is_empty()).then(|| spec.bfd_profile.clone()),
    }
}

fn peer_asn(spec: &BgpPeerSpec, problems: &mut Problems) -> PeerAsn {
    match (spec.peer_asn, spec.dynamic_asn.as_str()) {
        (0, "") => problems.refuse("spec.peerASN", "missing peer ASN and dynamicASN"),
        (0, "internal") => return PeerAsn::Internal,
        (0, "external") => return PeerAsn::External,
        (0, other) => problems.refuse(
            "spec.dynamicASN",
            format!("invalid dynamicASN \"{other}\": write internal or external"),
        ),
        (_, "") => {}
        _ => problems.refuse("spec.dynamicASN", "both peer ASN and dynamicASN specified"),
    }
    PeerAsn::Number(spec.peer_asn)
}

fn peer_address(spec: &BgpPeerSpec, problems: &mut Problems) -> IpAddr {
    const NONE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let text = spec.peer_address.as_str();
    match (text, spec.interface.as_str()) {
        ("", "") => {
            problems.refuse(
                "spec.peerAddress",
                "peer has no Address or Interface specified",
            );
            return NONE;
        }
        ("", interface) => {
            if !is_device(interface) {
                problems.refuse("spec.interface", WANT_DEVICE);
            }
            return IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        }
        (_, "") => {}
        _ => problems.refuse(
            "spec.interface",
            "peer has both Address and Interface specified",
        ),
    }
    match text.parse::<IpAddr>() {
        Ok(address) if !address.is_unspecified() && !address.is_multicast() => address,
        _ => {
            problems.refuse(
                "spec.peerAddress",
                format!("invalid BGPPeer address \"{text}\""),
            );
            NONE
        }
    }
}

const fn unspecified(of_family: IpAddr) -> IpAddr {
    match of_family {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

fn listen_range(
    spec: &BgpPeerSpec,
    annotations: &Labels,
    problems: &mut Problems,
) -> Option<ListenRange> {
    let annotation = |name| ours(Kind::BgpPeer, name, annotations);
    let Some(network) = annotation("listen-range") else {
        if annotation("listen-limit").is_some() {
            problems.note(
                "metadata.annotations[torline.io/listen-limit]",
                "has no effect without torline.io/listen-range",
            );
        }
        return None;
    };
    if !spec.peer_address.is_empty() || !spec.interface.is_empty() {
        problems.refuse(
            "metadata.annotations[torline.io/listen-range]",
            "stands in place of spec.peerAddress and spec.interface: leave them out",
        );
    }
    if annotation("connect").is_some_and(|word| word != "passive") {
        problems.note(
            "metadata.annotations[torline.io/connect]",
            "has no effect: who comes from torline.io/listen-range connects to this node",
        );
    }
    let limit = annotation("listen-limit").and_then(|text| text.parse().ok());
    Some(ListenRange {
        network: network.parse().ok().map(|network: IpNet| network.trunc())?,
        limit: limit.unwrap_or(ListenRange::LIMIT),
    })
}

fn port(spec: &BgpPeerSpec, problems: &mut Problems) -> u16 {
    match spec.peer_port {
        None | Some(0) => 179,
        Some(port) => {
            if port > 16_384 {
                problems.refuse("spec.peerPort", format!("{port}: want 1 to 16384"));
            }
            port
        }
    }
}

fn source_address(spec: &BgpPeerSpec, peer: IpAddr, problems: &mut Problems) -> Option<IpAddr> {
    let text = spec.source_address.as_str();
    if text.is_empty() {
        return None;
    }
    let address = text.parse::<IpAddr>().ok();
    match address {
        None => problems.refuse(
            "spec.sourceAddress",
            format!("invalid source IP \"{text}\""),
        ),
        Some(source) if source.is_ipv4() != peer.is_ipv4() => problems.refuse(
            "spec.sourceAddress",
            format!("invalid source IP \"{text}\": peerAddress is of the other family"),
        ),
        _ => {}
    }
    address
}

fn router_id(spec: &BgpPeerSpec, problems: &mut Problems) -> Option<Ipv4Addr> {
    let text = spec.router_id.as_str();
    if text.is_empty() {
        return None;
    }
    let id = text
        .parse()
        .ok()
        .filter(|id: &Ipv4Addr| !id.is_unspecified());
    if id.is_none() {
        problems.refuse(
            "spec.routerID",
            format!("invalid router ID \"{text}\": write it like 192.0.2.1"),
        );
    }
    id
}

fn timers(spec: &BgpPeerSpec, problems: &mut Problems) -> (Option<Duration>, Option<Duration>) {
    let hold_time = time(spec.hold_time.as_deref(), "spec.holdTime", problems);
    let keepalive_time = time(
        spec.keepalive_time.as_deref(),
        "spec.keepaliveTime",
        problems,
    );
    if let Some(hold) = hold_time {
        // RFC 4271 §4.2: two octets of seconds; either zero or at least three.
        if !hold.is_zero() && hold < Duration::from_secs(3) {
            problems.refuse("spec.holdTime", "invalid hold time: must be 0 or >=3s");
        } else if hold.as_secs() > 65_535 {
            problems.refuse("spec.holdTime", "invalid hold time: at most 65535s");
        }
        if let Some(keepalive) = keepalive_time
            && keepalive > hold
        {
            problems.refuse(
                "spec.keepaliveTime",
                format!(
                    "invalid keepaliveTime {}s must be lower than holdTime {}s",
                    keepalive.as_secs_f64(),
                    hold.as_secs_f64()
                ),
            );
        }
    }
    (hold_time, keepalive_time)
}

fn connect_time(spec: &BgpPeerSpec, problems: &mut Problems) -> Option<Duration> {
    let connect = time(spec.connect_time.as_deref(), "spec.connectTime", problems)?;
    if connect.subsec_nanos() != 0 || !(1..=65_535).contains(&connect.as_secs()) {
        problems.refuse("spec.connectTime", "want whole seconds from 1s to 65535s");
    }
    Some(connect)
}

fn time(text: Option<&str>, field: &str, problems: &mut Problems) -> Option<Duration> {
    match duration::parse(text?) {
        Ok(duration) => Some(duration),
        Err(message) => {
            problems.refuse(field, message);
            None
        }
    }
}

fn password_secret(peer: &Resource<BgpPeerSpec>, problems: &mut Problems) -> Option<ObjectName> {
    let reference = peer.spec.password_secret.as_ref()?;
    if reference.name.is_empty() {
        return None;
    }
    if !peer.spec.password.is_empty() {
        problems.refuse(
            "spec.passwordSecret",
            "can not have both password and passwordSecret set",
        );
    }
    let namespace = peer.metadata.namespace.as_deref();
    Some(ObjectName::new(
        namespace.unwrap_or(SYSTEM_NAMESPACE),
        &reference.name,
    ))
}

fn awaits_bfd(spec: &BgpPeerSpec, annotations: &Labels, problems: &mut Problems) -> bool {
    let awaits = ours(Kind::BgpPeer, "bfd-strict", annotations) == Some("true");
    if awaits && spec.bfd_profile.is_empty() {
        problems.note(
            "spec.bfdProfile",
            "the annotation torline.io/bfd-strict has no effect without a BFDProfile",
        );
    }
    awaits
}

const WANT_DEVICE: &str = "want the name of a network device: at most 15 characters, no slash";

fn is_device(name: &str) -> bool {
    name.len() <= 15 && !name.contains(['/', ' '])
}

fn options(
    spec: &BgpPeerSpec,
    internal: bool,
    annotations: &Labels,
    problems: &mut Problems,
) -> PeerOptions {
    let annotation = |name| ours(Kind::BgpPeer, name, annotations);
    let number = |name| annotation(name).and_then(|text| text.parse::<u16>().ok());
    let restart_profile = match annotation("restart-profile") {
        Some(word) => RestartProfile::from_word(word),
        None => (spec.enable_graceful_restart).then_some(RestartProfile::Graceful),
    };
    if restart_profile == Some(RestartProfile::Graceful) && spec.bfd_profile.is_empty() {
        problems.note(
            "spec.enableGracefulRestart",
            "without bfdProfile the router goes on sending to a node that died for up to 120s: set one, or \
             the annotation torline.io/restart-profile to brief or last-resort",
        );
    }
    if !is_device(&spec.vrf) {
        problems.refuse("spec.vrf", WANT_DEVICE);
    }
    let ttl_security = annotation("ttl-security").and_then(|text| text.parse().ok());
    if ttl_security.is_some() && spec.ebgp_multi_hop {
        problems.note(
            "metadata.annotations[torline.io/ttl-security]",
            "counts, and spec.ebgpMultiHop does not: it says how many hops there may be",
        );
    }
    let role = annotation("role").and_then(PeerRole::from_word);
    if role.is_some() && internal {
        problems.note(
            "metadata.annotations[torline.io/role]",
            "has no effect on a session within one AS",
        );
    }
    let connect = annotation("connect").and_then(Connect::from_word);
    let awaits_peers = annotation("listen-range").map(|_| Connect::Passive);
    PeerOptions {
        restart_profile,
        connect: awaits_peers.or(connect).unwrap_or_default(),
        listen_port: number("listen-port"),
        ttl_security,
        role,
        interface: (!spec.interface.is_empty()).then(|| spec.interface.clone()),
        device: (!spec.vrf.is_empty()).then(|| spec.vrf.clone()),
        drain_wait: number("drain-wait").map(|seconds| Duration::from_secs(seconds.into())),
        listen_range: None,
        delay_open: number("delay-open").map(|seconds| Duration::from_secs(seconds.into())),
    }
}
