//! Plain data: what the cluster says, and what this node is to do about it. No
//! I/O, no policy.

pub mod bfd;
pub mod claim;
pub mod cluster;
pub mod intent;
pub mod name;
pub mod password;
pub mod peer_options;
pub mod peer_report;
pub mod pool_usage;
pub mod segment;
pub mod session_status;
pub mod shared_map;
pub mod status;
pub mod virtual_switch;
