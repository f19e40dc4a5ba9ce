//! UPDATE, on sessions of each kind.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| torline_fuzz::update(data));
