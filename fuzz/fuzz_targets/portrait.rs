//! An answer of WeChat to a request for a portrait.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::portrait(data));
