//! Thin adapters to the kernel's network: sockets, netlink, the clock.

pub mod bfd_socket;
pub mod bgp_socket;
pub mod clock;
pub mod ctnetlink;
pub mod kernel_vips;
pub mod netlink;
pub mod peer_socket;
pub mod probe_socket;
pub mod realtime;
pub mod tcp_md5;
pub mod unix_http;
