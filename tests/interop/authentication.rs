//! TCP MD5 (RFC 2385).

use anyhow::{Result, ensure};
use lb_userspace::model::intent::RouteAttributes;
use lb_userspace::model::password::Password;
use lb_userspace::model::session_status::SessionState;

use crate::lab::{EBGP, Lab, NODE_V6, TOR_V4, TOR_V6, intent};

#[test]
fn the_right_password_connects_over_both_families() -> Result<()> {
    for (tor, node) in [(TOR_V4, crate::lab::NODE_V4), (TOR_V6, NODE_V6)] {
        let mut lab = Lab::new()?;
        lab.start_bird_at(tor, node, &format!("password \"s3cret\"; {EBGP}"))?;
        let mut intent = intent();
        intent.config.peer_address = tor;
        intent.config.password = Some(Password::new("s3cret"));
        intent
            .routes
            .insert("203.0.113.1/32".parse()?, RouteAttributes::default());
        let _speaker = lab.establish(intent)?;
        lab.await_route_count("master4", 1)?;
    }
    Ok(())
}

#[test]
fn a_wrong_password_never_connects_and_is_hinted_at_until_it_is_right() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(&format!("password \"s3cret\"; {EBGP}"))?;
    let mut wrong = intent();
    wrong.config.password = Some(Password::new("guess"));
    let speaker = lab.speak(wrong)?;
    let status = speaker.await_error("no answer; is it reachable")?;
    ensure!(
        status
            .last_error
            .is_some_and(|error| error.contains("with the same password"))
    );
    ensure!(status.state != SessionState::Established);

    speaker.change(|intent| intent.config.password = Some(Password::new("s3cret")));
    speaker.await_state(SessionState::Established)?;
    Ok(())
}

#[test]
fn a_missing_password_never_connects() -> Result<()> {
    let mut lab = Lab::new()?;
    lab.start_bird(&format!("password \"s3cret\"; {EBGP}"))?;
    let speaker = lab.speak(intent())?;
    speaker.await_error("cannot connect to 10.99.0.1:179: no answer")?;
    Ok(())
}
