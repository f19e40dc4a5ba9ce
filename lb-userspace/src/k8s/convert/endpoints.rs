//! EndpointSlices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointPort, EndpointSlice};

use super::{Part, Problems};
use crate::model::cluster::{Endpoint, Family, Protocol};
use crate::model::name::ObjectName;

const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Converts an EndpointSlice. One of type FQDN has no addresses.
pub(super) fn convert(slice: &EndpointSlice, problems: &mut Problems) -> Part {
    let labels = slice.metadata.labels.as_ref();
    let namespace = slice.metadata.namespace.as_deref();
    let service = labels
        .and_then(|labels| labels.get(SERVICE_LABEL))
        .filter(|name| !name.is_empty())
        .map(|name| {
            let namespace = namespace.filter(|ns| !ns.is_empty()).unwrap_or("default");
            ObjectName::new(namespace, name)
        });
    if service.is_none() {
        problems.note(
            format!("metadata.labels[{SERVICE_LABEL}]"),
            "without this label the endpoints belong to no Service",
        );
    }
    let family = match slice.address_type.as_str() {
        "IPv4" => Family::V4,
        "IPv6" => Family::V6,
        "FQDN" => return Part::Endpoints(service, Vec::new()),
        _ => {
            problems.refuse("addressType", "write IPv4, IPv6 or FQDN");
            return Part::Endpoints(service, Vec::new());
        }
    };
    let ports = Arc::new(ports(slice.ports.as_deref().unwrap_or_default(), problems));
    let endpoints = slice.endpoints.iter().flatten().enumerate();
    let endpoints = endpoints
        .filter_map(|(index, endpoint)| convert_one(endpoint, index, family, &ports, problems))
        .collect();
    Part::Endpoints(service, endpoints)
}

fn convert_one(
    endpoint: &ApiEndpoint,
    index: usize,
    family: Family,
    ports: &Arc<BTreeMap<(String, Protocol), u16>>,
    problems: &mut Problems,
) -> Option<Endpoint> {
    // The API calls several addresses of one endpoint interchangeable; the first stands for all.
    let text = endpoint.addresses.first()?;
    let addr = match text.parse::<IpAddr>() {
        Ok(addr) if Family::of(addr) == family => addr,
        _ => {
            problems.refuse(
                format!("endpoints[{index}].addresses[0]"),
                format!("\"{text}\" is no IP{family} address, as addressType says it is"),
            );
            return None;
        }
    };
    let conditions = endpoint.conditions.as_ref();
    let ready = conditions.and_then(|c| c.ready).unwrap_or(true);
    let hints = endpoint.hints.as_ref();
    let zones = hints.and_then(|hints| hints.for_zones.as_deref());
    Some(Endpoint {
        addr,
        node: endpoint.node_name.as_deref().map(Arc::from),
        ports: Arc::clone(ports),
        ready,
        serving: conditions.and_then(|c| c.serving).unwrap_or(ready),
        terminating: conditions.and_then(|c| c.terminating).unwrap_or(false),
        zones: zones
            .into_iter()
            .flatten()
            .map(|zone| zone.name.clone())
            .collect(),
    })
}

fn ports(ports: &[EndpointPort], problems: &mut Problems) -> BTreeMap<(String, Protocol), u16> {
    let mut converted = BTreeMap::new();
    for (index, port) in ports.iter().enumerate() {
        let protocol = match port.protocol.as_deref() {
            None | Some("" | "TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            // SCTP: the Service says so already.
            Some(_) => continue,
        };
        // A port without a number stands for all ports, which no load balancer uses.
        let Some(number) = port.port else { continue };
        match u16::try_from(number) {
            Ok(number) if number != 0 => {
                let name = port.name.clone().unwrap_or_default();
                converted.insert((name, protocol), number);
            }
            _ => problems.refuse(
                format!("ports[{index}].port"),
                format!("{number}: want 1 to 65535"),
            ),
        }
    }
    converted
}
