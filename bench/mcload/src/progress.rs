//! A line each second on stderr that says how the run goes.

use std::io::{self, Write};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use cpu::{CachePadded, Counter};

use crate::tally::Tally;

/// What one worker tells; it alone writes.
#[derive(Debug, Default)]
struct Told {
    answered: Counter,
    wrong: Counter,
    unanswered: Counter,
    connects: Counter,
}

/// The line, and the counters that it is made of.
#[derive(Debug)]
pub struct Progress {
    shown: bool,
    told: Vec<CachePadded<Told>>,
    measuring: AtomicBool,
    last: Mutex<(Instant, u64)>,
}

impl Progress {
    /// For so many workers; nothing is ever printed unless `shown`.
    pub fn new(workers: u32, shown: bool) -> Self {
        let told = (0..workers).map(|_| CachePadded::default()).collect();
        Self { shown, told, measuring: AtomicBool::new(false), last: Mutex::new((Instant::now(), 0)) }
    }

    /// Whether there is anything to print.
    pub fn is_shown(&self) -> bool {
        self.shown
    }

    /// The measured phase begins.
    pub(crate) fn begin_measuring(&self) {
        self.measuring.store(true, Ordering::Relaxed);
    }

    /// Tells what `worker` has counted in its phase. That worker's thread only.
    #[inline]
    pub(crate) fn publish(&self, worker: u32, tally: &Tally) {
        if let Some(told) = self.told.get(worker as usize).filter(|_| self.shown) {
            told.answered.set(tally.requests());
            told.wrong.set(tally.wrong);
            told.unanswered.set(tally.timed_out + tally.refused + tally.connect_timed_out);
            told.connects.set(tally.connects);
        }
    }

    /// Prints the line.
    pub(crate) fn print(&self) {
        let sum = |counter: fn(&Told) -> &Counter| self.told.iter().map(|told| counter(told).value()).sum::<u64>();
        let (now, answered) = (Instant::now(), sum(|told| &told.answered));
        let Ok(mut last) = self.last.lock() else { return };
        let seconds = (now - last.0).as_secs_f64().max(1e-9);
        // A new phase begins at 0.
        let rate = answered.checked_sub(last.1).unwrap_or(answered) as f64 / seconds;
        *last = (now, answered);
        let _ = writeln!(
            io::stderr(),
            "{}: {rate:.0} replies/s, {answered} replies, {} wrong, {} unanswered or refused, {} connections opened",
            if self.measuring.load(Ordering::Relaxed) { "measuring" } else { "loading" },
            sum(|told| &told.wrong),
            sum(|told| &told.unanswered),
            sum(|told| &told.connects),
        );
    }
}
