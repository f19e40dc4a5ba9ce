//! Router advertisements and solicitations.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| torline_fuzz::router_advertisement(data));
