//! What plays packet scripts: the format (`parse.rs`, `syntax.rs`), frames (`packet.rs`), the play itself (`play.rs`) and
//! the two hosts that it can be played on (`host.rs`, `ours.rs`, `linux.rs`). Read first: `stack/tests/script/README.md`.

#[path = "host.rs"]
pub mod host;
#[path = "linux.rs"]
pub mod linux;
#[path = "lists.rs"]
pub mod lists;
#[path = "ours.rs"]
pub mod ours;
#[path = "packet.rs"]
pub mod packet;
#[path = "parse.rs"]
pub mod parse;
#[path = "play.rs"]
pub mod play;
#[path = "syntax.rs"]
pub mod syntax;
#[path = "tap.rs"]
pub mod tap;
#[path = "v6.rs"]
pub mod v6;
#[path = "wire.rs"]
pub mod wire;

use std::path::{Path, PathBuf};

use parse::Script;

/// The folders of scripts, by what they are about.
pub const FOLDERS: [&str; 11] =
    ["open", "close", "data", "loss", "rst", "window", "timewait", "pmtu", "keepalive", "cookie", "v6"];

/// Where the scripts are.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/script")
}

/// Every script, in the order of their names; those alone whose name contains `SIDESTEP_SCRIPT`, if that is set.
///
/// # Errors
/// Every line that is not understood, with its place.
pub fn scripts() -> Result<Vec<Script>, String> {
    let wanted = std::env::var("SIDESTEP_SCRIPT").unwrap_or_default();
    let mut scripts = Vec::new();
    let mut errors = Vec::new();
    for folder in FOLDERS {
        let mut names: Vec<_> = std::fs::read_dir(root().join(folder))
            .unwrap_or_else(|error| panic!("{folder}: {error}"))
            .map(|entry| entry.expect("the folder can be read").file_name().into_string().expect("plain names"))
            .filter(|name| name.ends_with(".pkt"))
            .map(|name| format!("{folder}/{name}"))
            .filter(|path| path.contains(&wanted))
            .collect();
        names.sort_unstable();
        for path in names {
            let text = std::fs::read_to_string(root().join(&path)).expect("the script can be read");
            match Script::parse(&path, &text) {
                Ok(script) => scripts.push(script),
                Err(error) => errors.push(error),
            }
        }
    }
    if errors.is_empty() { Ok(scripts) } else { Err(errors.join("\n")) }
}

/// Whether one script is looked at alone, so that all it brings about is printed.
pub fn is_traced() -> bool {
    std::env::var_os("SIDESTEP_SCRIPT").is_some()
}
