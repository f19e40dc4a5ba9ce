//! Bidirectional Forwarding Detection, sans-IO: is the path to a peer alive?
//!
//! - [`packet`]: the control packet.
//! - [`discard`]: why a packet is discarded, and how many were.
//! - [`session`]: one session's state machine, timers and poll sequences.
//! - [`speaker`]: all sessions of this node; finds the one that a packet is for.
//!
//! One thread owns the [`speaker::Speaker`], gives it datagrams and the time, and sends what it polls.
//!
//! RFC 5880 in asynchronous mode, over one hop (RFC 5881) and several (RFC 5883). Left out: demand mode,
//! which is understood and never asked for; the echo function; authentication, so that a packet with an
//! authentication section is discarded (RFC 5880 §6.8.6).
//!
//! Invariants
//! - Nothing that comes in can panic, or make a session send more than one packet per packet received
//!   beyond its own rate.
//! - Discriminators are random, not zero, and unique on this node.

pub mod discard;
pub mod packet;
pub mod session;
pub mod speaker;
