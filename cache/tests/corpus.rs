//! Every file of the fuzz targets' corpora, played as the targets play it: what they have once reached stays right.
//!
//! A failure names the file; `scripts/fuzz` says how to play it alone. Read first: `support/fuzz.rs`.

#[path = "support/fuzz.rs"]
mod fuzz;
#[path = "support/loopback.rs"]
#[allow(dead_code, reason = "each test binary uses a part")]
mod loopback;

use std::path::Path;

use fuzz::{Spoken, drive};

/// Files without which a corpus is none: fewer would mean that it was lost or never made.
const FILES_MIN: usize = 50;

fn replay(target: &str, drive: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry of the folder").path()).collect();
    files.sort();
    assert!(files.len() >= FILES_MIN, "{} holds {} files, fewer than {FILES_MIN}", folder.display(), files.len());
    for file in files {
        let input = std::fs::read(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        // Shown when the test fails.
        println!("{}", file.display());
        drive(&input);
    }
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
