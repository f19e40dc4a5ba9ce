//! A model of a cluster: real tables, real decision, everything else made up.
//!
//! Nodes run the agent's planner and the programs' decision over maps in ordinary memory; a router, a
//! segment, pods, clients and time are simulated, all of it from one seed. `properties` holds what must be
//! true whatever happens; `report` counts, for each kind of change, what it takes to keep connections.
//! `cargo xtask model` prints the report.
#![expect(clippy::unwrap_used, reason = "a model that cannot go on is to panic")]

mod agent;
mod client;
mod cluster;
mod flows;
mod node;
mod packet;
mod pod;
mod properties;
mod random;
mod report;
mod router;
mod script;
mod tally;
mod world;
