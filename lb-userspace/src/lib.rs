//! The torline agent, in layers. `cargo xtask check` reads the table below and
//! rejects any other edge between modules of this crate.
//!
//! ```text
//! layer      may use
//! model      -
//! plan       model
//! proto      -
//! net        -
//! telemetry  -
//! hcs        model plan
//! k8s        model
//! datapath   model plan
//! tasks      model plan proto net telemetry k8s datapath
//! daemon     model plan proto net telemetry k8s datapath tasks
//! cli        model plan hcs telemetry k8s daemon tasks datapath net
//! ```

pub mod cli;
pub mod daemon;
pub mod datapath;
pub mod hcs;
pub mod k8s;
pub mod model;
pub mod net;
pub mod plan;
pub mod proto;
pub mod tasks;
pub mod telemetry;
