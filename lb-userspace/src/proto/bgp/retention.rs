//! Graceful restart: what a speaker asks its peer to keep, and for how long.
//!
//! RFC 4724, 8538 and 9494, as they stand in an OPEN.

use std::time::Duration;

use bytes::BufMut;

use super::cursor::Cursor;

const RESTARTED: u16 = 0x8000;
const NOTIFICATION: u16 = 0x4000;
const TIME: u16 = 0x0fff;
const FORWARDING: u8 = 0x80;

/// Longest restart time that 12 bits hold, in seconds (RFC 4724 §3).
pub const LONGEST_RESTART: u16 = TIME;
/// Longest stale time that 24 bits hold, in seconds (RFC 9494 §3).
pub const LONGEST_STALE: u32 = 0x00ff_ffff;

/// How long a peer is asked to keep routes whose speaker is away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// As good as ever, in whole seconds (RFC 4724); zero for not at all.
    pub restart_time: Duration,
    /// After that, if nothing better is there (RFC 9494); zero for not at all.
    pub stale_time: Duration,
}

/// What an OPEN says about the speaker's own past.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Past {
    /// The speaker restarted, and has not told all its routes since.
    pub restarted: bool,
    /// Packets were forwarded all the while.
    pub forwarding: bool,
}

/// One family of a graceful restart capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestartFamily {
    /// Address family identifier.
    pub afi: u16,
    /// Subsequent address family identifier.
    pub safi: u8,
    /// Forwarding went on over the last restart.
    pub forwarding: bool,
}

/// The value of capability 64 (RFC 4724 §3, RFC 8538 §2). Without families it only says that the speaker helps
/// others and sends End-of-RIB.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GracefulRestart {
    /// R: the speaker restarted.
    pub restarted: bool,
    /// N: NOTIFICATIONs but the hard reset keep the routes too.
    pub notification: bool,
    /// Time that the speaker will take, in seconds; 12 bits.
    pub restart_time: u16,
    /// Families whose routes are to be kept.
    pub families: Vec<RestartFamily>,
}

impl GracefulRestart {
    pub(super) fn encode(&self, out: &mut impl BufMut) {
        let flags = if self.restarted { RESTARTED } else { 0 }
            | if self.notification { NOTIFICATION } else { 0 };
        out.put_u16(flags | self.restart_time.min(TIME));
        for family in &self.families {
            out.put_u16(family.afi);
            out.put_slice(&[family.safi, if family.forwarding { FORWARDING } else { 0 }]);
        }
    }

    /// None if the value has a length that no list of families gives.
    pub(super) fn decode(value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(value);
        let head = cursor.u16()?;
        let mut families = Vec::new();
        while !cursor.is_empty() {
            families.push(RestartFamily {
                afi: cursor.u16()?,
                safi: cursor.u8()?,
                forwarding: cursor.u8()? & FORWARDING != 0,
            });
        }
        Some(Self {
            restarted: head & RESTARTED != 0,
            notification: head & NOTIFICATION != 0,
            restart_time: head & TIME,
            families,
        })
    }
}

/// One family of capability 71 (RFC 9494 §3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StaleFamily {
    /// Family and F bit.
    pub family: RestartFamily,
    /// How long its routes may be kept as stale, in seconds; 24 bits.
    pub stale_time: u32,
}

impl StaleFamily {
    pub(super) fn encode(&self, out: &mut impl BufMut) {
        let forwarding = if self.family.forwarding {
            FORWARDING
        } else {
            0
        };
        let [_, high, middle, low] = self.stale_time.min(LONGEST_STALE).to_be_bytes();
        out.put_u16(self.family.afi);
        out.put_slice(&[self.family.safi, forwarding, high, middle, low]);
    }

    /// None if the value has a length that no list of families gives.
    pub(super) fn decode_all(value: &[u8]) -> Option<Vec<Self>> {
        let mut cursor = Cursor::new(value);
        let mut families = Vec::new();
        while !cursor.is_empty() {
            let family = RestartFamily {
                afi: cursor.u16()?,
                safi: cursor.u8()?,
                forwarding: cursor.u8()? & FORWARDING != 0,
            };
            let [high, middle, low] = cursor.array()?;
            families.push(Self {
                family,
                stale_time: u32::from_be_bytes([0, high, middle, low]),
            });
        }
        Some(families)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_time_and_families_stand_where_the_rfc_puts_them() {
        let restart = GracefulRestart {
            restarted: true,
            notification: true,
            restart_time: 120,
            families: vec![RestartFamily {
                afi: 2,
                safi: 1,
                forwarding: true,
            }],
        };
        let mut wire = Vec::new();
        restart.encode(&mut wire);
        assert_eq!(wire, [0xc0, 0x78, 0, 2, 1, 0x80]);
        assert_eq!(GracefulRestart::decode(&wire), Some(restart));
        assert_eq!(GracefulRestart::decode(&wire[..5]), None);
        assert_eq!(GracefulRestart::decode(&[0]), None);
    }

    #[test]
    fn a_restart_time_never_spills_into_the_flags() {
        let mut wire = Vec::new();
        let long = GracefulRestart {
            restart_time: u16::MAX,
            ..GracefulRestart::default()
        };
        long.encode(&mut wire);
        assert_eq!(wire, [0x0f, 0xff]);
    }

    #[test]
    fn stale_times_have_24_bits() {
        let stale = StaleFamily {
            family: RestartFamily {
                afi: 1,
                safi: 1,
                forwarding: false,
            },
            stale_time: 300,
        };
        let mut wire = Vec::new();
        stale.encode(&mut wire);
        assert_eq!(wire, [0, 1, 1, 0, 0, 1, 44]);
        assert_eq!(StaleFamily::decode_all(&wire), Some(vec![stale]));
        assert_eq!(StaleFamily::decode_all(&wire[..6]), None);
    }
}
