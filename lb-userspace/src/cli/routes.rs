//! `torline routes`: what the BGP peers of this node were sent, and why.

use std::fmt::Write;
use std::path::Path;

use super::status::{join, or_dash, table};
use super::{ask, print};
use crate::model::peer_report::{RouteReport, RoutesReport};

/// Prints the routes, for people or as one line of JSON; those of one peer, if it is named.
pub(super) fn show(socket: &Path, peer: Option<&str>, json: bool) -> anyhow::Result<()> {
    let mut report: RoutesReport = ask(socket, "/v1/routes")?;
    if let Some(peer) = peer {
        report.routes.retain(|route| route.peer == peer);
    }
    print(&if json {
        serde_json::to_string(&report)? + "\n"
    } else {
        render(&report)
    })
}

fn render(report: &RoutesReport) -> String {
    let mut table = table([
        "PEER",
        "PREFIX",
        "NEXT HOP",
        "AS PATH",
        "ATTRIBUTES",
        "SERVICES",
    ]);
    for route in &report.routes {
        table.add_row([
            route.peer.clone(),
            route.prefix.clone(),
            or_dash(&next_hop(route)),
            or_dash(&join(&route.attributes.as_path)),
            or_dash(&attributes(route)),
            or_dash(&join(&route.services)),
        ]);
    }
    let mut text = String::new();
    for line in table.lines() {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn next_hop(route: &RouteReport) -> String {
    let global = route
        .attributes
        .next_hop
        .filter(|addr| !addr.is_unspecified());
    let global = global.map(|addr| addr.to_string());
    let link_local = route.attributes.link_local.map(|addr| addr.to_string());
    join(&global.into_iter().chain(link_local).collect::<Vec<_>>())
}

/// What few routes have, as routers write it.
fn attributes(route: &RouteReport) -> String {
    let attributes = &route.attributes;
    let number = |name: &str, value: Option<u32>| value.map(|value| format!("{name} {value}"));
    let communities = (!attributes.communities.is_empty())
        .then(|| format!("community {}", join(&attributes.communities)));
    let bandwidth = attributes.link_bandwidth.as_ref();
    let parts: Vec<_> = [
        number("med", attributes.med),
        number("local-pref", attributes.local_pref),
        communities,
        bandwidth.map(|bytes| format!("bandwidth {bytes} B/s")),
        number("only-to-customer", attributes.only_to_customer),
    ]
    .into_iter()
    .flatten()
    .collect();
    parts.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::session_status::SentAttributes;

    fn report() -> RoutesReport {
        RoutesReport {
            node: "node-a".into(),
            routes: vec![RouteReport {
                peer: "tor-a".into(),
                prefix: "203.0.113.10/32".into(),
                attributes: SentAttributes {
                    next_hop: Some([192, 0, 2, 11].into()),
                    as_path: vec![64_513, 64_513],
                    med: Some(5),
                    communities: vec!["64513:7".into(), "64513:1:2".into()],
                    ..SentAttributes::default()
                },
                services: vec!["default/web".into()],
            }],
        }
    }

    #[test]
    fn a_route_is_a_line_with_its_attributes_and_its_reason() {
        let text = render(&report());
        let line: Vec<_> = text.lines().nth(1).unwrap().split("  ").collect();
        let line: Vec<_> = line
            .into_iter()
            .map(str::trim)
            .filter(|part| !part.is_empty())
            .collect();
        assert_eq!(
            line,
            [
                "tor-a",
                "203.0.113.10/32",
                "192.0.2.11",
                "64513 64513",
                "med 5, community 64513:7 64513:1:2",
                "default/web"
            ]
        );
    }

    #[test]
    fn attributes_stand_beside_the_prefix_in_json() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["routes"][0]["med"], 5);
        assert_eq!(json["routes"][0]["prefix"], "203.0.113.10/32");
        let read: RoutesReport = serde_json::from_value(json).unwrap();
        assert_eq!(read, report());
    }
}
