//! What tests that need root share: namespaces, topologies, routers, traffic, agents.

pub mod netns;
pub mod peer;
pub mod process;
pub mod wait;
