//! The long-lived tasks of the agent.
