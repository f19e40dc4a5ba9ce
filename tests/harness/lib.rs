//! Test harness.

pub mod program;
