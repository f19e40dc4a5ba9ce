//! Thin adapters to the kernel's network: sockets, netlink, the clock.

pub mod bgp_socket;
mod tcp_md5;
