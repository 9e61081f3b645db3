//! A request for anything that is served.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::request(data));
