//! The programs in the kernel, one frame at a time.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on is to panic")]

mod abi;
mod buffer;
mod chain;
mod cluster;
mod cost;
mod drops;
mod flood;
mod header;
mod legacy;
mod load;
mod mss;
mod neighbor;
mod owner;
mod probe;
mod random;
mod refuse;
mod service;
mod toobig;
mod tunnel;
mod world;
