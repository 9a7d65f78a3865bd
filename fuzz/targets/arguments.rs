//! Feeds `poold_fuzz::arguments`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::arguments(input));
