//! A run: load every key, read a sample back, measure.

use std::time::{Duration, Instant};

use crate::args::{Length, Plan};
use crate::connection::Connection;
use crate::drive::{self, DriveError};
use crate::tally::Tally;
use crate::workload::{Operation, Workload};

/// Keys read back after loading, at most.
pub const SAMPLE_KEYS: u64 = 1_000;
/// Connections used to load, at most.
const LOAD_CONNECTIONS: u32 = 16;
/// Bytes in flight on one loading connection, about.
const LOAD_BYTES: usize = 64 * 1024;

/// What happened in each phase.
#[derive(Debug)]
pub struct Outcome {
    /// Every key set once.
    pub load: Tally,
    /// How long loading took.
    pub load_time: Duration,
    /// A sample of the keys read back.
    pub sample: Tally,
    /// The measured phase.
    pub measured: Tally,
    /// From the first request of the measured phase to its last reply.
    pub measured_time: Duration,
}

impl Outcome {
    /// No reply of any phase was wrong.
    pub fn all_right(&self) -> bool {
        self.load.wrong + self.sample.wrong + self.measured.wrong == 0
    }
}

/// Runs `plan`. Blocks until the end; starts `plan.workers` threads for the measured phase.
///
/// # Errors
/// [`DriveError`] when the server cannot be reached, closes or stalls. Wrong replies are not errors: see
/// [`Outcome::all_right`].
pub fn run(plan: &Plan) -> Result<Outcome, DriveError> {
    let keys = plan.keyspace.keys();
    let loaders = plan.connections.min(LOAD_CONNECTIONS).min(u32::try_from(keys).unwrap_or(u32::MAX));
    let depth = (LOAD_BYTES / (plan.keyspace.key_bytes() + plan.keyspace.value_bytes() + 64)).clamp(1, 256) as u32;

    let walk = |operation, step: u64| {
        let workloads = (0..loaders).map(|loader| Workload::Walk {
            operation,
            next: u64::from(loader) * step,
            step: u64::from(loaders) * step,
            end: keys,
        });
        phase(plan, workloads.collect(), depth, 1, None)
    };
    let (load, load_time) = walk(Operation::Set, 1)?;
    let (sample, _) = walk(Operation::Get, keys.div_ceil(SAMPLE_KEYS))?;

    let (total, limit) = match plan.length {
        Length::Requests(requests) => (Some(requests), None),
        Length::Time(time) => (None, Some(time)),
    };
    let connections = u64::from(plan.connections);
    let workloads = (0..plan.connections).map(|number| {
        let share =
            total.map_or(u64::MAX, |total| total / connections + u64::from(u64::from(number) < total % connections));
        Workload::draw(plan.seed, number, plan.mix, keys, share)
    });
    let (measured, measured_time) = phase(plan, workloads.collect(), plan.depth, plan.workers, limit)?;
    Ok(Outcome { load, load_time, sample, measured, measured_time })
}

/// One phase over connections of its own; connecting is not part of the time.
fn phase(
    plan: &Plan,
    workloads: Vec<Workload>,
    depth: u32,
    workers: u32,
    limit: Option<Duration>,
) -> Result<(Tally, Duration), DriveError> {
    let mut sockets = drive::open(plan.server, workloads.len(), plan.timeout)?;
    let mut connections: Vec<Connection> =
        workloads.into_iter().map(|workload| Connection::new(plan.keyspace, workload, depth)).collect();
    let start = Instant::now();
    let deadline = limit.map(|limit| start + limit);
    let results: Vec<Result<Tally, DriveError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..workers as usize)
            .map(|worker| {
                let left = workers as usize - worker;
                let share = sockets.len().div_ceil(left);
                let sockets = sockets.split_off(sockets.len() - share);
                let connections = connections.split_off(connections.len() - share);
                scope.spawn(move || drive::drive(sockets, connections, deadline, plan.timeout))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).collect()
    });
    let time = start.elapsed();
    let mut all = Tally::new();
    for result in results {
        all.add(result?);
    }
    Ok((all, time))
}
