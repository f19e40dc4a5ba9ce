//! Pure decisions: allocation, announcement, Maglev, and the diff between what
//! is and what is to be.
//!
//! `allocate` gives Services their addresses, `backends` says what stands behind a Service port,
//! `announce` who tells the routers and who answers ARP and NDP; `compute` joins them into one
//! [`Intent`](crate::model::intent::Intent). `switch` decides changes that
//! an edge operator asks for. `maglev` fills tables and `layout` turns the data plane's
//! part of the intent into [`step::Step`]s. Nothing here does I/O, reads a clock or rolls dice: equal
//! input gives equal output on every node.

pub mod allocate;
pub mod announce;
pub mod backends;
mod compute;
#[cfg(test)]
mod fixture;
pub mod layout;
pub mod maglev;
pub mod step;
pub mod switch;

pub use compute::Context;
pub use compute::PUBLIC_FLOW_KEY;
pub use compute::PUBLIC_PEER_KEY;
pub use compute::Planner;
pub use compute::compute;
