//! Feeds `poold_fuzz::request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::request(input));
