//! The programs in the kernel: load, attach, write maps, read them back.
//!
//! - `object`: the bytes of the programs, embedded in the agent.
//! - `loader`: loads them, attaches the ingress program and, as interfaces come and go, the egress one.
//! - `apply`: runs the steps that `plan` made. `handle`: the maps it writes. `slots`: the mapped slot array.
//! - `counters`: reads packets and drops. `sweep`: removes flows that ended. `memory`: what the maps cost.
//! - `privilege`: what must be granted first. `pod`: lets a `zerocopy` type be a map key or value.
//!
//! Nothing outside this module sees a map or a program. Everything here blocks for at most the length of
//! a few system calls, except that [`apply::Applier::run`] and [`sweep::Pass::step`] make as many as they are
//! given; callers on an async runtime account for that.

pub mod apply;
pub mod counters;
pub mod handle;
pub mod loader;
mod memory;
pub mod object;
mod pod;
pub mod privilege;
pub mod slots;
pub mod sweep;
