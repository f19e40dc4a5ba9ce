//! What tests that need root share: namespaces, topologies, routers, traffic, agents.

pub mod netns;
mod pass;
pub mod topology;
pub mod traffic;
pub mod wait;
