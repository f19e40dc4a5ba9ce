//! A whole session: bytes, timers and wishes in any order.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| torline_fuzz::session(data));
