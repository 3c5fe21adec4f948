//! Every file of the corpus of the fuzz target for frames, played as the target plays it.
//!
//! A failure names the file; `scripts/fuzz frames --repeat FILE` plays it alone. Read first: `lab/frames.rs`.

#[path = "../../../cache/fuzz/replay.rs"]
mod corpora;

use std::path::Path;

use crate::lab;

#[test]
fn the_corpus_of_frames_keeps_every_promise() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cache/fuzz/corpus");
    corpora::replay(&corpora, "frames", lab::frames::drive);
    let (opened, echoed, datagrams) = lab::frames::reached();
    assert!(opened > 10 && echoed > 1_000 && datagrams > 10, "{opened} flows, {echoed} bytes, {datagrams} datagrams");
}
