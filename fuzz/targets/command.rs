//! Feeds `poold_fuzz::command`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::command(input));
