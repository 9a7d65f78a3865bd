//! Feeds `poold_fuzz::frames`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::frames(input));
