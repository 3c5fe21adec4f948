//! Plays every file of a fuzz target's corpus; for `cache/tests/sessions/corpus.rs` and `stack/tests/link/corpus.rs`.

use std::path::Path;

/// Files without which a corpus is none: fewer would mean that it was lost or never made.
const FILES_MIN: usize = 50;

/// Plays the corpus of `target` below `corpora`, file by file in the order of their names.
pub fn replay(corpora: &Path, target: &str, mut drive: impl FnMut(&[u8])) {
    let folder = corpora.join(target);
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
