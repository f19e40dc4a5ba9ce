//! OPEN, and what is agreed on by it.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| torline_fuzz::open(data));
