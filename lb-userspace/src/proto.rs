//! Sans-IO protocols: time and bytes in, bytes and events out. Nothing here reads a clock or a socket.

pub mod bgp;
pub mod liveness;
