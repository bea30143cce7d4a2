//! See `proxy/src/hostile.rs`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| weir_proxy::hostile::access_line(data));
