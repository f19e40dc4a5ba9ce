//! BGP-4, as far as a speaker that only advertises needs it.
//!
//! [`message`] cuts the byte stream into messages and frames them; [`open`], [`capability`], [`update`],
//! [`attribute`], [`nlri`], [`notification`] and [`refresh`] read and write one wire object each; [`error`]
//! names why a message is refused and which NOTIFICATION answers it. [`fsm`] is the transition table of RFC
//! 4271 §8 and nothing else; [`negotiation`] is what two OPENs agree on, [`retention`] and [`role`] parts of it;
//! [`adj_out`] is what the peer should hold against what it was sent; [`session`] joins them and adds timers and
//! queues; [`capture`] writes down and reads back what it did; [`collision`] chooses between two connections; [`reason`] says why one failed.
//!
//! A [`session::Session`] is owned by one task (`tasks::bgp`), which dials, moves bytes, and tells it the time.
//! Nothing here blocks, reads a clock or a socket, or draws randomness of its own: a run replays from its seed.
//!
//! Implemented: RFC 4271, 4486 (Cease subcodes), 4760 and 2545 (IPv4 and IPv6 unicast), 5492 and 9072, 6286,
//! 6608, 6793, 7606, 7607, 8654, 8950, 1997 and 8092, 10005 (link bandwidth), 2918 and 7313, 4724, 8538 and 9494
//! (graceful restart, as the one that restarts), 9003, 9234, 9687, 9774. Left out: import of routes; what a
//! peer announces is checked, counted and dropped.
//!
//! Invariants
//! - A NOTIFICATION is the last message on its connection, and never answers another one.
//! - No prefix and no End-of-RIB is sent for a family that both sides did not offer.
//! - The memory of a session does not depend on what its peer sends.

pub mod adj_out;
pub mod attribute;
pub mod capability;
pub mod capture;
pub mod collision;
mod cursor;
pub mod error;
pub mod fsm;
pub mod message;
pub mod negotiation;
pub mod nlri;
pub mod notification;
pub mod open;
pub mod reason;
pub mod refresh;
pub mod retention;
pub mod role;
pub mod session;
pub mod update;

/// The 2-octet stand-in for an AS number that needs four (RFC 6793).
pub const AS_TRANS: u16 = 23456;
