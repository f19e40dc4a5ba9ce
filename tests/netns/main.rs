//! Real traffic through namespaces. README.md in the folder above draws the
//! topology.
#![expect(
    clippy::unwrap_used,
    reason = "a test ends where its surroundings cannot be built"
)]

mod bystander;
mod chain;
mod echo;
mod failover;
mod fixture;
mod flood;
mod laboratory;
mod liveness;
mod locate;
mod members;
mod neighbor;
mod readme;
mod route;
mod source;
mod takeover;
mod traffic;
mod unserved;
