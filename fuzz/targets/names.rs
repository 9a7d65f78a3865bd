//! Feeds `poold_fuzz::names`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::names(input));
