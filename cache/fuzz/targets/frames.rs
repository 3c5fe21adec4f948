//! Frames to a stack that echoes segments and datagrams: see `stack/tests/lab/frames.rs`.
#![no_main]

#[path = "../../../stack/tests/lab/lab.rs"]
mod lab;

libfuzzer_sys::fuzz_target!(|input: &[u8]| lab::frames::drive(input));
