//! Which of two connections with one peer stays (RFC 4271 §6.8).

use std::time::{Duration, Instant};

use super::fsm::State;
use super::session::Session;

/// A session this young came up while its peer was dialing: that it restarted since is less likely.
const YOUNG: Duration = Duration::from_secs(10);

/// What becomes of a connection that the peer made while there is another one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The newcomer ends, with Cease 6/7.
    KeepPresent,
    /// The newcomer takes over; the present one ends with Cease 6/7.
    KeepNewcomer,
    /// The newcomer takes over from a connection that its peer has forgotten: that one ends without a word.
    Replace,
}

/// Judges once the peer's OPEN is there on the newcomer; none before.
pub fn resolve(present: &Session, newcomer: &Session, now: Instant) -> Option<Outcome> {
    if newcomer.state() < State::OpenConfirm {
        return None;
    }
    Some(match present.state() {
        State::Idle | State::Connect | State::Active => Outcome::Replace,
        // RFC 4724 §5: who restarts gracefully comes back by a new connection, and the old one is dead.
        State::Established if restarts(present) && !is_young(present, now) => Outcome::Replace,
        State::Established => Outcome::KeepPresent,
        State::OpenSent | State::OpenConfirm if !present.is_dialed() => Outcome::Replace,
        State::OpenSent | State::OpenConfirm => {
            let (ours, theirs) = newcomer.identifiers()?;
            // RFC 6286 §2.3: equal identifiers are told apart by AS number.
            if ours > theirs {
                Outcome::KeepPresent
            } else {
                Outcome::KeepNewcomer
            }
        }
    })
}

fn is_young(session: &Session, now: Instant) -> bool {
    let since = session.established_at();
    since.is_some_and(|since| now.saturating_duration_since(since) < YOUNG)
}

fn restarts(session: &Session) -> bool {
    let negotiated = session.negotiated();
    negotiated.is_some_and(|negotiated| negotiated.capabilities.contains(&64))
}
