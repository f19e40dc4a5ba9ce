//! What the kernel programs and the agent share: header readers, map types, the forwarding decision.
//!
//! `frame` is the only way any parser sees bytes; `wire` reads and writes headers through it. `maps`
//! holds the key and value of every BPF map. `decide` is the whole forwarding decision, generic over a
//! `Frame` (the packet) and `Tables` (the maps), so the code that runs in the kernel is the code that
//! the host tests run.
//!
//! Rules
//! - No `unsafe`, no `std`. Layout is proved by derive, not promised by comment.
//! - Map types have no padding, no `bool`, no `enum`, no `Option`.
//! - Integers that came off the wire and are only compared or stored stay in network byte order, in the
//!   types [`addr::Be16`] and [`addr::Be32`]; a plain integer is in host order.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod addr;
pub mod checksum;
pub mod decide;
pub mod drop;
pub mod family;
pub mod flow;
pub mod frame;
pub mod hash;
pub mod limit;
pub mod maps;
#[cfg(not(target_arch = "bpf"))]
pub mod memory;
pub mod probe;
pub mod rewrite;
pub mod siphash;
pub mod wire;
