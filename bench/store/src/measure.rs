//! Both sides at equal resident memory, and the references on the same stream.
//!
//! memcached goes first with its `-m`. Ours then runs in a process of its own with as much memory as makes it resident
//! in no more than that: tried, and raised or lowered by what is left or too much, until it is so to within half a
//! percent.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Serialize;

use crate::args::{OursArgs, RunArgs};
use crate::ours::{Ours, Outcome};
use crate::peer::Peer;
use crate::resident::resident_bytes;
use crate::stream::{Asked, Profile, Stream};
use crate::trace;

/// Whatever went wrong, in words.
pub type Failure = Box<dyn std::error::Error>;

/// Times that our memory is tried before giving up.
const TRIES: u32 = 4;
/// The store's smallest segment, in bytes.
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
/// The store's largest segment, in bytes.
const SEGMENT_BYTES_MAX: u64 = 1 << 20;
/// Times over that a fill sets as many bytes as there is memory.
const FILLS: u64 = 2;

/// Miss ratios of one profile.
#[derive(Debug, Clone, Serialize)]
pub struct Misses {
    /// Of which profile.
    pub profile: Profile,
    /// The stream's seed.
    pub seed: u64,
    /// Keys asked for again and again.
    pub keys: u64,
    /// Ours.
    pub ours: Outcome,
    /// Our `-m`, in bytes.
    pub ours_memory_bytes: u64,
    /// memcached.
    pub peer: Outcome,
    /// libcachesim's policies, by name, with all of the resident memory for items; none but for the first seed.
    pub references: BTreeMap<String, f64>,
}

/// Items held of one size.
#[derive(Debug, Clone, Serialize)]
pub struct Held {
    /// Bytes of each key.
    pub key_bytes: u32,
    /// Bytes of each value.
    pub value_bytes: u32,
    /// memcached's `-m`, in MiB.
    pub memory_mib: u64,
    /// Ours.
    pub ours: Outcome,
    /// Our `-m`, in bytes.
    pub ours_memory_bytes: u64,
    /// memcached.
    pub peer: Outcome,
}

/// Runs `ours` in this process. `program_bytes` were resident before.
///
/// # Errors
/// When the shards cannot be built or the profile is unknown.
pub fn ours_here(args: &OursArgs, program_bytes: u64) -> Result<Outcome, Failure> {
    let stream = match &args.profile {
        Some(name) => Some(stream(name, args.stream_bytes * args.spread, args.requests, args.seed)?),
        None => None,
    };
    let mut ours = Ours::new(args.memory_bytes, args.shards, program_bytes)?;
    if let Some(stream) = stream {
        return ours.run(stream);
    }
    for number in 0..args.fill {
        ours.set(&item(number, args.key_bytes, args.value_bytes));
    }
    ours.finish()
}

fn stream(name: &str, bytes: u64, requests: u64, seed: u64) -> Result<Stream, Failure> {
    let profile = Profile::named(name).ok_or_else(|| format!("there is no profile '{name}'; see --help"))?;
    Ok(Stream::new(profile, bytes, requests, seed))
}

fn item(number: u64, key_bytes: u32, value_bytes: u32) -> Asked {
    Asked { number, key_bytes, value_bytes, ttl_secs: 0 }
}

/// Miss ratios of `name` on both sides, with the stream that `seed` makes; and by the references, if it is the first.
///
/// # Errors
/// When a side or a reference cannot be run.
pub fn misses(args: &RunArgs, name: &str, seed: u64) -> Result<Misses, Failure> {
    let bytes = args.memory_mib << 20;
    let make = || stream(name, bytes * args.spread, args.requests, seed);
    let peer = Peer::start(args.memory_mib, args.threads)?.run(make()?)?;
    let figures = [("stream-bytes", bytes), ("spread", args.spread), ("requests", args.requests), ("seed", seed)];
    let (ours_memory_bytes, ours) = within(peer.resident_bytes, args.threads as u64, Some(name), &figures)?;
    let references = match &args.python {
        Some(python) if args.seeds.first() == Some(&seed) => references(args, python, make()?, peer.resident_bytes)?,
        _ => BTreeMap::new(),
    };
    let stream = make()?;
    let profile = Profile::named(name).ok_or("the profile has gone")?;
    Ok(Misses { profile, seed, keys: stream.keys(), ours, ours_memory_bytes, peer, references })
}

