//! Feeds `poold_fuzz::handshake`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| poold_fuzz::handshake(input));
