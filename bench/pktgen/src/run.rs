//! The runner: turns of the engines until count, time or ^C, on a pinned thread for each queue.
//!
//! The clock is read once a turn, and nothing here allocates, locks or logs between the first turn and the last.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use core_affinity::CoreId;
use nic::{Doorbell, FrameCensus, Queue, QueueError, QueueStats, Sleeper};

use crate::options::{Mode, Plan};
use crate::port::Seat;
use crate::tally::Tally;

/// Longest sleep of a poller: how late it may notice that its time is over.
const SLEEP_MAX: Duration = Duration::from_millis(5);

/// What a queue has done, once it is over.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What its engine counted.
    pub tally: Tally,
    /// What the queue counted.
    pub stats: QueueStats,
    /// Where its frames were at the end.
    pub census: FrameCensus,
    /// The CPU that its thread was pinned to.
    pub cpu: Option<usize>,
}

/// Why a run ended early.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The link is gone.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// Nobody has the peer's address.
    #[error(
        "no answer to {question} for {address} within 5 s; is it up? give its Ethernet address with -D",
        question = question(.0),
        address = .0
    )]
    NoAnswer(std::net::IpAddr),
    /// Too few CPUs.
    #[error("{threads} threads from CPU {first} on need CPUs that this process may not use; it may use {allowed:?}")]
    Cpus {
        /// Threads asked for.
        threads: u16,
        /// The first CPU asked for.
        first: usize,
        /// The CPUs there are for us.
        allowed: Vec<usize>,
    },
    /// The kernel did not pin a thread.
    #[error("cannot pin a thread to CPU {0}")]
    Pin(usize),
    /// The kernel does not let a thread sleep.
    #[error("cannot sleep on a queue: {0}")]
    Sleep(#[source] std::io::Error),
    /// A thread is gone.
    #[error("a thread panicked; its message is above")]
    Panicked,
}

/// How the Ethernet address of an address is asked for.
fn question(address: &std::net::IpAddr) -> &'static str {
    if address.is_ipv4() { "ARP" } else { "neighbour solicitations" }
}

/// When to stop, for all threads.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest time.
    pub time: Duration,
    /// Longest time after that, for what is outstanding.
    pub drain: Duration,
    /// Sleep after so long without a frame.
    pub poll: Option<Duration>,
    /// Set by ^C.
    pub stop: Arc<AtomicBool>,
}

impl Limits {
    /// Those of a plan.
    pub fn of(plan: &Plan, stop: Arc<AtomicBool>) -> Self {
        // A sweep finds the last lost frame a little after its time-out.
        Self { time: plan.time, drain: plan.timeout() + Duration::from_millis(500), poll: plan.poll, stop }
    }
}

/// The CPUs of the threads: as asked with `-a`, else the first ones for those that answer and the last for those that
/// drive, so that both ends on one machine keep out of each other's way.
///
/// # Errors
/// [`RunError::Cpus`]: this process may not use as many.
pub fn choose_cpus(plan: &Plan) -> Result<Vec<CoreId>, RunError> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let threads = usize::from(plan.threads);
    let allowed: Vec<usize> = cores.iter().map(|core| core.id).collect();
    let at = match plan.first_cpu {
        Some(first) => allowed.iter().position(|cpu| *cpu == first),
        None if plan.mode.sends() => allowed.len().checked_sub(threads),
        None => Some(0),
    };
    let chosen = at.and_then(|at| cores.get(at..at + threads)).map(<[CoreId]>::to_vec);
    let first = plan.first_cpu.or(allowed.first().copied()).unwrap_or(0);
    chosen.ok_or(RunError::Cpus { threads: plan.threads, first, allowed })
}

