//! ROUTE-REFRESH.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| torline_fuzz::refresh(data));
