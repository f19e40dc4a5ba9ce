//! What the router sees of our routes, and what we do with its own.

use anyhow::{Result, ensure};
use lb_userspace::model::cluster::{Community, PeerAsn};
use lb_userspace::model::intent::RouteAttributes;
use lb_userspace::tasks::bgp::Stop;

use crate::lab::{EBGP, Lab, intent, with_communities};

#[test]
fn communities_arrive_as_sent() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let mut intent = intent();
    let communities = [
        Community::Standard(65002 << 16 | 7),
        Community::Standard(65535 << 16 | 0xff01),
        Community::Large(65002, 1, 2),
        Community::Large(4_200_000_000, 3, 4),
    ];
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, with_communities(&communities));
    intent
        .routes
        .insert("2001:db8:1::1/128".parse()?, with_communities(&communities));
    let _speaker = lab.establish(intent)?;
    lab.await_route_count("master6", 1)?;
    for table in ["master4", "master6"] {
        let shown = lab.await_show(&format!("route all table {table} protocol node"), |t| {
            t.contains("as_path")
        })?;
        ensure!(
            shown.contains("BGP.community: (65002,7) (65535,65281)"),
            "{shown}"
        );
        ensure!(
            shown.contains("BGP.large_community: (65002, 1, 2) (4200000000, 3, 4)"),
            "{shown}"
        );
        ensure!(
            shown.contains("BGP.as_path: 65002") && shown.contains("BGP.origin: IGP"),
            "{shown}"
        );
        ensure!(!shown.contains("BGP.med"), "{shown}");
    }
    Ok(())
}

#[test]
fn an_internal_peer_sees_local_pref_and_no_as() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(&EBGP.replace("65001", "65002"))?;
    let mut intent = intent();
    intent.config.peer_asn = PeerAsn::Internal;
    let preferred = RouteAttributes {
        local_pref: Some(250),
        ..RouteAttributes::default()
    };
    intent.routes.insert("203.0.113.1/32".parse()?, preferred);
    intent
        .routes
        .insert("203.0.113.2/32".parse()?, RouteAttributes::default());
    let _speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 2)?;
    let shown = |prefix: &str| lab.show(&format!("route all {prefix} protocol node"));
    ensure!(shown("203.0.113.1/32")?.contains("BGP.local_pref: 250"));
    ensure!(shown("203.0.113.2/32")?.contains("BGP.local_pref: 100"));
    ensure!(!shown("203.0.113.1/32")?.contains("65002"));
    Ok(())
}

#[test]
fn routes_come_change_and_go_under_one_session() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let speaker = lab.establish(intent())?;
    let since = speaker.status().since;

    speaker.change(|intent| {
        intent.routes.insert(
            "203.0.113.0/24".parse().unwrap(),
            RouteAttributes::default(),
        );
        intent.routes.insert(
            "203.0.113.9/32".parse().unwrap(),
            RouteAttributes::default(),
        );
        intent.routes.insert(
            "2001:db8:1::/48".parse().unwrap(),
            RouteAttributes::default(),
        );
    });
    lab.await_route_count("master4", 2)?;
    lab.await_route_count("master6", 1)?;

    let tagged = with_communities(&[Community::Standard(65002 << 16 | 9)]);
    speaker.change(|intent| {
        _ = intent
            .routes
            .insert("203.0.113.9/32".parse().unwrap(), tagged)
    });
    lab.await_show("route all 203.0.113.9/32 protocol node", |text| {
        text.contains("(65002,9)")
    })?;

    speaker.change(|intent| intent.routes.clear());
    lab.await_route_count("master4", 0)?;
    lab.await_route_count("master6", 0)?;
    let status = speaker.await_status("no routes", |status| status.routes.is_empty())?;
    ensure!(
        status.since == since && status.notifications_sent == 0,
        "{status:?}"
    );
    Ok(())
}

#[test]
fn two_thousand_routes_arrive_in_few_messages_and_leave() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let mut intent = intent();
    for n in 0..1000_u32 {
        let v4 = std::net::IpAddr::V4((0xcb00_0000 + n).into());
        let v6 = std::net::IpAddr::V6(((0x2001_0db8_u128 << 96) + u128::from(n)).into());
        intent.routes.insert(v4.into(), RouteAttributes::default());
        intent.routes.insert(v6.into(), RouteAttributes::default());
    }
    let speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1000)?;
    lab.await_route_count("master6", 1000)?;
    speaker.await_status("2,000 routes", |status| status.routes.len() == 2000)?;
    speaker.change(|intent| intent.routes.clear());
    lab.await_route_count("master4", 0)?;
    lab.await_route_count("master6", 0)?;
    Ok(())
}

#[test]
fn what_the_router_announces_is_counted_and_refused() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(&EBGP.replace("export none", "export all"))?;
    let speaker = lab.establish(intent())?;
    let status = speaker.await_status("refused routes", |status| status.received_refused == 2)?;
    ensure!(
        status.notifications_sent == 0 && status.last_error.is_none(),
        "{status:?}"
    );
    ensure!(
        lab.node
            .run(["ip", "route", "show", "198.51.100.0/25"])?
            .is_empty()
    );
    Ok(())
}

#[test]
fn a_refresh_from_the_router_is_answered() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let mut intent = intent();
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
    let speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    let updates = |text: &str| {
        let line = text
            .lines()
            .find(|line| line.contains("Import updates:"))
            .unwrap_or_default();
        line.split_whitespace()
            .nth(2)
            .and_then(|n| n.parse::<u32>().ok())
            .unwrap_or_default()
    };
    let before = updates(&lab.show("protocols all node")?);
    lab.command("reload in node")?;
    lab.await_show("protocols all node", |text| updates(text) > before)?;
    ensure!(lab.route_count("master4")? == 1 && speaker.status().notifications_received == 0);
    Ok(())
}

#[test]
fn a_drain_withdraws_and_tells_the_router_why() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let mut intent = intent();
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
    let speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    speaker.stop(Stop::Drain("node drain: maintenance-42".to_owned()));
    lab.await_route_count("master4", 0)?;
    let shown = lab.await_show("protocols all node", |text| text.contains("Last error"))?;
    ensure!(
        shown.contains("Received: Administrative shutdown"),
        "{shown}"
    );
    ensure!(
        lab.log()?.contains("node drain: maintenance-42"),
        "{}",
        lab.log()?
    );
    Ok(())
}

#[test]
fn a_restart_ends_the_session_without_a_notification() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let speaker = lab.establish(intent())?;
    speaker.stop(Stop::Restart);
    let shown = lab.await_show("protocols all node", |text| !text.contains("Established"))?;
    ensure!(!shown.contains("Received:"), "{shown}");
    Ok(())
}
