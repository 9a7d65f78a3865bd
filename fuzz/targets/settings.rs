//! Feeds `poold_fuzz::settings`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::settings(input));
