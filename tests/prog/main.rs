//! The programs in the kernel, one frame at a time.

mod load;
mod neighbor;
mod random;
mod service;
mod world;