/// Runs each seat on a thread of its own, pinned to its CPU. All start together and end before this returns.
///
/// # Errors
/// [`RunError`]; the other threads are stopped.
pub fn run_pinned<Q: Queue>(
    seats: Vec<Seat<Q>>,
    cpus: &[CoreId],
    plan: &Plan,
    limits: &Limits,
) -> Result<Vec<Outcome>, RunError> {
    let barrier = Barrier::new(seats.len());
    let start = Instant::now();
    std::thread::scope(|scope| {
        let workers: Vec<_> = seats
            .into_iter()
            .zip(cpus)
            .map(|(seat, cpu)| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let pinned = core_affinity::set_for_current(*cpu);
                    barrier.wait();
                    let ended = if pinned { work(vec![seat], plan, limits, start) } else { Err(RunError::Pin(cpu.id)) };
                    if ended.is_err() {
                        limits.stop.store(true, Ordering::Relaxed);
                    }
                    ended.map(|mut outcomes| {
                        outcomes.iter_mut().for_each(|outcome| outcome.cpu = Some(cpu.id));
                        outcomes
                    })
                })
            })
            .collect();
        let mut outcomes = Vec::new();
        for worker in workers {
            outcomes.extend(worker.join().map_err(|_| RunError::Panicked)??);
        }
        Ok(outcomes)
    })
}

/// Runs all seats in turn on this thread, until those that were asked for are done. Their outcomes, in order.
///
/// # Errors
/// [`RunError`]: the link is gone, or nobody answered.
pub fn work<Q: Queue>(
    mut seats: Vec<Seat<Q>>,
    plan: &Plan,
    limits: &Limits,
    start: Instant,
) -> Result<Vec<Outcome>, RunError> {
    let mut sleeper = match limits.poll {
        Some(_) => Some(sleeper(&seats).map_err(RunError::Sleep)?),
        None => None,
    };
    let (mut stopped, mut last_moved) = (None, Duration::ZERO);
    let mut sleeps = 0;
    loop {
        let now = start.elapsed();
        if stopped.is_none() && (now >= limits.time || limits.stop.load(Ordering::Relaxed)) {
            stopped = Some(now);
            let mut goes_on = false;
            for seat in seats.iter_mut().filter(|seat| seat.asked) {
                goes_on |= seat.engine.stop();
            }
            if !goes_on {
                break;
            }
        }
        let (mut moved, mut done) = (0, true);
        for seat in &mut seats {
            let progress = seat.engine.turn(&mut seat.queue, now)?;
            moved += progress.moved;
            done &= progress.done || !seat.asked;
        }
        if done || stopped.is_some_and(|stopped| now >= stopped + limits.drain) {
            break;
        }
        if moved > 0 {
            last_moved = now;
        } else if let (Some(sleeper), Some(patience)) = (&mut sleeper, limits.poll)
            && now - last_moved >= patience
        {
            sleeps += 1;
            sleeper.sleep(Some(SLEEP_MAX), || false).map_err(RunError::Sleep)?;
        }
    }
    let interrupted = stopped.is_some();
    let nobody = seats.iter().any(|seat| seat.asked && seat.engine.found_nobody());
    let mut outcomes = Vec::with_capacity(seats.len());
    for Seat { engine, mut queue, asked } in seats {
        let mut tally = engine.finish(&mut queue);
        tally.sleeps = sleeps;
        if asked {
            outcomes.push(Outcome { tally, stats: queue.stats(), census: queue.census(), cpu: None });
        }
    }
    if nobody && !interrupted {
        return Err(RunError::NoAnswer(plan.destination().address));
    }
    Ok(outcomes)
}

fn sleeper<Q: Queue>(seats: &[Seat<Q>]) -> std::io::Result<Sleeper> {
    let fds = seats.iter().filter_map(|seat| seat.queue.raw_fd());
    Ok(Sleeper::new(Arc::new(Doorbell::new()?), fds))
}

/// Whether a ping's run was for nothing: no frame came back.
pub fn came_to_nothing(plan: &Plan, outcomes: &[Outcome]) -> bool {
    let answered = |outcome: &Outcome| outcome.tally.trips.as_ref().map_or(0, |trips| trips.answered);
    plan.mode == Mode::Ping && outcomes.iter().map(answered).sum::<u64>() == 0
}
