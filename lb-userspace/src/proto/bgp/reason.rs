//! Why a session failed, in words that say what to do about it.

use std::fmt;

use super::error::DecodeError;
use super::fsm::State;
use super::notification::Notification;

/// Why a session failed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Reason {
    /// No TCP connection within the connect-retry time.
    ConnectTimeout,
    /// The connection could not be made, or the peer closed it, in this state.
    Disconnected(State),
    /// The peer was silent for the hold time, or sent no OPEN.
    HoldTimerExpired(State),
    /// The peer took no byte for the send hold time.
    SendHoldTimerExpired,
    /// The peer sent something that ends the session.
    Refused(DecodeError),
    /// The peer sent a message that this state does not expect.
    Unexpected(State),
    /// BFD says that the path to the peer is lost.
    BfdDown,
    /// The peer ended the session.
    Notified(Notification),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ConnectTimeout => f.write_str("no answer to the TCP connection"),
            Self::Disconnected(State::Established) => f.write_str("the peer closed the connection"),
            Self::Disconnected(_) => f.write_str(
                "the peer closed the connection before the session was up: is this node configured there \
                 as neighbour, with this address?",
            ),
            Self::HoldTimerExpired(State::OpenSent) => f.write_str(
                "the peer accepted the connection but sent no OPEN: is it a BGP speaker?",
            ),
            Self::HoldTimerExpired(_) => f.write_str("hold timer expired: the peer fell silent"),
            Self::SendHoldTimerExpired => f.write_str("send hold timer expired: the peer stopped reading"),
            Self::Refused(error) => error.fmt(f),
            Self::Unexpected(state) => write!(f, "the peer sent a message that {state:?} does not expect"),
            Self::BfdDown => f.write_str("BFD: the path to the peer is lost"),
            Self::Notified(notification) => {
                write!(f, "the peer sent NOTIFICATION {notification}")?;
                f.write_str(match (notification.code, notification.subcode) {
                    (2, 2) => ": it expects another AS than myASN",
                    (2, 3) => ": another speaker has this router ID",
                    (2, 6) => ": it wants a longer holdTime",
                    (6, 5) => ": it does not accept this node as neighbour",
                    _ => "",
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notification_about_our_configuration_names_the_field() {
        let told =
            |subcode| Reason::Notified(Notification::new(2, subcode, Vec::new())).to_string();
        assert_eq!(
            told(2),
            "the peer sent NOTIFICATION bad peer AS (2/2): it expects another AS than myASN"
        );
        assert!(told(6).ends_with("it wants a longer holdTime"));
    }
}
