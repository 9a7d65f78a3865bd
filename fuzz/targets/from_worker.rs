//! Feeds `poold_fuzz::from_worker`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::from_worker(input));
