//! Cuts the byte stream into messages.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| torline_fuzz::framing(data));
