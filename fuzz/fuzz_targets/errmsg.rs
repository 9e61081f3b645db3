//! Foreign text that is logged or shown.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::errmsg(data));
