//! `Losses`: what is dropped on the way to the cache and back, by reason, live in `stats sidestep` and in the log.
//!
//! ```text
//!   core: stack, queues, strays    ──every 250 ms──► its block ─┐
//!   supervisor: XDP program, link ───every 400 ms──► its block ─┴─► stats sidestep (sums), log (what grows)
//! ```
//!
//! Invariant: a block has one writer, and every reason one name, one sentence that says when it moves (the one of
//! docs/metrics.md) and one word on what to do. Nothing on the packet path adds here: stack and queues keep their own
//! counts, and a core copies them when that is due. Read first: `losses/reasons.rs`.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cache::{Counters, OutsideCounts};
use cpu::{CachePadded, Counter};
use nic::Queue;
use stack::{Poll, Time};

use crate::arrivals::Arrivals;

/// `Severity`: how the log speaks of a count, and what to do about it.
mod advice;
/// `CoreCounts` and `LinkLosses`: what a core, and link and program, have counted.
mod counts;
/// `LossLog`: what grows, said in the log.
mod log;
/// `Reason`: everything that is counted.
mod reasons;
/// `Stalls`: cores that take no turns.
mod stalls;

pub use advice::Severity;
pub use counts::{CoreCounts, LinkLosses};
pub use log::LossLog;
pub use reasons::{Reason, Source};
pub use stalls::Stalls;

/// How often a core copies its counts, at most. One that sleeps wakes more often than a reader would notice.
const COPY_INTERVAL: Duration = Duration::from_millis(250);

/// The counts of all cores and of the main thread.
#[derive(Debug)]
pub struct Losses {
    reasons: Box<[Reason]>,
    /// One for each core, the last for the main thread; in each, one for each reason.
    blocks: Box<[CachePadded<Box<[Counter]>>]>,
    /// How often each core has copied.
    copies: Box<[CachePadded<Counter>]>,
    /// By which queue connections came, where that is counted.
    arrivals: OnceLock<Arc<Arrivals>>,
}

impl Losses {
    /// Nothing counted yet by `cores` cores.
    pub fn new(cores: usize) -> Self {
        let reasons = reasons::all();
        let block = || CachePadded(reasons.iter().map(|_| Counter::default()).collect());
        let copies = (0..cores).map(|_| CachePadded(Counter::default())).collect();
        Self { blocks: (0..=cores).map(|_| block()).collect(), copies, reasons, arrivals: OnceLock::new() }
    }

    /// Shows by which queue connections came, too. Once, at the start.
    pub fn show_arrivals(&self, arrivals: Arc<Arrivals>) {
        // A second call would be a fault of the set-up; the first one's go on being shown.
        let _ = self.arrivals.set(arrivals);
    }

    /// By which queue connections came, if that is counted.
    pub fn arrivals(&self) -> Option<&Arrivals> {
        self.arrivals.get().map(|arrivals| &**arrivals)
    }

    /// All that is counted, in the order in which it is shown.
    pub fn reasons(&self) -> &[Reason] {
        &self.reasons
    }

    /// How often each core has copied what it counts. Any thread.
    fn copies(&self) -> &[CachePadded<Counter>] {
        &self.copies
    }

    /// Every reason with what all cores and the main thread have counted so far. Any thread.
    pub fn totals<'a>(&'a self, counters: &'a Counters) -> impl Iterator<Item = (&'a Reason, u64)> + 'a {
        self.reasons.iter().enumerate().map(|(index, reason)| match reason.source {
            Source::Cache(of) => (reason, counters.sum(of)),
            _ => (reason, self.sum(index)),
        })
    }

    /// Sets what the main thread has read of link and program. That thread only.
    pub fn set_link(&self, counts: &LinkLosses) {
        let Some(block) = self.blocks.last() else { return };
        for (reason, place) in self.reasons.iter().zip(&block.0) {
            if let Source::Link(of) = reason.source {
                place.set(of(counts));
            }
        }
    }

    fn set_core(&self, core: usize, counts: &CoreCounts) {
        for (reason, place) in self.reasons.iter().zip(&self.blocks[core].0) {
            match reason.source {
                Source::Stack(drop) => place.set(counts.stack.drops.of(drop)),
                Source::Core(of) => place.set(of(counts)),
                Source::Link(_) | Source::Cache(_) => {}
            }
        }
        self.copies[core].0.add(1);
    }

    fn sum(&self, index: usize) -> u64 {
        self.blocks.iter().map(|block| block.0[index].value()).fold(0, u64::wrapping_add)
    }
}

