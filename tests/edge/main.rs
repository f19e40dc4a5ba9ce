//! An edge device, operated by its cmdlets against a router.
//!
//! ```text
//!   torline-…-tor                             torline-…-device
//!   BIRD, AS 64512   10.126.77.125   10.126.77.1   eth1 = Port2, the agent
//!                       downlink ─────────────     eth2 = Port3, eth3 = Port4
//! ```
//!
//! - `device`: the two, and cmdlets typed as links to the program.
//! - `transcript`: what the product's documentation shows, byte by byte.
//! - `mistakes`: everything an operator may get wrong, and that nothing changes then.
//! - `turnover`: from ARP to BGP and back under pings.
//! - `examples`: what `--help` tells a reader to type.

mod device;
mod examples;
mod mistakes;
mod transcript;
mod turnover;
