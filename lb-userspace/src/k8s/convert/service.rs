//! Services.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Service as ApiService, ServicePort as ApiPort, ServiceSpec};

use super::annotation::{metallb, ours};
use super::families::Stated;
use super::{Problems, Settings};
use crate::k8s::object::Kind;
use crate::model::cluster::{
    Family, FamilyPolicy, Forwarding, Labels, Protocol, Service, ServicePort, TrafficPolicy,
};

/// A Service whose families may depend on its endpoints.
#[derive(Clone, PartialEq, Debug)]
pub struct OpenService {
    /// The Service; its `families` are not settled.
    pub service: Service,
    /// What it says about its families.
    pub families: Stated,
}

/// Converts a Service.
pub(super) fn convert(
    service: &ApiService,
    annotations: &Labels,
    settings: &Settings,
    problems: &mut Problems,
) -> OpenService {
    let empty = ServiceSpec::default();
    let spec = service.spec.as_ref().unwrap_or(&empty);
    let is_load_balancer = spec.type_.as_deref() == Some("LoadBalancer")
        && spec.load_balancer_class == settings.load_balancer_class;
    let ports = ports(spec.ports.as_deref().unwrap_or_default(), problems);
    if is_load_balancer && spec.ports.as_ref().is_none_or(Vec::is_empty) {
        problems.refuse("spec.ports", "a LoadBalancer needs at least one port");
    }
    // To serve everybody where the owner said whom would be worse than to serve nobody.
    if is_load_balancer
        && !spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .all(String::is_empty)
    {
        problems.refuse(
            "spec.loadBalancerSourceRanges",
            "source ranges are not there yet: without them the Service would serve everybody",
        );
    }
    let status = service
        .status
        .as_ref()
        .and_then(|s| s.load_balancer.as_ref());
    let ingress = status
        .and_then(|s| s.ingress.as_deref())
        .unwrap_or_default();
    let service = Service {
        labels: service.metadata.labels.clone().unwrap_or_default(),
        is_load_balancer,
        ports,
        families: Vec::new(),
        family_policy: word(
            spec.ip_family_policy.as_deref(),
            "spec.ipFamilyPolicy",
            &[
                ("SingleStack", FamilyPolicy::SingleStack),
                ("PreferDualStack", FamilyPolicy::PreferDualStack),
                ("RequireDualStack", FamilyPolicy::RequireDualStack),
            ],
            problems,
        ),
        traffic_policy: word(
            spec.external_traffic_policy.as_deref(),
            "spec.externalTrafficPolicy",
            &[
                ("Cluster", TrafficPolicy::Cluster),
                ("Local", TrafficPolicy::Local),
            ],
            problems,
        ),
        follows_hints: follows_hints(spec, annotations),
        client_affinity: word(
            spec.session_affinity.as_deref(),
            "spec.sessionAffinity",
            &[("None", false), ("ClientIP", true)],
            problems,
        ),
        selector: selector_text(spec),
        requested_addresses: requested_addresses(spec, annotations),
        requested_pool: text(metallb("address-pool", annotations)),
        sharing_key: text(metallb("allow-shared-ip", annotations)),
        status_addresses: ingress
            .iter()
            .filter_map(|entry| entry.ip.as_deref()?.parse().ok())
            .collect(),
        table_length: ours(Kind::Service, "table-length", annotations)
            .and_then(|length| length.parse().ok()),
        forwarding: ours(Kind::Service, "forwarding", annotations).map(|word| match word {
            "geneve" => Forwarding::Geneve,
            _ => Forwarding::L2,
        }),
    };
    OpenService {
        service,
        families: stated_families(spec, problems),
    }
}

/// Whether the owner wants new connections to stay within a zone, by today's word for it or a former one.
fn follows_hints(spec: &ServiceSpec, annotations: &Labels) -> bool {
    let distribution = spec.traffic_distribution.as_deref();
    let modes = ["topology-mode", "topology-aware-hints"];
    let mut modes = modes.iter().filter_map(|name| {
        let mode = annotations.get(&format!("service.kubernetes.io/{name}"));
        mode.map(String::as_str)
    });
    matches!(
        distribution,
        Some("PreferClose" | "PreferSameZone" | "PreferSameNode")
    ) || matches!(modes.next(), Some("Auto" | "auto"))
}

fn text(value: Option<&str>) -> Option<String> {
    value.filter(|text| !text.is_empty()).map(str::to_owned)
}

fn word<T: Copy + Default>(
    given: Option<&str>,
    field: &str,
    words: &[(&str, T)],
    problems: &mut Problems,
) -> T {
    let Some(given) = given.filter(|text| !text.is_empty()) else {
        return T::default();
    };
    match words.iter().find(|(word, _)| *word == given) {
        Some((_, value)) => *value,
        None => {
            let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
            problems.refuse(field, format!("write {}", known.join(" or ")));
            T::default()
        }
    }
}

