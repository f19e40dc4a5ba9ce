//! torline.
fn main() {}
