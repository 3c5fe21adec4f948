//! A run: open, load every key, read a sample back, measure, see whether the dead are alive.
//!
//! Each worker has a thread, a transport and an engine of its own. They go from phase to phase together; a worker
//! that waits for the others goes on driving its transport, so that a stack in user space still answers its peer.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use crate::arrivals::Arrivals;
use crate::backlog::Backlog;
use crate::engine::phase::Pace;
use crate::engine::{Engine, EngineError, Settings};
use crate::plan::{Length, Loop, Plan, Reuse};
use crate::progress::Progress;
use crate::tally::Tally;
use crate::transport::kernel::{KernelSockets, reserve_descriptors};
use crate::transport::{Nanos, Slot, Transport, TransportError};
use crate::workload::{Operation, Workload};

/// Keys read back after loading, at most.
pub const SAMPLE_KEYS: u64 = 1_000;
/// Connections used to load, at most, all workers together.
const LOAD_CONNECTIONS: u32 = 16;
/// Bytes in flight on one loading connection, about.
const LOAD_BYTES: usize = 64 * 1024;
/// How long a worker that waits for the others sleeps between two looks.
const WAITING_NS: Nanos = 1_000_000;

/// What happened in each phase.
#[derive(Debug, Clone)]
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
    /// The gets that the dead connections were sent after the measured phase; those that answered were alive.
    pub dead: Tally,
}

impl Outcome {
    /// Nothing has happened.
    pub(crate) fn new() -> Self {
        Self {
            load: Tally::new(),
            load_time: Duration::ZERO,
            sample: Tally::new(),
            measured: Tally::new(),
            measured_time: Duration::ZERO,
            dead: Tally::new(),
        }
    }

    /// No reply of any phase was wrong.
    pub fn all_right(&self) -> bool {
        self.wrong() == 0
    }

    /// Wrong replies of all phases.
    pub fn wrong(&self) -> u64 {
        [&self.load, &self.sample, &self.measured, &self.dead].iter().map(|tally| tally.wrong).sum()
    }

    fn add(&mut self, other: Outcome) {
        self.load.add(other.load);
        self.sample.add(other.sample);
        self.measured.add(other.measured);
        self.dead.add(other.dead);
        self.load_time = self.load_time.max(other.load_time);
        self.measured_time = self.measured_time.max(other.measured_time);
    }
}

/// Which part of a run one worker has.
#[derive(Debug, Clone, Copy)]
pub struct Share {
    /// Its number, from 0.
    pub worker: u32,
    /// Its connections that carry requests.
    pub active: Slot,
    /// Its dead connections; their slots follow those of the active ones.
    pub dead: Slot,
}

impl Share {
    /// What worker `worker` has of `plan`.
    pub fn of(plan: &Plan, worker: u32) -> Self {
        Self {
            worker,
            active: plan.share(plan.connections.into(), worker) as Slot,
            dead: plan.share(plan.dead.into(), worker) as Slot,
        }
    }

    /// Connections in all: what the transport must have room for.
    pub fn slots(&self) -> usize {
        self.active as usize + self.dead as usize
    }
}

/// Lets workers go from phase to phase together.
struct Meeting {
    workers: u32,
    arrived: AtomicU32,
    failed: AtomicBool,
}

enum WorkerError {
    Failed(EngineError),
    /// Another worker has failed, and says why itself.
    Abandoned,
}

impl<E: Into<EngineError>> From<E> for WorkerError {
    fn from(error: E) -> Self {
        WorkerError::Failed(error.into())
    }
}

