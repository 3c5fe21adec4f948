//! Finds rings of imports among the modules of crates: files that need each other, so that none can be read, or
//! changed, or tested before the others. Cargo forbids such rings among crates; nothing forbids them inside of one.
//!
//! ```text
//! rings ROOT... [--except FOLDER]...      ROOT: lib.rs, main.rs, or the file of a test
//! ```
//!
//! A file imports another if its code names an item that the other defines: in a `use`, or by a path anywhere else. A name
//! that was re-exported on the way counts as one of the file that defines it, and a re-export alone imports nothing, so
//! `pub use` in a `lib.rs` closes no ring. Code under `#[cfg(test)]` does not count. What a method call reaches is not
//! seen, since no path names it.
//!
//! Prints every ring with its files and the names that close it, and fails if there is one outside the excepted folders.

#![forbid(unsafe_code)]

/// The modules of a crate, with the names that each defines, imports and uses.
mod modules;
/// From a path to the file that defines what it names.
mod resolve;
/// Files that import each other.
mod rings;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use modules::Crate;
use rings::{Ring, rings};

fn main() -> ExitCode {
    let (mut roots, mut excepted) = (Vec::new(), Vec::new());
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        if word == "--except" {
            excepted.extend(words.next().map(PathBuf::from));
        } else {
            roots.push(PathBuf::from(word));
        }
    }
    if roots.is_empty() {
        eprintln!("usage: rings ROOT... [--except FOLDER]...");
        return ExitCode::from(2);
    }
    let mut failed = false;
    for root in roots {
        let krate = match Crate::read(&root, &mut |path| std::fs::read_to_string(path)) {
            Ok(krate) => krate,
            Err(error) => {
                eprintln!("rings: {error}");
                return ExitCode::from(2);
            }
        };
        let known = excepted.iter().any(|folder| root.starts_with(folder));
        for ring in rings(&resolve::imports(&krate)) {
            failed |= !known;
            print(&root, &ring, known);
        }
    }
    ExitCode::from(u8::from(failed))
}

fn print(root: &Path, ring: &Ring, known: bool) {
    let note = if known { " (excepted)" } else { "" };
    println!("{}: a ring of {} files{note}", root.display(), ring.files.len());
    for import in &ring.imports {
        let names: Vec<_> = import.names.iter().map(String::as_str).collect();
        println!("    {} imports {} of {}", import.from.display(), names.join(", "), import.to.display());
    }
}
