//! The long-lived tasks of the agent.

pub mod bgp;
