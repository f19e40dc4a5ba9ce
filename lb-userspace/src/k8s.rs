//! Kubernetes and MetalLB objects: where they come from and how they become the
//! model.
//!
//! ```text
//! file text ─▶ document ─▶ tree ─▶ object ─▶ convert ─▶ index ─▶ model::cluster::Cluster
//!             (directory)    ▲       ▲
//!     watched objects ───────┴───────┘
//!       (api_server)
//! ```
//!
//! `directory` reads YAML files, [`document`] cuts them into objects and [`tree`] keeps the line of
//! every field. From [`object::Object`] on nothing knows about files: [`api_server`] feeds the
//! same [`index::Index`]. [`state`] keeps what an API server would keep for a directory; to one,
//! [`writer`] writes what is decided about Services, and [`status`] what a node does; [`edit`]
//! changes objects at their source for an operator.
//!
//! Invariants
//! - A type of `k8s-openapi` or of [`api`] never leaves this module.
//! - Whatever is wrong with an object becomes a finding; it never takes a good object down.

pub mod api;
pub mod api_server;
mod atomic;
pub mod convert;
pub mod crd;
pub mod directory;
pub mod document;
pub mod edit;
pub mod index;
pub mod object;
pub mod state;
pub mod status;
pub mod tree;
pub mod writer;
