//! The web configuration.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::web_configuration(data));
