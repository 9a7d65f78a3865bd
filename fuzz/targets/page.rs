//! Feeds `poold_fuzz::page`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::page(input));
