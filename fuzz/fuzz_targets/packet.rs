//! See `common/tests/against_etherparse`.
#![no_main]

#[path = "../../common/tests/against_etherparse/mod.rs"]
mod against_etherparse;

libfuzzer_sys::fuzz_target!(|data: &[u8]| against_etherparse::agree(data));