impl OutsideCounts for Losses {
    fn each(&self, give: &mut dyn FnMut(&str, u64)) {
        for (index, reason) in self.reasons.iter().enumerate() {
            // What the cache counts it shows itself.
            if !matches!(reason.source, Source::Cache(_)) {
                give(&reason.name, self.sum(index));
            }
        }
        for count in self.arrivals().into_iter().flat_map(Arrivals::counts) {
            let name = |what| format!("queue:{}:{what}", count.queue.0);
            give(&name("connections"), count.connections);
            if let Some(as_predicted) = count.as_predicted {
                give(&name("as_predicted"), as_predicted);
            }
        }
    }
}

/// One core's part. Moves to its thread with the worker.
#[derive(Debug)]
pub struct CoreLosses {
    losses: Arc<Losses>,
    core: usize,
    due: Time,
}

impl CoreLosses {
    /// Of core `core`.
    pub fn new(losses: &Arc<Losses>, core: usize) -> Self {
        Self { losses: losses.clone(), core, due: Time::ZERO }
    }

    /// Copies what the core has counted, if that is due: a system call a queue, four times a second. Returns whether it was.
    #[inline]
    pub fn copy_if_due<Q: Queue>(&mut self, now: Time, poll: &Poll<Q>) -> bool {
        let due = now >= self.due;
        if due {
            self.due = now.after(COPY_INTERVAL);
            self.copy(poll);
        }
        due
    }

    /// The same at once.
    #[cold]
    pub fn copy<Q: Queue>(&self, poll: &Poll<Q>) {
        self.losses.set_core(self.core, &CoreCounts::of(poll));
    }

    /// Every reason of which this core has counted any.
    pub fn counted<'a>(&'a self, counters: &'a Counters) -> impl Iterator<Item = (&'a str, u64)> + 'a {
        let own = self.losses.reasons.iter().zip(&self.losses.blocks[self.core].0);
        let value = move |(reason, place): (&'a Reason, &'a Counter)| match reason.source {
            Source::Cache(of) => (reason.name.as_str(), of(counters.core(self.core)).value()),
            _ => (reason.name.as_str(), place.value()),
        };
        own.map(value).filter(|&(_, count)| count > 0)
    }
}

#[cfg(test)]
mod tests {
    use nic::xdp::SteerCounters;

    use super::*;

    #[test]
    fn every_reason_has_a_name_and_a_sentence_of_its_own() {
        let losses = Losses::new(1);
        let all = |of: fn(&Reason) -> &str| {
            let mut words: Vec<_> = losses.reasons().iter().map(|reason| of(reason).to_owned()).collect();
            words.sort_unstable();
            words.dedup();
            words.len()
        };
        assert_eq!(all(|reason| &reason.name), losses.reasons().len());
        assert_eq!(all(|reason| reason.moves), losses.reasons().len());
        for reason in losses.reasons() {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(reason.name.bytes().all(plain) & reason.moves.ends_with('.'), "{reason:?}");
        }
    }

    #[test]
    fn what_cores_and_main_thread_count_is_summed_and_what_the_cache_shows_is_left_to_it() {
        let losses = Losses::new(2);
        let strays_dropped = |count| CoreCounts { strays_dropped: count, ..CoreCounts::default() };
        losses.set_core(0, &strays_dropped(3));
        losses.set_core(1, &strays_dropped(4));
        losses.set_core(1, &strays_dropped(5));
        losses.set_link(&LinkLosses {
            program: SteerCounters { no_socket: 7, ..SteerCounters::default() },
            ..LinkLosses::default()
        });
        let mut shown = Vec::new();
        losses.each(&mut |name, value| shown.push((name.to_owned(), value)));
        let of = |wanted: &str| shown.iter().find(|(name, _)| name == wanted).map(|(_, value)| *value);
        assert_eq!((of("strays_dropped"), of("xdp_no_socket"), of("udp_budget_drops")), (Some(8), Some(7), None));
    }
}
