//! The programs in the kernel, one frame at a time.

mod load;
mod service;
mod world;
