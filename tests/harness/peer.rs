//! Routers of other makes.

pub mod bird;
