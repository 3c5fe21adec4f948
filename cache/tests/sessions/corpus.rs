//! Every file of the fuzz targets' corpora, played as the targets play it: what they have once reached stays right.
//!
//! A failure names the file; `scripts/fuzz` says how to play it alone. Read first: `support/fuzz.rs`.

#[path = "../../fuzz/replay.rs"]
mod corpora;

use std::path::Path;

use crate::fuzz::{self, Spoken, drive};

fn replay(target: &str, drive: impl FnMut(&[u8])) {
    corpora::replay(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus"), target, drive);
}

#[test]
fn the_corpus_of_classic_commands_keeps_every_promise() {
    replay("text", |input| drive(Spoken::Lines, input));
}

#[test]
fn the_corpus_of_meta_commands_keeps_every_promise() {
    replay("meta", |input| drive(Spoken::Lines, input));
}

#[test]
fn the_corpus_of_packets_keeps_every_promise() {
    replay("binary", |input| drive(Spoken::Packets, input));
}

#[test]
fn the_corpus_of_datagrams_keeps_every_promise() {
    replay("udp", fuzz::datagrams::drive);
}
