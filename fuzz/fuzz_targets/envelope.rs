//! An answer in envelopes of cloud functions and relays.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::envelope(data));