/// Runs `plan` and blocks until the end. Starts `plan.workers` threads, each of which makes its transport with `make`.
///
/// # Errors
/// The server cannot be reached, closes or stalls, or the transport fails. Wrong replies are not errors: see
/// [`Outcome::all_right`].
pub fn run<T: Transport>(
    plan: &Plan,
    progress: &Progress,
    make: impl Fn(Share) -> Result<T, TransportError> + Sync,
) -> Result<Outcome, EngineError> {
    let meeting = Meeting { workers: plan.workers, arrived: AtomicU32::new(0), failed: AtomicBool::new(false) };
    let results: Vec<Result<Outcome, WorkerError>> = thread::scope(|scope| {
        let (make, meeting, printer) = (&make, &meeting, thread::current());
        let threads: Vec<_> = (0..plan.workers)
            .map(|worker| {
                let printer = printer.clone();
                scope.spawn(move || {
                    let share = Share::of(plan, worker);
                    let result = make(share)
                        .map_err(Into::into)
                        .and_then(|transport| Runner::new(plan, share, transport, meeting, progress).work());
                    if result.is_err() {
                        meeting.failed.store(true, Ordering::Release);
                    }
                    printer.unpark();
                    result
                })
            })
            .collect();
        while progress.is_shown() && threads.iter().any(|thread| !thread.is_finished()) {
            thread::park_timeout(Duration::from_secs(1));
            progress.print();
        }
        threads.into_iter().map(|thread| thread.join().expect("a worker does not panic")).collect()
    });
    let mut all = Outcome::new();
    let mut abandoned = false;
    for result in results {
        match result {
            Ok(outcome) => all.add(outcome),
            Err(WorkerError::Failed(error)) => return Err(error),
            Err(WorkerError::Abandoned) => abandoned = true,
        }
    }
    debug_assert!(!abandoned, "workers stop early only when another has failed, and then that error is returned");
    Ok(all)
}

/// Runs `plan` over kernel sockets.
///
/// # Errors
/// As [`run`].
pub fn run_over_sockets(plan: &Plan, progress: &Progress) -> Result<Outcome, EngineError> {
    reserve_descriptors(u64::from(plan.connections) + u64::from(plan.dead))?;
    let origin = Instant::now();
    run(plan, progress, |share| KernelSockets::new(plan.server, share.slots(), origin))
}

/// One worker's way through the phases.
struct Runner<'r, T> {
    plan: &'r Plan,
    share: Share,
    transport: T,
    engine: Engine,
    meeting: &'r Meeting,
    progress: &'r Progress,
    meetings: u32,
}

impl<'r, T: Transport> Runner<'r, T> {
    fn new(plan: &'r Plan, share: Share, transport: T, meeting: &'r Meeting, progress: &'r Progress) -> Self {
        let settings =
            Settings { server: plan.server, slots: share.slots(), timeout: nanos(plan.timeout), close: plan.close };
        let engine = Engine::new(settings, plan.codec.clone());
        Self { plan, share, transport, engine, meeting, progress, meetings: 0 }
    }

    fn work(mut self) -> Result<Outcome, WorkerError> {
        let mut outcome = Outcome::new();
        let Share { worker, active, dead } = self.share;
        let loaders = (LOAD_CONNECTIONS / self.plan.workers).clamp(1, active);
        let opened = if self.plan.reuse == Reuse::Kept { active } else { loaders };
        if self.plan.load || self.plan.reuse == Reuse::Kept {
            self.engine.start_opening(0..opened, &mut self.transport)?;
            self.finish()?;
        }
        if self.plan.load {
            (outcome.load, outcome.load_time) = self.walk(Operation::Set, 1, loaders)?;
            let step = self.plan.codec.keyspace().keys().div_ceil(SAMPLE_KEYS);
            (outcome.sample, _) = self.walk(Operation::Get, step, loaders)?;
        }
        if self.plan.reuse == Reuse::PerRequest && self.plan.load {
            self.engine.close(0..opened, &mut self.transport);
        }
        if dead > 0 {
            self.engine.start_opening(active..active + dead, &mut self.transport)?;
            self.finish()?;
        }
        self.meet()?;

        self.engine.take_tally();
        self.progress.begin_measuring();
        let start = self.transport.now();
        let (workload, pace) = self.measured(start);
        let seed = self.plan.seed.rotate_left(8) ^ u64::from(worker);
        match self.plan.reuse {
            Reuse::Kept => {
                let assign = Xoshiro256PlusPlus::seed_from_u64(seed);
                let depth = self.plan.depth as usize;
                self.engine.start_steady((active, depth), workload, pace, assign, false, &mut self.transport);
            }
            Reuse::PerRequest => self.engine.start_churn(active, workload, pace, &mut self.transport)?,
        }
        self.finish()?;
        outcome.measured_time = self.since(start);
        outcome.measured = self.engine.take_tally();
        self.meet()?;

        if dead > 0 {
            self.engine.start_probing(active..active + dead, &mut self.transport);
            self.finish()?;
            outcome.dead = self.engine.take_tally();
        }
        self.engine.close(0..active + dead, &mut self.transport);
        self.transport.flush().map_err(EngineError::from)?;
        Ok(outcome)
    }

