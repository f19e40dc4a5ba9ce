//! Test harness.

pub mod frame;
pub mod program;
