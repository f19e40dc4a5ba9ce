//! Thin adapters to the kernel's network: sockets, netlink, the clock.

pub mod bfd_socket;
pub mod bgp_listener;
pub mod bgp_socket;
pub mod clock;
pub mod ctnetlink;
pub mod interfaces;
pub mod kernel_vips;
pub mod multicast;
pub mod netlink;
pub mod packet_socket;
pub mod peer_socket;
pub mod probe_socket;
pub mod random;
pub mod realtime;
pub mod router_socket;
pub mod tcp_md5;
mod ttl_security;
pub mod unix_http;
pub mod vlan;