/// Items of one size that both sides hold.
///
/// # Errors
/// When a side cannot be run.
pub fn held(args: &RunArgs, memory_mib: u64, key_bytes: u32, value_bytes: u32) -> Result<Held, Failure> {
    let fill = FILLS * (memory_mib << 20) / u64::from(key_bytes + value_bytes);
    let mut peer = Peer::start(memory_mib, args.threads)?;
    let mut batch = Vec::new();
    for number in 0..fill {
        batch.push(item(number, key_bytes, value_bytes));
        if batch.len() == 64 || number + 1 == fill {
            peer.set(&batch)?;
            batch.clear();
        }
    }
    let peer = peer.finish()?;
    let figures = [("key-bytes", key_bytes.into()), ("value-bytes", value_bytes.into()), ("fill", fill)];
    let (ours_memory_bytes, ours) = within(peer.resident_bytes, args.threads as u64, None, &figures)?;
    Ok(Held { key_bytes, value_bytes, memory_mib, ours, ours_memory_bytes, peer })
}

/// Ours with as much memory as keeps it resident in `most` bytes.
fn within(most: u64, shards: u64, profile: Option<&str>, figures: &[(&str, u64)]) -> Result<(u64, Outcome), Failure> {
    let words = |memory: u64| -> Vec<String> {
        let figures = [("memory-bytes", memory), ("shards", shards)].into_iter().chain(figures.iter().copied());
        let options = figures.map(|(name, figure)| format!("--{name}={figure}"));
        ["ours".to_owned()].into_iter().chain(profile.map(|name| format!("--profile={name}"))).chain(options).collect()
    };
    // A shard's memory is whole segments: a 256th of it, in the store's bounds.
    let segment = 1u64 << (most / shards / 256).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX).ilog2();
    let step = shards * segment;
    // Beside the memory there are this program, and tables of a thousandth.
    let mut memory = (most - most / 1024).saturating_sub(resident_bytes(None)?) / step * step;
    let mut best = None;
    for _ in 0..TRIES {
        // This program itself, even if the file was replaced by a build since.
        let output = Command::new("/proc/self/exe").args(words(memory)).stderr(Stdio::inherit()).output()?;
        if !output.status.success() {
            return Err(format!("our side ended: {}", output.status).into());
        }
        let outcome: Outcome = serde_json::from_slice(&output.stdout)?;
        if outcome.resident_bytes > most {
            memory -= (outcome.resident_bytes - most).next_multiple_of(step);
            continue;
        }
        let left = most - outcome.resident_bytes;
        best = Some((memory, outcome));
        if left < most / 200 + step {
            break;
        }
        memory += left / step * step;
    }
    best.ok_or_else(|| format!("our side stays above {most} resident bytes").into())
}

/// A file removed when dropped.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        // Another may have cleaned up; there is nobody to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn references(args: &RunArgs, python: &Path, stream: Stream, bytes: u64) -> Result<BTreeMap<String, f64>, Failure> {
    if args.policies.is_empty() {
        return Ok(BTreeMap::new());
    }
    let file = Scratch(std::env::temp_dir().join(format!("sidestep-storebench-{}.trace", std::process::id())));
    let (requests, counted) = (stream.len(), stream.counted_from());
    trace::write(stream, &file.0)?;
    let output = Command::new(python)
        .arg("bench/store/reference.py")
        .arg(&file.0)
        .args([requests, counted, bytes].map(|figure| figure.to_string()))
        .args(&args.policies)
        .stderr(Stdio::null())
        .output()?;
    if !output.status.success() {
        return Err(format!("{} bench/store/reference.py ended: {}", python.display(), output.status).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
