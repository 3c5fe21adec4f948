//! `Instructions`: the worker's turn by callgrind, which counts the same however busy the machine is.
//!
//! The program starts itself once more under valgrind, as `counted`. Counting is on only inside `measured_turn`, so
//! that neither start, set-up nor the clients are in it, and the count of a turn is exact. Read first: Valgrind
//! manual, "Callgrind", `--toggle-collect`.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cache::Now;
use nic::QueueError;
use stack::Time;

use crate::bench::{Bench, BenchError, BenchWorker};
use crate::callgrind::{BadProfile, Profile};
use crate::workload::Workload;

/// What the program prints, under valgrind, before the number of requests it has counted.
const COUNTED: &str = "requests counted: ";

/// What a request costs in instructions.
#[derive(Debug, Clone, PartialEq)]
pub struct Instructions {
    /// Requests counted.
    pub requests: u64,
    /// Instructions of them all, and by function.
    pub profile: Profile,
}

/// Why nothing was counted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CountError {
    /// valgrind could not be started.
    #[error("cannot start valgrind: {0}; install it (apt-get install valgrind), or leave instructions out")]
    Valgrind(#[source] std::io::Error),
    /// The program did not do its work under valgrind.
    #[error("{workload} failed under valgrind: {said}")]
    Failed {
        /// What was to be counted.
        workload: &'static str,
        /// What the program said last.
        said: String,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// callgrind's file is not understood.
    #[error(transparent)]
    Profile(#[from] BadProfile),
    /// No instruction was counted: the function that switches counting on was not found.
    #[error("callgrind counted nothing; the program has no symbols, build it with `cargo build --release`")]
    Nothing,
}

impl Instructions {
    /// Instructions per request.
    pub fn each(&self) -> f64 {
        self.profile.total as f64 / self.requests.max(1) as f64
    }

    /// The `top` functions with most instructions of their own, per request.
    pub fn top(&self, top: usize) -> impl Iterator<Item = (&str, f64)> {
        let requests = self.requests.max(1) as f64;
        self.profile.functions.iter().take(top).map(move |(name, cost)| (name.as_str(), *cost as f64 / requests))
    }
}

/// The turn that is counted.
#[inline(never)]
fn measured_turn(worker: &mut BenchWorker, time: Time, now: Now) -> Result<bool, QueueError> {
    worker.turn(time, now)
}

/// What the program does under valgrind: takes turns until `requests` have been answered, and writes how many were to `out`.
///
/// # Errors
/// As [`Bench::new`] and [`Bench::turn`].
pub fn counted(workload: Workload, flows: usize, requests: u64, out: &mut impl Write) -> Result<(), BenchError> {
    let mut bench = Bench::new(workload, flows)?;
    let mut answered = 0;
    while answered < requests {
        answered += bench.turn(measured_turn)?;
    }
    writeln!(out, "{COUNTED}{answered}").map_err(BenchError::Print)?;
    Ok(())
}

/// Counts at least `requests` requests of `workload`. callgrind's file is left in `keep`, if given, for
/// `callgrind_annotate`.
///
/// # Errors
/// [`CountError`]: valgrind is missing, or the program failed under it.
pub fn count(workload: Workload, flows: usize, requests: u64, keep: Option<&Path>) -> Result<Instructions, CountError> {
    let name = format!("callgrind.out.{}.{}", workload.argument(), std::process::id());
    let path = match keep {
        Some(folder) => folder.join(format!("callgrind.out.{}", workload.argument())),
        None => std::env::temp_dir().join(name),
    };
    let outcome = run(workload, flows, requests, &path);
    if keep.is_none() {
        // Not there when valgrind did not start.
        let _ = std::fs::remove_file(&path);
    }
    outcome
}

fn run(workload: Workload, flows: usize, requests: u64, path: &Path) -> Result<Instructions, CountError> {
    let own = std::env::current_exe().map_err(|source| CountError::File { path: PathBuf::from("self"), source })?;
    let mut out = OsString::from("--callgrind-out-file=");
    out.push(path);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*measured_turn*"])
        .arg(out)
        .arg(own)
        .args(["counted", workload.argument(), "--flows", &flows.to_string(), "--requests", &requests.to_string()])
        .output()
        .map_err(CountError::Valgrind)?;
    let answered = answered(&output)
        .ok_or_else(|| CountError::Failed { workload: workload.name(), said: last_words(&output.stderr) })?;
    let text = std::fs::read_to_string(path).map_err(|source| CountError::File { path: path.into(), source })?;
    let profile = Profile::read(&text)?;
    if profile.total == 0 {
        return Err(CountError::Nothing);
    }
    Ok(Instructions { requests: answered, profile })
}

fn answered(output: &Output) -> Option<u64> {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let line = stdout.lines().find_map(|line| line.strip_prefix(COUNTED))?;
    output.status.success().then(|| line.trim().parse().ok()).flatten()
}

/// The last lines of what was said, on one line.
fn last_words(said: &[u8]) -> String {
    let text = String::from_utf8_lossy(said);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}
