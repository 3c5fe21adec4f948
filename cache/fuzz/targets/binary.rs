//! Packets of the binary protocol, whole cores, several connections: see `cache/tests/support/fuzz.rs`.
#![no_main]

#[path = "../../tests/support/fuzz.rs"]
mod fuzz;
#[path = "../../tests/support/loopback.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod loopback;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::drive(fuzz::Spoken::Packets, input));
