//! Thin adapters to the kernel's network: sockets, netlink, the clock.

pub mod clock;
pub mod kernel_vips;
pub mod netlink;
