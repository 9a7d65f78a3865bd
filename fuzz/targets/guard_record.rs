//! Feeds `poold_fuzz::guard_record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::guard_record(input));
