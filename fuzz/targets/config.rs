//! Feeds `poold_fuzz::config`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::config(input));
