//! The output of a source of tokens.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::token(data));
