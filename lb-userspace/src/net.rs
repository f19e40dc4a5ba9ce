//! Thin adapters to the kernel's network: sockets, netlink, the clock.
