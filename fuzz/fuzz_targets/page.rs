//! Names and figures on the page for Prometheus.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| targets::page(data));
