//! The programs in the kernel: load, attach, write maps, read them back.
//!
//! - `object`: the bytes of the programs, embedded in the agent.
//! - `loader`: loads them. `attach`: attaches the ingress program and, as interfaces come and go, the
//!   egress one. `pins`: keeps maps and links in bpffs, so that they outlive the agent.
//! - `apply`: runs the steps that `plan` made. `handle`: the maps it writes. `slots`: the mapped slot array.
//! - `dump`: reads those maps back after a restart, `batch` whole arrays at once. `heart`: the heartbeat.
//! - `counters`: reads packets and drops. `sweep`: removes flows that ended. `legacy`: those that the
//!   kernel had before. `memory`: what the maps cost.
//! - `events`: what the programs tell. `flows`: finds flows by their ends, writes where others are.
//! - `privilege`: what must be granted first. `pod`: lets a `zerocopy` type be a map key or value.
//!
//! Nothing outside this module sees a map or a program. Everything here blocks for at most the length of
//! a few system calls, except that [`apply::run`] and [`sweep::Pass::step`] make as many as they are
//! given; callers on an async runtime account for that.

pub mod apply;
pub mod attach;
mod batch;
pub mod counters;
mod dump;
pub mod events;
pub mod flows;
pub mod handle;
pub mod heart;
pub mod legacy;
pub mod loader;
mod memory;
pub mod object;
pub mod pins;
mod pod;
pub mod privilege;
pub mod slots;
pub mod sweep;
