//! What only the whole crate shows: frames in, frames out, on tables in
//! ordinary memory.

mod collision;
mod datagram;
mod flow;
mod golden;
mod reader;
mod rewrite;
mod steer;
mod world;
