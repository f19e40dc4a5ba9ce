//! What tests that need root share: namespaces, topologies, routers, traffic,
//! agents, frames.

pub mod agent;
pub mod apiserver;
pub mod asker;
pub mod cluster;
pub mod frame;
pub mod hops;
pub mod layer2;
pub mod machine;
pub mod netns;
pub mod pass;
pub mod peer;
pub mod process;
pub mod program;
pub mod source;
pub mod tables;
pub mod topology;
pub mod traffic;
pub mod wait;
pub mod witness;
