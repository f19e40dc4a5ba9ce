//! The state machine of RFC 4271 §8.2.2, as a table and nothing else.

/// States, with the names of RFC 4271.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub enum State {
    /// Not trying.
    #[default]
    Idle,
    /// Waiting for the TCP connection.
    Connect,
    /// Waiting to try again.
    Active,
    /// OPEN sent, none received.
    OpenSent,
    /// OPENs exchanged, waiting for the first KEEPALIVE.
    OpenConfirm,
    /// Routes flow.
    Established,
}

/// What can happen to a session; the numbers are those of RFC 4271 §8.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Event {
    /// 1, 3: begin.
    Started,
    /// 4, 5: begin, but leave it to the peer to connect.
    StartedPassively,
    /// 2, 8, 23: end, with a Cease.
    Stopped,
    /// End without a word, so that a graceful-restart helper keeps our routes (RFC 4724 §4).
    Abandoned,
    /// 9.
    ConnectRetryTimerExpired,
    /// 10.
    HoldTimerExpired,
    /// 11.
    KeepaliveTimerExpired,
    /// 12.
    DelayOpenTimerExpired,
    /// 13.
    IdleHoldTimerExpired,
    /// 29 (RFC 9687).
    SendHoldTimerExpired,
    /// 16, 17: the TCP connection is up.
    TcpConnected,
    /// The same, where DelayOpen is set.
    TcpConnectedDelayed,
    /// 18: it could not be made, or is gone.
    TcpFailed,
    /// 19: an acceptable OPEN.
    OpenReceived,
    /// 20: the same while the DelayOpen timer runs.
    OpenReceivedEarly,
    /// 21, 22, 28: a message that ends the session.
    MessageRefused,
    /// 24, 25.
    NotificationReceived,
    /// 26.
    KeepaliveReceived,
    /// 27: an UPDATE that does not end the session.
    UpdateReceived,
    /// A ROUTE-REFRESH (RFC 2918).
    RefreshReceived,
}

/// Which NOTIFICATION an action sends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Notice {
    /// Cease, with the subcode that whoever stops the session gives.
    Cease,
    /// The answer to the message that was refused.
    Refusal,
    /// Hold timer expired.
    HoldTimerExpired,
    /// Send hold timer expired.
    SendHoldTimerExpired,
    /// A message that this state does not expect.
    Unexpected,
}

/// What a transition does, in order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Begin a TCP connection, with the connect-retry timer running.
    Dial,
    /// Run the connect-retry timer, with back-off.
    AwaitRetry,
    /// Run the idle-hold timer, with back-off, before the next start.
    AwaitStart,
    /// Run the DelayOpen timer in place of the connect-retry timer.
    DelayOpen,
    /// Send OPEN and run the long hold timer for the peer's.
    SendOpen,
    /// Send KEEPALIVE and run the keepalive timer again.
    SendKeepalive,
    /// Run the hold timer again.
    RestartHold,
    /// Begin to announce.
    Announce,
    /// Announce everything again for the family asked for.
    Resend,
    /// Send a NOTIFICATION, then close.
    Notify(Notice),
    /// Close, or give up connecting, without a word.
    Drop,
}

