//! Sans-IO protocols: time and bytes in, bytes and events out.
//!
//! Nothing here reads a clock or a socket.
//!
//! Every session speaks the same verbs: `new(config, seed, now)`, `handle_<input>(…, now)`,
//! `handle_timeout(now)`, `poll_transmit()`, `poll_event()`, and `poll_timeout()`, which says when to call
//! `handle_timeout` and for which timer. After any `handle_*` its owner polls until there is nothing left.

pub mod announcement;
pub mod bfd;
pub mod bgp;
pub mod claim;
pub mod liveness;
pub mod members;
pub mod peer;
pub mod router_advertisement;
pub mod timers;
