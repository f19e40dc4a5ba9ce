//! Sessions come up over either family and carry either family.

use anyhow::{Result, ensure};
use lb_userspace::model::cluster::{Family, PeerAsn};
use lb_userspace::model::intent::RouteAttributes;
use lb_userspace::model::session_status::SessionState;
use lb_userspace::tasks::bgp::Stop;

use crate::lab::{EBGP, Lab, NODE_V6, TOR_V6, intent};

#[test]
fn one_ipv4_session_carries_both_families() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let mut intent = intent();
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
    intent
        .routes
        .insert("2001:db8:1::1/128".parse()?, RouteAttributes::default());
    let speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    lab.await_route_count("master6", 1)?;
    ensure!(
        lab.show("route all table master4 protocol node")?
            .contains("BGP.next_hop: 10.99.0.2")
    );
    ensure!(
        lab.show("route all table master6 protocol node")?
            .contains("BGP.next_hop: fd99::2")
    );

    let status = speaker.status();
    ensure!(
        status.families == ["IPv4 unicast", "IPv6 unicast"],
        "{status:?}"
    );
    ensure!(
        status.peer_asn == Some(65001) && status.hold_time == Some(9),
        "{status:?}"
    );
    ensure!(
        status.peer_router_id == Some([10, 99, 0, 1].into()),
        "{status:?}"
    );
    ensure!(
        status.routes.len() == 2 && status.not_announced.is_empty(),
        "{status:?}"
    );
    Ok(())
}

#[test]
fn one_ipv6_session_carries_both_families() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird_at(TOR_V6, NODE_V6, EBGP)?;
    let mut intent = intent();
    intent.config.peer_address = TOR_V6;
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
    intent
        .routes
        .insert("2001:db8:1::1/128".parse()?, RouteAttributes::default());
    let _speaker = lab.establish(intent)?;
    lab.await_route_count("master6", 1)?;
    lab.await_route_count("master4", 1)?;
    ensure!(
        lab.show("route all table master4 protocol node")?
            .contains("BGP.next_hop: 10.99.0.2")
    );
    ensure!(
        lab.show("route all table master6 protocol node")?
            .contains("BGP.next_hop: fd99::2")
    );
    Ok(())
}

#[test]
fn a_family_that_the_router_lacks_is_named_and_the_other_goes_on() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird("local as 65001; neighbor NODE as 65002; ipv4 { import all; export none; };")?;
    let mut intent = intent();
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
    intent
        .routes
        .insert("2001:db8:1::1/128".parse()?, RouteAttributes::default());
    let speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    let status = speaker.status();
    ensure!(
        status.not_announced == ["IPv6 unicast: the peer does not offer it on this session"],
        "{status:?}"
    );
    Ok(())
}

#[test]
fn a_family_without_next_hop_is_named() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let mut intent = intent();
    intent.config.next_hops.remove(&Family::V6);
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
    intent
        .routes
        .insert("2001:db8:1::1/128".parse()?, RouteAttributes::default());
    let speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    let status = speaker.status();
    ensure!(
        status.not_announced.len() == 1 && status.not_announced[0].contains("next hop"),
        "{status:?}"
    );
    ensure!(lab.route_count("master6")? == 0);
    Ok(())
}

#[test]
fn a_wrong_as_is_told_with_both_numbers() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let mut wrong = intent();
    wrong.config.peer_asn = PeerAsn::Number(65009);
    let speaker = lab.speak(wrong)?;
    let status = speaker.await_error("the peer is AS 65001, but AS 65009 is configured")?;
    ensure!(status.notifications_sent >= 1);
    speaker.stop(Stop::Restart);

    let mut unexpected = intent();
    unexpected.config.my_asn = 65003;
    let speaker = lab.speak(unexpected)?;
    speaker.await_error("bad peer AS (2/2): it expects another AS than myASN")?;
    Ok(())
}

#[test]
fn dynamic_and_wide_as_numbers_work() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(
        &EBGP
            .replace("65001", "4200000001")
            .replace("65002", "4200000002"),
    )?;
    let mut intent = intent();
    intent.config.my_asn = 4_200_000_002;
    intent.config.peer_asn = PeerAsn::External;
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
    let _speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    ensure!(
        lab.show("route all protocol node")?
            .contains("BGP.as_path: 4200000002")
    );
    Ok(())
}

#[test]
fn a_peer_with_two_octet_paths_rebuilds_the_wide_as() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(&format!(
        "enable as4 off; {}",
        EBGP.replace("as 65002", "external")
    ))?;
    let mut intent = intent();
    intent.config.my_asn = 4_200_000_002;
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
    let _speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    // BIRD merges AS_PATH, which says 23456, with AS4_PATH (RFC 6793 §4.2.3).
    let shown = lab.show("route all protocol node")?;
    ensure!(shown.contains("BGP.as_path: 4200000002"), "{shown}");
    Ok(())
}

#[test]
fn a_source_address_is_used_and_a_foreign_one_is_named() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.node.ip("addr add 10.99.0.22/24 dev uplink")?;
    lab.start_bird_at(crate::lab::TOR_V4, "10.99.0.22".parse()?, EBGP)?;
    let mut with_source = intent();
    with_source.config.source_address = Some("10.99.0.22".parse()?);
    lab.establish(with_source)?.stop(Stop::Restart);

    let mut foreign = intent();
    foreign.config.source_address = Some("10.99.0.23".parse()?);
    let speaker = lab.speak(foreign)?;
    let status = speaker.await_error("cannot connect from 10.99.0.23")?;
    ensure!(
        status
            .last_error
            .is_some_and(|e| e.contains("sourceAddress"))
    );
    Ok(())
}

#[test]
fn a_node_that_the_router_does_not_know_is_told_so() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird_at(crate::lab::TOR_V4, "10.99.0.77".parse()?, EBGP)?;
    let speaker = lab.speak(intent())?;
    let status = speaker.await_error("neighbour")?;
    ensure!(status.state != SessionState::Established);
    Ok(())
}

#[test]
fn a_router_that_dials_too_does_not_disturb_the_session() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(&format!(
        "passive no; connect delay time 1; connect retry time 1; {EBGP}"
    ))?;
    let mut intent = intent();
    intent
        .routes
        .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
    let speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    ensure!(
        speaker.status().last_error.is_none(),
        "{:?}",
        speaker.status()
    );
    Ok(())
}

#[test]
fn every_field_is_changed_and_only_identity_costs_the_session() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(&format!("error wait time 1, 1; {EBGP}"))?;
    let speaker = lab.establish(intent())?;
    let since = speaker.status().since;
    speaker.change(|intent| {
        intent.config.connect_time = std::time::Duration::from_secs(7);
        intent.config.hold_time = std::time::Duration::from_secs(30);
        intent.config.keepalive_time = Some(std::time::Duration::from_secs(2));
        intent.config.next_hops.remove(&Family::V6);
        intent.routes.insert(
            "203.0.113.1/32".parse().unwrap(),
            RouteAttributes::default(),
        );
    });
    speaker.await_status("a withheld family", |status| {
        status.not_announced.len() == 1
    })?;
    lab.await_route_count("master4", 1)?;
    ensure!(speaker.status().since == since);

    speaker.change(|intent| intent.config.multihop = true);
    speaker.await_status("another session", |status| {
        status.state == SessionState::Established && status.since != since
    })?;
    ensure!(lab.show("protocols all node")?.contains("Hold timer:"));
    ensure!(
        speaker.status().hold_time == Some(30),
        "{:?}",
        speaker.status()
    );
    Ok(())
}