/// The state after an event, and what is to be done.
///
/// ```text
///           start          TCP up            OPEN              KEEPALIVE
///   Idle ─────────▶ Connect ──────▶ OpenSent ──────▶ OpenConfirm ──────▶ Established
///                    │  ▲              │
///          TCP fails │  │ retry        │ TCP fails
///                    ▼  │              │
///                   Active ◀───────────┘
///
///   any state ─▶ Idle     every error; started again by the idle-hold timer
/// ```
///
/// A failed connection attempt goes to Active whether or not DelayOpen is configured, as deployed speakers do.
pub const fn next(state: State, event: Event) -> (State, &'static [Action]) {
    use Action::{Announce, AwaitRetry, AwaitStart, DelayOpen, Dial, Drop, Notify, Resend};
    use Action::{RestartHold, SendKeepalive, SendOpen};
    use State::{Active, Connect, Established, Idle, OpenConfirm, OpenSent};

    const STOP: &[Action] = &[Notify(Notice::Cease)];
    const REFUSE: &[Action] = &[Notify(Notice::Refusal), AwaitStart];
    const UNEXPECTED: &[Action] = &[Notify(Notice::Unexpected), AwaitStart];
    const EXPIRE: &[Action] = &[Notify(Notice::HoldTimerExpired), AwaitStart];
    const STALL: &[Action] = &[Notify(Notice::SendHoldTimerExpired), AwaitStart];
    const LOSE: &[Action] = &[Drop, AwaitStart];

    match state {
        Idle => match event {
            Event::Started | Event::IdleHoldTimerExpired => (Connect, &[Dial]),
            Event::StartedPassively => (Active, &[]),
            // Idle-hold may be waiting; stopping ends that too.
            Event::Stopped | Event::Abandoned => (Idle, &[Drop]),
            // RFC 4271 §8.2.2: Idle refuses everything else without a change.
            Event::ConnectRetryTimerExpired
            | Event::HoldTimerExpired
            | Event::KeepaliveTimerExpired
            | Event::DelayOpenTimerExpired
            | Event::SendHoldTimerExpired
            | Event::TcpConnected
            | Event::TcpConnectedDelayed
            | Event::TcpFailed
            | Event::OpenReceived
            | Event::OpenReceivedEarly
            | Event::MessageRefused
            | Event::NotificationReceived
            | Event::KeepaliveReceived
            | Event::UpdateReceived
            | Event::RefreshReceived => (Idle, &[]),
        },
        Connect => match event {
            Event::Started | Event::StartedPassively => (Connect, &[]),
            Event::Stopped | Event::Abandoned => (Idle, &[Drop]),
            Event::ConnectRetryTimerExpired => (Connect, &[Drop, Dial]),
            Event::TcpConnected | Event::DelayOpenTimerExpired => (OpenSent, &[SendOpen]),
            Event::TcpConnectedDelayed => (Connect, &[DelayOpen]),
            Event::OpenReceivedEarly => (OpenConfirm, &[SendOpen, SendKeepalive, RestartHold]),
            Event::TcpFailed => (Active, &[Drop, AwaitRetry]),
            Event::HoldTimerExpired
            | Event::KeepaliveTimerExpired
            | Event::IdleHoldTimerExpired
            | Event::SendHoldTimerExpired
            | Event::OpenReceived
            | Event::MessageRefused
            | Event::NotificationReceived
            | Event::KeepaliveReceived
            | Event::UpdateReceived
            | Event::RefreshReceived => (Idle, LOSE),
        },
        Active => match event {
            Event::Started | Event::StartedPassively => (Active, &[]),
            Event::Stopped | Event::Abandoned => (Idle, &[Drop]),
            Event::ConnectRetryTimerExpired => (Connect, &[Dial]),
            Event::TcpConnected | Event::DelayOpenTimerExpired => (OpenSent, &[SendOpen]),
            Event::TcpConnectedDelayed => (Active, &[DelayOpen]),
            Event::OpenReceivedEarly => (OpenConfirm, &[SendOpen, SendKeepalive, RestartHold]),
            Event::TcpFailed => (Active, &[Drop, AwaitRetry]),
            Event::HoldTimerExpired
            | Event::KeepaliveTimerExpired
            | Event::IdleHoldTimerExpired
            | Event::SendHoldTimerExpired
            | Event::OpenReceived
            | Event::MessageRefused
            | Event::NotificationReceived
            | Event::KeepaliveReceived
            | Event::UpdateReceived
            | Event::RefreshReceived => (Idle, LOSE),
        },
        OpenSent => match event {
            Event::Started | Event::StartedPassively => (OpenSent, &[]),
            Event::Stopped => (Idle, STOP),
            Event::Abandoned => (Idle, &[Drop]),
            Event::HoldTimerExpired => (Idle, EXPIRE),
            Event::SendHoldTimerExpired => (Idle, STALL),
            Event::TcpConnected | Event::TcpConnectedDelayed => (OpenSent, &[]),
            Event::TcpFailed => (Active, &[Drop, AwaitRetry]),
            Event::OpenReceived => (OpenConfirm, &[SendKeepalive, RestartHold]),
            Event::MessageRefused => (Idle, REFUSE),
            Event::NotificationReceived => (Idle, LOSE),
            Event::ConnectRetryTimerExpired
            | Event::KeepaliveTimerExpired
            | Event::DelayOpenTimerExpired
            | Event::IdleHoldTimerExpired
            | Event::OpenReceivedEarly
            | Event::KeepaliveReceived
            | Event::UpdateReceived
            | Event::RefreshReceived => (Idle, UNEXPECTED),
        },
        OpenConfirm => match event {
            Event::Started | Event::StartedPassively => (OpenConfirm, &[]),
            Event::Stopped => (Idle, STOP),
            Event::Abandoned => (Idle, &[Drop]),
            Event::HoldTimerExpired => (Idle, EXPIRE),
            Event::SendHoldTimerExpired => (Idle, STALL),
            Event::KeepaliveTimerExpired => (OpenConfirm, &[SendKeepalive]),
            Event::TcpConnected | Event::TcpConnectedDelayed => (OpenConfirm, &[]),
            Event::TcpFailed | Event::NotificationReceived => (Idle, LOSE),
            Event::MessageRefused => (Idle, REFUSE),
            Event::KeepaliveReceived => (Established, &[RestartHold, Announce]),
            Event::ConnectRetryTimerExpired
            | Event::DelayOpenTimerExpired
            | Event::IdleHoldTimerExpired
            | Event::OpenReceived
            | Event::OpenReceivedEarly
            | Event::UpdateReceived
            | Event::RefreshReceived => (Idle, UNEXPECTED),
        },
        Established => match event {
            Event::Started | Event::StartedPassively => (Established, &[]),
            Event::Stopped => (Idle, STOP),
            Event::Abandoned => (Idle, &[Drop]),
            Event::HoldTimerExpired => (Idle, EXPIRE),
            Event::SendHoldTimerExpired => (Idle, STALL),
            Event::KeepaliveTimerExpired => (Established, &[SendKeepalive]),
            Event::TcpConnected | Event::TcpConnectedDelayed => (Established, &[]),
            Event::TcpFailed | Event::NotificationReceived => (Idle, LOSE),
            Event::MessageRefused => (Idle, REFUSE),
            Event::KeepaliveReceived | Event::UpdateReceived => (Established, &[RestartHold]),
            Event::RefreshReceived => (Established, &[RestartHold, Resend]),
            Event::ConnectRetryTimerExpired
            | Event::DelayOpenTimerExpired
            | Event::IdleHoldTimerExpired
            | Event::OpenReceived
            | Event::OpenReceivedEarly => (Idle, UNEXPECTED),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 6] = [
        State::Idle,
        State::Connect,
        State::Active,
        State::OpenSent,
        State::OpenConfirm,
        State::Established,
    ];

    const EVENTS: [Event; 20] = [
        Event::Started,
        Event::StartedPassively,
        Event::Stopped,
        Event::Abandoned,
        Event::ConnectRetryTimerExpired,
        Event::HoldTimerExpired,
        Event::KeepaliveTimerExpired,
        Event::DelayOpenTimerExpired,
        Event::IdleHoldTimerExpired,
        Event::SendHoldTimerExpired,
        Event::TcpConnected,
        Event::TcpConnectedDelayed,
        Event::TcpFailed,
        Event::OpenReceived,
        Event::OpenReceivedEarly,
        Event::MessageRefused,
        Event::NotificationReceived,
        Event::KeepaliveReceived,
        Event::UpdateReceived,
        Event::RefreshReceived,
    ];

    /// One line per event, one column per state of `STATES`; I C A S O E are the states, and what follows is
    /// the NOTIFICATION (c Cease, r refusal, h hold, s send hold, u unexpected) or x for a silent close.
    const TABLE: [(&str, &str); 20] = [
        ("Started", "C  C  A  S  O  E"),
        ("StartedPassively", "A  C  A  S  O  E"),
        ("Stopped", "Ix Ix Ix Ic Ic Ic"),
        ("Abandoned", "Ix Ix Ix Ix Ix Ix"),
        ("ConnectRetryTimerExpired", "I  Cx C  Iu Iu Iu"),
        ("HoldTimerExpired", "I  Ix Ix Ih Ih Ih"),
        ("KeepaliveTimerExpired", "I  Ix Ix Iu O  E"),
        ("DelayOpenTimerExpired", "I  S  S  Iu Iu Iu"),
        ("IdleHoldTimerExpired", "C  Ix Ix Iu Iu Iu"),
        ("SendHoldTimerExpired", "I  Ix Ix Is Is Is"),
        ("TcpConnected", "I  S  S  S  O  E"),
        ("TcpConnectedDelayed", "I  C  A  S  O  E"),
        ("TcpFailed", "I  Ax Ax Ax Ix Ix"),
        ("OpenReceived", "I  Ix Ix O  Iu Iu"),
        ("OpenReceivedEarly", "I  O  O  Iu Iu Iu"),
        ("MessageRefused", "I  Ix Ix Ir Ir Ir"),
        ("NotificationReceived", "I  Ix Ix Ix Ix Ix"),
        ("KeepaliveReceived", "I  Ix Ix Iu E  E"),
        ("UpdateReceived", "I  Ix Ix Iu Iu E"),
        ("RefreshReceived", "I  Ix Ix Iu Iu E"),
    ];

    fn cell(state: State, event: Event) -> String {
        let (next, actions) = next(state, event);
        let name = match next {
            State::Idle => "I",
            State::Connect => "C",
            State::Active => "A",
            State::OpenSent => "S",
            State::OpenConfirm => "O",
            State::Established => "E",
        };
        let close = actions.iter().find_map(|action| match action {
            Action::Drop => Some("x"),
            Action::Notify(Notice::Cease) => Some("c"),
            Action::Notify(Notice::Refusal) => Some("r"),
            Action::Notify(Notice::HoldTimerExpired) => Some("h"),
            Action::Notify(Notice::SendHoldTimerExpired) => Some("s"),
            Action::Notify(Notice::Unexpected) => Some("u"),
            _ => None,
        });
        format!("{name}{}", close.unwrap_or_default())
    }

    #[test]
    fn every_state_answers_every_event_as_the_table_says() {
        for (event, (name, row)) in EVENTS.into_iter().zip(TABLE) {
            assert_eq!(format!("{event:?}"), name);
            let cells: Vec<_> = STATES.into_iter().map(|state| cell(state, event)).collect();
            assert_eq!(cells, row.split_whitespace().collect::<Vec<_>>(), "{name}");
        }
    }

    #[test]
    fn a_session_that_fell_back_to_idle_starts_again_unless_it_was_stopped() {
        for state in STATES.into_iter().filter(|state| *state != State::Idle) {
            for event in EVENTS {
                let (next, actions) = next(state, event);
                let is_stop = matches!(event, Event::Stopped | Event::Abandoned);
                let starts_again = actions.contains(&Action::AwaitStart);
                assert_eq!(
                    next == State::Idle && !is_stop,
                    starts_again,
                    "{state:?} {event:?}"
                );
            }
        }
    }

    #[test]
    fn whoever_waits_for_tcp_and_is_not_passive_has_a_retry_timer_running() {
        for state in STATES {
            for event in EVENTS {
                if event == Event::StartedPassively {
                    continue;
                }
                let (next, actions) = next(state, event);
                let waits =
                    actions.contains(&Action::Dial) || actions.contains(&Action::AwaitRetry);
                let enters = next != state && matches!(next, State::Connect | State::Active);
                assert!(waits || !enters, "{state:?} {event:?}");
            }
        }
    }
}
