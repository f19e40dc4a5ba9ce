//! What the state machine asks a session to do.

use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use super::{Event, LONGEST_BACK_OFF, OPEN_WAIT, Session, Timer};
use crate::proto::bgp::adj_out::{Format, NextHop};
use crate::proto::bgp::fsm::{Action, Notice, State};
use crate::proto::bgp::message;
use crate::proto::bgp::nlri::Family;
use crate::proto::bgp::notification::{Code, Notification};
use crate::proto::bgp::reason::Reason;
use crate::proto::bgp::role::Role;

impl Session {
    pub(super) fn perform(&mut self, action: Action, now: Instant) {
        match action {
            Action::Dial => {
                self.is_dialed = true;
                let limit = self.back_off();
                self.timers.set(Timer::ConnectRetry, now + limit);
                self.events.push_back(Event::Dial);
            }
            Action::AwaitRetry => {
                let delay = self.back_off();
                self.failures += 1;
                // RFC 4271 §8.1.1: who is passive waits for the peer.
                if !self.config.options.passive {
                    self.timers.set(Timer::ConnectRetry, now + delay);
                }
            }
            Action::AwaitStart => {
                let delay = self.back_off();
                self.failures += 1;
                self.timers.set(Timer::IdleHold, now + delay);
            }
            Action::DelayOpen => {
                self.timers.stop(Timer::ConnectRetry);
                let delay = self.config.options.delay_open.unwrap_or_default();
                self.timers.set(Timer::DelayOpen, now + delay);
            }
            Action::SendOpen => {
                let open = self.next_open(now);
                self.outbox.clear();
                self.outbox.push_back(open.encode());
                self.open = Some(open);
                self.timers.stop_all();
                self.timers.set(Timer::Hold, now + OPEN_WAIT);
            }
            Action::SendKeepalive => {
                self.outbox.push_back(message::keepalive());
                let interval = self
                    .negotiated
                    .as_ref()
                    .map_or(Duration::ZERO, |n| n.keepalive_time);
                if !interval.is_zero() {
                    let delay = self.jitter.apply(interval);
                    self.timers.set(Timer::Keepalive, now + delay);
                }
            }
            Action::RestartHold => {
                let hold_time = self
                    .negotiated
                    .as_ref()
                    .map_or(Duration::ZERO, |n| n.hold_time);
                if hold_time.is_zero() {
                    self.timers.stop(Timer::Hold);
                } else {
                    self.timers.set(Timer::Hold, now + hold_time);
                }
            }
            Action::Announce => self.announce(now),
            Action::Resend => {
                if let Some(family) = self.refresh.take() {
                    self.adj_out.refresh(family);
                }
            }
            Action::Notify(notice) => self.notify(notice),
            Action::Drop => {
                self.outbox.clear();
                self.reset_connection();
                self.events.push_back(Event::Close { graceful: false });
            }
        }
    }

    fn announce(&mut self, now: Instant) {
        self.failures = 0;
        self.minimal = false;
        self.counters.established += 1;
        self.established_at = Some(now);
        // From here on the data plane is known to run, whatever becomes of the connection.
        self.past.forwarding = true;
        let next_hops = self.next_hops().into_iter().collect();
        if let Some(negotiated) = &self.negotiated {
            let role = self.config.options.role;
            self.adj_out.begin(Format {
                my_asn: self.config.my_asn,
                internal: negotiated.internal,
                four_octet_as: negotiated.four_octet_as,
                only_to_customer: role.is_some_and(Role::marks_routes),
                enhanced_refresh: negotiated.enhanced_refresh,
                next_hops,
            });
        }
    }

    fn notify(&mut self, notice: Notice) {
        let notification = match notice {
            Notice::Cease => self.cease.take(),
            Notice::Refusal => self.refusal.take(),
            Notice::HoldTimerExpired => Some(Notification::hold_timer_expired()),
            Notice::SendHoldTimerExpired => Some(Notification::send_hold_timer_expired()),
            Notice::Unexpected => {
                self.fail(Reason::Unexpected(self.state));
                // RFC 6608 §3.
                let subcode = match self.state {
                    State::OpenSent => 1,
                    State::OpenConfirm => 2,
                    State::Established => 3,
                    State::Idle | State::Connect | State::Active => 0,
                };
                Some(Notification::new(
                    Code::FiniteStateMachine as u8,
                    subcode,
                    Vec::new(),
                ))
            }
        };
        if let Some(notification) = notification {
            self.outbox.push_back(notification.encode());
            self.counters.notifications_sent += 1;
        }
        self.reset_connection();
        self.events.push_back(Event::Close { graceful: true });
    }

    pub(super) fn reset_connection(&mut self) {
        self.timers.stop_all();
        self.framer.clear();
        self.adj_out.end();
        self.open = None;
        self.local = None;
        self.negotiated = None;
        self.refresh = None;
        self.is_dialed = false;
    }

    fn back_off(&mut self) -> Duration {
        let base = self.config.connect_time.max(Duration::from_secs(1));
        let doubled = base.saturating_mul(1 << self.failures.min(16));
        self.jitter.apply(doubled.min(LONGEST_BACK_OFF.max(base)))
    }

    /// Our end of the connection where it is of the family and global (RFC 4760 §3), else what is configured;
    /// on a link-local connection that address goes with it (RFC 2545 §3).
    pub(super) fn next_hops(&self) -> Vec<(Family, Option<NextHop>)> {
        let negotiated = self.negotiated.iter();
        let families = negotiated.flat_map(|negotiated| &negotiated.families);
        families
            .map(|&family| (family, self.next_hop(family)))
            .collect()
    }

    fn next_hop(&self, family: Family) -> Option<NextHop> {
        let of_family = |addr: &IpAddr| Family::of(*addr) == family;
        let configured = self.config.next_hops.get(&family).copied();
        let configured = configured.filter(of_family);
        let link_local = match self.local {
            Some(IpAddr::V6(addr)) if addr.is_unicast_link_local() => Some(addr),
            _ => None,
        };
        let transport = self
            .local
            .filter(|addr| of_family(addr) && link_local.is_none());
        match family {
            Family::Ipv4Unicast => transport.or(configured).map(NextHop::from).or_else(|| {
                // RFC 8950 §3: an IPv6 next hop, where the peer takes one.
                let extended = self
                    .negotiated
                    .as_ref()
                    .is_some_and(|n| n.extended_next_hop);
                let is_v6 = self.local.is_some_and(|addr| addr.is_ipv6());
                (extended && is_v6).then(|| self.next_hop(Family::Ipv6Unicast))?
            }),
            Family::Ipv6Unicast if link_local.is_some() => Some(NextHop {
                addr: configured.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
                link_local,
            }),
            Family::Ipv6Unicast => transport.or(configured).map(NextHop::from),
        }
    }
}