fn ports(ports: &[ApiPort], problems: &mut Problems) -> Vec<ServicePort> {
    let mut converted = Vec::new();
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    for (index, port) in ports.iter().enumerate() {
        let field = |name: &str| format!("spec.ports[{index}].{name}");
        let name = port.name.clone().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            problems.refuse(field("name"), "is required where there are several ports");
        } else if !names.insert(name.clone()) {
            problems.refuse(field("name"), format!("duplicate port name \"{name}\""));
        }
        let protocol = match port.protocol.as_deref() {
            None | Some("" | "TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some("SCTP") => {
                problems.note(
                    field("protocol"),
                    "SCTP is not served; the port is left out",
                );
                continue;
            }
            Some(_) => {
                problems.refuse(field("protocol"), "write TCP or UDP");
                continue;
            }
        };
        let number = match u16::try_from(port.port) {
            Ok(number) if number != 0 => number,
            _ => {
                problems.refuse(field("port"), format!("{}: want 1 to 65535", port.port));
                continue;
            }
        };
        if !numbers.insert((protocol, number)) {
            problems.refuse(field("port"), format!("duplicate port {number}/{protocol}"));
        }
        converted.push(ServicePort {
            name,
            protocol,
            port: number,
        });
    }
    converted
}

/// What is wrong with a request is an error of the allocation, not of the object: the Service keeps
/// the addresses that it has.
fn requested_addresses(spec: &ServiceSpec, annotations: &Labels) -> Result<Vec<IpAddr>, String> {
    let field = spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty());
    let annotation = metallb("loadBalancerIPs", annotations).filter(|text| !text.is_empty());
    let (place, text) = match (field, annotation) {
        (None, None) => return Ok(Vec::new()),
        (Some(_), Some(_)) => {
            return Err("service can not have both metallb.io/loadBalancerIPs and \
                        spec.loadBalancerIP: remove one of them"
                .to_owned());
        }
        (Some(text), None) => ("spec.loadBalancerIP", text),
        (None, Some(text)) => ("metallb.io/loadBalancerIPs", text),
    };
    let mut addresses = Vec::new();
    for part in text.split(',').map(str::trim) {
        let address = part
            .parse::<IpAddr>()
            .ok()
            .ok_or_else(|| format!("invalid {place}: \"{part}\" is no IP address"))?;
        addresses.push(address);
    }
    match addresses[..] {
        [_] => Ok(addresses),
        [a, b] if annotation.is_some() && a.is_ipv4() != b.is_ipv4() => Ok(addresses),
        _ => Err(format!(
            "invalid {place}: want one address, or one of each family in the annotation"
        )),
    }
}

/// The selector as `labels.Set` prints it, which is what MetalLB compares.
fn selector_text(spec: &ServiceSpec) -> String {
    let labels = spec.selector.iter().flatten();
    let pairs: Vec<_> = labels
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

fn stated_families(spec: &ServiceSpec, problems: &mut Problems) -> Stated {
    let cluster_ips: Vec<&str> = match (&spec.cluster_ips, &spec.cluster_ip) {
        (Some(addresses), _) if !addresses.is_empty() => {
            addresses.iter().map(String::as_str).collect()
        }
        (_, Some(address)) if !address.is_empty() => vec![address],
        _ => Vec::new(),
    };
    if cluster_ips.first() == Some(&"None") {
        return Stated::Final(Vec::new());
    }
    let mut from_addresses = Vec::new();
    for (index, text) in cluster_ips.iter().enumerate() {
        match text.parse() {
            Ok(address) => from_addresses.push(Family::of(address)),
            Err(_) => problems.refuse(
                format!("spec.clusterIPs[{index}]"),
                format!("\"{text}\" is no IP address"),
            ),
        }
    }
    let mut families = Vec::new();
    for (index, name) in spec.ip_families.iter().flatten().enumerate() {
        let family = match name.as_str() {
            "IPv4" => Family::V4,
            "IPv6" => Family::V6,
            _ => {
                problems.refuse(format!("spec.ipFamilies[{index}]"), "write IPv4 or IPv6");
                continue;
            }
        };
        if families.contains(&family) {
            problems.refuse(
                format!("spec.ipFamilies[{index}]"),
                format!("duplicate definition of family \"{name}\""),
            );
            continue;
        }
        families.push(family);
    }
    if from_addresses.is_empty() {
        Stated::AtLeast(families)
    } else {
        Stated::Final(from_addresses)
    }
}
