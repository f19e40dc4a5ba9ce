//! BFD packets, and a session that gets them.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| torline_fuzz::bfd(data));
