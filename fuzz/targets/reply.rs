//! Feeds `poold_fuzz::reply`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::reply(input));