    /// Does the same to every `step`-th key, sharing them with the other workers, and waits for these.
    fn walk(&mut self, operation: Operation, step: u64, slots: Slot) -> Result<(Tally, Duration), WorkerError> {
        let (keyspace, workers) = (self.plan.codec.keyspace(), u64::from(self.plan.workers));
        let workload = Workload::Walk {
            operation,
            next: u64::from(self.share.worker) * step,
            step: workers * step,
            end: keyspace.keys(),
        };
        let item_bytes = 128 + keyspace.value_size().mean_value();
        let depth = (LOAD_BYTES / item_bytes).clamp(1, 256);
        self.engine.take_tally();
        let assign = Xoshiro256PlusPlus::seed_from_u64(0);
        let pace = Pace::Closed { end: None };
        let begun = self.transport.now();
        self.engine.start_steady((slots, depth), workload, pace, assign, true, &mut self.transport);
        self.finish()?;
        let time = self.since(begun);
        let tally = self.engine.take_tally();
        self.meet()?;
        Ok((tally, time))
    }

    /// The measured phase's requests and their pace.
    fn measured(&self, start: Nanos) -> (Workload, Pace) {
        let (plan, worker) = (self.plan, self.share.worker);
        let (left, end) = match plan.length {
            Length::Requests(requests) => (plan.share(requests, worker), None),
            Length::Time(time) => (u64::MAX, Some(start + nanos(time))),
        };
        let (pace, draws) = match plan.pace {
            Loop::Closed => (Pace::Closed { end }, left),
            Loop::Open { rate, gaps, backlog } => {
                let rate = rate / f64::from(plan.workers);
                let arrivals = Arrivals::new(gaps, rate, (plan.seed, worker), start, end, left);
                let capacity = plan.share(backlog.into(), worker) as u32;
                (Pace::Open { arrivals, backlog: Backlog::new(self.share.active as usize, capacity) }, u64::MAX)
            }
        };
        let multi = plan.codec.multiget() > 1;
        (Workload::draw(plan.seed, worker, plan.mix, plan.codec.popularity(), multi, draws), pace)
    }

    fn since(&mut self, start: Nanos) -> Duration {
        Duration::from_nanos(self.transport.now().saturating_sub(start))
    }

    /// Takes turns until the phase is done.
    fn finish(&mut self) -> Result<(), WorkerError> {
        self.transport.flush().map_err(EngineError::from)?;
        while !self.engine.is_done() {
            self.turn(self.engine.deadline())?;
            self.progress.publish(self.share.worker, self.engine.tally());
        }
        Ok(())
    }

    fn turn(&mut self, until: Nanos) -> Result<(), WorkerError> {
        if self.meeting.failed.load(Ordering::Relaxed) {
            return Err(WorkerError::Abandoned);
        }
        self.transport.wait(until)?;
        self.engine.turn(&mut self.transport)?;
        self.transport.flush()?;
        Ok(())
    }

    /// Waits until every worker has come here.
    fn meet(&mut self) -> Result<(), WorkerError> {
        self.meetings += 1;
        self.meeting.arrived.fetch_add(1, Ordering::AcqRel);
        while self.meeting.arrived.load(Ordering::Acquire) < self.meeting.workers * self.meetings {
            let until = self.transport.now() + WAITING_NS;
            self.turn(until)?;
        }
        Ok(())
    }
}

fn nanos(time: Duration) -> Nanos {
    u64::try_from(time.as_nanos()).unwrap_or(Nanos::MAX)
}
