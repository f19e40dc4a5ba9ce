//! The BGP speaker against BIRD, every corner of a session, in namespaces.
//!
//! ```text
//!   torline-…-tor                              torline-…-node
//!   BIRD, AS 65001      10.99.0.1   10.99.0.2      tasks::bgp, AS 65002
//!                 uplink ─────────────── uplink
//!                         fd99::1   fd99::2
//! ```
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test ends where its surroundings cannot be built"
)]

mod authentication;
mod bfd;
mod capture;
mod lab;
mod liveness;
mod restart;
mod routes;
mod transport;
