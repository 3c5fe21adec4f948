//! What a worker counts while it runs; tallies of several workers add up.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::connection::Mismatch;

/// Longest latency told apart, in nanoseconds; longer ones are recorded as this.
const LONGEST_NS: u64 = 600_000_000_000;

/// Counts, latencies and the first wrong reply.
#[derive(Debug, Clone)]
pub struct Tally {
    /// Gets answered with the key's value.
    pub hits: u64,
    /// Gets answered with `END`.
    pub misses: u64,
    /// Sets answered with `STORED`.
    pub sets: u64,
    /// Connections ended by a wrong reply.
    pub wrong: u64,
    /// The first wrong reply seen.
    pub first_wrong: Option<Mismatch>,
    /// Nanoseconds from the moment a request was handed to the connection to the last byte of its reply.
    pub latency_ns: Histogram<u64>,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new() -> Self {
        let latency_ns = Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are constants that fit");
        Self { hits: 0, misses: 0, sets: 0, wrong: 0, first_wrong: None, latency_ns }
    }

    /// Requests answered rightly.
    pub fn requests(&self) -> u64 {
        self.hits + self.misses + self.sets
    }

    /// Records one latency.
    pub fn record(&mut self, latency: Duration) {
        self.latency_ns.saturating_record(u64::try_from(latency.as_nanos()).unwrap_or(LONGEST_NS).max(1));
    }

    /// Records a wrong reply; only the first is kept whole.
    pub fn record_wrong(&mut self, mismatch: Mismatch) {
        self.wrong += 1;
        self.first_wrong.get_or_insert(mismatch);
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: Tally) {
        self.hits += other.hits;
        self.misses += other.misses;
        self.sets += other.sets;
        self.wrong += other.wrong;
        if self.first_wrong.is_none() {
            self.first_wrong = other.first_wrong;
        }
        self.latency_ns.add(&other.latency_ns).expect("all tallies have the same bounds");
    }
}

impl Default for Tally {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tallies_add_up() {
        let (mut a, mut b) = (Tally::new(), Tally::new());
        a.hits = 1;
        a.record(Duration::from_micros(10));
        b.sets = 2;
        b.record(Duration::from_micros(30));
        b.record(Duration::from_secs(10_000));
        a.add(b);
        assert_eq!((a.requests(), a.latency_ns.len()), (3, 3));
    }
}
