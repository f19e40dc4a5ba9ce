//! NOTIFICATION, and how it is shown.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| torline_fuzz::notification(data));
