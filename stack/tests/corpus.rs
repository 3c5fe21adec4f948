//! Every file of the corpus of the fuzz target for frames, played as the target plays it.
//!
//! A failure names the file; `scripts/fuzz frames --repeat FILE` plays it alone. Read first: `lab/frames.rs`.

#[path = "lab/lab.rs"]
mod lab;

use std::path::Path;

/// Files without which a corpus is none: fewer would mean that it was lost or never made.
const FILES_MIN: usize = 50;

#[test]
fn the_corpus_of_frames_keeps_every_promise() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../cache/fuzz/corpus/frames");
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    files.sort();
    assert!(files.len() >= FILES_MIN, "{} holds {} files, fewer than {FILES_MIN}", folder.display(), files.len());
    for file in files {
        let input = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // Shown when the test fails.
        println!("{}", file.display());
        lab::frames::drive(&input);
    }
    let (opened, echoed, datagrams) = lab::frames::reached();
    assert!(opened > 10 && echoed > 1_000 && datagrams > 10, "{opened} flows, {echoed} bytes, {datagrams} datagrams");
}
