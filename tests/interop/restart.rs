//! What the router keeps of our routes when a session ends, and who connects.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use harness::netns::Netns;
use harness::wait;
use lb_userspace::model::intent::{RouteAttributes, SessionIntent};
use lb_userspace::model::peer_options::RestartProfile;
use lb_userspace::model::session_status::SessionState;
use lb_userspace::proto::bgp::retention::Past;
use lb_userspace::tasks::bgp::{Peer, Stop};
use tokio::sync::watch;

use crate::lab::{EBGP, LIMIT, Lab, intent};

const PREFIX: &str = "203.0.113.1/32";

fn announcing(profile: Option<RestartProfile>) -> Result<SessionIntent> {
    let mut intent = intent();
    intent.config.options.restart_profile = profile;
    intent
        .routes
        .insert(PREFIX.parse()?, RouteAttributes::default());
    Ok(intent)
}

#[test]
fn a_restart_keeps_the_routes_until_the_next_session_has_told_them_again() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let intent = announcing(Some(RestartProfile::Graceful))?;
    let speaker = lab.establish(intent.clone())?;
    lab.await_route_count("master4", 1)?;
    ensure!(speaker.status().peer_keeps_routes, "{:?}", speaker.status());

    speaker.stop(Stop::RestartOrDrain("must not be sent".to_owned()));
    lab.await_show("protocols all node", |text| {
        text.contains("Neighbor graceful restart active")
    })?;
    ensure!(lab.route_count("master4")? == 1, "the route is gone");

    // Some routes are missing yet: the router keeps what it has until it hears that these are all.
    let mut partial = intent;
    partial.routes.clear();
    partial.is_partial = true;
    let (sender, receiver) = watch::channel(partial);
    let thread = lab.node.spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = runtime.enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let past = Past {
                restarted: true,
                forwarding: true,
            };
            let peer = Peer::spawn_again("tor".to_owned(), receiver, past);
            let mut status = peer.status.clone();
            // The status ends with the session, and that with its intent.
            while status.changed().await.is_ok() {}
        });
    })?;
    let text = lab.await_show("protocols all node", |text| text.contains("Established"))?;
    ensure!(text.contains("Restart recovery"), "R is not set: {text}");
    ensure!(lab.route_count("master4")? == 1, "dropped too early");
    sender.send_modify(|intent| intent.is_partial = false);
    lab.await_route_count("master4", 0)?;
    drop(sender);
    thread
        .join()
        .map_err(|_panic| anyhow!("the speaker panicked"))
}

#[test]
fn a_drain_withdraws_gently_and_for_good_though_the_router_would_keep_routes() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(EBGP)?;
    let mut intent = announcing(Some(RestartProfile::Brief))?;
    intent.config.options.drain_wait = Some(Duration::from_secs(2));
    let speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    speaker.change(|intent| intent.is_draining = true);
    lab.await_show(&format!("route all {PREFIX} protocol node"), |text| {
        text.contains("(65535,0)")
    })?;
    lab.await_route_count("master4", 0)?;
    let status = speaker.status();
    ensure!(status.state == SessionState::Established, "{status:?}");
    speaker.change(|intent| intent.is_draining = false);
    lab.await_route_count("master4", 1)?;

    speaker.stop(Stop::Drain("maintenance".to_owned()));
    lab.await_route_count("master4", 0)?;
    ensure!(lab.log()?.contains("maintenance"), "no last word");
    Ok(())
}

#[test]
fn a_router_that_keeps_nothing_is_drained_instead_of_restarted() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(&format!(
        "{EBGP} graceful restart off; long lived graceful restart off;"
    ))?;
    let speaker = lab.establish(announcing(Some(RestartProfile::Graceful))?)?;
    lab.await_route_count("master4", 1)?;
    ensure!(!speaker.status().peer_keeps_routes);
    speaker.stop(Stop::RestartOrDrain("goodbye".to_owned()));
    lab.await_route_count("master4", 0)?;
    ensure!(lab.log()?.contains("goodbye"), "no last word");
    Ok(())
}

/// The address that a namespace's end of the link made for itself.
fn link_local(netns: &Netns) -> Result<IpAddr> {
    wait::until("a link-local address", LIMIT, || {
        let text = netns.run(["ip", "-br", "-6", "addr", "show", "dev", "uplink"])?;
        let words = text.split(|c: char| c.is_whitespace() || c == '/');
        let mut addresses = words.filter(|word| word.starts_with("fe80:"));
        Ok(addresses.next().context(text.clone())?.parse()?)
    })
}

#[test]
fn an_unnumbered_session_finds_its_router_and_gives_link_local_next_hops() -> Result<()> {
    let mut lab = Lab::new()?;
    let (tor, node) = (link_local(&lab.tor)?, link_local(&lab.node)?);
    lab.start_bird_at(
        tor,
        node,
        "local as 65001; neighbor NODE as 65002; interface \"uplink\"; direct; \
         ipv4 { import all; export none; extended next hop on; }; \
         ipv6 { import all; export none; }; } \
         protocol radv { interface \"uplink\" { min ra interval 3; max ra interval 4; };",
    )?;
    let mut intent = announcing(None)?;
    intent
        .routes
        .insert("2001:db8:1::1/128".parse()?, RouteAttributes::default());
    intent.config.peer_address = "::".parse()?;
    intent.config.options.interface = Some("uplink".to_owned());
    intent.config.next_hops.clear();
    let speaker = lab.establish(intent)?;
    lab.await_route_count("master4", 1)?;
    lab.await_route_count("master6", 1)?;
    for table in ["master4", "master6"] {
        let text = lab.show(&format!("route all table {table} protocol node"))?;
        ensure!(text.contains(&node.to_string()), "{text}");
    }
    let status = speaker.status();
    ensure!(status.not_announced.is_empty(), "{status:?}");
    Ok(())
}
