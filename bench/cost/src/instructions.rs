//! `Instructions`: the worker's turn by callgrind, which counts the same however busy the machine is.
//!
//! The program starts itself once more under valgrind, as `counted`. Counting is on only inside `measured_turn`, so
//! that neither start, set-up nor the clients are in it, and the count of a turn is exact. Read first: Valgrind
//! manual, "Callgrind", `--toggle-collect`.

use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output};

use cache::Now;
use nic::QueueError;
use stack::Time;

use crate::Failure;
use crate::bench::{Bench, BenchWorker};
use crate::callgrind::Profile;
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

/// What the program does under valgrind: takes turns until `requests` have been answered, and writes how many were to
/// `out`.
///
/// # Errors
/// As [`Bench::new`] and [`Bench::turn`].
pub fn counted(workload: Workload, flows: usize, requests: u64, out: &mut impl Write) -> Result<(), Failure> {
    let mut bench = Bench::new(workload, flows)?;
    let mut answered = 0;
    while answered < requests {
        answered += bench.turn(measured_turn)?;
    }
    writeln!(out, "{COUNTED}{answered}").map_err(|error| format!("cannot print what was counted: {error}"))?;
    Ok(())
}

/// Counts at least `requests` requests of `workload`. callgrind's file is left in `keep`, if given, for
/// `callgrind_annotate`.
///
/// # Errors
/// [`Failure`]: valgrind is missing, or the program failed under it.
pub fn count(workload: Workload, flows: usize, requests: u64, keep: Option<&Path>) -> Result<Instructions, Failure> {
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

fn run(workload: Workload, flows: usize, requests: u64, path: &Path) -> Result<Instructions, Failure> {
    let mut out = OsString::from("--callgrind-out-file=");
    out.push(path);
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--collect-atstart=no", "--toggle-collect=*measured_turn*"])
        .arg(out)
        .arg(std::env::current_exe()?)
        .args(["counted", workload.argument(), "--flows", &flows.to_string(), "--requests", &requests.to_string()])
        .output()
        .map_err(|error| {
            format!("cannot start valgrind: {error}; install it (apt-get install valgrind), or leave instructions out")
        })?;
    let requests = answered(&output)
        .ok_or_else(|| format!("{} failed under valgrind: {}", workload.name(), last_words(&output.stderr)))?;
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let profile = Profile::read(&text)?;
    if profile.total == 0 {
        return Err(
            "callgrind counted nothing; the program has no symbols, build it with `cargo build --release`".into()
        );
    }
    Ok(Instructions { requests, profile })
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
