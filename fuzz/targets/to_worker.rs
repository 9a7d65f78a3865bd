//! Feeds `poold_fuzz::to_worker`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::to_worker(input));
