//! Feeds `poold_fuzz::supervisor`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::supervisor(input));
