//! Datagrams with their frame headers, whole cores, trusted and other senders: see
//! `cache/tests/support/fuzz/datagrams.rs`.
#![no_main]

#[path = "../../tests/support/fuzz.rs"]
#[allow(dead_code, reason = "the other targets use the rest")]
mod fuzz;
#[path = "../../tests/support/loopback.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod loopback;

libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::datagrams::drive(input));
